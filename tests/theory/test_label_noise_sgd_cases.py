"""Special cases of what SGD on least squares settles to: normal inputs, and additive noise."""

import numpy as np
import pytest

from jaxnoise import theory
from jaxnoise.core import InputError
from tests.theory.test_label_noise_sgd_exact import FIGURE_1, small


@pytest.mark.parametrize("name", FIGURE_1)
def test_predictions_of_figure_1(name):
  eigenvalues, normal, additive = FIGURE_1[name]
  options = {"learning_rate": 0.01, "batch_size": 5}
  found = theory.gaussian_design_variances(eigenvalues, 0.5, **options)
  np.testing.assert_allclose(found, normal, rtol=1e-3)
  second = np.diag(eigenvalues)
  found = theory.uln_additive_covariance(second, 0.5, **options)
  np.testing.assert_allclose(found.diagonal(), additive, rtol=1e-3)
  twice = theory.uln_additive_covariance(second, 1.0, **options)
  np.testing.assert_allclose(twice, 2 * found)


def test_additive_noise_solves_its_own_equation():
  x, _ = small()
  second, eta, size = x.T @ x / 4, 0.3, 5
  found = theory.uln_additive_covariance(second, 0.4, learning_rate=eta, batch_size=size)
  keep = np.eye(2) - eta * second
  step = keep @ found @ keep.T + eta**2 * 0.4 / size * second
  np.testing.assert_allclose(step, found, rtol=1e-12)


@pytest.mark.parametrize(
  "call",
  [
    lambda: theory.gaussian_design_variances([100.0] * 2, 0.5, learning_rate=0.02, batch_size=5),
    lambda: theory.gaussian_design_variances([80.0] * 9, 0.5, learning_rate=0.01, batch_size=5),
    lambda: theory.uln_additive_covariance(np.eye(2), 0.5, learning_rate=2.0, batch_size=5),
  ],
)
def test_special_cases_refuse_what_diverges(call):
  with pytest.raises(InputError, match="diverges"):
    call()


@pytest.mark.parametrize(
  "matrix, words",
  [
    (np.diag([1.0, 0.0]), "eigenvalues 0 to 1"),  # nothing moves along the second axis
    (np.diag([1.0, -1.0]), "eigenvalues -1 to 1"),
    (np.array([[1.0, 0.5], [0.0, 1.0]]), "symmetric"),
    (np.full((2, 2), np.nan), "finite"),
    (np.ones((2, 3)), r"\[2, 3\]"),
  ],
)
def test_additive_noise_needs_a_second_moment_of_full_rank(matrix, words):
  with pytest.raises(InputError, match=words):
    theory.uln_additive_covariance(matrix, 0.5, learning_rate=0.1, batch_size=5)
