"""A sweep is its members, trained as one program, measured and told apart."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import api, methods, reporting
from jaxnoise.core import InputError
from jaxnoise.reporting import _sweeps
from jaxnoise.training import (
  build,
  loop,
  restore,
  schema,
  seeds,
  sharding,
  sinks,
  sweep,
  writers,
)
from tests.reporting import fabricate
from tests.toy import toy_network
from tests.training.common import CONFIG, assert_same, tiny_source
from tests.training.test_seeds import started, trained

SWEEP = {"optim": {"lr": (0.1, 0.4)}, "method": {"smoothing": (0.0, 0.3)}}


def smoothed(network, *, spec, first=None, smoothing=0.0, width=2, replays=1):
  """ERM whose arrays and steps may hang on its numbers."""
  if smoothing < 0:
    raise InputError(f"smoothing is {smoothing}; it must be >= 0")
  inner = methods.erm(network, spec=spec)

  def loss_fn(state):
    of_state = inner.loss_fn(state)

    def fn(params, batch, rng):
      loss, aux = of_state(params, batch, rng)
      return loss + smoothing * jnp.sum(params["w3"] ** 2), aux

    return fn

  def init_state(state):
    return state.with_method_state("smoothed", {"table": jnp.zeros(int(width))})

  return dataclasses.replace(
    inner, name="smoothed", loss_fn=loss_fn, init_state=init_state, replays=int(replays)
  )


def run_of(**changes):
  return build.assemble(
    schema.merge(CONFIG, changes),
    source=tiny_source(),
    network=toy_network(),
    method=smoothed,
    mesh=one_device(),
  )


def one_device():
  return sharding.make_mesh(jax.devices()[:1])


@pytest.mark.slow
def test_members_times_seeds_are_runs_of_their_own_measured_and_reported_apart(tmp_path):
  """Two members with two seeds each, trained, evaluated, reported and opened again."""
  changes = {"total": "2 steps", "seed": 5, "seeds": 2, "log": {"tensorboard": False}}
  changes["evaluate"] = {"corruptions": ("brightness",), "severities": (1,)}
  parts = {"source": tiny_source(), "network": toy_network(), "method": smoothed}
  config = schema.merge(CONFIG, {**changes, "sweep": SWEEP})
  workdir = tmp_path / "run"
  result = api.train(config, workdir, quiet=True, **parts)
  labels = ["optim.lr = 0.1, method.smoothing = 0", "optim.lr = 0.4, method.smoothing = 0.3"]
  member = result.run.members[1]
  values = {"optim": {"lr": 0.4}, "method": {"smoothing": 0.3}}
  assert member.config == run_of(**changes, **values).config
  own = loop.Programs(dataclasses.replace(member, mesh=one_device()))
  arrays = member.host_data()
  expected, orders, zeros = started(own, arrays)
  expected, totals = trained(own, expected, arrays, 2, orders, zeros)
  for s in range(2):
    mine = seeds.take(result.state, 2 + s)
    assert_same(mine, seeds.take(expected, s), rtol=1e-4, atol=1e-5)
  first, second = (seeds.take(result.state, r).params["w3"] for r in (0, 2))
  assert np.abs(first - second).max() > 1e-2, "members are all one"
  rows = [told for told in writers.read_rows(workdir / "metrics.jsonl") if "step" in told]
  rates = rows[0]["train/student/lr"]
  assert 4 * rates[1] == pytest.approx(rates[2], rel=1e-4) and rates[0] == rates[1]
  np.testing.assert_allclose(
    rows[0]["train/student/loss"][2:], totals["loss"][0] / totals["loss"][1], rtol=1e-4
  )
  assert len(result.metrics["test/student/accuracy"]) == 4
  clean = writers.read_json(workdir / "tables" / "clean.json")
  assert clean["seeds"] == [5, 6, 5, 6] and clean["members"] == [labels[0]] * 2 + [labels[1]] * 2
  corrupted = writers.read_json(workdir / "tables" / "corruptions.json")
  assert len(corrupted["predictors"]["student"]) == 4
  page = (workdir / "report.html").read_text()
  assert all(page.count(label) >= 3 for label in labels) and "a sweep of 2 members" in page
  image = tiny_source().test_images[:2] / 255.0
  logits = result.predictors(seed=1, member=1)["student"](image)
  with pytest.raises(InputError, match=r"member is 2; the run has 2"):
    result.predictors(member=2)
  with pytest.raises(InputError, match=rf"a sweep of 2 members, and none was chosen.*{labels[0]}"):
    restore.open_run(workdir, **parts)
  with pytest.raises(InputError, match="is a sweep, which keeps no best checkpoint"):
    restore.open_run(workdir, member=1, seed=6, step="best", **parts)
  opened = restore.open_run(workdir, member=1, seed=6, **parts)
  assert (opened.member, opened.seeds) == (1, (5, 6))
  assert opened.run.config["optim"]["lr"] == 0.4 and not opened.run.config["sweep"]
  assert_same(opened.state, seeds.take(result.state, 3))
  np.testing.assert_allclose(opened.predictors["student"](image), logits, rtol=1e-5)


@pytest.mark.parametrize(
  ("swept", "words"),
  [
    ({"batch_size": (8, 16)}, r"config\.sweep\.batch_size would change what all members share .* "
     r"numbers of optim, method, policy and wrapper_args may be swept"),
    ({"data": {"noise": {"rate": (0.1, 0.2)}}}, r"config\.sweep\.data\.noise\.rate would change"),
    ({"model": {"depth": (10, 16)}}, r"config\.sweep\.model\.depth would change"),
    ({"optm": {"lr": (0.1, 0.2)}}, r"config\.sweep\.optm\.lr is no field .* did you mean 'optim'"),
    ({"optim": {"rl": (0.1, 0.2)}}, r"config\.sweep\.optim\.rl is no field of config\.optim"),
    ({"optim": {"lr": (0.1,)}}, r"config\.sweep\.optim\.lr has 1 value\(s\); give one for each"),
    ({"optim": {"lr": (0.1, 0.2, 0.1)}},
     r"config\.sweep has members 0 and 2 alike \(optim\.lr = 0\.1\); .* set config\.seeds"),
    ({"optim": {"lr": 0.1}}, r"config\.sweep\.optim\.lr is 0\.1; it must be several numbers"),
    ({"optim": {"lr": (0.1, "x")}}, r"config\.sweep\.optim\.lr is \(0\.1, 'x'\); it must be"),
    ({"optim": {"nesterov": (True, False)}}, r"config\.sweep\.optim\.nesterov is \(True"),
    ({"optim": {"nesterov": (0, 1)}}, r"config\.optim\.nesterov is True, no number"),
    ({"optim": {"name": (1, 2)}}, r"config\.optim\.name is 'sgd', no number"),
    ({"optim": {"freeze_level": (0, 1)}}, r"freeze_level changes which arrays there are"),
    ({"optim": {"lr": (0.1, 0.2), "momentum": (0.1, 0.2, 0.3)}},
     r"config\.sweep\.optim\.momentum has 3 values and config\.sweep\.optim\.lr has 2"),
    ({"optim.lr": (1, 2), "optim": {"lr": (1, 2)}}, r"config\.sweep\.optim\.lr is given twice"),
    ({"optim": {"momentum": (0.9, 1.5)}},
     r"config\.sweep, member 1 \(optim\.momentum = 1\.5\): config\.optim\.momentum is 1\.5"),
    ({"method": {"smothing": (0.1, 0.2)}}, r"member 0 .*did you mean 'smoothing'"),
    ({"method": {"smoothing": (0.1, -1)}}, r"member 1 .*smoothing is -1; it must be >= 0"),
    ({"method": {"replays": (1, 2)}},
     r"config\.sweep\.method\.replays changes the number of steps, 9 of member 0 and 18 of member"),
  ],
)  # fmt: skip
def test_what_cannot_be_swept_is_named(swept, words):
  with pytest.raises(InputError, match=words):
    run_of(sweep=swept)


def test_a_number_that_changes_an_array_is_named_before_anything_is_written(tmp_path):
  run = run_of(sweep={"method": {"width": (2, 3)}})
  words = r"config\.sweep\.method\.width changes an array, .*table.*: \(2,\) of member 0, \(3,\) of"
  with pytest.raises(InputError, match=words):
    loop.train(run, tmp_path / "run", quiet=True)
  assert not (tmp_path / "run").exists()


def test_a_sweep_is_no_teacher_and_a_finished_method_has_no_numbers(tmp_path):
  given = {"source": tiny_source(), "network": toy_network()}
  run = run_of()
  with pytest.raises(InputError, match=r"method\.smoothing is given, but method is a finished"):
    build.assemble({**CONFIG, "sweep": SWEEP}, method=run.method, **given)
  record = {"config": schema.check({"sweep": SWEEP}), "num_classes": 3, "image_shape": [8, 8, 3]}
  writers.write_json(tmp_path / "teacher" / "config.json", record)
  with pytest.raises(InputError, match=r"config\.init_from is a sweep of 2 members"):
    run_of(init_from=str(tmp_path / "teacher"))


def test_a_sweep_with_seeds_is_not_spread_over_groups_of_devices():
  given = {"source": tiny_source(), "network": toy_network(), "method": smoothed}
  run = build.assemble(schema.merge(CONFIG, {"seeds": 4, "sweep": SWEEP}), **given)
  assert dict(run.mesh.shape) == {"seed": 1, "data": 8}


def test_the_member_whose_loss_is_not_finite_is_named(tmp_path):
  run = run_of(sweep={"optim": {"lr": (0.1, 1e30)}}, seeds=2, seed=5, total="4 steps")
  words = r"of optim\.lr = 1e\+30, seed 5; optim\.lr = 1e\+30, seed 6 is not finite.*optim\.lr$"
  with pytest.raises(loop.NonFiniteError, match=words):
    loop.train(run, tmp_path / "run", quiet=True)


@pytest.mark.slow
def test_five_steps_of_members_are_those_of_single_runs_in_float64():
  with jax.enable_x64(True):
    # A rate that moves is float32 in any case, and rounded as each program is compiled.
    changes = {"total": "6 steps", "optim": {"schedule": "constant"}}
    run = run_of(**changes, sweep=SWEEP)
    several, arrays = loop.Programs(run), run.host_data()
    first, orders, zeros = started(several, arrays)
    firsts = [jax.tree.map(jnp.copy, seeds.take(first, m)) for m in range(2)]
    own = [jax.tree.map(lambda x, m=m: np.asarray(x)[m], (orders, zeros)) for m in range(2)]
    state, _ = trained(several, first, arrays, 5, orders, zeros)
    for m, (member, begun) in enumerate(zip(run.members, firsts, strict=True)):
      single = loop.Programs(dataclasses.replace(member, members=()))
      expected, _ = trained(single, begun, arrays, 5, *own[m])
      assert_same(seeds.take(state, m), expected, rtol=1e-9, atol=1e-9)


def test_names_of_curves_say_which_network(tmp_path):
  config = schema.check({"seed": 3, "seeds": 2, "sweep": SWEEP, "log": {"tensorboard": False}})
  of = sinks.Sinks(tmp_path, config, 0)
  names = [of._name(row) for row in range(4)]
  assert names == ["member0-seed3", "member0-seed4", "member1-seed3", "member1-seed4"]
  of = sinks.Sinks(tmp_path, {**config, "seeds": 1}, 0)
  assert [of._name(row) for row in range(2)] == ["member0", "member1"]
  assert sweep.labels(config)[1] == "optim.lr = 0.4, method.smoothing = 0.3"
  close = {"sweep": {"optim": {"lr": (0.12345671, 0.12345672)}}}
  assert sweep.labels(close) == ["optim.lr = 0.12345671", "optim.lr = 0.12345672"]


def test_pages_show_members_apart_and_average_over_seeds_only(tmp_path):
  """Two members of two seeds, written by hand; a mean over all four networks would be 92.50 %."""
  clean = (0.90, 0.91, 0.94, 0.95)
  path = fabricate.run_directory(
    tmp_path / "swept", seeds=4, clean=clean, corrupted=(0.5, 0.52, 0.6, 0.62), details=True
  )
  record = json.loads((path / "config.json").read_text())
  record["config"] |= {"seeds": 2, "sweep": {"optim": {"lr": [0.1, 0.05]}}}
  (path / "config.json").write_text(json.dumps(record))
  first, second = _sweeps.members(reporting.load_run(path))
  assert (first.member, second.member) == ("optim.lr = 0.1", "optim.lr = 0.05")
  assert second.config["optim"]["lr"] == 0.05 and second.seeds == [0, 1]
  assert reporting.final(second, "accuracy").tolist() == [0.94, 0.95]
  assert reporting.corrupted(first, "mean_accuracy").tolist() == [0.5, 0.52]
  last = reporting.curve(second, "test/student/accuracy").value[-1]
  assert last.tolist() == pytest.approx([0.94, 0.95], abs=1e-3)
  assert reporting.curve(second, "train/student/lr").value.shape[1] == 1
  assert [len(m.clean["calibration"]["student"]) for m in (first, second)] == [2, 2]
  for page in (
    reporting.write_report(path), reporting.write_comparison([path], tmp_path / "page.html")
  ):  # fmt: skip
    text = page.read_text()
    assert "erm (optim.lr = 0.1)" in text and "erm (optim.lr = 0.05)" in text
    assert "90.50 ± 0.50" in text and "94.50 ± 0.50" in text and "+4.00 ± 0.00" in text
    assert "92.50" not in text and "4 seeds" not in text
  rows = reporting.comparison_rows([reporting.load_run(path)])
  assert [row.values["accuracy"].text() for row in rows] == ["90.50 ± 0.50", "94.50 ± 0.50"]
