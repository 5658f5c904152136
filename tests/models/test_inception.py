"""Rectangular and unpadded convolutions, and the parts of Inception-ResNet-v2 by hand."""

from __future__ import annotations

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import models
from jaxnoise.models._inception_resnet import BLOCKS, REDUCTIONS, Block, Reduction, Stem
from tests.models.tiny import close

CASES = [
  # image, kernel, stride, padding
  ((8, 6), (1, 7), 1, None),
  ((8, 6), (7, 1), 1, None),
  ((5, 5), (1, 3), 1, None),
  ((5, 5), (3, 1), 1, None),
  ((9, 8), (3, 5), 2, None),
  ((9, 8), (3, 1), 2, (0, 2)),
  ((9, 8), 3, 2, 0),
  ((2, 7), (1, 3), 1, None),  # few output pixels: one matrix product
  ((3, 3), (3, 1), 2, 0),
  ((7, 2), (7, 1), 1, (3, 1)),
]


def xla(x, kernel, *, stride, padding):
  if padding is None:
    padding = tuple((k - 1) // 2 for k in kernel.shape[:2])
  elif isinstance(padding, int):
    padding = (padding, padding)
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    [(p, p) for p in padding],
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def arrays(size, kernel_size, width=3, out=4):
  rng = np.random.default_rng(0)
  sides = (kernel_size,) * 2 if isinstance(kernel_size, int) else kernel_size
  x, kernel = (rng.normal(size=shape) for shape in ((2, *size, width), (*sides, width, out)))
  return jnp.asarray(x, jnp.float32), jnp.asarray(kernel / 3, jnp.float32)


def gradients(fn, x, kernel, **options):
  """By image and kernel, of a scalar whose gradient has another value at every output."""

  def value(x, kernel):
    y = fn(x, kernel, **options)
    return jnp.sum(jnp.tanh(y) * jnp.sin(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

  return jax.grad(value, argnums=(0, 1))(x, kernel)


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_xla_inside_a_loop_too(case):
  size, kernel_size, stride, padding = case
  options = {"stride": stride, "padding": padding}

  @jax.jit
  def run(x, kernel):
    want = xla(x, kernel, **options), *gradients(xla, x, kernel, **options)
    got = models.conv(x, kernel, **options), *gradients(models.conv, x, kernel, **options)

    def body(carry, _):
      return carry, gradients(models.conv, *carry, **options)

    _, looped = jax.lax.scan(body, (x, kernel), None, length=2)
    return want, got, looped

  want, got, looped = run(*arrays(size, kernel_size))
  for w, g in zip(want, got):
    close(g, w)
  for w, stacked in zip(want[1:], looped):
    close(stacked, jnp.stack([w, w]))


@pytest.mark.parametrize(("kernel_size", "padding"), [((1, 7), None), ((3, 1), None), (3, 0)])
def test_every_convolution_of_a_loop_body_has_the_fast_layout(kernel_size, padding):
  x, kernel = arrays((9, 9), kernel_size)

  def body(carry, _):
    dx, dk = gradients(models.conv, *carry, padding=padding)
    return (carry[0] - dx, carry[1] - dk), None

  scan = jax.jit(lambda *carry: jax.lax.scan(body, carry, None, length=2)[0])
  text = scan.lower(x, kernel).as_text(dialect="hlo")
  layouts = re.findall(r" convolution\(.*dim_labels=(\S+)", text)
  assert layouts == ["b01f_01io->b01f"] * 3


def test_layer_of_two_sides_starts_as_pytorch_does():
  layer = models.Conv(64, (1, 7), use_bias=True)
  y, variables = layer.init_with_output(jax.random.key(0), jnp.zeros((1, 9, 8, 16)))
  assert y.shape == (1, 9, 8, 64)
  kernel, bias = (variables["params"][name] for name in ("kernel", "bias"))
  assert kernel.shape == (1, 7, 16, 64)
  for values in (kernel, bias):
    assert 0.9 < np.abs(values).max() * np.sqrt(7 * 16) <= 1
  unpadded = models.Conv(8, 3, 2, padding=0)
  y, _ = unpadded.init_with_output(jax.random.key(0), jnp.zeros((1, 8, 9, 2)))
  assert y.shape == (1, 3, 4, 8)


def drawn(module, x):
  shapes = jax.eval_shape(functools.partial(module.init, train=False), jax.random.key(0), x)
  rng = np.random.default_rng(1)
  draw = lambda leaf: jnp.asarray(np.abs(rng.normal(size=leaf.shape)) + 0.1, jnp.float32)
  signed = lambda leaf: draw(leaf) * rng.choice([-1, 1], leaf.shape).astype(np.float32)
  return {
    "params": jax.tree.map(signed, shapes["params"]),
    "batch_stats": jax.tree.map(draw, shapes["batch_stats"]),
  }


def unit(variables, x, branch, c, **options):
  """ReLU(BN(conv(x))) by hand, in evaluation mode; BN's epsilon is 1e-3."""
  params, stats = variables["params"], variables["batch_stats"][f"{branch}_norm{c}"]
  h = xla(x, params[f"{branch}_conv{c}"]["kernel"], **{"stride": 1, "padding": None, **options})
  norm = params[f"{branch}_norm{c}"]
  mean, var, scale, bias = (
    v.reshape(1, 1, 1, -1) for v in (stats["mean"], stats["var"], norm["scale"], norm["bias"])
  )
  return nn.relu((h - mean) / jnp.sqrt(var + 1e-3) * scale + bias)


@pytest.mark.parametrize(("stage", "relu"), [(1, True), (2, True), (3, False)])
def test_blocks_by_hand(stage, relu):
  x = arrays((5, 5), 1, width=6)[0]
  block = Block(divisor=64, chains=BLOCKS[stage - 1], scale=0.1, relu=relu)
  variables = drawn(block, x)

  @jax.jit
  def both(variables, x):
    by_hand = functools.partial(unit, variables)
    ends = [by_hand(x, "branch1", 1), by_hand(x, "branch2", 1)]
    for c in (2,) if stage == 1 else (2, 3):
      ends[1] = by_hand(ends[1], "branch2", c)
    if stage == 1:
      ends.append(by_hand(by_hand(by_hand(x, "branch3", 1), "branch3", 2), "branch3", 3))
    expansion = variables["params"]["expansion"]
    h = xla(jnp.concatenate(ends, -1), expansion["kernel"], stride=1, padding=None)
    h = x + 0.1 * (h + expansion["bias"].reshape(1, 1, 1, -1))
    return block.apply(variables, x, train=False), nn.relu(h) if relu else h

  mine, want = both(variables, x)
  close(mine, want, rtol=1e-4, atol=1e-4)
  assert (float(jnp.min(mine)) >= 0) == relu


def test_how_blocks_are_scaled():
  """The last block of all has scale 1 and no ReLU, as in the published weights' network."""
  found = {1: [], 2: [], 3: []}

  def record(call, args, kwargs, context):
    if isinstance(context.module, Block) and context.method_name == "__call__":
      stage = int(context.module.name[5])
      found[stage].append((context.module.scale, context.module.relu))
    return call(*args, **kwargs)

  module = models.inception_resnet_v2(10).clone(divisor=64)
  with nn.intercept_methods(record):
    jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 75, 75, 3)))
  assert found == {
    1: [(0.17, True)] * 10,
    2: [(0.10, True)] * 20,
    3: [(0.20, True)] * 9 + [(1.0, False)],
  }


def test_a_reduction_by_hand():
  x = arrays((7, 7), 1, width=6)[0]
  reduction = Reduction(divisor=64, chains=REDUCTIONS[0])
  variables = drawn(reduction, x)

  @jax.jit
  def both(variables, x):
    by_hand = functools.partial(unit, variables)
    halve = {"stride": 2, "padding": 0}
    second = by_hand(by_hand(x, "branch2", 1), "branch2", 2)
    windows = [x[:, i : i + 5 : 2, j : j + 5 : 2] for i in range(3) for j in range(3)]
    ends = [by_hand(x, "branch1", 1, **halve), by_hand(second, "branch2", 3, **halve)]
    ends.append(jnp.max(jnp.stack(windows), axis=0))
    return reduction.apply(variables, x, train=False), jnp.concatenate(ends, -1)

  close(*both(variables, x), rtol=1e-4, atol=1e-4)


def test_the_stems_mean_pool_counts_no_padding():
  """A constant image stays constant through the mean branch, at the borders too."""
  x = jnp.full((1, 75, 75, 3), 0.3)
  stem = Stem(divisor=64)
  shapes = jax.eval_shape(functools.partial(stem.init, train=False), jax.random.key(0), x)
  ones = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.1), shapes)
  # The padded third convolution would tell the borders; its middle alone keeps them.
  kernel = ones["params"]["conv3"]["kernel"]
  middle = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1.0)
  ones["params"]["conv3"]["kernel"] = kernel * middle
  out = jax.jit(functools.partial(stem.apply, train=False))(ones, x)[0, ..., -1]
  assert out.shape == (7, 7)
  close(out, jnp.full((7, 7), out[3, 3]))
  assert float(out[0, 0]) > 0.05
