"""A two-stage network of pure functions: no flax, compiles in a second, the only door is Network.

Its running statistic is the mean of the stage-1 activation, so that tests can see which passes
moved it.
"""

import jax
import jax.numpy as jnp

from jaxnoise.core import Network, Output

WIDTH = 4


def toy_network(num_classes: int = 3, channels: int = 3) -> Network:
  def init(rng, image):
    del image
    keys = jax.random.split(rng, 3)
    params = {
      "w1": jax.random.normal(keys[0], (channels, WIDTH)),
      "w2": jax.random.normal(keys[1], (WIDTH, WIDTH)) / 2,
      "w3": jax.random.normal(keys[2], (WIDTH, num_classes)),
      "b3": jnp.zeros(num_classes),
    }
    return params, {"mean": jnp.zeros(WIDTH)}

  def apply(params, batch_stats, image, *, train=False, rng=None, dropout=None,
            norm_branch="main", tap=lambda stage, h: h, features=()):
    del norm_branch
    x = tap(0, (image - 0.5) * 2)
    h = jnp.tanh(x @ params["w1"])
    if dropout and rng is not None:
      h = h * jax.random.bernoulli(rng, 1 - dropout, h.shape) / (1 - dropout)
    h = tap(1, h)
    mean = batch_stats["mean"]
    axes = tuple(range(h.ndim - 1))
    if train:
      mean = 0.9 * mean + 0.1 * jnp.mean(h, axes)
    h = h - 0.1 * jax.lax.stop_gradient(mean).reshape((1,) * len(axes) + (WIDTH,))
    h = tap(2, jnp.tanh(h @ params["w2"]))
    pooled = jnp.mean(h, axis=(-3, -2))
    logits = pooled @ params["w3"] + params["b3"].reshape((1,) * (pooled.ndim - 1) + (-1,))
    collected = {k: v for k, v in {"pooled": pooled}.items() if k in features}
    return Output(logits, {"mean": mean}, collected)

  return Network(init, apply, 2)


def toy_batch(size: int = 6, num_classes: int = 3, side: int = 4, seed: int = 0):
  key = jax.random.key(seed)
  return {
    "image": jax.random.uniform(key, (size, side, side, 3)),
    "label": jnp.arange(size, dtype=jnp.int32) % num_classes,
    "index": jnp.arange(size, dtype=jnp.int32),
  }
