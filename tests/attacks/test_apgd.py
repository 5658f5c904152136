"""Auto-PGD: its checkpoints, its losses by hand, and optima that are known in closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import attacks
from jaxnoise.core import InputError
from tests.attacks import linear

KEY = jax.random.key(3)
WAVE = 9.0 * np.asarray(jax.random.normal(jax.random.key(5), linear.SHAPE))


def images():
  """Pixels across [0, 1] and many exactly on its ends."""
  draws = jax.random.uniform(jax.random.key(0), linear.SHAPE)
  return jnp.clip(1.4 * draws - 0.2, 0.0, 1.0)


def wavy(x):
  return jnp.sum(jnp.sin(WAVE * x), axis=(1, 2, 3))


@functools.partial(jax.jit, static_argnames=("num_steps", "norm"))
def ascend(image, start, epsilon, num_steps, norm="linf"):
  return attacks.apgd(
    wavy, image, epsilon=epsilon, num_steps=num_steps, norm=norm, start=start
  )


def test_checkpoints_are_those_of_the_paper():
  assert attacks.checkpoints(100) == (22, 41, 57, 70, 80, 87, 93, 99)
  assert attacks.checkpoints(1000) == (220, 410, 570, 700, 800, 870, 930, 990)
  assert attacks.checkpoints(7) == (2, 3, 4, 5, 6, 7)  # 1.54, 2.87, 3.99, 4.9, 5.6, 6.09, 6.51
  assert attacks.checkpoints(0) == ()


@pytest.mark.parametrize("epsilon", [0.0, 8 / 255, 0.7])
def test_not_a_bit_is_outside_the_ball_or_the_box(epsilon):
  image = images()
  start = jax.random.uniform(KEY, linear.SHAPE, minval=-1.0, maxval=1.0)
  found = np.asarray(ascend(image, start, epsilon, 30), np.float64)
  assert np.abs(found - np.asarray(image, np.float64)).max() <= np.float32(epsilon)
  assert found.min() >= 0 and found.max() <= 1
  if epsilon == 0:
    np.testing.assert_array_equal(found, image)


def reference_one(wave, image, first, epsilon, steps, norm, a=0.75, rho=0.75):
  """Algorithm 1 on one image, in float64."""
  f = lambda x: np.sum(np.sin(wave * x))

  def direction(x):
    g = wave * np.cos(wave * x)
    return np.sign(g) if norm == "linf" else g / np.linalg.norm(g)

  def project(x):
    delta = x - image
    if norm == "linf":
      delta = np.clip(delta, -epsilon, epsilon)
    else:
      delta = delta * min(1.0, epsilon / np.linalg.norm(delta))
    return np.clip(image + delta, 0, 1)

  eta, x = 2 * epsilon, project(image + first)
  previous, best, checked = x, x, f(x)
  rises, before, halved, halvings = 0, 0, False, 0
  for k in range(1, steps + 1):
    z = project(x + eta * direction(x))
    new = z if k == 1 else project(x + a * (z - x) + (1 - a) * (x - previous))
    rises += f(new) > f(x)
    previous, x = x, new
    best = new if f(new) > f(best) else best
    if k in attacks.checkpoints(steps):
      halved = rises < rho * (k - before) or (not halved and checked == f(best))
      if halved:
        eta, x, halvings = eta / 2, best, halvings + 1
      rises, before, checked = 0, k, f(best)
  return best, halvings


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_equals_the_paper_s_algorithm_step_by_step(norm):
  epsilon, steps = (0.35, 30) if norm == "linf" else (1.5, 30)
  with jax.enable_x64(True):
    image = np.asarray(images(), np.float64)
    start = 0.1 * np.asarray(jax.random.normal(KEY, linear.SHAPE), np.float64)
    found = np.asarray(ascend(image, start, epsilon, steps, norm))
  halvings = 0
  for i, row in enumerate(found):
    best, times = reference_one(
      WAVE[i].astype(np.float64), image[i], start[i], epsilon, steps, norm
    )
    np.testing.assert_allclose(row, best, rtol=0, atol=1e-9)
    assert norm == "linf" or np.linalg.norm(row - image[i]) <= epsilon * (1 + 1e-12)
    halvings += times
  assert 0 < halvings < len(found) * len(attacks.checkpoints(steps))  # both ways of the rule


def test_the_image_returned_is_never_worse_than_the_start():
  # Begun again at its own end: the first steps, twice the radius long, leave that.
  image = images()
  top = image
  for _ in range(4):
    begun = wavy(jnp.clip(top, jnp.maximum(image - 0.35, 0), jnp.minimum(image + 0.35, 1)))
    found = ascend(image, top - image, 0.35, 30)
    assert bool(jnp.all(wavy(found) >= begun - 1e-5))
    top = found


@pytest.mark.parametrize("norm", ["linf", pytest.param("l2", marks=pytest.mark.slow)])
def test_a_linear_network_falls_just_beyond_its_smallest_radius(norm):
  image, label = jnp.asarray(linear.IMAGE), linear.LABEL
  least = linear.smallest_radius(norm)
  order = np.argsort(least, axis=1)

  @jax.jit
  def attack(image, label, target, epsilon):
    ascent = lambda logits: attacks.targeted_dlr(logits, label, target)
    loss_fn = attacks.judged_ascent(linear.predict, label, ascent)
    return attacks.apgd(
      loss_fn, image, epsilon=epsilon, num_steps=20, norm=norm, judged=True
    )

  for i in range(len(image)):
    row, y, t = image[i : i + 1], label[i : i + 1], order[i : i + 1, 0].astype(np.int32)
    for factor, falls in ((1.01, True), (0.99, False)):
      found = attack(row, y, t, factor * least[i].min())
      assert (int(jnp.argmax(linear.predict(found))) != y[0]) == falls


def test_dlr_by_hand_and_its_invariances():
  logits = jnp.array([[3.0, 1.0, 4.0, -1.0, 5.0], [2.0, 2.5, 0.0, 0.5, -3.0]])
  label, target = jnp.array([4, 0]), jnp.array([1, 3])
  np.testing.assert_allclose(attacks.dlr(logits, label), [-1 / 2, 0.5 / 2], rtol=1e-6)
  # (1 - 5) / (5 - (3 + 1) / 2) and (0.5 - 2) / (2.5 - (0.5 + 0) / 2)
  expected = [-4 / 3, -1.5 / 2.25]
  np.testing.assert_allclose(attacks.targeted_dlr(logits, label, target), expected, rtol=1e-6)
  for changed in (1e4 * logits, 1e-4 * logits, logits - 7.0):
    np.testing.assert_allclose(attacks.dlr(changed, label), [-0.5, 0.25], rtol=1e-5)
    np.testing.assert_allclose(
      attacks.targeted_dlr(changed, label, target), expected, rtol=1e-5
    )


def test_dlr_of_equal_logits_has_a_finite_gradient():
  label = jnp.array([0, 3])
  tied = jnp.array([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, -20.0]])
  both = lambda z: attacks.dlr(z, label) + attacks.targeted_dlr(z, label, jnp.array([1, 1]))
  gradient = jax.jit(jax.grad(lambda z: jnp.sum(both(z))))(tied)
  assert np.isfinite(np.asarray(gradient)).all()


def test_an_image_that_fools_is_kept_before_a_larger_loss_that_does_not():
  # The loss is largest at 1, the network is fooled between 0.55 and 0.65 only.
  def loss_fn(x):
    x = x.ravel()
    return x, (x > 0.55) & (x < 0.65)

  image = jnp.full((1, 1, 1, 1), 0.5)
  start = jnp.full((1, 1, 1, 1), 0.1)
  attack = jax.jit(
    lambda x: attacks.apgd(loss_fn, x, epsilon=0.5, num_steps=6, start=start, judged=True)
  )
  assert float(attack(image)[0, 0, 0, 0]) == pytest.approx(0.6)


def test_targets_are_the_likeliest_other_classes():
  logits = jnp.array([[0.0, 5.0, 3.0, 4.0], [9.0, 1.0, 2.0, 3.0]])
  found = attacks.likeliest_targets(logits, jnp.array([3, 0]), 3)
  assert found.tolist() == [[1, 2, 0], [3, 2, 1]]


def test_a_random_start_is_the_one_of_the_index():
  rows, image = np.array([4, 1]), images()

  @jax.jit
  def both(image):
    part = {"rng": KEY, "index": rows, "num_steps": 0}
    found = attacks.apgd(lambda x: x[:, 0, 0, 0], image[rows], epsilon=0.1, **part)
    return found, jnp.clip(image + attacks.uniform_start(KEY, image, epsilon=0.1), 0.0, 1.0)

  found, whole = both(image)
  np.testing.assert_allclose(found, whole[rows], rtol=0, atol=1e-7)


LOGITS, LABELS = np.zeros((2, 3), np.float32), np.zeros(2, np.int32)


@pytest.mark.parametrize(
  "call, words",
  [
    (lambda: attacks.targeted_dlr(LOGITS, LABELS, LABELS), "3 classes.*needs 4"),
    (lambda: attacks.dlr(LOGITS[:, :2], LABELS), "2 classes.*needs 3"),
    (lambda: attacks.dlr(LOGITS, LABELS[:1]), "one integer per example"),
    (lambda: attacks.dlr(LOGITS, LABELS + 0.5), "takes integers"),
    (lambda: attacks.likeliest_targets(LOGITS, LABELS, 3), "1 to 2 targets"),
    (lambda: attacks.apgd(wavy, images(), epsilon=-1.0), "epsilon is -1"),
    (lambda: attacks.apgd(wavy, images(), epsilon=0.1, num_steps=1.5), "whole number"),
    (lambda: attacks.apgd(wavy, images(), epsilon=0.1, norm="l_2"), "did you mean"),
    (lambda: attacks.apgd(wavy, images(), epsilon=0.1, rho=2.0), "rho 2.0"),
    (lambda: attacks.apgd(wavy, images(), epsilon=0.1, rng=KEY, start=images()), "drop one"),
    (lambda: attacks.apgd(jnp.mean, images(), epsilon=0.1), "one value per example"),
    (lambda: attacks.apgd(wavy, np.zeros(linear.SHAPE, np.uint8), epsilon=0.1), "uint8"),
  ],
)
def test_bad_input_is_refused_in_one_sentence(call, words):
  with pytest.raises(InputError, match=words) as raised:
    call()
  assert "\n" not in str(raised.value)
