"""The common battery, and parity of the first losses with the authors' code.

One program computes the values and gradients of every row of cases.py; each test looks at its own.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import losses
from tests.losses.cases import CASES, TEACHER

IDS = [case[0] for case in CASES]


@pytest.fixture(params=CASES, ids=IDS)
def case(request):
  return request.param


def _logits(shape, scale=2.0, seed=0):
  return scale * jax.random.normal(jax.random.key(seed), shape)


def _value_and_grad(fn, z):
  value, pull = jax.vjp(fn, z)
  return value, pull(jnp.ones_like(value))[0]


@jax.jit
def _program(logits):
  return {name: _value_and_grad(fn, logits[name]) for name, fn, _ in CASES}


@jax.jit
def _values(logits):
  return {name: fn(logits[name]) for name, fn, _ in CASES}


def _inputs(change=lambda z: z):
  drawn = {shape: np.asarray(change(_logits(shape))) for shape in {case[2] for case in CASES}}
  return {name: drawn[shape] for name, _, shape in CASES}


@functools.cache
def _at_scale(scale):
  return jax.tree.map(np.asarray, _program(_inputs(lambda z: z * scale)))


@functools.cache
def _in_double(step):
  """Values and gradients at logits moved by `step` in one direction, which comes along."""
  direction = {name: np.asarray(_logits(shape, 1.0, seed=1)) for name, _, shape in CASES}
  with jax.enable_x64(True):
    moved = {
      name: np.asarray(z, np.float64) + step * direction[name] for name, z in _inputs().items()
    }
    return jax.tree.map(np.asarray, _program(moved)), direction


@functools.cache
def _in_half():
  z = {name: jnp.asarray(x, jnp.bfloat16) for name, x in _inputs().items()}
  rounded = {name: np.asarray(x.astype(jnp.float32)) for name, x in z.items()}
  return jax.tree.map(np.asarray, (_values(z), _values(rounded)))


@functools.cache
def _with_another_row():
  def change(z):
    return z.at[0].add(3.0 * jax.random.normal(jax.random.key(5), z.shape[1:]))

  return jax.tree.map(np.asarray, _program(_inputs(change)))


def test_one_value_per_example(case):
  name, _, shape = case
  assert _at_scale(1.0)[name][0].shape == shape[:1]


@pytest.mark.slow
def test_jit_equals_eager(case):
  name, fn, shape = case
  expected = fn(_logits(shape))
  np.testing.assert_allclose(_at_scale(1.0)[name][0], expected, rtol=1e-6, atol=1e-7)


def test_gradient_equals_finite_differences(case):
  name = case[0]
  h = 1e-6
  (up, direction), (down, _), (here, _) = _in_double(h), _in_double(-h), _in_double(0.0)
  slope = np.sum(here[name][1] * direction[name])
  numeric = (np.sum(up[name][0]) - np.sum(down[name][0])) / (2 * h)
  np.testing.assert_allclose(slope, numeric, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("scale", [0.0, 1e2, 1e4])
def test_finite_at_extreme_logits(case, scale):
  value, grad = _at_scale(scale)[case[0]]
  assert np.all(np.isfinite(value)) and np.all(np.isfinite(grad))


def test_half_precision_logits_give_float32(case):
  half, expected = (values[case[0]] for values in _in_half())
  assert half.dtype == jnp.float32
  np.testing.assert_allclose(half, expected, rtol=1e-6)


def test_float64_is_not_cast_down(case):
  value, grad = _in_double(0.0)[0][case[0]]
  assert value.dtype == grad.dtype == np.float64


def test_rows_do_not_touch_each_other(case):
  value, changed = _at_scale(1.0)[case[0]][0], _with_another_row()[case[0]][0]
  np.testing.assert_array_equal(value[1:], changed[1:])
  assert value[0] != changed[0]


def test_hinton_golden(golden):
  data = golden("distill")
  cases = settings = 0
  with jax.enable_x64(True):
    while f"kd/c{cases}/student_logits" in data:
      z, t = (jnp.asarray(data[f"kd/c{cases}/{n}_logits"]) for n in ("student", "teacher"))
      settings = 0
      while f"kd/h{settings}/tau" in data:
        tau = float(data[f"kd/h{settings}/tau"])
        mean = lambda x, t=t, tau=tau: jnp.mean(losses.hinton(x, t, temperature=tau))
        value, grad = jax.jit(jax.value_and_grad(mean))(z)
        key = f"kd/c{cases}/h{settings}"
        np.testing.assert_allclose(value, data[f"{key}/value"], rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(grad, data[f"{key}/grad_student"], rtol=1e-7, atol=1e-9)
        settings += 1
      cases += 1
  assert cases and settings


def test_hinton_gradient_formula():
  z = _logits(TEACHER.shape)
  grad = jax.grad(lambda x: jnp.sum(losses.hinton(x, TEACHER, temperature=2.0)))(z)
  expected = 2.0 * (jax.nn.softmax(z / 2.0) - jax.nn.softmax(TEACHER / 2.0))
  np.testing.assert_allclose(grad, expected, atol=1e-6)


@pytest.mark.parametrize("x64", [True, False], ids=["float64", "float32"])
def test_jensen_shannon_golden(golden, x64):
  data = golden("noisymix")
  tolerance = {"rtol": 1e-7, "atol": 1e-9} if x64 else {"rtol": 1e-5, "atol": 1e-6}
  run = jax.jit(jax.value_and_grad(lambda x: jnp.mean(losses.jensen_shannon(x))))
  n = 0
  with jax.enable_x64(x64):
    while f"jsd/c{n}/value" in data:
      names = ("clean", "aug1", "aug2")
      z = jnp.asarray(np.stack([data[f"jsd/c{n}/logits_{v}"] for v in names], axis=1))
      value, grad = run(z)
      np.testing.assert_allclose(value, data[f"jsd/c{n}/value"], **tolerance)
      for v, name in enumerate(names):
        expected = data[f"jsd/c{n}/grad_times12_{name}"]
        np.testing.assert_allclose(12 * np.asarray(grad)[:, v], expected, **tolerance)
      n += 1
  assert n == 3


def test_bad_arguments():
  with pytest.raises(ValueError, match="temperature"):
    losses.hinton(jnp.zeros(3), jnp.zeros(3), temperature=0.0)
  with pytest.raises(ValueError, match="weights has 2 entries for 3 views"):
    losses.jensen_shannon(jnp.zeros((1, 3, 4)), weights=(0.5, 0.5))
