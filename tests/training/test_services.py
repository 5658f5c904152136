"""Durations, the schema and the clock."""

import jax
import pytest

from jaxnoise.core import InputError
from jaxnoise.training import durations, schema, writers


@pytest.mark.parametrize(
  ("text", "steps"),
  [
    ("30 epochs", 3000), ("1 epoch", 100), ("0.5 epochs", 50), ("7 steps", 7), ("1 step", 1),
    ("1000 examples", 31), ("1e4 examples", 312), ("10 percent", 20), ("50%", 100), ("0 steps", 0),
    ("0.001 epochs", 1),
  ],
)  # fmt: skip
def test_durations(text, steps):
  found = durations.to_steps("x", text, steps_per_epoch=100, batch_size=32, total_steps=200)
  assert found == steps


@pytest.mark.parametrize("text", ["30", "thirty epochs", "-1 epochs", "", "3 weeks"])
def test_bad_durations(text):
  with pytest.raises(InputError, match=r"config\.total is .*; write a number and a unit"):
    durations.to_steps("total", text, steps_per_epoch=1, batch_size=1)


def test_percent_of_what():
  with pytest.raises(InputError, match="percent has no meaning"):
    durations.to_steps("total", "5 percent", steps_per_epoch=1, batch_size=1)


@pytest.mark.parametrize(
  ("config", "message"),
  [
    ({"optim": {"lr": "0.1"}}, "config.optim.lr is '0.1', of type str; it must be of type float"),
    ({"seeds": True}, "config.seeds is True"),
    ({"optim": 3}, "config.optim is 3; it must be a section with name, lr"),
    ({"metod": {}}, "config.metod is no field of config: did you mean 'method'"),
    ({"data": {"nmae": ""}}, "config.data.nmae is no field of config.data: did you mean 'name'?"),
    ({"method": "erm"}, "config.method is 'erm'; it must be a section of fields"),
  ],
)
def test_schema_names_what_is_wrong(config, message):
  with pytest.raises(InputError) as error:
    schema.check(config)
  assert message in str(error.value)


def test_merge_replaces_a_section_of_another_factory():
  old = {"method": {"name": "noisymix", "alpha": 1.0}, "optim": {"lr": 0.1, "momentum": 0.9}}
  new = schema.merge(old, {"method": {"name": "erm"}, "optim": {"lr": 0.2}})
  assert new == {"method": {"name": "erm"}, "optim": {"lr": 0.2, "momentum": 0.9}}
  same = schema.merge(old, {"method": {"alpha": 2.0}})
  assert same["method"] == {"name": "noisymix", "alpha": 2.0}


def test_default_is_a_fresh_copy():
  schema.default()["optim"]["lr"] = 9.0
  assert schema.default()["optim"]["lr"] == 0.1
  assert jax.tree.leaves(schema.check({})) == jax.tree.leaves(schema.default())


class Clock:
  """A clock that stands still unless it is moved."""

  now = 100.0

  def monotonic(self):
    return self.now


def test_the_rate_leaves_out_what_is_not_training(monkeypatch):
  clock = Clock()
  monkeypatch.setattr(writers, "time", clock)
  watch = writers.Stopwatch(images_per_step=16, step=10, earlier=50.0)
  rows = []

  def wait(seconds):
    clock.now += seconds

  def row(step):
    rows.append(tuple(watch.row(step).values()))

  with watch.first("step"):
    wait(30)  # compiles
  wait(4)  # the work of two more steps
  row(13)
  with watch.paused():
    wait(7)  # evaluates
  with watch.first("step"):
    wait(1)  # compiled before
  wait(1)
  row(15)
  with watch.first("last step"):
    wait(8)
  row(16)  # nothing but a step that compiled
  assert rows == [(2 * 16 / 4, 84.0), (2 * 16 / 2, 93.0), (16 / 8, 101.0)]
