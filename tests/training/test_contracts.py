"""The contracts that the loop keeps for a method, each by one number."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment, data, methods
from jaxnoise.core import Aux, InputError, SideBatch, reduce
from jaxnoise.training import checkpoint, experiment, loop, schema, seeds, writers
from tests.toy import toy_network
from tests.training.common import CONFIG, assert_same, tiny_run, tiny_source

# --- pass over the training set ------------------------------------------------------------------


def loss_collector(network, *, spec, first=augment.identity):
  """ERM that collects every example's loss at the end of each half epoch, and how often it did."""
  inner = methods.erm(network, spec=spec, first=first)

  def example_pass(state):
    def collect(batch_stats, batch, rng):
      del rng
      logits = network.apply(state.params, batch_stats, batch["image"]).logits
      log_p = jax.nn.log_softmax(logits)
      rows = jnp.arange(logits.shape[0])
      return {"loss": -log_p[rows, batch["label"]], "index": batch["index"]}, batch_stats

    return collect

  def after_pass(state, tables, rng):
    del rng
    mine = state.method_state["collector"]
    return state.with_method_state(
      "collector", {**tables, "passes": mine["passes"] + 1, "step": state.step}
    )

  def init_state(state):
    zeros = {"loss": jnp.zeros(spec.num_train), "index": jnp.zeros(spec.num_train, jnp.int32)}
    counts = {"passes": jnp.zeros((), jnp.int32), "step": jnp.zeros((), jnp.int32)}
    return state.with_method_state("collector", {**zeros, **counts})

  return dataclasses.replace(
    inner,
    init_state=init_state,
    example_pass=example_pass,
    after_pass=after_pass,
    passes_per_epoch=2,
  )


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_pass_may_be_in_random_order_and_rows_stay_those_of_their_examples(shuffled):
  def factory(network, *, spec):
    inner = loss_collector(network, spec=spec)

    def example_pass(state):
      def collect(batch_stats, batch, rng):
        # What an example's batch is made of, in the place of the loss.
        company = jnp.full(batch["index"].shape, jnp.mean(batch["index"] * 1.0))
        return {"loss": company, "index": batch["index"]}, batch_stats

      return collect

    return dataclasses.replace(inner, example_pass=example_pass, shuffled_pass=shuffled)

  run = tiny_run(factory, source=tiny_source(num_train=70))  # the last batch is padded
  programs = loop.Programs(run)
  arrays = data.device_data(run.source, jax.sharding.NamedSharding(run.mesh, jax.P()))
  table = programs.example_pass(programs.init(), arrays).method_state["collector"]
  np.testing.assert_array_equal(table["index"], np.arange(70))
  in_order = np.repeat(np.arange(0, 70, 16), 16)[:64] + 7.5
  found = np.asarray(table["loss"])[:64]
  assert np.array_equal(found, in_order) != shuffled
  if shuffled:
    assert found.min() > 16 and found.max() < 54  # every batch is of examples from everywhere


def test_a_collected_table_equals_direct_evaluation(tmp_path):
  source = tiny_source(num_train=70)  # not a multiple of the batch: the pass pads, the epoch drops
  run = tiny_run(loss_collector, source=source, total="2 epochs")
  state = loop.train(run, tmp_path / "run", quiet=True).state
  table = state.method_state["collector"]
  assert int(table["passes"]) == 4 and int(table["step"]) == 8
  np.testing.assert_array_equal(table["index"], np.arange(70))
  image = jnp.asarray(source.images, jnp.float32) / 255
  logits = run.network.apply(state.params, state.batch_stats, image).logits
  direct = -jax.nn.log_softmax(logits)[np.arange(70), np.asarray(source.labels)]
  np.testing.assert_allclose(table["loss"], direct, rtol=1e-5, atol=1e-6)


# --- side batches --------------------------------------------------------------------------------


def trusted_erm(network, *, spec):
  """ERM on the training batch plus the mean loss of eight trusted examples."""

  def loss_fn(state):
    def fn(params, batch, rng):
      del rng
      side = batch["side"]["trusted"]
      image = jnp.concatenate([batch["image"], side["image"]])
      out = network.apply(params, state.batch_stats, image, train=True)
      label = jnp.concatenate([batch["label"], side["label"]])
      values = -jax.nn.log_softmax(out.logits)[jnp.arange(label.shape[0]), label]
      own, trusted = values[: batch["label"].shape[0]], values[batch["label"].shape[0] :]
      metrics = {
        "loss": reduce.mean_count(own),
        "trusted_index": (jnp.sum(2.0 ** side["index"]), jnp.ones(())),
        "never_drawn": reduce.mean_count(_weights(state)[batch["side"]["drawn"]["index"]] == 0),
        "clean": (jnp.asarray("clean_label" in batch, float), jnp.ones(())),
      }
      return jnp.mean(own) + jnp.mean(trusted), Aux(out.batch_stats, own, metrics)

    return fn

  erm = methods.erm(network, spec=spec)
  sides = (SideBatch("trusted", "trusted", 4), SideBatch("drawn", "trusted", 4, weights=_weights))
  return dataclasses.replace(erm, loss_fn=loss_fn, side_batches=sides)


def _weights(state):
  del state
  index = jnp.arange(12.0)
  return jnp.where(index % 4 == 3, index, 0.0)  # of the twelve, three may be drawn; not the first


def test_side_batches_visit_the_pool_and_are_trained_on(tmp_path):
  source = tiny_source(num_train=60)
  wrong = (np.asarray(source.labels) + 1) % 3
  noisy = source.with_labels(wrong)
  run = tiny_run(
    trusted_erm,
    source=noisy,
    total="1 epoch",
    data={"trusted": 12, "trusted_in_train": False},
    log={"every": "3 steps"},
  )
  assert run.spec.num_train == 48 and run.spec.pools["trusted"] == 12
  pool = run.source.pools["trusted"]
  np.testing.assert_array_equal(pool.labels, np.asarray(source.labels)[np.asarray(pool.ids)])
  loop.train(run, tmp_path / "run", quiet=True)
  row = next(r for r in writers.read_rows(tmp_path / "run" / "metrics.jsonl") if "epoch" in r)
  # Three steps of four draws without replacement visit each of the twelve examples once.
  assert 3 * row["train/student/trusted_index"] == 2**12 - 1
  assert row["train/student/never_drawn"] == 0, "an example of weight zero was drawn"
  assert row["train/student/clean"] == 0, "true labels must not reach a loss"


def test_a_missing_pool_is_named():
  with pytest.raises(InputError, match=r"draws from the pool 'trusted'.*config\.data\.trusted"):
    tiny_run(trusted_erm)


# --- seeds ---------------------------------------------------------------------------------------


def noisy_mix_factory(network, *, spec):
  def jitter(rng, image):
    return image + 0.05 * jax.random.normal(rng, image.shape)

  method = methods.noisymix(network, spec=spec, policy=jitter, stages=(0, 1, 2))
  return methods.with_ema(method, decay=0.5)


@pytest.mark.parametrize(
  ("factory", "changes"),
  [
    (methods.erm, {}),
    (noisy_mix_factory, {}),
    (loss_collector, {}),
    # Every seed, alone or with others, has the same examples held out.
    (methods.erm, {"data": {"holdout": 12}}),
  ],
  ids=["erm", "noisymix", "collector", "holdout"],
)
def test_two_seeds_equal_two_single_runs(tmp_path, factory, changes):
  both = loop.train(tiny_run(factory, seeds=2, seed=5, **changes), tmp_path / "both", quiet=True)
  for s in range(2):
    one = tiny_run(factory, seed=5 + s, **changes)
    single = loop.train(one, tmp_path / f"one{s}", quiet=True)
    mine = seeds.take(both.state, s)
    assert_same(mine.params, single.state.params, rtol=1e-4, atol=1e-5)
    assert_same(mine.ema_params, single.state.ema_params, rtol=1e-4, atol=1e-5)
    assert_same(mine.method_state, single.state.method_state, rtol=1e-4, atol=1e-5)
    assert any(name.startswith("holdout/") for name in single.metrics) == bool(changes)
    for name, value in single.metrics.items():
      np.testing.assert_allclose(both.metrics[name][s], value, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_five_steps_of_two_seeds_equal_two_single_runs_in_float64():
  def five_steps(**changes):
    programs = loop.Programs(tiny_run(noisy_mix_factory, **changes))
    arrays = data.device_data(programs.run.source)
    state, totals = programs.init(), None
    for step in range(5):
      if step % 3 == 0:  # an epoch has three
        orders = programs.epoch_orders(state, arrays, step // 3)
      totals = programs.zero_totals(state, arrays, orders) if totals is None else totals
      state, totals = programs.step(state, arrays, orders, totals)
    return state, totals

  with jax.enable_x64(True):
    both, both_totals = five_steps(seeds=2, seed=5)
    for s in range(2):
      state, totals = five_steps(seed=5 + s)
      assert {x.dtype for x in jax.tree.leaves(state.params)} == {np.dtype("float64")}
      assert_same(seeds.take(both, s), state, rtol=1e-9, atol=1e-9)
      assert_same(jax.tree.map(lambda x, s=s: x[s], both_totals), totals, rtol=1e-9, atol=1e-9)


# --- stages and teachers -------------------------------------------------------------------------

STAGED = schema.merge(
  CONFIG,
  {
    "model": {"name": "wide_resnet", "depth": 10, "widen_factor": 1},
    "total": "1 epoch",
    "data": {"name": "generated"},
    "batch_size": 64,
    "evaluate": {"every": "1 epoch", "batch_size": 64},
    "stages": ("teacher", "student"),
    "stage": {
      "teacher": {"seed": 3},
      "student": {
        "teacher": "teacher",
        "method": {"name": "knowledge_distillation", "temperature": 2.0},
      },
    },
  },
)


def test_stages_run_in_order_and_resume_between(tmp_path, monkeypatch):
  """Interrupted after the teacher, the same call trains the student only."""
  trained = []
  original = loop.train

  def counting(run, workdir, **kwargs):
    trained.append(workdir.name)
    if trained == ["teacher", "student"]:
      raise KeyboardInterrupt
    return original(run, workdir, **kwargs)

  monkeypatch.setattr(loop, "train", counting)
  with pytest.raises(KeyboardInterrupt):
    experiment.run(STAGED, tmp_path / "run", quiet=True)
  before = (tmp_path / "run" / "teacher" / "metrics.jsonl").read_text()
  results = experiment.run(STAGED, tmp_path / "run", quiet=True)
  assert trained == ["teacher", "student", "teacher", "student"]
  assert (tmp_path / "run" / "teacher" / "metrics.jsonl").read_text() == before
  teacher, student = (r.state for r in results)
  assert student.teacher is not None and teacher.teacher is None
  assert_same(student.teacher["params"], teacher.params)
  saver = checkpoint.Checkpointer(tmp_path / "run" / "student" / "checkpoints")
  saved = saver._manager.item_metadata(saver.latest_step())
  saver.close()
  model, rest = (set(getattr(saved[item], "tree", saved[item])) for item in ("model", "train"))
  assert {"params"} <= model <= {"params", "batch_stats", "ema_params", "ema_batch_stats"}
  assert {"opt_state"} <= rest <= {"step", "rng", "opt_state", "method_state"}


def test_teacher_is_an_input_of_the_program_not_a_constant():
  network = toy_network()
  run = tiny_run()
  params, stats = network.init(jax.random.key(3), jnp.zeros((1, 8, 8, 3)))
  method = methods.knowledge_distillation(network, spec=run.spec, teacher_network=network)
  run = dataclasses.replace(
    run, method=method, teacher={"params": params, "batch_stats": stats}
  )
  programs = loop.Programs(run)
  state = programs.init()
  arrays = data.device_data(run.source)
  orders = programs.epoch_orders(state, arrays, 0)
  totals = programs.zero_totals(state, arrays, orders)
  moved = state.replace(teacher=jax.tree.map(lambda x: x + 0.3, state.teacher))
  copy = jax.tree.map(jnp.copy, state)
  a, _ = programs.step(copy, arrays, orders, totals)
  b, _ = programs.step(moved, arrays, orders, totals)
  assert programs.step._cache_size() == 1
  assert np.abs(np.asarray(a.params["w3"]) - np.asarray(b.params["w3"])).max() > 1e-4
  assert_same(a.teacher, state.teacher)


def test_plan_names_what_is_wrong(tmp_path):
  for changes, message in [
    ({"stages": ("a", "a")}, "name of its own"),
    ({"stage": {"b": {}}}, r"config\.stage\.b belongs to no stage"),
    (
      {"stages": ("a", "b"), "stage": {"a": {"teacher": "b"}}},
      "runs no earlier than 'a'",
    ),
  ]:
    with pytest.raises(InputError, match=message):
      experiment.plan(changes, tmp_path)
