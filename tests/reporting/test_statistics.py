"""Intervals against numbers computed by hand."""

import numpy as np
import pytest
from scipy import stats

from jaxnoise import reporting
from jaxnoise.core import InputError

# Quantiles of Student's t at 97.5 %, from a printed table.
T = {2: 4.303, 3: 3.182, 4: 2.776, 9: 2.262}


@pytest.mark.parametrize("n", [3, 4, 5, 10])
def test_the_t_interval_is_that_of_the_tables(n):
  values = np.random.default_rng(n).normal(0.9, 0.02, n)
  got = reporting.estimate(values)
  half = T[n - 1] * np.std(values, ddof=1) / np.sqrt(n)
  np.testing.assert_allclose(got.interval, (got.mean - half, got.mean + half), atol=1e-5)
  want = stats.t.interval(0.95, n - 1, loc=got.mean, scale=stats.sem(values))
  np.testing.assert_allclose(got.interval, want, rtol=1e-12)
  assert got.sd == pytest.approx(np.std(values, ddof=1))


@pytest.mark.parametrize("n", [1, 2])
def test_no_interval_below_three_values(n):
  assert reporting.estimate([0.5] * n).interval is None


def test_a_difference_by_example_by_hand():
  # Two seeds, four images. Shares right: first 1, 0.5, 0, 0.5; second 1, 1, 1, 0.
  first = np.array([[1, 1, 0, 0], [1, 0, 0, 1]]) > 0
  second = np.array([[1, 1, 1, 0], [1, 1, 1, 0]]) > 0
  got = reporting.difference_by_example(first, second, same_seeds=True)
  d = np.array([0, 0.5, 1, -0.5])
  assert (got.mean, got.n, got.gained, got.lost) == (0.25, 4, 3, 1)
  assert got.error == pytest.approx(np.sqrt(((d - 0.25) ** 2).sum() / 3) / 2)
  half = 1.959964 * got.error
  np.testing.assert_allclose(got.interval, (0.25 - half, 0.25 + half), rtol=1e-6)


def test_pairing_sees_only_images_on_which_two_differ():
  """For one seed it is McNemar's: (b - c) / N, with the variance of b + c discordant pairs."""
  rng = np.random.default_rng(0)
  first = rng.random((1, 1000)) < 0.9
  second = first ^ (rng.random((1, 1000)) < 0.01)
  got = reporting.difference_by_example(first, second, same_seeds=True)
  b, c = got.gained, got.lost
  assert got.mean == pytest.approx((b - c) / 1000)
  variance = ((b + c) - (b - c) ** 2 / 1000) / 999 / 1000
  assert got.error == pytest.approx(np.sqrt(variance))
  unpaired = np.sqrt(2 * 0.9 * 0.1 / 1000)
  assert got.error < unpaired / 2


def test_networks_of_different_seeds_have_no_pairs_to_count():
  right = np.ones((2, 5)) > 0
  got = reporting.difference_by_example(right[:1], right, same_seeds=False)
  assert got.gained is None and got.lost is None and got.interval == (0.0, 0.0)


def test_different_numbers_of_images_are_refused():
  with pytest.raises(InputError, match="4 images, the other on 5"):
    reporting.difference_by_example(np.ones((1, 4)) > 0, np.ones((1, 5)) > 0, same_seeds=True)
