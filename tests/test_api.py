"""`jaxnoise.train` with objects: what it returns a second time, and what it refuses, in words."""

import contextlib
import dataclasses
import functools
import itertools
import json

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

import jaxnoise
from jaxnoise import core, data, methods
from jaxnoise.training import build, experiment, loop, rundir, schema
from tests.toy import toy_network

CONFIG = {"total": "2 steps", "batch_size": 16, "evaluate": {"batch_size": 16}}


def source():
  return data.generated(num_train=32, num_test=16, num_classes=3)


def squared(logits, targets):
  return jnp.sum((logits - targets) ** 2, axis=-1)


def test_a_run_that_has_ended_returns_its_result_again(tmp_path):
  config = schema.merge(CONFIG, {"data": {"holdout": 6}, "seeds": 2})

  def train():
    parts = {"source": source(), "network": toy_network(), "loss": squared}
    return jaxnoise.train(config, tmp_path / "run", quiet=True, **parts)

  first, again = train(), train()
  assert first.finished and again.finished and again.metrics == first.metrics
  assert sorted({name.partition("/")[0] for name in first.metrics}) == ["holdout", "test"]
  image = jnp.asarray(source().test_images[:3] / 255.0)
  for one, other in zip(first.predictors(1).values(), again.predictors(1).values(), strict=True):
    np.testing.assert_array_equal(one(image), other(image))


def test_the_config_of_a_config_file_is_taken(tmp_path):
  config = ConfigDict(schema.default())
  config.update(CONFIG)
  result = jaxnoise.train(
    config, tmp_path / "run", source=source(), network=toy_network(), quiet=True
  )
  assert result.step == 2


def finished_method():
  spec = core.Spec(num_train=32, num_classes=3, image_shape=(8, 8, 3))
  return methods.erm(toy_network(), spec=spec)


def scaled(logits, targets, *, scale):
  return scale * squared(logits, targets)


BAD = {
  "source is of type tuple; it must be a jaxnoise.data.Source": {"source": ([], [])},
  "loss returns shape () for 6 examples": {"loss": lambda z, t: jnp.mean(squared(z, t))},
  "loss returns shape (6, 3)": {"loss": lambda z, t: (z - t) ** 2},
  "loss cannot be called with logits and targets": {"loss": lambda z: jnp.sum(z, axis=-1)},
  "missing 1 required keyword-only argument: 'scale'": {"loss": scaled},
  "loss is given, but method is a finished Method": {
    "method": finished_method(), "loss": squared,
  },
  "config.policy.name is given, but method is a finished Method": {
    "method": finished_method(), "config": {"policy": {"name": "augmix"}},
  },
  "give the network that it was made with": {"method": finished_method(), "network": None},
  "must be a flax.linen module": {"network": nn.Dense},
}  # fmt: skip


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_named_and_nothing_written(words, tmp_path):
  parts = {"source": source(), "network": toy_network(), **BAD[words]}
  config = {**CONFIG, **parts.pop("config", {})}
  with pytest.raises(core.InputError) as error:
    jaxnoise.train(config, tmp_path / "run", quiet=True, **parts)
  assert words in str(error.value)
  assert not (tmp_path / "run").exists()


def test_a_loss_takes_its_hyper_parameters_from_the_config(tmp_path):
  config = {**CONFIG, "method": {"name": "erm", "loss_args": {"scale": 0.5}}}
  parts = {"source": source(), "network": toy_network(), "loss": scaled}
  assert jaxnoise.train(config, tmp_path / "run", quiet=True, **parts).finished


def test_a_module_s_fields_are_part_of_the_run(tmp_path):
  class Wide(nn.Module):
    width: int = 4

    @nn.compact
    def __call__(self, image):
      return nn.Dense(3)(nn.Dense(self.width)(image.mean((1, 2))))

  config = {"total": "1 steps", "batch_size": 8}
  source = jaxnoise.data.generated(num_train=16, num_test=8, num_classes=3)
  train = lambda width: jaxnoise.train(
    config, tmp_path, source=source, network=Wide(width), quiet=True
  )
  train(4)
  record = json.loads((tmp_path / "config.json").read_text())
  assert record["config"]["model"]["width"] == 4
  with pytest.raises(core.InputError, match=r"model\.width is 4, not 5"):
    train(5)


def test_a_method_that_names_no_loss_has_a_curve(tmp_path):
  source = jaxnoise.data.generated(num_train=16, num_test=8, num_classes=3)
  network = jaxnoise.models.network(nn.Sequential([lambda x: x.mean((1, 2)), nn.Dense(3)]))

  def loss_fn(state):
    def fn(params, batch, rng):
      out = network.apply(params, state.batch_stats, batch["image"], train=True, rng=rng)
      values = jnp.sum(out.logits**2, -1) + 2.0
      return jnp.mean(values), jaxnoise.core.Aux(out.batch_stats, values)

    return fn

  def predictors(state):
    return {"student": lambda x: network.apply(state.params, state.batch_stats, x).logits}

  method = jaxnoise.core.Method("silent", loss_fn, predictors)
  config = {"total": "1 steps", "batch_size": 8}
  jaxnoise.train(config, tmp_path, source=source, network=network, method=method, quiet=True)
  rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
  assert [row["train/student/loss"] >= 2.0 for row in rows if "train/student/loss" in row] == [True]


# --- all parts of one's own ----------------------------------------------------------------------


class Plain(nn.Module):
  """A module that knows nothing of this library."""

  classes: int = 3

  @nn.compact
  def __call__(self, x):
    return nn.Dense(self.classes)(nn.tanh(nn.Dense(4)(x.mean((1, 2)))))


def arrays():
  """Float images, labels as a list, names of the classes."""
  x = np.random.default_rng(0).random((48, 8, 8, 3))
  y = [k % 3 for k in range(48)]
  return data.arrays(x[:32], y[:32], x[32:], y[32:], name="flowers", class_names=("a", "b", "c"))


def own_factory(network, *, spec, loss="cross_entropy", sharpness=1.0):
  inner = methods.erm(network, spec=spec, loss=lambda z, t: losses_of(loss)(sharpness * z, t))
  return dataclasses.replace(inner, name="sharp")


def losses_of(loss):
  return methods._base.resolve_loss(loss)


def stopping(after):
  """A SIGTERM that comes before the step of that number is begun."""

  @contextlib.contextmanager
  def stop():
    asked = itertools.count(1)
    yield lambda: next(asked) > after

  return stop


def test_all_parts_are_one_s_own_and_the_run_resumes(tmp_path, monkeypatch):
  config = {
    "total": "4 steps", "batch_size": 16, "method": {"name": "anything", "sharpness": 2.0},
    "wrappers": ("with_ema",), "model": {"name": "wide_resnet", "depth": 28},
  }  # fmt: skip

  def train():
    parts = {"source": arrays(), "network": Plain(), "method": own_factory, "loss": squared}
    return jaxnoise.train(config, tmp_path / "run", quiet=True, **parts)

  with monkeypatch.context() as patch:
    patch.setattr(loop, "stop_on_sigterm", stopping(after=2))
    half = train()
  assert (half.step, half.finished) == (2, False) and not (tmp_path / "run/report.html").exists()
  result = train()
  assert (result.step, result.finished) == (4, True)
  assert list(result.predictors()) == ["student", "ema"]
  with pytest.raises(core.InputError, match="seed is 1; the run has 1"):
    result.predictors(seed=1)
  record = json.loads((tmp_path / "run" / "config.json").read_text())
  here = f"object:{__name__}"
  assert record["config"]["data"]["name"] == "object:flowers"
  assert record["config"]["model"] == {"name": f"{here}.Plain", "classes": 3}
  assert record["config"]["method"] == {
    "name": f"{here}.own_factory", "sharpness": 2.0, "loss": f"{here}.squared",
  }  # fmt: skip
  assert (record["method"], record["wrappers"]) == ("sharp", ["with_ema"])
  page = (tmp_path / "run" / "report.html").read_text()
  assert "sharp + with_ema on flowers" in page


def recorded(tmp_path, **parts):
  """What the config.json of a run says, written twice over: the second time it is the same run."""
  for _ in range(2):
    record = rundir.claim(assembled(**parts), tmp_path / "run")
  return record["config"]


def test_a_finished_method_is_recorded_by_its_name(tmp_path):
  assert recorded(tmp_path, method=finished_method())["method"] == {"name": "object:erm"}


def test_a_loss_in_the_config_is_recorded_by_its_name(tmp_path):
  config = {"method": {"name": "erm", "loss": squared}}
  assert recorded(tmp_path, config=config)["method"]["loss"] == f"object:{__name__}.squared"


# --- factories -----------------------------------------------------------------------------------


def assembled(**parts):
  config = schema.merge(CONFIG, parts.pop("config", {}))
  return build.assemble(config, **{"source": source(), "network": toy_network(), **parts})


def any_keywords(network, **options):
  return methods.erm(network, spec=options["spec"], loss=options["own"])


def bare(network):
  spec = core.Spec(num_train=1, num_classes=3, image_shape=(8, 8, 3))
  return methods.erm(network, spec=spec)


@pytest.mark.parametrize(
  ("method", "config"),
  [
    (any_keywords, {"method": {"name": "x", "own": "cross_entropy"}}),
    (bare, {}),
    (functools.partial(methods.erm, loss=squared), {}),
  ],
  ids=["any_keywords", "bare", "partial"],
)
def test_factories_of_any_signature(method, config):
  assert assembled(method=method, config=config).method.name == "erm"


class Two(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.Dense(3)(x.mean((1, 2))), x


WRONG = {
  "method is of type str; it must be a factory or a Method": {"method": "erm"},
  "loss is of type str; it must be a function": {"loss": "cross_entropy"},
  "object:jaxnoise.methods.adversarial.free_at has no argument `loss`": {
    "method": methods.free_at, "loss": squared,
  },
  "returned an object of type NoneType; it must return a core.Method": {
    "method": lambda network: None,
  },
  "config.method.scael is no argument of partial(": {
    "method": functools.partial(methods.erm), "config": {"method": {"name": "x", "scael": 1}},
  },
  "logits for one image have shape (1, 4), but the data has 3 classes": {"network": Plain(4)},
  "module: Two returns a tuple; it must return logits": {"network": Two()},
  "the network's apply returns a tuple; it must return a core.Output": {
    "network": toy_network()._replace(apply=lambda *a, **k: (jnp.zeros((1, 3)), {})),
  },
}  # fmt: skip


@pytest.mark.parametrize("words", WRONG)
def test_what_does_not_fit_is_named(words):
  with pytest.raises(core.InputError) as error:
    assembled(**WRONG[words])
  assert words in str(error.value) and "\n" not in str(error.value)


def test_objects_and_stages_exclude_each_other(tmp_path):
  config = {**CONFIG, "stages": ("a", "b"), "data": {"name": "generated"}}
  with pytest.raises(core.InputError, match="network was given as an object, but the config has s"):
    experiment.run(config, tmp_path / "run", quiet=True, network=toy_network())
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("config", ["erm", {"data": "digits"}, {"method": "erm"}])
def test_a_config_that_is_none_is_named(config, tmp_path):
  with pytest.raises(core.InputError, match=r"config.* is .*must be a (dictionary|section)"):
    jaxnoise.train(config, tmp_path / "run", source=source(), quiet=True)
