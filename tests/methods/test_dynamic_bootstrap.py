"""Dynamic bootstrapping: the authors' steps, the phases of its schedule, and its passes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment, losses, methods
from jaxnoise.core import InputError, Network, Output, Spec, TrainState
from tests.methods.cases import SPEC, shift
from tests.toy import toy_batch, toy_network

EXACT = {"rtol": 1e-7, "atol": 1e-9}
NAME = "dynamic_bootstrap"


def stored(golden, prefix):
  return {
    k.removeprefix(prefix): v for k, v in golden("beta_mixture").items() if k.startswith(prefix)
  }


# --- the objective -------------------------------------------------------------------------------


@pytest.mark.parametrize("case", range(2))
def test_objective_equals_authors_criteria(golden, case):
  data = stored(golden, f"criteria/c{case}/")
  with jax.enable_x64(True):
    partners = jnp.asarray(data["perm"])[None]
    targets = jnp.asarray(np.eye(10)[data["labels_a"]])
    np.testing.assert_array_equal(data["labels_a"][data["perm"]], data["labels_b"])

    def soft(z, temperature, lam):
      guesses = jax.nn.softmax(data["logits_clean"] / temperature)
      return methods.dynamic_bootstrap_objective(
        z, targets, guesses, jnp.asarray(data["noise_posterior"]), partners, lam, class_weight=0.0
      )[0]

    z = jnp.asarray(data["logits_mixed"])
    gradient = jax.jit(jax.value_and_grad(soft))
    cold, lam = float(data["temperature"]), float(data["lam"])
    for name, temperature, share in (("soft", 1.0, lam), ("soft_to_hard", cold, 0.5)):
      value, grad = gradient(z, temperature, share)
      np.testing.assert_allclose(value, data[f"{name}/value"], **EXACT)
      np.testing.assert_allclose(grad, data[f"{name}/grad_logits_mixed"], **EXACT)
    value, grad = jax.jit(jax.value_and_grad(losses.uniform_prior))(z)
    np.testing.assert_allclose(value, data["class_regulariser/value"], **EXACT)
    np.testing.assert_allclose(grad, data["class_regulariser/grad_logits_mixed"], **EXACT)


def test_weights_travel_with_the_labels_and_constants_have_no_gradient():
  z, guesses = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("f4")
  guesses = np.exp(guesses) / np.exp(guesses).sum(1, keepdims=True)
  y, perm, lam, kappa = np.array([0, 2, 3]), np.array([2, 0, 1]), 0.3, 0.7
  noise, w = np.array([0.1, 0.6, 0.9]), np.array([0.5, 2.0, 1.0])

  def objective(z, guesses, noise):
    return methods.dynamic_bootstrap_objective(
      z, jnp.eye(4)[y], guesses, noise, jnp.asarray(perm)[None], lam, class_weight=kappa,
      weight=jnp.asarray(w),
    )[0]  # fmt: skip

  gradient = jax.jit(jax.value_and_grad(objective, argnums=(0, 1, 2)))
  value, grads = gradient(z, guesses, noise.astype("f4"))
  log_p, g, total = z - np.log(np.exp(z).sum(1, keepdims=True)), guesses, 0.0
  for i in range(3):
    for j, share in ((i, lam), (perm[i], 1 - lam)):
      ce, ce_guess = -log_p[i, y[j]], -(g[j] * log_p[i]).sum()
      total += share * w[j] * ((1 - noise[j]) * ce + noise[j] * ce_guess)
  prior = np.mean(np.log(0.25 / np.exp(log_p).mean(0)))
  np.testing.assert_allclose(value, total / w.sum() + kappa * prior, rtol=1e-5)
  assert np.any(np.asarray(grads[0])) and not np.any(grads[1]) and not np.any(grads[2])


# --- the authors' steps --------------------------------------------------------------------------

# variant -> the authors' step and the epochs completed since the end of the warm-up
STEPS = {
  "hard": {"hard": 0},
  "soft": {"soft": 0},
  "soft_to_hard": {"dynamic_mixup": 4, "dynamic_mixup_soft_to_hard": 5 + 20},
}


@pytest.mark.parametrize("variant", STEPS)
def test_step_equals_authors_code_through_the_method(golden, monkeypatch, variant):
  """Their linear network, their fit, their draws in place of ours."""
  batch, track, net = (stored(golden, p) for p in ("batch/", "track/", "net/"))

  def apply(params, batch_stats, image, *, train=False, rng=None):
    del rng
    if train:  # the pass on the mixed images is the last
      batch_stats = {"image": image}
    flat = jnp.transpose(image, (0, 3, 1, 2)).reshape(12, -1)
    return Output(flat @ params["kernel"].T + params["bias"][None], batch_stats, {})

  with jax.enable_x64(True):
    monkeypatch.setattr(augment, "sample_partners", lambda *_: jnp.asarray(batch["perm"])[None])
    monkeypatch.setattr(augment, "sample_coefficient", lambda *_: jnp.asarray(batch["lam"]))
    # Their temperature is the 21st of 94.
    np.testing.assert_allclose(batch["temperature"], 1 - 0.999 * 20 / 93, rtol=1e-12)
    spec = Spec(
      num_train=12, num_classes=10, image_shape=(4, 4, 3), batch_size=12, steps_per_epoch=7
    )
    method = methods.dynamic_bootstrap(
      Network(None, apply, 0), spec=spec, variant=variant, warmup_epochs=3, temperature_epochs=94,
      class_weight=float(batch["reg_term"]),
    )  # fmt: skip
    params = {"kernel": net["dense_kernel_out_in"], "bias": net["dense_bias"]}
    image = np.moveaxis(batch["x_nchw"], 1, 3)
    fresh = TrainState.create(jax.random.key(0), params, {"image": jnp.zeros(image.shape)})
    state = method.init_state(fresh)
    fitted = {
      "low": "min_loss_p5_plus_1e-5", "high": "max_loss_p95", "alphas": "alphas", "betas": "betas",
      "weights": "weight", "table": "lookup_table",
    }  # fmt: skip
    mine = {k: jnp.asarray(track[v]) for k, v in fitted.items()}
    state = state.with_method_state(NAME, {**state.method_state[NAME], **mine})
    given = {"image": image, "label": batch["labels"]}
    run = jax.jit(
      lambda step: method.grad_fn(state.replace(step=step))(params, given, jax.random.key(1))
    )
    for name, epochs in STEPS[variant].items():
      expected = stored(golden, f"train_step/{name}/")
      (value, aux), grads = run(np.int32(7 * (3 + epochs) + 6))
      np.testing.assert_allclose(value, expected["loss"], **EXACT)
      np.testing.assert_allclose(grads["kernel"], expected["grad_dense_kernel_out_in"], **EXACT)
      np.testing.assert_allclose(grads["bias"], expected["grad_dense_bias"], **EXACT)
      if variant == "soft_to_hard":
        mixed = np.moveaxis(aux.batch_stats["image"], 3, 1)
        np.testing.assert_allclose(mixed, batch["dynamic_mixup_x"], **EXACT)
      if name != "dynamic_mixup":
        noise = np.clip(batch["noise_posterior_lookup"], 1e-4, 1 - 1e-4)
        np.testing.assert_allclose(aux.metrics["noise"][0], noise.sum(), **EXACT)


# --- phases --------------------------------------------------------------------------------------


def make(**arguments):
  network = toy_network()
  method = methods.dynamic_bootstrap(network, spec=SPEC, **arguments)
  params, batch_stats = network.init(jax.random.key(1), toy_batch()["image"])
  state = TrainState.create(jax.random.key(2), params, batch_stats)
  return network, method, method.init_state(state)


def test_warm_up_is_mixup_and_ends_with_its_last_epoch():
  """Two steps an epoch: the fourth step is the last of two epochs of warm-up."""
  network, method, state = make(warmup_epochs=2, first=shift, alpha=1.0)
  plain = methods.mixup(network, spec=SPEC, alpha=1.0, first=shift).loss_fn(state)
  batch, key = toy_batch(), jax.random.key(0)

  @jax.jit
  def both(step):
    at = method.loss_fn(state.replace(step=step))
    return at(state.params, batch, key), plain(state.params, batch, key)

  for step, same in ((0, True), (3, True), (4, False)):
    (value, aux), (expected, expected_aux) = both(step)
    assert bool(np.isclose(value, expected, rtol=1e-6)) == same
    # One pass in training mode, and after the warm-up the guesses' own before it.
    once = np.allclose(aux.batch_stats["mean"], expected_aux.batch_stats["mean"], rtol=1e-4)
    assert once == same
    np.testing.assert_allclose(aux.metrics["noise"][0], 0.0 if same else 3.0)


@pytest.mark.slow
def test_hard_looks_losses_up_after_the_mixed_pass_and_soft_before(monkeypatch):
  """The toy network's evaluation mode depends on its running statistic, which the passes move."""
  monkeypatch.setattr(augment, "sample_partners", lambda *_: jnp.arange(6)[None])
  batch, key, found = toy_batch(), jax.random.key(0), {}
  for variant in ("hard", "soft"):
    network, method, state = make(warmup_epochs=0, variant=variant, alpha=0.0)
    mine = {**state.method_state[NAME], "table": jnp.linspace(0.0, 1.0, 10000)}
    state = state.with_method_state(NAME, {**mine, "high": jnp.full((), 4.0)})
    state = state.replace(batch_stats={"mean": jnp.full(4, 20.0)})
    _, aux = jax.jit(method.loss_fn(state))(state.params, batch, key)
    found[variant] = aux.metrics["noise"][0]

  @jax.jit
  def losses_at(batch_stats):
    logits = network.apply(state.params, batch_stats, batch["image"]).logits
    return -jax.nn.log_softmax(logits)[jnp.arange(6), batch["label"]]

  # Without mixing, both passes see the same images.
  once = {"mean": 0.9 * 20 + (aux.batch_stats["mean"] - 0.81 * 20) / 1.9}
  for variant, batch_stats in (("hard", aux.batch_stats), ("soft", once)):
    u = np.clip(np.asarray(losses_at(batch_stats)) / 4, 1e-3, 1 - 1e-3)
    np.testing.assert_allclose(found[variant], np.sum(u), atol=1e-3)
  assert abs(found["hard"] - found["soft"]) > 0.05, "the case would show nothing"


def test_pass_collects_losses_in_evaluation_mode_and_fits_them():
  """Nothing before the last epoch of the warm-up is over, then the model of the losses."""
  network, method, state = make(warmup_epochs=2)
  params = jax.tree.map(lambda p: 3 * p, state.params)
  state = state.replace(params=params, batch_stats={"mean": jnp.full(4, 0.5)})
  images = np.random.default_rng(3).uniform(size=(12, 4, 4, 3)).astype("f4")
  labels = np.arange(12, dtype="i4") % 3

  @jax.jit
  def run(step):
    at = state.replace(step=step)
    batch = {"image": images, "label": labels, "index": jnp.arange(12), "mask": jnp.ones(12)}
    tables, batch_stats = method.example_pass(at)(state.batch_stats, batch, jax.random.key(0))
    after = method.after_pass(at.replace(batch_stats=batch_stats), tables, jax.random.key(1))
    return tables, after

  tables, after = run(2)
  assert not np.any(tables["loss"])
  jax.tree.map(np.testing.assert_array_equal, after.method_state, state.method_state)
  tables, after = run(4)
  logits = np.asarray(jax.jit(network.apply)(params, state.batch_stats, images).logits)
  ce = np.log(np.exp(logits).sum(1)) - logits[np.arange(12), labels]
  np.testing.assert_allclose(tables["loss"], ce, rtol=1e-5)
  np.testing.assert_array_equal(after.batch_stats["mean"], 0.5)
  mine = after.method_state[NAME]
  assert jax.tree.structure(after) == jax.tree.structure(state)
  np.testing.assert_allclose(mine["high"], np.percentile(ce, 95), rtol=1e-5)
  np.testing.assert_allclose(mine["low"], np.percentile(ce, 5) + 1e-5, rtol=1e-5)
  u = np.clip((ce - mine["low"]) / (mine["high"] - mine["low"] + 1e-6), 1e-3, 1 - 1e-3)
  np.testing.assert_allclose(mine["posterior"], mine["table"][(100 * u).astype(int)], rtol=1e-5)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"variant": "sofft"}, "config.method.variant is 'sofft': did you mean 'soft'"),
    ({"alpha": -1.0}, "config.method.alpha is -1.0"),
    ({"class_weight": -1.0}, "config.method.class_weight is -1.0"),
    ({"warmup_epochs": -1}, "config.method.warmup_epochs is -1"),
    ({"dynamic_mixup_epochs": -1}, "config.method.dynamic_mixup_epochs is -1"),
    ({"temperature_epochs": 0}, "config.method.temperature_epochs is 0"),
    ({"mix_groups": 4}, "config.method.mix_groups is 4"),
  ],
)
def test_bad_arguments(arguments, message):
  with pytest.raises(InputError, match=message):
    methods.dynamic_bootstrap(toy_network(), spec=SPEC, **arguments)
