"""Blocks computed again in the backward pass: the same numbers, fewer of them kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import models


def setting(**options):
  module = models.wide_resnet(3, depth=16, widen_factor=1, dropout=0.3)
  network = models.network(module, **options)
  image = jax.random.normal(jax.random.key(0), (8, 8, 8, 3))

  def loss(params, stats, image):
    taps = lambda stage, h: h * (1 + stage)
    out = network.apply(params, stats, image, train=True, rng=jax.random.key(3), tap=taps)
    return jnp.sum(out.logits**2), out.batch_stats

  return network, loss, image


@pytest.fixture(scope="module")
def variables():
  network, _, image = setting()
  return network.init(jax.random.key(1), image)


@pytest.mark.parametrize(
  "options", [{}, pytest.param({"norm_groups": 2}, marks=pytest.mark.slow)], ids=["", "groups"]
)
def test_values_gradients_statistics_and_masks_are_the_same(variables, options):
  results = []
  for remat in (False, True):
    _, loss, image = setting(remat=remat, **options)
    results.append(jax.jit(jax.value_and_grad(loss, has_aux=True))(*variables, image))

  # What is computed again is fused otherwise: equal to rounding, which is that of the largest.
  def equal(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(a).max())

  jax.tree.map(equal, *results)


def test_less_is_kept_for_the_backward_pass(variables):
  kept = []
  for remat in (False, True):
    _, loss, image = setting(remat=remat)
    backward = jax.eval_shape(lambda *a, f=loss: jax.vjp(f, *a, has_aux=True)[1], *variables, image)
    kept.append(sum(value.size for value in jax.tree.leaves(backward)))
  assert kept[1] < 0.5 * kept[0]
