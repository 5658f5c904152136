"""Multiplicative reweighting: the authors' numbers, the weights of a batch, and its passes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment, methods
from jaxnoise.core import InputError, Network, Output, Spec, TrainState
from tests.methods.cases import SPEC, shift
from tests.toy import toy_batch, toy_network

EXACT = {"rtol": 1e-7, "atol": 1e-9}
NAME = "multiplicative_reweighting"
INDEX = jnp.array([7, 0, 3, 11, 4, 2])
LOSS_SUM = jnp.array([0.5, 9, 2, 14, 0.25, 9, 9, 3, 9, 9, 9, 30.0])


def start(method, seed=1):
  params, batch_stats = toy_network().init(jax.random.key(seed), toy_batch()["image"])
  return method.init_state(TrainState.create(jax.random.key(2), params, batch_stats))


def wrap(inner=None, **arguments):
  network = toy_network()
  inner = methods.erm(network, spec=SPEC) if inner is None else inner
  arguments.setdefault("spec", SPEC)
  return methods.multiplicative_reweighting(inner, network, **arguments)


def with_sum(state, loss_sum):
  return state.with_method_state(NAME, {"loss_sum": jnp.asarray(loss_sum)})


def by_hand(loss_sum, index, eta):
  w = np.exp(-eta * np.asarray(loss_sum, "f8")[np.asarray(index)])
  return w / w.sum()


def cross_entropy_of(state, image, label, **live):
  apply = jax.jit(toy_network().apply, static_argnames="train")
  log_p = jax.nn.log_softmax(apply(state.params, state.batch_stats, image, **live).logits)
  return -np.asarray(log_p)[np.arange(len(label)), np.asarray(label)]


# --- the authors' numbers ------------------------------------------------------------------------


@pytest.mark.parametrize("case", range(2))
def test_step_equals_authors_code(golden, monkeypatch, case):
  """The logits are the parameters; draws are theirs; smoothing is theirs, over K - 1 classes."""
  data = golden("reweighting")
  given = {k.removeprefix(f"batch/c{case}/"): v for k, v in data.items() if f"h/c{case}/" in k}

  def apply(params, batch_stats, image, *, tap=lambda stage, h: h, **_):
    return Output(params, {"image": tap(0, image)}, {})

  network = Network(None, apply, 0)
  smoothing = {"loss": "label_smoothing", "loss_args": {"smoothing": 0.1, "variant": "off_target"}}
  criteria = {"ce": {}, "label_smoothing_0p1": smoothing}
  classes, rows = given["logits"].shape[1], len(given["index"])
  spec = Spec(len(given["all_weights"]), classes, (4, 4, 3), batch_size=rows)
  made = {
    f"{kind}/{criterion}": methods.multiplicative_reweighting(
      inner(network, spec=spec, **settings), network, spec=spec, eta=0.3
    )
    for kind, inner in (("plain", methods.erm), ("mixup", methods.mixup))
    for criterion, settings in criteria.items()
  }
  perm, lam = given["mixup_perm"], given["mixup_lam"]
  monkeypatch.setattr(augment, "sample_partners", lambda *_: jnp.asarray(perm)[None])
  monkeypatch.setattr(augment, "sample_coefficient", lambda *_: jnp.asarray(lam))
  with jax.enable_x64(True):
    image = jnp.asarray(np.moveaxis(given["mixup_x"], 1, 3))
    batch = {"image": image, "label": given["labels"], "index": given["index"]}
    state = TrainState.create(jax.random.key(0), jnp.asarray(given["logits"]), {})
    state = with_sum(state, -np.log(given["all_weights"]) / 0.3)

    @jax.jit
    def run(logits):
      return {k: m.grad_fn(state)(logits, batch, jax.random.key(1)) for k, m in made.items()}

    for prefix, ((value, aux), grad) in run(state.params).items():
      np.testing.assert_allclose(value, given[f"{prefix}/value"], **EXACT)
      np.testing.assert_allclose(grad, given[f"{prefix}/grad_logits"], **EXACT)
      seen = given["mixup_x_out" if "mixup" in prefix else "mixup_x"]
      np.testing.assert_allclose(np.moveaxis(aux.batch_stats["image"], 3, 1), seen, **EXACT)


# --- the weights of a batch -----------------------------------------------------------------------


def weight_seen(**arguments):
  """Returns (loss_sum, index, step) -> what the inner method finds in `batch["weight"]`."""

  def loss_fn(state):
    return lambda params, batch, rng: batch["weight"]

  inner = dataclasses.replace(methods.erm(toy_network(), spec=SPEC), loss_fn=loss_fn)
  method = wrap(inner, **arguments)
  state = TrainState.create(jax.random.key(0), {}, {})

  @jax.jit
  def seen(loss_sum, index, step, **outer):
    loss_fn = method.loss_fn(with_sum(state.replace(step=step), loss_sum))
    return loss_fn({}, {"index": index, **outer}, None)

  return seen


def test_step_size_follows_finished_epochs_for_the_whole_history():
  """Two steps an epoch: the second milestone is reached by step 6."""
  seen = weight_seen(eta=0.02, milestones=(1, 3), factor=3.0)
  for step, eta in ((0, 0.02), (1, 0.02), (2, 0.06), (5, 0.06), (6, 0.18), (7, 0.18)):
    got = seen(LOSS_SUM, INDEX, jnp.int32(step))
    np.testing.assert_allclose(got, by_hand(LOSS_SUM, INDEX, eta), rtol=1e-5)


def test_eta_zero_is_the_bare_method_and_an_outer_weight_is_kept():
  batch, key = {**toy_batch(), "index": INDEX}, jax.random.key(4)
  method = wrap(eta=0.0)
  state = with_sum(start(method), LOSS_SUM)
  value, aux = jax.jit(method.loss_fn(state))(state.params, batch, key)
  np.testing.assert_allclose(value, np.mean(aux.per_example), rtol=1e-6)
  outer = jnp.array([0.5, 2.0, 1.0, 0.0, 1.0, 3.0])
  got = weight_seen(eta=0.25)(LOSS_SUM, INDEX, 0, weight=outer)
  np.testing.assert_allclose(got, outer * by_hand(LOSS_SUM, INDEX, 0.25), rtol=1e-5)


def test_no_weight_is_zero_and_none_is_lost():
  far = jnp.array([0.0, 5000.0, 5000.0, 5000.0 + jnp.log(3.0)])
  seen = weight_seen(eta=1.0)
  got = seen(far, jnp.array([0, 1]), 0)
  np.testing.assert_allclose(got, [1.0, 1e-12], rtol=1e-6)
  got = seen(far, jnp.array([2, 3]), 0)
  np.testing.assert_allclose(got, [0.75, 0.25], rtol=1e-3)


def test_cap_is_that_of_all_weights():
  total = -jnp.log(jnp.array([0.6, 0.3, 0.06, 0.04])) / 0.5
  got = weight_seen(eta=0.5, max_weight=0.75)(total, jnp.array([0, 3, 2]), 0)
  # 1/3 at most, the others times 1 + (0.6 - 1/3) / 0.4.
  w = np.array([1 / 3, 0.2 / 3, 0.1])
  np.testing.assert_allclose(got, w / w.sum(), rtol=1e-5)


# --- the pass over the training set --------------------------------------------------------------


def passing(method):
  """The compiled (state, batch, key) -> tables and running statistics."""

  def run(state, batch, key):
    batch = {"mask": jnp.ones(len(batch["label"])), **batch}
    return method.example_pass(state)(state.batch_stats, batch, key)

  return jax.jit(run)


def test_losses_of_clean_unmixed_images_are_added_up():
  """Over NoisyMix, whose own loss is of other images; in evaluation mode nothing moves."""
  method = wrap(methods.noisymix(toy_network(), spec=SPEC, first=shift, stages=(0,)))
  state = start(method).replace(batch_stats={"mean": jnp.full(4, 0.75)})
  assert method.passes_per_epoch == 1
  batch = toy_batch(12)
  run, key = passing(method), jax.random.key(0)
  tables, batch_stats = run(state, batch, key)
  expected = cross_entropy_of(state, batch["image"], batch["label"])
  np.testing.assert_array_equal(batch_stats["mean"], 0.75)
  once = method.after_pass(state, tables, key)
  np.testing.assert_allclose(once.method_state[NAME]["loss_sum"], expected, rtol=1e-5)
  # The next loss is that of the parameters as they are then.
  moved = once.replace(params=jax.tree.map(lambda x: 0.5 * x, once.params))
  twice = method.after_pass(moved, run(moved, batch, key)[0], key)
  expected = expected + cross_entropy_of(moved, batch["image"], batch["label"])
  np.testing.assert_allclose(twice.method_state[NAME]["loss_sum"], expected, rtol=1e-5)
  assert jax.tree.structure(twice) == jax.tree.structure(state)


def test_authors_variant_moves_the_statistics_by_real_rows_and_draws_views():
  method = wrap(mode="train", augmented=True, first=lambda rng, image: image[::-1] ** 2)
  state, batch = start(method), toy_batch(4)
  # As a pass pads: the last example again and again, with mask 0.
  rows = jnp.array([0, 1, 2, 3, 3, 3, 3, 3])
  padded = {k: v[rows] for k, v in batch.items()}
  padded["mask"] = jnp.array([1.0, 1, 1, 1, 0, 0, 0, 0])
  tables, batch_stats = passing(method)(state, padded, jax.random.key(5))
  view = batch["image"][:, ::-1] ** 2
  out = toy_network().apply(state.params, state.batch_stats, view, train=True)
  np.testing.assert_allclose(batch_stats["mean"], out.batch_stats["mean"], rtol=1e-5)
  expected = cross_entropy_of(state, view, batch["label"], train=True)
  np.testing.assert_allclose(tables[f"{NAME}/loss"][:4], expected, rtol=1e-5)


def test_first_partial_update_is_left_out_on_request():
  """Two steps an epoch, a pass after each."""
  added = {}
  for skip in (False, True):
    method = wrap(updates_per_epoch=2, skip_first_partial=skip, mode="train")
    assert method.passes_per_epoch == 2
    state, batch, run = start(method), toy_batch(12), passing(method)
    for step in (1, 2, 3):
      at = state.replace(step=jnp.int32(step))
      tables, batch_stats = run(at, batch, jax.random.key(0))
      after = method.after_pass(at, tables, jax.random.key(0)).method_state[NAME]["loss_sum"]
      moved = bool(np.any(np.asarray(batch_stats["mean"] != state.batch_stats["mean"])))
      added[skip, step] = (bool(np.all(after > 0)), moved)
  assert added.pop((True, 1)) == (False, False)
  assert set(added.values()) == {(True, True)}


def collector(passes):
  """ERM with a pass of its own, which moves the statistics and keeps every table it is given."""

  def example_pass(state):
    return lambda batch_stats, batch, rng: (
      {"loss": 10.0 * batch["index"] + jax.random.uniform(rng)},
      {"mean": batch_stats["mean"] + 1},
    )

  def after_pass(state, tables, rng):
    drawn = jax.random.uniform(rng)
    return state.with_method_state("collector", {**tables, "drawn": drawn})

  inner = methods.erm(toy_network(), spec=SPEC)
  return dataclasses.replace(
    inner, example_pass=example_pass, after_pass=after_pass, passes_per_epoch=passes
  )


def test_the_pass_of_the_inner_method_runs_too():
  inner = collector(passes=2)
  method = wrap(inner, updates_per_epoch=2)
  state, batch, key = start(method), toy_batch(12), jax.random.key(3)
  tables, batch_stats = passing(method)(state, batch, jax.random.key(0))
  alone, alone_stats = inner.example_pass(state)(state.batch_stats, batch, jax.random.key(0))
  np.testing.assert_array_equal(batch_stats["mean"], alone_stats["mean"])
  after = method.after_pass(state, tables, key)
  expected = inner.after_pass(state, alone, key).method_state["collector"]
  assert after.method_state["collector"].keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_array_equal(after.method_state["collector"][name], value)
  assert np.all(after.method_state[NAME]["loss_sum"] < 10) and method.passes_per_epoch == 2


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("build", "message"),
  [
    (lambda: wrap(eta=-0.01), "multiplicative_reweighting's eta is -0.01; it must be a finite"),
    (lambda: wrap(eta=float("nan")), "eta is nan"),
    (lambda: wrap(eta=float("inf")), "eta is inf"),
    (lambda: wrap(wrap()), "multiplicative_reweighting wraps erm twice"),
    (
      lambda: wrap(methods.dividemix(toy_network(), spec=SPEC._replace(pools={"train": 12}))),
      "multiplicative_reweighting cannot wrap dividemix: it has no single labelled term",
    ),
    (lambda: wrap(collector(passes=1), updates_per_epoch=2), "erm has a pass of its own, 1 in an"),
    (lambda: wrap(updates_per_epoch=3), "per_epoch is 3; it must be a whole number of 1 to 2"),
    (lambda: wrap(updates_per_epoch=0), "updates_per_epoch is 0"),
    (lambda: wrap(milestones=(0, 2)), r"milestones are \(0, 2\)"),
    (lambda: wrap(milestones=(1.5,)), r"milestones are \(1.5,\)"),
    (lambda: wrap(milestones=(float("nan"),)), r"milestones are \(nan,\)"),
    (lambda: wrap(factor=0.0), "factor is 0.0"),
    (lambda: wrap(factor=float("inf")), "factor is inf"),
    (lambda: wrap(max_weight=1.0), "max_weight is 1.0"),
    (lambda: wrap(mode="evaluation"), "mode is 'evaluation', no such choice.*eval"),
    (lambda: wrap(augmented=True), "has no `first`"),
  ],
)
def test_bad_arguments(build, message):
  with pytest.raises(InputError, match=message):
    build()
