"""The equiradial projection and the calibration against bin centres: golden values, edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import metrics
from jaxnoise.core import InputError


def softmax(logits):
  shifted = np.exp(logits - logits.max(-1, keepdims=True))
  return shifted / shifted.sum(-1, keepdims=True)


def test_the_projection_equals_the_authors(golden):
  stored = {name: golden("nrd")[f"projection/{name}"] for name in ("logits", "points_xy")}
  corners = golden("nrd")["projection/vertices_xy"]
  project = jax.jit(metrics.equiradial_projection)
  with jax.enable_x64(True):
    p = softmax(stored["logits"])
    np.testing.assert_allclose(project(p), stored["points_xy"], rtol=0, atol=1e-14)
    np.testing.assert_allclose(project(np.eye(10)), corners, rtol=0, atol=1e-15)
  single = project(np.float32(p))
  assert single.dtype == jnp.float32
  np.testing.assert_allclose(single, stored["points_xy"], rtol=0, atol=1e-6)


def test_any_leading_axes_and_half_precision():
  p = softmax(np.random.default_rng(0).normal(size=(2, 3, 5)))
  points = metrics.equiradial_projection(np.float32(p))
  assert points.shape == (2, 3, 2)
  alone = metrics.equiradial_projection(np.float32(p[1, 2]))
  np.testing.assert_allclose(points[1, 2], alone, rtol=0, atol=1e-6)
  assert metrics.equiradial_projection(jnp.asarray(p, jnp.bfloat16)).dtype == jnp.float32
  assert abs(metrics.equiradial_projection(jnp.full((7,), 1 / 7))).max() < 1e-6


@pytest.mark.parametrize("shape", [(), (4, 1)])
def test_a_polygon_needs_two_corners(shape):
  with pytest.raises(InputError, match="two classes"):
    metrics.equiradial_projection(jnp.ones(shape))


def test_the_error_against_bin_centres_equals_the_authors(golden):
  stored = golden("nrd")
  p, labels = softmax(stored["ece/logits"]), stored["ece/labels"]
  with jax.enable_x64(True):
    error, accuracy = jax.jit(metrics.bin_centre_calibration_error)(p, labels)
    np.testing.assert_allclose(error, stored["ece/ece10_bin_centre"], rtol=1e-12)
    np.testing.assert_allclose(accuracy, stored["ece/bin_accuracy"], rtol=1e-12)


def test_bins_are_closed_below_and_certainty_only_counts():
  # 0.5 is in the second of two bins; the two certain predictions are in none, but among the four.
  p = np.float32([[0.5, 0.5], [0.25, 0.75], [1, 0], [0, 1]])
  error, accuracy = metrics.bin_centre_calibration_error(p, np.array([0, 0, 0, 0]), num_bins=2)
  np.testing.assert_allclose(accuracy, [0, 0.5])
  np.testing.assert_allclose(error, 2 * 0.25 / 4)


@pytest.mark.parametrize("labels", [np.eye(3)[:2], np.zeros(2), np.zeros(3, int)])
def test_labels_of_another_kind_are_refused(labels):
  with pytest.raises(InputError, match="one integer label per row"):
    metrics.bin_centre_calibration_error(np.full((2, 3), 1 / 3), labels)
