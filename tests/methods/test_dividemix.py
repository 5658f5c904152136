"""DivideMix: each step against the authors' numbers, then who is given what, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnoise import augment, losses, methods
from jaxnoise.core import InputError, TrainState
from jaxnoise.core.rng import fold
from jaxnoise.methods import _dividemix_terms as terms_lib
from jaxnoise.training import sharding
from jaxnoise.training import step as step_lib
from tests.methods.cases import SPEC
from tests.methods.linear import linear_network
from tests.toy import toy_batch, toy_network

NETS = ("net0", "net1")


def part(golden, prefix):
  return {k[len(prefix) :]: v for k, v in golden("dividemix").items() if k.startswith(prefix)}


@pytest.mark.parametrize("case", ["c1"])  # every fit is compared where mixtures are tested
def test_clean_probability_golden(golden, case):
  data = part(golden, f"gmm/{case}/")
  with jax.enable_x64(True):
    values = terms_lib.min_max(jnp.asarray(data["raw_losses"]))
    np.testing.assert_allclose(values, data["normalised_losses"], rtol=1e-12, atol=1e-15)
    start = jnp.asarray(data["init_responsibilities"])
    clean = jax.jit(terms_lib.clean_probability)(values, start)
    np.testing.assert_allclose(clean, data["clean_posterior"], rtol=1e-6, atol=1e-9)
    assert int(jnp.sum(clean > 0.5)) == data["num_above_threshold_0p5"]


def test_equal_losses_are_not_divided_by_zero():
  assert not np.any(np.asarray(terms_lib.min_max(jnp.full(5, 2.0))))


@pytest.mark.parametrize("case", ["c0", "c1"])
def test_step_golden(golden, case):
  data = part(golden, f"step/{case}/")
  labelled, classes = data["logits_x1"].shape

  @jax.jit
  def run(d):
    hot = jax.nn.one_hot(data["labels"], classes, dtype=jnp.float64)
    temperature = float(data["sharpen_T"])
    views = jnp.stack([d["logits_x1"], d["logits_x2"]], axis=1)
    out = {
      "targets_x": terms_lib.co_refine(
        views, hot, d["clean_probability"], temperature=temperature
      ),
      "targets_u": terms_lib.co_guess(
        jnp.stack([d["logits_u11"], d["logits_u12"]], axis=1),
        jnp.stack([d["logits_u21"], d["logits_u22"]], axis=1),
        temperature=temperature,
      ),
    }
    lam, partners = jnp.maximum(d["beta_draw"], 1 - d["beta_draw"]), d["perm"][None]
    x, u = out["targets_x"], out["targets_u"]
    targets = augment.mix(jnp.concatenate([x, x, u, u]), partners, lam)
    images = jnp.concatenate([d[f"inputs_{n}"] for n in ("x1", "x2", "u1", "u2")])
    out["mixed_input"], out["mixed_target"] = augment.mix(images, partners, lam), targets
    ramp = terms_lib.linear_ramp(d["epoch_float"], int(data["warm_up"]), 16)
    weight = out["lambda_u_ramped"] = float(data["lambda_u"]) * ramp

    def objective(z):
      k = 2 * labelled
      return methods.dividemix_objective(z[:k], targets[:k], z[k:], targets[k:], lambda_u=weight)

    z = d["logits_mixed"]
    (out["total_loss"], terms), out["grad_logits_mixed"] = jax.value_and_grad(
      objective, has_aux=True
    )(z)
    for name, term in (("Lx", "label_loss"), ("Lu", "unlabelled_loss"), ("penalty", "prior")):
      out[name] = terms[term]
    out["neg_entropy"], out["grad_neg_entropy"] = jax.value_and_grad(
      lambda z: jnp.mean(losses.negative_entropy(z))
    )(z)
    ramps = terms_lib.linear_ramp(d["rampup_epochs"], int(data["warm_up"]), 16)
    out["rampup_values"] = float(data["lambda_u"]) * ramps
    return out

  with jax.enable_x64(True):
    out = run({k: jnp.asarray(v) for k, v in data.items()})
    for name, value in out.items():
      np.testing.assert_allclose(value, data[name], rtol=1e-7, atol=1e-12, err_msg=name)


def test_losses_are_finite_where_predictions_are_certain():
  """A class that no row predicts has log 0 in the prior; its gradient has to stay finite."""
  z = 1e4 * np.eye(4, dtype=np.float32)[:2]

  def total(z):
    terms = losses.negative_entropy(z), losses.squared_error(z, np.eye(4, dtype=np.float32)[2:])
    return losses.uniform_prior(z) + jnp.sum(terms[0] + terms[1])

  value, grad = jax.jit(jax.value_and_grad(total))(z)
  assert np.isfinite(value) and np.all(np.isfinite(grad))
  rows = np.full((2, 100), 0.01, np.float32)
  rows[0, 3], rows[1, 1:] = 0.02, 0
  sharp = jax.jit(lambda p: losses.sharpen(p, temperature=0.01))(rows)
  np.testing.assert_allclose(sharp, np.eye(100)[[3, 0]], atol=1e-6)


def made(**changes):
  network = linear_network()
  method = methods.dividemix(network, spec=SPEC, warm_up=1, **changes)
  params, stats = network.init(jax.random.key(1), toy_batch()["image"])
  state = method.init_state(TrainState.create(jax.random.key(2), params, stats))
  stats = {"net0": {"mean": jnp.ones(3)}, "net1": {"mean": -jnp.ones(3)}}
  return network, method, state.replace(batch_stats=stats)


def sides(size=3):
  """A side batch for each name, no two alike."""
  names = [f"{kind}labelled_{net}" for net in NETS for kind in ("", "un")]
  out = {}
  for k, name in enumerate(names):
    side = toy_batch(size, seed=10 + k)
    out[name] = {**side, "index": (side["index"] + 2 * k) % 12}
  return out


def shifted(rng, image):
  """A view that depends on its key, without the price of a generator."""
  return image + (jax.random.key_data(rng)[1] % 7).astype(jnp.float32) / 40


def test_main_phase_by_hand():
  """Each network's loss from the same draws: whose w, whose guesses, in which order."""
  network, method, state = made(first=shifted, lambda_u=8.0, temperature=0.7, alpha=1.0)
  w = {n: jnp.asarray(np.random.default_rng(k).uniform(size=12), jnp.float32)
       for k, n in enumerate(NETS)}
  kept = {**state.method_state["dividemix"], "clean": w, "loss": jnp.arange(12.0)}
  state = state.with_method_state("dividemix", kept).replace(step=jnp.int32(7))
  batch, key = {**toy_batch(), "side": sides()}, jax.random.key(5)
  (loss, aux), grads = jax.jit(method.grad_fn(state))(state.params, batch, key)

  def one(params, net, other):
    own, stats = fold(key, net), state.batch_stats[net]
    known, unknown = batch["side"][f"labelled_{net}"], batch["side"][f"unlabelled_{net}"]
    x = augment.views(shifted, 2)(fold(own, "labelled"), known["image"])
    u = augment.views(shifted, 2)(fold(own, "unlabelled"), unknown["image"])
    said = []
    for view in (u[:, 0], u[:, 1], x[:, 0], x[:, 1]):
      out = network.apply(state.params[net], stats, view, train=True)
      stats = out.batch_stats
      said.append(jax.nn.softmax(out.logits))
    for view in (u[:, 0], u[:, 1]):
      out = network.apply(state.params[other], state.batch_stats[other], view)
      said.append(jax.nn.softmax(out.logits))
    u1, u2, x1, x2, o1, o2 = said
    p = w[other][known["index"]][:, None]
    p_x = p * jax.nn.one_hot(known["label"], 3) + (1 - p) * (x1 + x2) / 2
    p_u = (u1 + u2 + o1 + o2) / 4
    t_x, t_u = (t ** (1 / 0.7) / jnp.sum(t ** (1 / 0.7), 1, keepdims=True) for t in (p_x, p_u))
    # Rows in the order of the program: the four images of one place in the batch side by side.
    image = jnp.stack([x[:, 0], x[:, 1], u[:, 0], u[:, 1]], 1).reshape(12, 4, 4, 3)
    target = jnp.stack([t_x, t_x, t_u, t_u], 1).reshape(12, 3)
    perm = augment.sample_partners(fold(own, "partners"), 12)[0]
    lam = jax.random.uniform(fold(own, "lam"))
    lam = jnp.maximum(lam, 1 - lam)
    image, target = (lam * v + (1 - lam) * v[perm] for v in (image, target))
    out = network.apply(params, stats, image, train=True)
    log_p, is_x = jax.nn.log_softmax(out.logits), np.tile([1, 1, 0, 0], 3)
    l_x = -jnp.sum(jnp.sum(target * log_p, 1) * is_x) / 6
    l_u = jnp.sum(jnp.sum((jnp.exp(log_p) - target) ** 2, 1) * (1 - is_x)) / (6 * 3)
    mean = jnp.mean(jnp.exp(log_p), 0)
    prior = jnp.sum(jnp.log((1 / 3) / mean)) / 3
    # Epoch 3.5 of 2 steps each; one epoch of warm-up, then 16 of ramp.
    return l_x + 8 * (2.5 / 16) * l_u + prior, out.batch_stats

  slopes = jax.value_and_grad(one, has_aux=True)
  hand = jax.jit(lambda p: [slopes(p[a], a, b) for a, b in (NETS, NETS[::-1])])(state.params)
  np.testing.assert_allclose(loss, hand[0][0][0] + hand[1][0][0], rtol=1e-5)
  for net, ((_, stats), gradient) in zip(NETS, hand, strict=True):
    np.testing.assert_allclose(aux.batch_stats[net]["mean"], stats["mean"], rtol=1e-5)
    for a, b in zip(jax.tree.leaves(grads[net]), jax.tree.leaves(gradient), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
  np.testing.assert_array_equal(aux.per_example, jnp.arange(6.0))
  share = np.mean([np.mean(np.asarray(w[n]) > 0.5) for n in NETS])
  total, count = aux.metrics["labelled_share"]
  np.testing.assert_allclose(total / count, share, rtol=1e-6)


def test_warm_up_is_cross_entropy_of_both_networks_with_its_penalty():
  network, method, state = made(entropy_penalty=True)
  batch = {**toy_batch(), "side": sides()}
  # Step 1 is the last of the one warm-up epoch.
  state = state.replace(step=jnp.int32(1))
  loss, aux = jax.jit(method.loss_fn(state))(state.params, batch, jax.random.key(5))
  total, ce = 0.0, 0.0
  for net in NETS:
    z = network.apply(state.params[net], state.batch_stats[net], batch["image"], train=True).logits
    z = np.asarray(z, np.float64)
    log_p = z - np.log(np.sum(np.exp(z), 1, keepdims=True))
    own = -log_p[np.arange(6), np.asarray(batch["label"])]
    total, ce = total + np.mean(own) + np.mean(np.sum(np.exp(log_p) * log_p, 1)), ce + own / 2
  np.testing.assert_allclose(loss, total, rtol=1e-5)
  np.testing.assert_allclose(aux.per_example, ce, rtol=1e-5)
  assert float(aux.metrics["unlabelled_loss"][1]) == 0


def test_each_network_draws_by_what_the_other_believes():
  _, method, state = made(clean_threshold=0.6)
  assert [s.name for s in method.side_batches] == list(sides())
  assert {(s.pool, s.size) for s in method.side_batches} == {("train", 3)}
  clean = {"net0": jnp.full(12, 0.6).at[4].set(0.61), "net1": jnp.ones(12)}
  state = state.with_method_state("dividemix", {"clean": clean})
  weights = {s.name: np.asarray(s.weights(state)) for s in method.side_batches}
  one = np.arange(12) == 4
  np.testing.assert_array_equal(weights["labelled_net1"], one)
  np.testing.assert_array_equal(weights["unlabelled_net1"], ~one)
  np.testing.assert_array_equal(weights["labelled_net0"], np.ones(12))
  # Nothing is left for the second heap, which is then the whole set.
  np.testing.assert_array_equal(weights["unlabelled_net0"], np.ones(12))


@pytest.mark.slow
def test_sorting_after_warm_up_averages_the_last_epochs():
  _, method, state = made(average_epochs=2)
  mesh = sharding.make_mesh(jax.devices()[:1])
  images = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 3), dtype=np.uint8)
  data = {"images": jnp.asarray(images), "labels": jnp.arange(12) % 3}
  run = jax.jit(step_lib.make_pass(method, SPEC, mesh, 5))

  early = run(state.replace(step=jnp.int32(1)), data)  # within warm-up: as it was
  jax.tree.map(
    np.testing.assert_array_equal, early.method_state["dividemix"], state.method_state["dividemix"]
  )

  def measured(state, net):
    pooled = images.mean((1, 2)) / 255 - 0.1 * np.asarray(state.batch_stats[net]["mean"])
    z = 4 * pooled @ np.asarray(state.params[net]["w"])
    return np.log(np.sum(np.exp(z), 1)) - z[np.arange(12), np.arange(12) % 3]

  sort = jax.jit(terms_lib.clean_probability)
  rows = {n: [] for n in NETS}
  # Steps 2, 4, 6 end epochs; the third sorting has forgotten the first.
  for k, step in enumerate((2, 4, 6)):
    shift = {n: {"w": state.params[n]["w"] * (1 - 0.4 * k)} for n in NETS}
    state = run(state.replace(step=jnp.int32(step), params=shift), data)
    found = {n: measured(state, n) for n in NETS}
    after = state.method_state["dividemix"]
    for net, values in found.items():
      rows[net].append((values - values.min()) / (values.max() - values.min()))
      expected = sort(np.mean(rows[net][-2:], 0).astype(np.float32))
      np.testing.assert_allclose(after["clean"][net], expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(after["loss"], (found["net0"] + found["net1"]) / 2, rtol=1e-4)


@pytest.mark.slow
def test_one_compiled_step_serves_both_phases():
  """From the resident data with its own draws, through warm-up and sorting into the main phase."""
  _, method, state = made(alpha=1.0)
  mesh = sharding.make_mesh(jax.devices()[:1])
  images = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 3), dtype=np.uint8)
  data = {"images": jnp.asarray(images), "labels": jnp.arange(12) % 3}
  optimizer = optax.sgd(0.1)
  state = state.replace(opt_state=optimizer.init(state.params))
  state, data = jax.device_put((state, data), sharding.replicated(mesh))
  step = jax.jit(step_lib.make_step(method, optimizer, SPEC, mesh))
  orders = {"train": jnp.arange(12)}
  counts = []
  for _ in range(3):
    state, metrics = step(state, data, orders)
    counts.append(float(metrics["unlabelled_loss"][1]))
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves((metrics, state.params)))
  assert counts == [0.0, 0.0, 2.0] and step._cache_size() == 1
  named = method.predictors(state)
  assert list(named) == ["sum", "net0", "net1"]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"warm_up": 0}, "warm_up is 0; it must be a whole number of epochs"),
    ({"warm_up": 1.5}, "warm_up is 1.5"),
    ({"average_epochs": 0}, "average_epochs is 0"),
    ({"clean_threshold": 1.0}, "clean_threshold is 1.0"),
    ({"lambda_u": -1.0}, "lambda_u is -1.0"),
    ({"alpha": -1.0}, "alpha is -1.0"),
    ({"ramp_epochs": -1}, "ramp_epochs is -1"),
    ({"temperature": 0.0}, "temperature is 0.0"),
    ({"side_size": 0}, "side_size is 0"),
  ],
)
def test_bad_arguments(arguments, message):
  with pytest.raises(InputError, match=message):
    methods.dividemix(toy_network(), spec=SPEC, **arguments)
  with pytest.raises(InputError, match="random_weighting cannot wrap dividemix"):
    methods.random_weighting(methods.dividemix(toy_network(), spec=SPEC))
