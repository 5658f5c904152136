"""FGSM and PGD against the authors' code: TRADES, Free-AT and its evaluation, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import attacks, metrics
from tests.attacks.tiny import nhwc, tiny_ascent, tiny_logits, tiny_params

STEPS = (1, 5, 10)


@pytest.fixture
def case(golden):
  return golden("attacks")


def arrays(case, dtype=np.float64):
  image = nhwc(case["x_nchw"]).astype(dtype)
  radii = {"epsilon": float(case["epsilon"]), "step_size": float(case["step_size"])}
  return tiny_params(case, dtype), image, case["labels"], radii


@jax.jit
def run(params, image, label, start, epsilon, step_size, num_steps, mean=0.0, std=1.0):
  """Both treatments of the start, from one program for every number of steps."""
  return [
    attacks.pgd(
      tiny_ascent(params, label, mean=mean, std=std),
      image,
      epsilon=epsilon,
      step_size=step_size,
      num_steps=num_steps,
      start=start,
      clip_start=clip_start,
    )
    for clip_start in (False, True)
  ]


def test_the_network_and_its_gradient(case):
  with jax.enable_x64(True):
    params, image, label, _ = arrays(case)
    np.testing.assert_allclose(
      tiny_logits(params, jnp.asarray(image)), case["net/logits_clean"], rtol=0, atol=1e-12
    )
    gradient = jax.grad(lambda x: jnp.mean(tiny_ascent(params, label)(x)))(jnp.asarray(image))
    np.testing.assert_allclose(gradient, nhwc(case["grad_ce_mean_wrt_x"]), rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("steps", STEPS)
def test_pgd_equals_trades_evaluation_and_madry(case, steps):
  with jax.enable_x64(True):
    params, image, label, radii = arrays(case)
    start = nhwc(case["uniform_start"])
    trades, madry = run(params, image, label, start, **radii, num_steps=steps)
    none, _ = run(params, image, label, 0 * start, **radii, num_steps=steps)
    correct = metrics.correct(tiny_logits(params, trades), label)
  for found, name in ((trades, "pgd_trades_eval"), (madry, "madry"), (none, "pgd_no_random_start")):
    np.testing.assert_allclose(
      found, nhwc(case[f"{name}/k{steps}/x_adv"]), rtol=0, atol=1e-12, err_msg=name
    )
  assert len(label) - float(correct.sum()) == case[f"pgd_trades_eval/k{steps}/num_errors"]


def test_the_two_treatments_of_the_start_are_not_the_same(case):
  """Else the parity above would not show which one is which."""
  found = [case[f"{name}/k1/x_adv"] for name in ("pgd_trades_eval", "madry")]
  assert np.abs(found[0] - found[1]).max() > 1e-3


@pytest.mark.parametrize("steps", STEPS)
def test_pgd_behind_a_normalising_first_layer(case, steps):
  with jax.enable_x64(True):
    params, image, label, radii = arrays(case)
    moments = {k: case[f"madry_normalised/{k}"] for k in ("mean", "std")}
    start = nhwc(case["uniform_start"])
    _, found = run(params, image, label, start, **radii, num_steps=steps, **moments)
  np.testing.assert_allclose(
    found, nhwc(case[f"madry_normalised/k{steps}/x_adv"]), rtol=0, atol=1e-8
  )


def test_fgsm(case):
  with jax.enable_x64(True):
    params, image, label, radii = arrays(case)
    found = attacks.fgsm(tiny_ascent(params, label), image, epsilon=radii["epsilon"])
  np.testing.assert_allclose(found, nhwc(case["fgsm/x_adv"]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", STEPS)
def test_the_inner_maximisation_of_trades(case, steps):
  """The same ascent on KL(p(x) || p(x')), from 0.001 times a normal draw."""
  with jax.enable_x64(True):
    params, image, _, radii = arrays(case)
    natural = jax.nn.log_softmax(tiny_logits(params, jnp.asarray(image)))

    def divergence(x):
      log_p = jax.nn.log_softmax(tiny_logits(params, x))
      return jnp.sum(jnp.exp(natural) * (natural - log_p), axis=-1)

    found = attacks.pgd(
      divergence,
      image,
      **radii,
      num_steps=steps,
      start=0.001 * nhwc(case["trades_normal_start"]),
      clip_start=False,
    )
  np.testing.assert_allclose(found, nhwc(case[f"trades/k{steps}/x_adv"]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("replays", [1, 2, 3, 4])
def test_the_ascent_of_free_adversarial_training(case, replays):
  """Weights held fixed, its replays are PGD on a perturbation that the box does not bound: the
  loss clips the sum itself, and its gradient passes through that clip."""
  with jax.enable_x64(True):
    params, image, label, _ = arrays(case)
    ascent = tiny_ascent(params, label)
    found = attacks.pgd(
      lambda x: ascent(jnp.clip(x, 0.0, 1.0)),
      image,
      epsilon=float(case["free/clip_eps"]),
      step_size=float(case["free/fgsm_step"]),
      num_steps=replays,
      low=-np.inf,
      high=np.inf,
    )
  delta = nhwc(case["free/delta_after_each_replay"][replays - 1])
  np.testing.assert_allclose(np.asarray(found) - image, delta, rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", STEPS)
def test_float32_differs_in_isolated_signs_only(case, steps):
  params, image, label, radii = arrays(case, np.float32)
  start = nhwc(case["uniform_start"]).astype(np.float32)
  found, _ = run(params, image, label, start, **radii, num_steps=steps)
  assert found.dtype == jnp.float32
  off = np.abs(np.asarray(found, np.float64) - nhwc(case[f"pgd_trades_eval/k{steps}/x_adv"]))
  assert off.max() <= 2 * radii["step_size"] + 1e-6
  assert (off > 1e-6).mean() <= 0.002
