"""A WRN-10-1 that the tests share, so that each way of calling it is compiled once."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise import models

close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
STATISTICS = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.25)}
FEATURES = ("stem", "stage1", "stage2", "stage3", "pooled")


@functools.cache
def tiny(variant="biasless", dropout=0.0, dtype=None):
  """A WRN-10-1 with parameters and statistics away from their first values."""
  module = models.wide_resnet(
    4, depth=10, widen_factor=1, variant=variant, dropout=dropout, dtype=dtype, **STATISTICS
  )
  net = models.network(module)
  shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
  rng = np.random.default_rng(0)

  def draw(path, leaf):
    value = rng.normal(size=leaf.shape) / np.sqrt(max(np.prod(leaf.shape[:-1]), 4))
    shift = 1.0 if path[-1].key in ("scale", "var") else 0.0
    return jnp.asarray(np.abs(shift + 0.3 * value) if shift else value, jnp.float32)

  return net, *jax.tree_util.tree_map_with_path(draw, shapes)


def images(*lead, seed=0):
  drawn = np.random.default_rng(seed).uniform(size=(*lead, 8, 8, 3))
  return jnp.asarray(drawn, jnp.float32)


def compiled(variant="biasless", rate=0.0, **options):
  """The jitted `apply` with all features; kept, so that the tests compile it once."""
  return _compiled(variant, rate, tuple(sorted(options.items())))


@functools.cache
def _compiled(variant, rate, options):
  net, _, _ = tiny(variant, rate)
  return jax.jit(functools.partial(net.apply, features=FEATURES, **dict(options)))
