"""Gradient accumulation: what it equals, where it must not mix rows, and what it refuses."""

import dataclasses
import itertools
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import data, methods, models
from jaxnoise.core import InputError, TrainState
from jaxnoise.training import build, loop, preview
from jaxnoise.training.accumulate import accumulated
from tests.toy import toy_batch, toy_network
from tests.training.common import CONFIG, assert_same, compilations, tiny_run, tiny_source
from tests.training.test_contracts import noisy_mix_factory, trusted_erm
from tests.training.test_loop import visit_counter


class Plain(nn.Module):
  """Nothing in it knows the rest of the batch."""

  @nn.compact
  def __call__(self, image):
    h = nn.tanh(nn.Dense(6)(image.reshape(len(image), -1)))
    return nn.Dense(3)(h)


def ready(factory, network=None, **changes):
  """A run's programs, state at step 0, data and first orders."""
  devices = changes.pop("devices", 1)
  run = tiny_run(factory, devices=devices, **changes)
  if network is not None:
    run = dataclasses.replace(run, network=network, method=factory(network, spec=run.spec))
  programs = loop.Programs(run)
  state = programs.init()
  arrays = data.device_data(run.source, jax.sharding.NamedSharding(run.mesh, jax.P()))
  return programs, state, arrays, programs.epoch_orders(state, arrays, 0)


def steps(factory, count, network=None, **changes):
  """The state and the sums of metrics after some steps of the first epoch."""
  programs, state, arrays, orders = ready(factory, network, **changes)
  totals = programs.zero_totals(state, arrays, orders)
  for _ in range(count):
    state, totals = programs.step(state, arrays, orders, totals)
  return jax.device_get((state.params, state.batch_stats, totals))


# --- what it equals ------------------------------------------------------------------------------


def test_the_gradient_is_that_of_the_whole_batch():
  network = models.network(Plain())
  method = methods.erm(network, spec=tiny_run().spec)
  with jax.enable_x64(True):
    cast = lambda x: x.astype(float) if jnp.issubdtype(x.dtype, jnp.floating) else x
    batch = jax.tree.map(cast, toy_batch(size=8))
    params, stats = jax.tree.map(cast, network.init(jax.random.key(1), batch["image"]))
    state = TrainState.create(jax.random.key(0), params, stats)

    @jax.jit
    def both(params, batch, rng):
      parts = {k: accumulated(method.grad_fn, k)(state)(params, batch, rng) for k in (2, 4)}
      return parts, method.grad_fn(state)(params, batch, rng)

    parts, whole = both(params, batch, jax.random.key(2))
    for split in parts.values():
      assert {g.dtype for g in jax.tree.leaves(split[1])} == {np.dtype("float64")}
      assert_same(split, whole, rtol=1e-9, atol=1e-10)


def test_three_updates_are_those_of_the_whole_batch():
  network = models.network(Plain())
  split, whole = (steps(methods.erm, 3, network, accumulate=k) for k in (4, 1))
  assert_same(split, whole, rtol=1e-4, atol=1e-6)


def test_one_part_is_the_method_s_own_gradient():
  grad_fn = methods.erm(toy_network(), spec=tiny_run().spec).grad_fn
  assert accumulated(grad_fn, 1) is grad_fn


def by_hand(method, state, batch, rng, parts):
  """The mean gradient of passes over rows j, j + k, ..., one after the other."""
  stats, losses, grads, per_example, counts = state.batch_stats, [], [], {}, []
  fn = jax.jit(lambda state, rows, rng: method.grad_fn(state)(state.params, rows, rng))
  for j in range(parts):
    rows = jax.tree.map(lambda x, j=j: x[j::parts], batch)
    now = state.replace(batch_stats=stats)
    (loss, aux), gradient = fn(now, rows, jax.random.fold_in(rng, j))
    stats = aux.batch_stats
    losses.append(loss)
    grads.append(gradient)
    counts.append(aux.metrics)
    per_example.update(zip(rows["index"].tolist(), np.asarray(aux.per_example), strict=True))
  mean = lambda *xs: sum(xs) / parts
  summed = jax.tree.map(lambda *xs: sum(xs), *counts)
  table = np.array([per_example[i] for i in batch["index"].tolist()])
  return mean(*losses), jax.tree.map(mean, *grads), stats, summed, table


def test_statistics_metrics_and_rows_are_those_of_passes_by_hand():
  """The running statistics move k times in an update, one micro-batch after the other."""
  network, batch, rng = toy_network(), toy_batch(size=8), jax.random.key(2)
  batch["index"] = batch["index"][::-1]
  method = methods.erm(network, spec=tiny_run().spec, dropout=0.5)
  params, stats = network.init(jax.random.key(1), batch["image"])
  state = TrainState.create(jax.random.key(0), params, stats)
  (loss, aux), grads = jax.jit(accumulated(method.grad_fn, 4)(state))(params, batch, rng)
  ours = (loss, grads, aux.batch_stats, dict(aux.metrics), aux.per_example)
  assert_same(ours, by_hand(method, state, batch, rng, 4), rtol=2e-5, atol=1e-6)
  assert np.abs(aux.batch_stats["mean"]).min() > 0


def spied(inner, seen):
  """The method, telling the shapes of what its loss is given."""

  def loss_fn(state):
    def fn(params, batch, rng):
      seen.append(jax.tree.map(jnp.shape, batch))
      return inner.loss_fn(state)(params, batch, rng)

    return fn

  return dataclasses.replace(inner, loss_fn=loss_fn)


def weighted(network, *, spec):
  return methods.random_weighting(noisy_mix_factory(network, spec=spec))


@pytest.mark.parametrize("factory", [noisy_mix_factory, weighted, trusted_erm])
def test_a_loss_is_given_a_micro_batch_and_nothing_else(factory):
  """So partners, weights and whole-batch terms stay within it: a loss is a pure function."""
  seen = []
  trusted = {"trusted": 12, "trusted_in_train": False}
  method = lambda net, *, spec: spied(factory(net, spec=spec), seen)
  programs = loop.Programs(tiny_run(method, accumulate=2, source=tiny_source(60), data=trusted))
  state, arrays = programs.init_shapes(), data.host_data(programs.run.source)
  orders = jax.eval_shape(programs.orders, state.rng, arrays, jnp.zeros(1, jnp.int32))
  totals = programs.total_shapes(state, arrays, orders)
  seen.clear()
  _, totals = jax.eval_shape(programs.step, state, arrays, orders, totals)
  assert seen and {(batch["label"], batch["image"]) for batch in seen} == {((8,), (8, 8, 8, 3))}
  sides = [side["index"] for batch in seen for side in batch.get("side", {}).values()]
  assert set(sides) == ({(2,)} if factory is trusted_erm else set())
  assert totals["loss"][0].shape == ()


# --- in a run ------------------------------------------------------------------------------------


def loss_table(network, *, spec):
  """ERM that writes each example's loss down, by the number that its loss was given."""
  inner = methods.erm(network, spec=spec)

  def loss_fn(state):
    def fn(params, batch, rng):
      loss, aux = inner.loss_fn(state)(params, batch, rng)
      return loss, aux._replace(extra={"index": batch["index"]})

    return fn

  def post_step(state, batch, aux, rng):
    del rng
    logits = network.apply(state.params, state.batch_stats, batch["image"]).logits
    rows = aux.extra["index"]
    mine = state.method_state["table"]
    return state.with_method_state("table", {
      "loss": mine["loss"].at[rows].set(aux.per_example),
      "label": mine["label"].at[rows].set(batch["label"]),
      "logits": mine["logits"].at[rows].set(logits),
    })  # fmt: skip

  zeros = {
    "loss": jnp.zeros(spec.num_train),
    "label": jnp.zeros(spec.num_train, jnp.int32),
    "logits": jnp.zeros((spec.num_train, spec.num_classes)),
  }
  init_state = lambda state: state.with_method_state("table", zeros)
  return dataclasses.replace(inner, loss_fn=loss_fn, post_step=post_step, init_state=init_state)


def test_per_example_values_come_back_in_the_order_of_the_batch(tmp_path):
  """At a learning rate of nearly 0 the table is the loss of the first weights, row by row."""
  network = models.network(Plain())
  network = models.network(Plain())
  factory = lambda net, *, spec: methods.with_ema(loss_table(net, spec=spec))
  programs, state, arrays, orders = ready(
    factory, network, accumulate=4, optim={"lr": 1e-12, "lr_min": 0.0}
  )
  totals = programs.zero_totals(state, arrays, orders)
  for _ in range(3):
    state, totals = programs.step(state, arrays, orders, totals)
  table = jax.device_get(state.method_state["table"])
  labels = np.asarray(programs.run.source.labels)
  np.testing.assert_array_equal(table["label"], labels)
  direct = -jax.nn.log_softmax(table["logits"])[np.arange(48), labels]
  np.testing.assert_allclose(table["loss"], direct, rtol=1e-5)
  assert len(np.unique(table["loss"])) == 48
  assert_same(state.ema_params, state.params, rtol=1e-5, atol=1e-9)


def test_a_run_visits_a_kept_remainder_and_compiles_nothing_late(tmp_path):
  """40 examples in batches of 16, 16 and 8, each in two parts: all are visited twice."""
  changes = {"data": {"remainder": "keep"}, "total": "2 epochs", "accumulate": 2}
  changes |= {"evaluate": {"every": "2 epochs"}, "checkpoint": {"every": "2 epochs"}}
  run = tiny_run(visit_counter, source=tiny_source(40), **changes)
  with compilations() as counts:
    result = loop.train(run, tmp_path / "run", quiet=True, on_step=counts.note)
  np.testing.assert_array_equal(result.state.method_state["visits"], np.full(40, 2))
  assert 0 < counts[3] == counts[6], "a compilation after the first epoch"


def test_micro_batches_are_split_over_the_devices():
  """The same step on 1 and on 8 devices; each does its share, and no image is sent around."""

  def one_step(devices):
    programs, state, arrays, orders = ready(methods.erm, accumulate=2, devices=devices)
    totals = programs.zero_totals(state, arrays, orders)
    compiled = programs.step.lower(state, arrays, orders, totals).compile()
    new, totals = compiled(state, arrays, orders, totals)
    numbers = jax.device_get((new.params, new.batch_stats, totals))
    return numbers, compiled.cost_analysis()["flops"], compiled.as_text()

  (one, work, _), (eight, share, text) = one_step(1), one_step(8)
  assert_same(one, eight, rtol=1e-6, atol=1e-6)
  assert share < 0.4 * work
  # A micro-batch is every second row, so that no image changes devices to be split again.
  sent = [line for line in text.splitlines() if "all-to-all" in line or "permute" in line]
  assert not [line for line in sent if "8,8,3" in line]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_precision_is_traced(precision):
  """Sums are carried in the gradient's own type, statistics in theirs."""
  config = {
    "batch_size": 32, "data": {"name": "generated"}, "precision": precision, "accumulate": 2,
    "model": {"name": "wide_resnet", "depth": 10, "widen_factor": 1},
  }  # fmt: skip
  programs = loop.Programs(build.assemble(config))
  state = programs.init_shapes()
  arrays = data.host_data(programs.run.source)
  orders = {"train": jax.ShapeDtypeStruct((256,), jnp.int32)}
  totals = programs.total_shapes(state, arrays, orders)
  new, _ = jax.eval_shape(programs.step, state, arrays, orders, totals)
  assert jax.tree.map(lambda x: x.dtype, new) == jax.tree.map(lambda x: x.dtype, state)


class Wide(nn.Module):
  @nn.compact
  def __call__(self, image):
    for _ in range(3):
      image = nn.relu(nn.Conv(16, (3, 3))(image))
    return nn.Dense(3)(image.mean((1, 2)))


def test_memory_falls_with_the_number_of_parts_and_the_work_stays():
  def plan(parts):
    config = {**CONFIG, "batch_size": 64, "accumulate": parts}
    run = build.assemble(config, source=tiny_source(64), network=Wide())
    return preview.preview(run, Path("run"))

  plans = {parts: plan(parts) for parts in (1, 2, 8)}
  temporary = {parts: p["memory"]["temporary"] for parts, p in plans.items()}
  assert temporary[2] < 0.7 * temporary[1] and temporary[8] < 0.4 * temporary[1], temporary
  for a, b in itertools.pairwise(plans.values()):
    assert a["parameters"] == b["parameters"] and a["state_bytes"] == b["state_bytes"]
    np.testing.assert_allclose(a["flops"], b["flops"], rtol=0.1)


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"accumulate": 3}, r"config\.accumulate is 3, which does not divide config\.batch_size, 16"),
    ({"accumulate": 0}, r"config\.accumulate is 0; it must be 1 or larger"),
    (
      {"accumulate": 8, "devices": 8},
      r"config\.batch_size is 16 examples in micro-batches of 2 \(config\.accumulate is 8\), which "
      "8 devices cannot share evenly; choose a multiple of 64",
    ),
    (
      {"accumulate": 8, "source": tiny_source(44), "data": {"remainder": "keep"}},
      "does not divide the last partial batch .*, 12 examples",
    ),
    ({"accumulate": 2, "method": methods.free_at}, "free_at keeps a perturbation for each row"),
    (
      {"accumulate": 8, "method": trusted_erm, "data": {"trusted": 12}},
      "does not divide the side batch 'trusted', 4 examples",
    ),
  ],
)
def test_what_cannot_be_split_is_refused(changes, message):
  with pytest.raises(InputError, match=message):
    tiny_run(changes.pop("method", None), **changes)


@pytest.mark.parametrize("shape", [(), (4,)], ids=["a sum", "as many channels as rows"])
def test_whole_batch_values_for_the_post_step_are_refused(shape):
  def keeps_a_sum(network, *, spec):
    inner = methods.erm(network, spec=spec)

    def loss_fn(state):
      def fn(params, batch, rng):
        loss, aux = inner.loss_fn(state)(params, batch, rng)
        return loss, aux._replace(extra=jnp.full(shape, jnp.sum(aux.per_example)))

      return fn

    return dataclasses.replace(inner, loss_fn=loss_fn)

  programs, state, arrays, orders = ready(keeps_a_sum, accumulate=2)
  with pytest.raises(InputError, match="keeps whole-batch values"):
    programs.step(state, arrays, orders, programs.zero_totals(state, arrays, orders))
