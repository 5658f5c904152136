"""Distillation losses against RepDistiller's numbers, and what each of them must not notice."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import losses
from jaxnoise.core import InputError

# The file's squared distances are clipped, which its notes give a tolerance of 1e-6.
TOLERANCE = {"rtol": 1e-7, "atol": 1e-9}
DISTANCE = {"rtol": 1e-6, "atol": 1e-9}


def channels_last(x):
  """[B, C, H, W] -> [B, H, W, C]; vectors stay."""
  return np.moveaxis(x, 1, -1) if x.ndim == 4 else x


def features_of(data, key, dtype):
  return tuple(
    jnp.asarray(channels_last(data[f"{key}/{n}_feat"]), dtype) for n in ("student", "teacher")
  )


def terms(data):
  """Golden key of a value -> (key of its features, loss of (student, teacher) -> [B])."""
  w_d, w_a = (float(data[f"rkd/combined_w_{n}"]) for n in ("distance", "angle"))
  both = lambda s, t: w_d * losses.rkd_distance(s, t) + w_a * losses.rkd_angle(s, t)
  found = {}
  for n in range(4):
    power = int(data[f"at/c{n}/p"])
    found[f"at/c{n}"] = f"at/c{n}", functools.partial(losses.attention_transfer, power=power)
  for n in range(2):
    found[f"sp/c{n}"] = f"sp/c{n}", losses.similarity_preserving
  for n in range(3):
    for name, fn in (
      ("distance", losses.rkd_distance),
      ("angle", losses.rkd_angle),
      ("combined", both),
    ):
      found[f"rkd/c{n}/{name}"] = f"rkd/c{n}", fn
  return found


@functools.cache
def computed(load, x64):
  """Golden key -> (values [B], gradient of their mean), from one program."""
  data = load("distill")
  with jax.enable_x64(x64):
    dtype = jnp.float64 if x64 else jnp.float32
    inputs = {key: features_of(data, key, dtype) for key, _ in terms(data).values()}

    @jax.jit
    def run(inputs):
      out = {}
      for name, (key, fn) in terms(data).items():
        student, teacher = inputs[key]
        values, pull = jax.vjp(lambda s, fn=fn, t=teacher: fn(s, t), student)
        out[name] = values, pull(jnp.full_like(values, 1 / len(values)))[0]
      for key, (student, teacher) in inputs.items():
        if key.startswith("at"):
          out[f"{key}/student_map"] = losses.attention_map(student)
          out[f"{key}/teacher_map"] = losses.attention_map(teacher)
        if key.startswith("rkd"):
          out[f"{key}/student_pdist"] = losses.pairwise_distances(student)
      return out

    return jax.tree.map(np.asarray, run(inputs))


@pytest.mark.parametrize(
  "x64", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["float64", "float32"]
)
def test_values_and_gradients(golden, x64):
  data = golden("distill")
  for name, (key, _) in terms(data).items():
    values, grad = computed(golden, x64)[name]
    assert values.shape == (len(grad),) and values.dtype == (np.float64 if x64 else np.float32)
    tolerance = DISTANCE if key.startswith("rkd") else TOLERANCE
    if not x64:
      tolerance = {"rtol": 1e-4, "atol": 1e-6}
    np.testing.assert_allclose(values.mean(), data[f"{name}/value"], **tolerance, err_msg=name)
    expected = channels_last(data[f"{name}/grad_student"])
    np.testing.assert_allclose(grad, expected, **tolerance, err_msg=name)


def test_maps_and_distances(golden):
  data = golden("distill")
  for n in range(4):
    for key in (f"at/c{n}/student_map", f"at/c{n}/teacher_map"):
      np.testing.assert_allclose(computed(golden, True)[key], data[key], **TOLERANCE, err_msg=key)
  for n in range(3):
    key = f"rkd/c{n}/student_pdist"
    np.testing.assert_allclose(computed(golden, True)[key], data[key], **DISTANCE, err_msg=key)


def test_numbers_small_enough_to_check_by_hand():
  """Values worked out from the equations, apart from any code; and tau^2 KL as tau grows, which is
  |(z_t - mean z_t) - (z_s - mean z_s)|^2 / (2 C)."""

  @jax.jit
  def run(f_s, f_t, e_s, e_t, z_s, z_t):
    return {
      "attention": losses.attention_transfer(f_s, f_t),
      "similarity": losses.similarity_preserving(f_s, f_t),
      "distance": losses.rkd_distance(e_s, e_t),
      "angle": losses.rkd_angle(e_s, e_t),
      "kl": losses.hinton(z_s, z_t),
      "reverse": losses.hinton(z_s, z_t, reverse=True),
      "ce": losses.cross_entropy(z_s, jax.nn.one_hot(jnp.array([2, 0]), 3, dtype=z_s.dtype)),
      "hot": losses.hinton(z_s, z_t, temperature=1e4),
    }

  f_s, f_t = np.sin(np.arange(24.0)), np.cos(np.arange(36.0))
  e_s = np.array([[0.0, 0], [1, 0], [0, 2], [1, 1]])
  e_t = np.array([[0.0, 0, 1], [2, 0, 0], [1, 1, 1], [0, 3, 0]])
  z_s, z_t = np.array([[1.0, 2, 3], [0, -1, 1]]), np.array([[3.0, 1, 0], [1, 1, -2]])
  with jax.enable_x64(True):
    found = run(f_s.reshape(3, 2, 2, 2), f_t.reshape(3, 2, 2, 3), e_s, e_t, z_s, z_t)
    found = jax.tree.map(np.asarray, found)
  mean = {name: np.mean(value) for name, value in found.items()}
  for name, expected in {
    "attention": 0.03239954625,
    "similarity": 0.4684831808,
    "distance": 0.1260695098,
    "angle": 0.1213201746,
    "reverse": 2.1832433861,
    "ce": 0.9076059645,
  }.items():
    np.testing.assert_allclose(mean[name], expected, atol=1e-10, err_msg=name)
  np.testing.assert_allclose(25 * mean["distance"] + 50 * mean["angle"], 9.2177464757, atol=1e-9)
  np.testing.assert_allclose(found["kl"] / 16, [0.1346588285, 0.1242215034], atol=1e-10)
  np.testing.assert_allclose(0.1 * mean["ce"] + 0.9 * mean["kl"], 1.9546989867, atol=1e-10)
  gap = z_t - z_s - np.mean(z_t - z_s, axis=-1, keepdims=True)
  np.testing.assert_allclose(found["hot"], np.sum(gap**2, axis=-1) / 6, rtol=1e-3)


def test_a_class_that_both_rule_out_counts_for_nothing():
  """A logit of -inf, as a mask leaves it: values and gradients are those without the class."""
  z_s, z_t = jnp.array([[1.0, 2.0, 3.0]]), jnp.array([[3.0, 1.0, 0.0]])
  masked = [jnp.concatenate([z, jnp.full((1, 1), -jnp.inf)], axis=1) for z in (z_s, z_t)]
  for reverse in (False, True):
    fn = lambda s, t, reverse=reverse: losses.hinton(s, t, reverse=reverse)[0]
    run = jax.jit(jax.value_and_grad(fn, argnums=(0, 1)))
    (expected, slopes), (value, found) = run(z_s, z_t), run(*masked)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for slope, grad in zip(slopes, found, strict=True):
      np.testing.assert_allclose(grad, jnp.pad(slope, ((0, 0), (0, 1))), rtol=1e-4, atol=1e-6)


PAIRWISE = {
  "similarity": losses.similarity_preserving,
  "distance": losses.rkd_distance,
  "angle": losses.rkd_angle,
}
ALL = {
  "attention": lambda s, t: losses.attention_transfer(
    s.reshape(-1, 2, 2, 2), t.reshape(-1, 2, 2, 2)
  ),
  **PAIRWISE,
}


@functools.cache
def program():
  """(student, teacher), [5, 8] each -> (values, gradient in the student) by name."""

  @jax.jit
  def run(student, teacher):
    out = {}
    for name, fn in ALL.items():
      values, pull = jax.vjp(lambda s, fn=fn: fn(s, teacher), student)
      out[name] = values, pull(jnp.ones_like(values))[0]
    return out

  return lambda *args: jax.tree.map(np.asarray, run(*args))


def drawn():
  rng = np.random.default_rng(0)
  return rng.normal(size=(2, 5, 8)).astype(np.float32)


def test_what_each_loss_does_not_notice():
  student, teacher = drawn()
  rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))[0].astype(np.float32)
  before, same = program()(student, teacher), program()(student, student)
  of = lambda s: {name: value for name, (value, _) in program()(s, teacher).items()}
  rows = np.arange(1.0, 6.0, dtype=np.float32)[:, None]
  changed = {
    "rotated": (of(student @ rotation), {"similarity", "distance", "angle"}),
    "scaled": (of(7 * student), {"attention", "similarity", "distance", "angle"}),
    "scaled row by row": (of(rows * student), {"attention"}),
    "moved": (of(student + 3), {"distance", "angle"}),
  }
  for name, (value, grad) in before.items():
    assert value.shape == (5,) and np.all(value > 0) and np.any(grad)
    np.testing.assert_allclose(same[name][0], 0, atol=1e-10)
    np.testing.assert_allclose(same[name][1], 0, atol=1e-5)
    for change, (found, blind) in changed.items():
      gap = np.abs(found[name] - value).max() / value.max()
      assert gap < 1e-4 if name in blind else gap > 1e-2, (name, change)


@pytest.mark.parametrize("where", ["zero", "one row zero", "duplicates", "all alike", "tiny"])
def test_finite_where_embeddings_coincide(where):
  student, teacher = drawn()
  if where == "zero":
    student[:] = 0
  elif where == "one row zero":
    student[2] = 0
  elif where == "duplicates":
    student[3], teacher[4] = student[1], teacher[1]
  elif where == "all alike":
    student[:] = student[0]
  else:
    student *= np.float32(1e-14)
  for name, (value, grad) in program()(student, teacher).items():
    assert np.all(np.isfinite(value)) and np.all(np.isfinite(grad)), name
    # Zero vectors and coinciding embeddings have no direction: no gradient, rather than 1e12.
    assert np.abs(grad).max() < 100, name
    if where == "zero" or (where == "all alike" and name in ("distance", "angle")):
      assert not np.any(grad), name


def test_a_batch_of_one_has_no_pairs():
  total = lambda e, t: sum(jnp.sum(fn(e, t)) for fn in PAIRWISE.values())
  one = np.arange(4.0, dtype=np.float32).reshape(1, 4)
  value, grad = jax.jit(jax.value_and_grad(total))(one, 2 * one)
  assert abs(value) < 1e-12 and np.abs(grad).max() < 1e-6


def test_half_precision_gives_float32():
  student, teacher = (jnp.asarray(x, jnp.bfloat16) for x in drawn())
  full = program()(student.astype(jnp.float32), teacher.astype(jnp.float32))
  for name, (value, grad) in program()(student, teacher).items():
    assert value.dtype == np.float32 and grad.dtype == jnp.bfloat16
    np.testing.assert_allclose(value, full[name][0], rtol=1e-6)


def test_uneven_sizes_are_averaged_in_overlapping_cells():
  """5 places in 3 cells: 0-1, 1-3, 3-4. Height and width go to the smaller one each."""
  wide, tall = np.zeros((1, 5, 2, 1), np.float32), np.zeros((1, 3, 4, 1), np.float32)
  wide[0, :, :, 0] = np.arange(1.0, 6.0)[:, None]
  tall[0, :, :, 0] = [[2, 0, 4, 4], [1, 3, 0, 0], [6, 6, 2, 2]]
  q_s = np.array([[1.5, 1.5], [3, 3], [4.5, 4.5]]) ** 2
  q_t = np.array([[1, 4], [2, 0], [6, 2]]) ** 2
  expected = np.mean((q_s / np.sqrt(np.sum(q_s**2)) - q_t / np.sqrt(np.sum(q_t**2))) ** 2)
  found = jax.jit(losses.attention_transfer)(wide, tall)
  np.testing.assert_allclose(found, [expected], rtol=1e-5)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: losses.attention_map(jnp.ones((4, 3))), r"shape \(4, 3\); attention needs a map"),
    (lambda: losses.attention_map(jnp.ones((2, 2, 1)), power=0.5), "power is 0.5"),
    (
      lambda: losses.attention_transfer(jnp.ones((2, 2, 2, 1)), jnp.ones((3, 2, 2, 1))),
      "of the same examples",
    ),
    (
      lambda: losses.similarity_preserving(jnp.ones((2, 3)), jnp.ones((4, 3))),
      r"shape \(2, 3\) and teacher_features \(4, 3\)",
    ),
    (lambda: losses.rkd_distance(jnp.ones(3), jnp.ones(3)), "same B examples"),
    (lambda: losses.rkd_angle(jnp.ones((3, 1)), jnp.ones((2, 1))), "same B examples"),
    (
      lambda: losses.hinton(jnp.ones((2, 3)), jnp.ones((2, 1))),
      r"shape \(2, 3\) and teacher_logits \(2, 1\); .* same K classes",
    ),
    (
      lambda: losses.hinton(jnp.ones(3), jnp.ones(3), temperature=float("nan")),
      r"temperature is nan; it must lie in \(0, inf\)",
    ),
  ],
)
def test_bad_arguments(call, message):
  with pytest.raises(InputError, match=message):
    call()
