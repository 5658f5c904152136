"""The common battery, and parity of each loss with the authors' code."""

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


def test_one_value_per_example(case):
  _, fn, shape = case
  assert fn(_logits(shape)).shape == shape[:1]


def test_jit_equals_eager(case):
  _, fn, shape = case
  z = _logits(shape)
  np.testing.assert_allclose(jax.jit(fn)(z), fn(z), rtol=1e-6, atol=1e-7)


def test_gradient_equals_finite_differences(case):
  _, fn, shape = case
  with jax.enable_x64(True):
    z = jnp.asarray(np.asarray(_logits(shape)), jnp.float64)
    direction = jnp.asarray(np.asarray(_logits(shape, 1.0, seed=1)), jnp.float64)
    total = lambda x: jnp.sum(fn(x))
    slope = jnp.sum(jax.grad(total)(z) * direction)
    h = 1e-6
    numeric = (total(z + h * direction) - total(z - h * direction)) / (2 * h)
    np.testing.assert_allclose(slope, numeric, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("scale", [0.0, 1e2, 1e4])
def test_finite_at_extreme_logits(case, scale):
  _, fn, shape = case
  z = _logits(shape) * scale
  value, grad = jax.value_and_grad(lambda x: jnp.sum(fn(x)))(z)
  assert np.isfinite(value) and np.all(np.isfinite(grad))


def test_half_precision_logits_give_float32(case):
  _, fn, shape = case
  z = _logits(shape)
  half = fn(z.astype(jnp.bfloat16))
  assert half.dtype == jnp.float32
  np.testing.assert_allclose(half, fn(z.astype(jnp.bfloat16).astype(jnp.float32)), rtol=1e-6)


def test_float64_is_not_cast_down(case):
  _, fn, shape = case
  with jax.enable_x64(True):
    assert fn(jnp.zeros(shape, jnp.float64)).dtype == jnp.float64


def test_rows_do_not_touch_each_other(case):
  _, fn, shape = case
  z = _logits(shape)
  changed = z.at[0].add(3.0 * jax.random.normal(jax.random.key(5), shape[1:]))
  np.testing.assert_array_equal(fn(z)[1:], fn(changed)[1:])


def test_cross_entropy_golden(golden):
  data = golden("losses")
  with jax.enable_x64(True):
    for n in range(int(data["num_cases"])):
      z, y = jnp.asarray(data[f"c{n}/logits_v0"]), data[f"c{n}/labels"]
      targets = jax.nn.one_hot(y, z.shape[1], dtype=z.dtype)
      mean = lambda x, t=targets: jnp.mean(losses.cross_entropy(x, t))
      value, grad = jax.value_and_grad(mean)(z)
      np.testing.assert_allclose(value, data[f"c{n}/ce/h0/value"], rtol=1e-7, atol=1e-9)
      np.testing.assert_allclose(grad, data[f"c{n}/ce/h0/grad"], rtol=1e-7, atol=1e-9)


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
        value, grad = jax.value_and_grad(mean)(z)
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
  n = 0
  with jax.enable_x64(x64):
    while f"jsd/c{n}/value" in data:
      names = ("clean", "aug1", "aug2")
      z = jnp.stack([jnp.asarray(data[f"jsd/c{n}/logits_{v}"]) for v in names], axis=1)
      mean = lambda x: jnp.mean(losses.jensen_shannon(x))
      value, grad = jax.value_and_grad(mean)(z)
      np.testing.assert_allclose(value, data[f"jsd/c{n}/value"], **tolerance)
      for v, name in enumerate(names):
        expected = data[f"jsd/c{n}/grad_times12_{name}"]
        np.testing.assert_allclose(12 * grad[:, v], expected, **tolerance)
      n += 1
  assert n == 3


def test_bad_arguments():
  with pytest.raises(ValueError, match="temperature"):
    losses.hinton(jnp.zeros(3), jnp.zeros(3), temperature=0.0)
  with pytest.raises(ValueError, match="weights has 2 entries for 3 views"):
    losses.jensen_shannon(jnp.zeros((1, 3, 4)), weights=(0.5, 0.5))
