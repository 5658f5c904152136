"""Batch statistics of groups: each part of a batch as if it were alone."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import models
from jaxnoise.core import InputError


class Small(nn.Module):
  """A convolution, a norm, a pool: enough for the order of rows and axes to matter."""

  @nn.compact
  def __call__(self, image, train: bool = False):
    h = nn.Conv(3, (3, 3), use_bias=False)(image)
    h = nn.BatchNorm(use_running_average=not train, momentum=0.8, name="norm")(h)
    return nn.relu(h).mean((1, 2))


@pytest.fixture(scope="module")
def nets():
  whole, grouped = models.network(Small()), models.network(Small(), norm_groups=2)
  image = 2 + 3 * jax.random.normal(jax.random.key(0), (6, 4, 4, 2))
  image = image.at[:3].add(5.0)  # parts that differ, so that statistics of the whole would show
  params, stats = whole.init(jax.random.key(1), image)
  params["norm"]["scale"] = jnp.array([1.0, -2.0, 0.5])
  params["norm"]["bias"] = jnp.array([0.1, 0.0, -0.3])
  return whole, grouped, params, stats, image


def test_each_part_is_normalised_as_if_it_were_alone(nets):
  whole, grouped, params, stats, image = nets
  out = grouped.apply(params, stats, image, train=True)
  parts = [whole.apply(params, stats, image[i : i + 3], train=True) for i in (0, 3)]
  alone = np.concatenate([part.logits for part in parts])
  np.testing.assert_allclose(out.logits, alone, rtol=1e-4, atol=1e-5)
  both = whole.apply(params, stats, image, train=True).logits
  assert np.abs(both - alone).max() > 0.1
  moved = jax.tree.map(lambda *x: np.mean(x, 0), *(part.batch_stats for part in parts))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), out.batch_stats, moved
  )


def test_gradients_are_those_of_the_parts(nets):
  whole, grouped, params, stats, image = nets
  weight = jnp.arange(18.0).reshape(6, 3)

  def loss(network, params, rows):
    logits = network.apply(params, stats, image[rows], train=True).logits
    return jnp.sum(weight[rows] * logits)

  together = jax.grad(lambda p: loss(grouped, p, slice(None)))(params)
  apart = jax.grad(lambda p: loss(whole, p, slice(0, 3)) + loss(whole, p, slice(3, 6)))(params)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), together, apart)


def test_views_of_an_example_are_in_its_part(nets):
  whole, grouped, params, stats, image = nets
  views = jnp.stack([image, 2 - image], axis=1)
  out = grouped.apply(params, stats, views, train=True).logits
  parts = [whole.apply(params, stats, views[i : i + 3], train=True).logits for i in (0, 3)]
  np.testing.assert_allclose(out, np.concatenate(parts), rtol=1e-4, atol=1e-5)


def test_evaluation_and_initialisation_are_as_ever(nets):
  whole, grouped, params, stats, image = nets
  np.testing.assert_array_equal(
    grouped.apply(params, stats, image[:5]).logits, whole.apply(params, stats, image[:5]).logits
  )
  fresh, _ = grouped.init(jax.random.key(1), image[:1])
  assert jax.tree.structure(fresh) == jax.tree.structure(params)


def test_bfloat16_keeps_its_type_and_statistics_stay_float32(nets):
  del nets
  layer = models.network(models.wide_resnet(3, depth=10, widen_factor=1, dtype=jnp.bfloat16))
  grouped = models.network(
    models.wide_resnet(3, depth=10, widen_factor=1, dtype=jnp.bfloat16), norm_groups=2
  )
  image = jnp.zeros((4, 8, 8, 3))
  params, stats = jax.eval_shape(layer.init, jax.random.key(0), image)
  shapes = [jax.eval_shape(
    lambda p, s, x, net=net: net.apply(p, s, x, train=True, features=("stage1",)), params, stats,
    image,
  ) for net in (layer, grouped)]  # fmt: skip
  assert shapes[0] == shapes[1]


def test_a_batch_that_the_groups_do_not_divide_is_refused(nets):
  _, grouped, params, stats, image = nets
  with pytest.raises(InputError, match="norm_groups is 2, which does not divide the 5 images"):
    grouped.apply(params, stats, image[:5], train=True)
