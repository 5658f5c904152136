"""FAB: its projection against a search, and the nearest image of a linear network."""

import functools
import itertools

import jax
import numpy as np
import pytest

from jaxnoise import attacks
from jaxnoise.core import InputError
from tests.attacks import linear

NORMS = ("linf", "l2")
project = jax.jit(attacks.boundary_step, static_argnames="norm")


def shortest(x, w, offset, norm):
  """The same step by bisection on its multiplier, in float64."""
  way = -np.sign(w) * np.sign(offset)
  speed = np.ones_like(w) if norm == "linf" else np.abs(w)
  step = lambda t: np.where(w == 0, 0, np.clip(x + t * speed * way, 0, 1) - x)
  low, high = 0.0, 1e6
  for _ in range(200):
    middle = (low + high) / 2
    gained = np.abs(np.sum(w * step(middle)))
    low, high = (middle, high) if gained < abs(offset) else (low, middle)
  return step(high)


@pytest.mark.parametrize("norm", NORMS)
def test_the_step_is_the_shortest_to_the_hyperplane_inside_the_box(norm):
  rng = np.random.default_rng(0)
  x = np.clip(1.4 * rng.random((8, 12)) - 0.2, 0, 1)
  w = rng.normal(size=(8, 12))
  w[:, 3] = 0.0
  offset = np.array([0.0, 0.1, -0.5, 1.0, -1.0, 1.5, -0.01, 90.0])
  with jax.enable_x64(True):
    found = np.asarray(project(x, w, offset, norm=norm))
    faint = np.asarray(project(x, 1e-200 * w, 1e-200 * offset, norm=norm))
  expected = np.stack([shortest(*row, norm) for row in zip(x, w, offset)])
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
  np.testing.assert_allclose(faint, expected, rtol=0, atol=1e-9)
  reached = offset + np.sum(w * found, axis=1)
  assert (np.abs(reached[:7]) < 1e-9).all() and abs(reached[7]) > 1  # the last is out of reach


@functools.partial(jax.jit, static_argnames="norm")
def attack(image, label, target, num_steps, norm="linf"):
  return attacks.fab(linear.predict, image, label, target, num_steps=num_steps, norm=norm)


@pytest.mark.parametrize("norm", ["linf", pytest.param("l2", marks=pytest.mark.slow)])
def test_on_a_linear_network_the_distance_is_that_of_the_closed_form(norm):
  least = linear.smallest_radius(norm)
  order = np.argsort(least, axis=1).astype(np.int32)
  found = attack(linear.IMAGE, linear.LABEL, order[:, 0], 20, norm)
  distance = np.asarray(found.distance)
  assert (distance >= least.min(1) * (1 - 1e-4)).all()
  np.testing.assert_allclose(distance, least.min(1), rtol=0.06)  # overshoot is 1.05
  delta = (np.asarray(found.image) - linear.IMAGE).reshape(len(distance), -1)
  size = np.abs(delta).max(1) if norm == "linf" else np.linalg.norm(delta, axis=1)
  # Half a spacing of the images' float32, between 0.5 and 1, may be lost on either side.
  np.testing.assert_allclose(size, distance, rtol=1e-5, atol=6e-8)
  assert (np.argmax(linear.predict(found.image), -1) != linear.LABEL).all()


def test_more_steps_never_end_further_away():
  # The second likeliest class: its boundary may not be the nearest, what is found is still kept.
  target = np.argsort(linear.smallest_radius(), axis=1)[:, 1].astype(np.int32)
  runs = [attack(linear.IMAGE, linear.LABEL, target, n).distance for n in (0, 1, 5, 20)]
  assert np.isinf(np.asarray(runs[0])).all() and np.isfinite(np.asarray(runs[-1])).all()
  for before, after in itertools.pairwise(runs):
    assert (np.asarray(after) <= np.asarray(before)).all()


def test_what_is_wrong_already_is_its_own_nearest_and_what_cannot_fall_is_given_back():
  wrong = (linear.LABEL + 1) % linear.CLASSES
  found = attack(linear.IMAGE, wrong, linear.LABEL, 3)
  np.testing.assert_array_equal(found.distance, 0.0)
  np.testing.assert_array_equal(found.image, linear.IMAGE)
  # Towards its own class there is no boundary and no gradient.
  found = attack(linear.IMAGE, linear.LABEL, linear.LABEL, 3)
  assert np.isinf(np.asarray(found.distance)).all()
  np.testing.assert_array_equal(found.image, linear.IMAGE)


@pytest.mark.parametrize(
  "call, words",
  [
    (lambda: attack(linear.IMAGE, linear.LABEL[:2], linear.LABEL, 1), "label has shape"),
    (lambda: attack(linear.IMAGE, linear.LABEL, linear.LABEL[:2], 1), "target has shape"),
    (lambda: attack(linear.IMAGE, linear.LABEL, linear.LABEL, 1, "linff"), "did you mean 'linf'"),
    (lambda: project(np.zeros((2, 3)), np.zeros((2, 3)), np.zeros(3)), "offset"),
  ],
)
def test_bad_input_is_refused_in_one_sentence(call, words):
  with pytest.raises(InputError, match=words) as raised:
    call()
  assert "\n" not in str(raised.value)
