"""Flax's own convolution layers in a network: its values and gradients, fast inside loops."""

from __future__ import annotations

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from jaxnoise import models
from tests.models.tiny import close, images

LAYERS = {
  "same": nn.Conv(3, (3, 3)),
  "same, stride 2: one more zero below than above": nn.Conv(3, (3, 3), strides=2),
  "even kernel": nn.Conv(3, (4, 2), strides=(2, 2)),
  "valid": nn.Conv(3, (3, 3), padding="VALID", use_bias=False),
  "explicit": nn.Conv(3, (3, 3), padding=((2, 1), (0, 3))),
  "cropping": nn.Conv(3, (1, 1), padding=((-1, -1), (-2, 0))),
  "circular": nn.Conv(3, (3, 3), padding="CIRCULAR"),
  "1x1": nn.Conv(3, (1, 1), strides=2),
  "strides of their own": nn.Conv(3, (3, 3), strides=(1, 2)),
  "grouped": nn.Conv(6, (3, 3), feature_group_count=3),
  "dilated": nn.Conv(3, (3, 3), kernel_dilation=2),
  "half precision": nn.Conv(3, (3, 3), dtype=jnp.bfloat16),
  "precise": nn.Conv(3, (3, 3), precision="highest"),
}


def head(layer):
  """The layer, and logits that weigh every one of its outputs differently."""

  def weigh(h):
    weight = jnp.cos(jnp.arange(h[0].size, dtype=h.dtype)).reshape(1, *h.shape[1:])
    return jnp.sum(jnp.tanh(h) * weight, axis=(1, 2))

  return nn.Sequential([layer, weigh])


@pytest.mark.parametrize("name", LAYERS)
def test_values_and_gradients_are_flax_s(name):
  module, x = head(LAYERS[name]), images(2)
  net = models.network(module)
  params, stats = net.init(jax.random.key(0), x)

  def flax(params, x):
    return jnp.sum(module.apply({"params": params}, x).astype(jnp.float32))

  def mine(params, x):
    return jnp.sum(net.apply(params, stats, x, train=True).logits)

  both = [jax.value_and_grad(fn, argnums=(0, 1)) for fn in (mine, flax)]
  got, want = jax.jit(lambda *args: [fn(*args) for fn in both])(params, x)
  tolerance = {"atol": 0.03, "rtol": 0.03} if name == "half precision" else {}
  for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    close(g, w, **tolerance)


def layouts(module, x):
  """The layout of each convolution in a loop of gradient steps."""
  net = models.network(module)
  params, stats = net.init(jax.random.key(0), x)

  def loss(params, x):
    return jnp.sum(net.apply(params, stats, x, train=True).logits)

  def steps(params, x):
    def body(params, _):
      return jax.tree.map(jnp.subtract, params, jax.grad(loss)(params, x)), None

    return jax.lax.scan(body, params, None, length=2)[0]

  text = jax.jit(steps).lower(params, x).as_text(dialect="hlo")
  return re.findall(r" convolution\(.*dim_labels=(\S+)", text)


def test_every_convolution_of_a_loop_body_has_the_fast_layout():
  """Several seeds are such a loop; with Flax's own gradients it is some forty times slower."""
  module = nn.Sequential([nn.Conv(4, (3, 3)), nn.relu, head(nn.Conv(3, (3, 3), strides=2))])
  assert layouts(module, images(2)) == ["b01f_01io->b01f"] * 5


def test_what_a_layer_brings_itself_is_used():
  calls = []

  def own(*args, **kwargs):
    calls.append(args)
    return jax.lax.conv_general_dilated(*args, **kwargs)

  net = models.network(head(nn.Conv(3, (3, 3), conv_general_dilated=own)))
  params, stats = net.init(jax.random.key(0), images(2))
  count = len(calls)
  net.apply(params, stats, images(2))
  assert len(calls) == count + 1


def test_the_module_itself_is_left_as_it_is():
  module = head(nn.Conv(3, (3, 3)))
  net = models.network(module)
  params, stats = net.init(jax.random.key(0), images(2))
  net.apply(params, stats, images(2))
  assert module.layers[0].conv_general_dilated is None
  bound = module.bind({"params": params})
  bound(images(2))
  assert bound.layers[0].conv_general_dilated is None
