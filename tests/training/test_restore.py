"""A run opened again is the run that was trained, whatever is gone that predictions do not need."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import data, methods
from jaxnoise.core import InputError, TrainState
from jaxnoise.training import build, checkpoint, loop, networks, restore, rundir, writers
from tests.toy import toy_network
from tests.training.common import assert_same, tiny_run, tiny_source

WRN = {"name": "wide_resnet", "depth": 10, "widen_factor": 1}


def averaged(network, *, spec, first=None):
  return methods.with_ema(methods.erm(network, spec=spec), decay=0.5)


GIVEN = {"network": toy_network(), "method": averaged}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """Two seeds, on one device, a batch size that eight devices cannot share."""
  workdir = tmp_path_factory.mktemp("trained") / "run"
  run = tiny_run(averaged, seeds=2, seed=5, batch_size=12, total="1 epoch")
  return workdir, loop.train(run, workdir, quiet=True).state


def saved(run, workdir, scores=(None,), shift=0.0):
  """A run that was not trained: checkpoints at steps 1, 2, ... of states that differ."""
  record = rundir.claim(run, workdir)
  saver = checkpoint.Checkpointer(workdir / "checkpoints", keep=9, best=True)
  state = loop.Programs(run).init()
  for step, score in enumerate(scores, start=1):
    params = jax.tree.map(lambda x, step=step: x + shift * step, state.params)
    saver.save(state.replace(step=jnp.int32(step), params=params), step, record, score)
  saver.close()
  return state


def listing(folder):
  return {p: (p.stat().st_mtime_ns, p.is_file() and p.read_bytes()) for p in folder.rglob("*")}


def test_it_is_the_trained_state_on_all_devices_and_nothing_is_written(trained):
  workdir, state = trained
  # What a run that is still training may be in the middle of writing.
  unfinished = workdir / "checkpoints" / "9.orbax-checkpoint-tmp"
  unfinished.mkdir(exist_ok=True)
  before = listing(workdir)
  opened = restore.open_run(workdir, source=tiny_source(), **GIVEN)
  assert_same(opened.saved, state)
  assert opened.step == 4 and opened.seeds == (5, 6) and opened.seed == 5
  assert listing(workdir) == before and unfinished.is_dir()
  devices = jax.tree.leaves(opened.saved.params)[0].sharding.device_set
  assert len(devices) == opened.run.mesh.size == 8


@pytest.mark.parametrize("seed", [5, 6])
def test_each_seed_predicts_as_its_own_state_by_hand(trained, seed):
  workdir, state = trained
  mine = jax.tree.map(lambda x: x[seed - 5], state.replace(step=None))
  opened = restore.open_run(workdir, seed=seed, source=tiny_source(), **GIVEN)
  pool = opened.run.source.test
  image = jnp.asarray(pool.images, jnp.float32) / 255
  assert list(opened.predictors) == ["student", "ema"]
  for name, params in (("student", mine.params), ("ema", mine.ema_params)):
    stats = mine.batch_stats if name == "student" else mine.ema_batch_stats
    logits = np.asarray(toy_network().apply(params, stats, image).logits)
    found = opened.predict(pool, name, batch_size=10)
    np.testing.assert_allclose(found.logits, logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(opened.predictors[name](image), logits, rtol=1e-4, atol=1e-5)
  assert_same(opened.of_seed(5).state.params, jax.tree.map(lambda x: x[0], state.params))


def test_a_seed_or_step_that_is_not_there(trained):
  workdir, _ = trained
  with pytest.raises(InputError, match=r"seed 7 is none of .*, which has the seeds 5 to 6"):
    restore.open_run(workdir, seed=7, source=tiny_source(), **GIVEN)
  opened = restore.open_run(workdir, with_data=False, **GIVEN)
  with pytest.raises(InputError, match="the seeds 5 to 6"):
    opened.of_seed(4)
  with pytest.raises(InputError, match="no checkpoint 3; kept are the steps 4"):
    restore.open_run(workdir, step=3, with_data=False, **GIVEN)
  with pytest.raises(InputError, match=r"no best checkpoint: it held nothing out"):
    restore.open_run(workdir, step="best", with_data=False, **GIVEN)


def test_the_best_is_not_the_latest(tmp_path):
  run = tiny_run(data={"holdout": 12})
  state = saved(run, tmp_path / "run", scores=(0.2, 0.7, None, 0.5), shift=0.1)
  given = {"source": tiny_source(), "network": toy_network(), "method": methods.erm}
  for step, expected in ((None, 4), ("latest", 4), ("best", 2), (3, 3)):
    opened = restore.open_run(tmp_path / "run", step=step, **given)
    assert opened.step == int(opened.state.step) == expected
    shifted = jax.tree.map(lambda x, s=expected: x + 0.1 * s, state.params)
    assert_same(opened.state.params, shifted, rtol=1e-6)
  assert opened.run.holdout.size == 12 and opened.run.source.num_train == 36
  saved(run, tmp_path / "other")
  with pytest.raises(InputError, match="was never measured when it was saved"):
    restore.open_run(tmp_path / "other", step="best", **given)


def test_without_its_data(tmp_path):
  """Tables of the method's state are as long as the training set, which has to be known."""
  shape = lambda spec: (spec.num_train, spec.pools["trusted"])

  def with_table(network, *, spec, first=None):
    inner = methods.erm(network, spec=spec)
    keep = lambda state: state.with_method_state("table", jnp.ones(shape(spec)))
    return type(inner)(inner.name, inner.loss_fn, inner.predictors, init_state=keep)

  run = tiny_run(with_table, data={"holdout": 6, "trusted": 9, "trusted_in_train": False})
  saved(run, tmp_path / "run")
  given = {"network": toy_network(), "method": with_table}
  whole = restore.open_run(tmp_path / "run", source=tiny_source(), **given)
  table = {"step": 1, "classes": {"names": ["a", "b", "c"]}}
  writers.write_json(tmp_path / "run" / "tables" / "clean.json", table)
  alone = restore.open_run(tmp_path / "run", with_data=False, **given)
  assert_same(alone.state, whole.state)
  assert alone.state.method_state["table"].shape == (33, 9)
  assert alone.run.config == whole.run.config
  assert alone.run.spec.num_steps == whole.run.spec.num_steps
  assert alone.run.source.class_names == ("a", "b", "c") and alone.run.holdout is None
  pool = tiny_source().test
  np.testing.assert_array_equal(alone.predict(pool).logits, whole.predict(pool).logits)


def test_images_of_another_shape(trained):
  opened = restore.open_run(trained[0], with_data=False, **GIVEN)
  with pytest.raises(InputError, match=r"are of shape \(9, 8, 3\), but .* of shape \(8, 8, 3\)"):
    opened.predict(data.Pool(np.zeros((2, 9, 8, 3), np.uint8)))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
  """A finished run of a network that a config can name; nothing is computed."""
  folder = tmp_path_factory.mktemp("teacher") / "teacher"
  config = {"model": WRN, "batch_size": 16, "total": "1 step"}
  run = build.assemble({**config, "data": {"name": "generated"}}, source=tiny_source())
  shapes = networks.variables(run.network, (8, 8, 3))
  same = jax.tree.map(lambda x: jnp.full(x.shape, 0.01, x.dtype), shapes)
  record = rundir.claim(run, folder)
  saver = checkpoint.Checkpointer(folder / "checkpoints")
  saver.save(TrainState.create(jax.random.key(0), **same), 1, record)
  saver.close()
  return folder


def test_a_student_opens_with_and_without_its_teacher(teacher, tmp_path):
  folder = tmp_path / "teacher"
  shutil.copytree(teacher, folder)
  distill = methods.knowledge_distillation
  run = tiny_run(distill, teacher=str(folder), wrappers=("with_ema",))
  saved(run, tmp_path / "student")
  given = {"source": tiny_source(), "network": toy_network(), "method": distill}
  opened = restore.open_run(tmp_path / "student", **given)
  assert_same(opened.state.teacher, run.teacher)
  shutil.rmtree(folder)
  alone = restore.open_run(tmp_path / "student", **given)
  assert alone.state.teacher is None and alone.run.config == opened.run.config
  assert_same(alone.state.replace(teacher=None), opened.state.replace(teacher=None))
  pool = tiny_source().test
  np.testing.assert_array_equal(alone.predict(pool).logits, opened.predict(pool).logits)


def test_what_it_started_from_may_be_gone(tmp_path):
  saved(tiny_run(), tmp_path / "first")
  saved(tiny_run(init_from=str(tmp_path / "first")), tmp_path / "second")
  shutil.rmtree(tmp_path / "first")
  given = {"source": tiny_source(), "network": toy_network(), "method": methods.erm}
  opened = restore.open_run(tmp_path / "second", **given)
  assert opened.run.start_from is None
  assert opened.run.config["init_from"] == str(tmp_path / "first")


def test_objects_have_to_be_given_again(trained):
  workdir, _ = trained
  advice = r"jaxnoise\.training\.restore\.open_run\('.*', {}\) from Python"
  for given, says in (
    ({}, r"source=\.\.\., network=\.\.\., method=\.\.\."),
    ({"with_data": False}, r"network=\.\.\., method=\.\.\."),
    ({"source": tiny_source(), "network": toy_network()}, r"method=\.\.\."),
  ):
    with pytest.raises(InputError, match=advice.format(says)):
      restore.open_run(workdir, **given)


def test_a_loss_of_one_s_own_is_not_needed(tmp_path):
  def mine(logits, targets):
    return -jnp.sum(targets * jax.nn.log_softmax(logits), axis=-1)

  source, network = tiny_source(), toy_network()
  config = {"data": {"name": "generated"}, "batch_size": 16, "total": "1 step"}
  run = build.assemble(config, source=source, network=network, loss=mine)
  saved(run, tmp_path / "run")
  opened = restore.open_run(tmp_path / "run", source=source, network=network)
  assert "mine" in opened.run.config["method"]["loss"]
  assert opened.predict(source.test).logits.shape == (24, 3)


def test_other_data_are_refused(trained):
  workdir, _ = trained
  source = tiny_source()
  changed = source.with_labels((np.asarray(source.labels) + 1) % 3)
  with pytest.raises(InputError, match=r"was trained on other data .*: its data_crc32 is"):
    restore.open_run(workdir, source=changed, **GIVEN)
  with pytest.raises(InputError, match="its num_train is 48, not 36"):
    restore.open_run(workdir, source=tiny_source(num_train=36), **GIVEN)


def test_directories_that_cannot_be_opened(trained, tmp_path):
  with pytest.raises(InputError, match=r"nowhere.*does not exist; is nowhere a run directory"):
    restore.open_run("nowhere")
  stages = tmp_path / "stages"
  for name in ("student", "teacher"):
    (stages / name).mkdir(parents=True)
    shutil.copy(trained[0] / "config.json", stages / name)
  with pytest.raises(InputError, match="holds the runs student, teacher; name one"):
    restore.open_run(stages)
  with pytest.raises(InputError, match="checkpoints does not exist; did the run end before"):
    restore.open_run(stages / "student", with_data=False, **GIVEN)
  assert not (stages / "student" / "checkpoints").exists()
  (stages / "student" / "checkpoints").mkdir()
  with pytest.raises(InputError, match="holds no checkpoint"):
    restore.open_run(stages / "student", with_data=False, **GIVEN)


def test_a_checkpoint_of_another_network_is_refused(trained):
  with pytest.raises(InputError, match="the checkpoint is of another model or method"):
    restore.open_run(
      trained[0], with_data=False, network=toy_network(), method=lambda network, *, spec, first:
      methods.erm(network, spec=spec),
    )  # fmt: skip


def test_an_older_record_opens(trained, tmp_path):
  """Fields that came later have their defaults."""
  folder = tmp_path / "older"
  shutil.copytree(trained[0], folder)
  path = folder / "config.json"
  record = json.loads(path.read_text())
  del record["config"]["evaluate"], record["data_crc32"]
  path.write_text(json.dumps(record))
  assert restore.open_run(folder, with_data=False, **GIVEN).step == 4


def test_how_it_was_trained_may_be_refused_today(trained, tmp_path):
  """Settings that change no prediction: a run that had them opens, whatever training would say."""
  workdir = tmp_path / "run"
  shutil.copytree(trained[0], workdir)
  record = json.loads((workdir / "config.json").read_text())
  record["config"] |= {"steps_per_call": 100, "precision": "bfloat16", "deterministic": True}
  (workdir / "config.json").write_text(json.dumps(record))
  opened = restore.open_run(workdir, source=tiny_source(), **GIVEN)
  assert_same(opened.saved, trained[1])
