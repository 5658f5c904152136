"""The one convolution: XLA's values and gradients on a CPU too, fast inside control flow."""

from __future__ import annotations

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import models

CASES = [
  # size, in, out, k, stride, padding
  (8, 3, 5, 3, 1, None),
  (8, 4, 6, 3, 2, None),
  (7, 2, 3, 3, 2, None),
  (9, 2, 3, 5, 3, None),
  (8, 3, 4, 3, 1, 0),
  (8, 3, 4, 3, 2, 2),
  (8, 4, 6, 1, 1, None),
  (8, 4, 6, 1, 2, None),
  (7, 4, 6, 1, 2, None),
  (6, 4, 6, 1, 2, 1),
  (4, 2, 3, 7, 1, None),
  (2, 3, 4, 3, 1, None),
  (4, 3, 4, 3, 2, None),
  (1, 3, 4, 3, 1, None),
]
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)


def xla(x, kernel, bias, stride, padding):
  padding = (kernel.shape[0] - 1) // 2 if padding is None else padding
  y = jax.lax.conv_general_dilated(
    x, kernel, (stride,) * 2, [(padding,) * 2] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  return y + bias.reshape(1, 1, 1, -1)


def arrays(size, width, out, k, seed=0):
  rng = np.random.default_rng(seed)
  shapes = (2, size, size, width), (k, k, width, out), (out,)
  x, kernel, bias = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
  return jnp.asarray(x), jnp.asarray(kernel / k), jnp.asarray(bias)


def loss(fn, stride, padding):
  """A scalar whose gradient has another value at every output."""

  def value(x, kernel, bias):
    y = fn(x, kernel, bias, stride=stride, padding=padding)
    weight = jnp.sin(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
    return jnp.sum(jnp.tanh(y) * weight)

  return value


def both(case):
  *shape, stride, padding = case
  mine, theirs = (loss(fn, stride, padding) for fn in (models.conv, xla))
  return mine, theirs, arrays(*shape)


def values_and_gradients(fn, stride, padding):
  def run(*args):
    y = fn(*args, stride=stride, padding=padding)
    return y, jax.grad(loss(fn, stride, padding), argnums=(0, 1, 2))(*args)

  return run


@pytest.mark.parametrize(("case", "backend"), [(c, "cpu") for c in CASES] + [(CASES[1], "gpu")])
def test_values_and_gradients_are_those_of_xla(case, backend, monkeypatch):
  """Naming another backend tests that path's arithmetic; the device here stays the CPU."""
  monkeypatch.setattr(jax, "default_backend", lambda: backend)
  *shape, stride, padding = case
  runs = [values_and_gradients(fn, stride, padding) for fn in (models.conv, xla)]
  got, want = jax.jit(lambda *args: [run(*args) for run in runs])(*arrays(*shape))
  for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want)):
    close(g, w)


@pytest.mark.parametrize("argnum", [0, 1])
def test_gradient_by_one_argument_only(argnum):
  *fns, args = both(CASES[1])
  got, want = jax.jit(lambda *args: [jax.grad(fn, argnum)(*args) for fn in fns])(*args)
  close(got, want)


def test_inside_scan_cond_and_vmap():
  mine, theirs, (x, kernel, bias) = both(CASES[1])
  reference = jax.jit(jax.grad(theirs, argnums=(0, 1)))
  want = reference(x, kernel, bias)
  step = jax.grad(mine, argnums=(0, 1))

  def in_scan(x, kernel, bias):
    return jax.lax.scan(lambda c, _: (c, step(x, kernel, bias)), 0, None, length=2)[1]

  def in_cond(x, kernel, bias):
    zeros = jnp.zeros_like(x), jnp.zeros_like(kernel)
    return jax.lax.cond(x[0, 0, 0, 0] < 9, lambda: step(x, kernel, bias), lambda: zeros)

  for got, expected in zip(jax.jit(in_scan)(x, kernel, bias), want):
    close(got, jnp.stack([expected] * 2))
  for got, expected in zip(jax.jit(in_cond)(x, kernel, bias), want):
    close(got, expected)

  stacks = [jnp.stack([a, 2 * a, -a]) for a in (x, kernel, bias)]
  for axes in ((0, 0, 0), (0, None, None), (None, 0, None)):
    args = [s if axis == 0 else a for s, a, axis in zip(stacks, (x, kernel, bias), axes)]
    got = jax.jit(jax.vmap(step, in_axes=axes))(*args)
    for i in range(3):
      row = [a[i] if axis == 0 else a for a, axis in zip(args, axes)]
      for g, w in zip(got, reference(*row)):
        close(g[i], w)


def test_forward_mode_and_second_order():
  """Meta-learning differentiates a gradient step; gradient norms may use forward mode."""
  *fns, args = both(CASES[1])

  def tangent(fn, args):
    return jax.jvp(fn, args, tuple(jnp.cos(a) for a in args))

  def after_step(fn, args):
    def value(x, kernel, bias):
      return fn(x, kernel - 0.1 * jax.grad(fn, argnums=1)(x, kernel, bias), bias)

    return jax.grad(value, argnums=(0, 1))(*args)

  run = jax.jit(lambda *args: [(tangent(fn, args), after_step(fn, args)) for fn in fns])
  got, want = run(*args)
  for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want)):
    close(g, w, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
  ("size", "stride", "k", "convolutions"), [(8, 1, 3, 3), (8, 2, 3, 3), (8, 1, 1, 0), (2, 1, 3, 0)]
)
def test_every_convolution_of_a_loop_body_has_the_fast_layout(size, stride, k, convolutions):
  """XLA's CPU backend runs its fast convolution inside loops for this one layout only."""
  x, kernel, bias = arrays(size, 4, 4, k)
  step = jax.grad(loss(models.conv, stride, None), argnums=(0, 1))

  def body(carry, _):
    dx, dk = step(*carry, bias)
    return (carry[0] - dx, carry[1] - dk), None

  scan = jax.jit(lambda x, kernel: jax.lax.scan(body, (x, kernel), None, length=2)[0])
  text = scan.lower(x, kernel).as_text(dialect="hlo")
  layouts = re.findall(r" convolution\(.*dim_labels=(\S+)", text)
  assert layouts == ["b01f_01io->b01f"] * convolutions


def test_no_convolution_is_spent_on_a_gradient_nobody_asked_for():
  x, kernel, bias = arrays(8, 4, 4, 3)
  for argnum in (0, 1):
    grad = jax.jit(jax.grad(loss(models.conv, 1, None), argnum))
    text = grad.lower(x, kernel, bias).as_text(dialect="hlo")
    assert text.count(" convolution(") == 2


def test_float64_stays_float64():
  with jax.enable_x64(True):
    *fns, args = both(CASES[1])
    args = tuple(a.astype(jnp.float64) for a in args)
    got, want = jax.jit(lambda *args: [jax.grad(fn, (0, 1))(*args) for fn in fns])(*args)
    for g, w in zip(got, want):
      assert g.dtype == jnp.float64
      np.testing.assert_allclose(g, w, rtol=1e-12, atol=1e-12)


def test_conv_layer_starts_as_pytorch_does():
  layer = models.Conv(64, 3, use_bias=True)
  params = layer.init(jax.random.key(0), jnp.zeros((1, 4, 4, 16)))["params"]
  bound = 1 / np.sqrt(3 * 3 * 16)
  assert params["kernel"].shape == (3, 3, 16, 64)
  assert params["bias"].shape == (64,)
  for value in params.values():
    assert np.abs(value).max() <= bound
    assert np.abs(value).max() > 0.9 * bound
  assert np.std(params["kernel"]) == pytest.approx(bound / np.sqrt(3), rel=0.05)


def test_conv_layer_computes_in_its_dtype_and_keeps_float32_parameters():
  x, _, _ = arrays(4, 3, 1, 1)
  layer = models.Conv(8, use_bias=True, dtype=jnp.bfloat16)
  y, variables = layer.init_with_output(jax.random.key(1), x)
  assert y.dtype == jnp.bfloat16
  assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(variables))
  full = models.Conv(8, use_bias=True).apply(variables, x)
  np.testing.assert_allclose(y.astype(jnp.float32), full, rtol=0.03, atol=0.03)
