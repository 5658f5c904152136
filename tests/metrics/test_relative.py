"""mCE, relative mCE and flip rates against a reference network, and the averages papers print."""

import numpy as np
import pytest

from jaxnoise import metrics
from jaxnoise.core import InputError

STANDARD = tuple(metrics.ALEXNET_IMAGENET_C)
GROUPS = {
  "noise": STANDARD[:3], "blur": STANDARD[3:7], "weather": STANDARD[7:11], "digital": STANDARD[11:]
}  # fmt: skip
# ResNet-50 accuracies on ImageNet-C in % (NoisyMix, Table 6), in the benchmark's order.
PUBLISHED = {
  "baseline": (
    29.3, 27.0, 23.8, 38.8, 26.8, 38.7, 36.2, 32.5, 38.1, 45.8, 68.0, 39.1, 45.3, 44.8, 53.4
  ),
  "augmix": (
    40.6, 41.1, 37.7, 47.7, 34.9, 53.5, 49.0, 39.9, 43.8, 47.1, 69.5, 51.1, 52.0, 57.0, 60.3
  ),
}  # fmt: skip


def published(name):
  """The row as a table whose severities differ and have the printed mean."""
  return {
    (corruption, severity): (value + 4 * (3 - severity), 100.0)
    for corruption, value in zip(STANDARD, PUBLISHED[name])
    for severity in range(1, 6)
  }


# E = 0.1, 0.3 (fog) and 0.6, 0.8 (snow); cells of different size count the same.
TABLE = {("fog", 1): (9, 10), ("fog", 2): (70, 100), ("snow", 1): (4, 10), ("snow", 2): (1, 5)}
REFERENCE = {"snow": 0.5, "fog": 0.4}
TWO = {"severities": (1, 2)}


@pytest.mark.parametrize(("name", "mce"), [("baseline", 76.7), ("augmix", 65.3)])
def test_mce_of_published_rows_is_the_published_one(name, mce):
  """76.7 for ResNet-50, 65.3 for AugMix, both in the AugMix paper."""
  value = metrics.mean_corruption_error(published(name), metrics.ALEXNET_IMAGENET_C)
  assert round(100 * value, 1) == mce


def test_averages_of_a_published_row_are_those_of_the_summary_table():
  """NoisyMix, Table 1: 39.2 (42.3 without noise) for the baseline, 48.3 (50.5) for AugMix."""
  for name, whole, without in (("baseline", 39.2, 42.3), ("augmix", 48.3, 50.5)):
    table = published(name)
    assert round(100 * metrics.mean_corruption_accuracy(table), 1) == whole
    assert round(100 * metrics.accuracy_without(table, GROUPS["noise"]), 1) == without
  groups = metrics.accuracy_by_group(published("baseline"), GROUPS)
  assert groups["noise"] == pytest.approx((0.293 + 0.270 + 0.238) / 3)
  assert groups["weather"] == pytest.approx((0.325 + 0.381 + 0.458 + 0.680) / 4)


def test_errors_are_means_over_severities_in_the_order_asked_for():
  assert metrics.mean_errors(TABLE) == pytest.approx({"fog": 0.2, "snow": 0.7})
  assert list(metrics.mean_errors(TABLE, ["snow", "fog"])) == ["snow", "fog"]
  assert list(metrics.mean_errors(TABLE, ["snow"])) == ["snow"]


def test_mce_is_a_mean_of_ratios_and_not_a_ratio_of_means():
  errors = metrics.corruption_errors(TABLE, REFERENCE, **TWO)
  assert errors == pytest.approx({"snow": 1.4, "fog": 0.5})
  assert metrics.mean_corruption_error(TABLE, REFERENCE, **TWO) == pytest.approx(0.95)
  assert metrics.mean_corruption_error(TABLE, REFERENCE, names=["fog"], **TWO) == pytest.approx(0.5)


def test_relative_mce_subtracts_the_clean_errors():
  value = metrics.relative_mean_corruption_error(TABLE, 0.1, REFERENCE, 0.3, **TWO)
  assert value == pytest.approx((0.6 / 0.2 + 0.1 / 0.1) / 2)
  better = metrics.relative_mean_corruption_error(TABLE, 0.3, REFERENCE, 0.3, names=["fog"], **TWO)
  assert better == pytest.approx(-1.0)


def test_a_network_relative_to_itself_is_1():
  own = metrics.mean_errors(TABLE)
  assert metrics.mean_corruption_error(TABLE, own, **TWO) == pytest.approx(1.0)
  assert metrics.relative_mean_corruption_error(TABLE, 0.1, own, 0.1, **TWO) == pytest.approx(1.0)
  flips = {"tilt": 0.02, "snow": 0.1}
  assert metrics.mean_flip_rate(flips, flips) == 1.0


def test_rows_beyond_the_reference_s_are_left_out():
  more = TABLE | {("saturate", 1): (0, 1), ("saturate", 2): (0, 1)}
  for table in (TABLE, more):
    assert metrics.mean_corruption_error(table, REFERENCE, **TWO) == pytest.approx(0.95)


def test_flip_rates_are_ratios_by_perturbation_and_their_mean_is_unweighted():
  flips = {"gaussian_noise": 0.3, "tilt": 0.02, "snow": 0.1, "spatter": 0.9}
  reference = {"tilt": 0.08, "snow": 0.1, "gaussian_noise": 0.1}
  rates = metrics.flip_rates(flips, reference)
  assert list(rates) == list(reference)
  assert rates == pytest.approx({"tilt": 0.25, "snow": 1.0, "gaussian_noise": 3.0})
  assert metrics.mean_flip_rate(flips, reference) == pytest.approx(4.25 / 3)
  assert metrics.mean_flip_rate(flips, reference, names=["tilt", "snow"]) == pytest.approx(0.625)


def test_alexnet_s_errors_are_those_published():
  """15 standard corruptions, 78.9 % of all images wrong, and no digit has slipped."""
  assert len(STANDARD) == 15
  mean = np.mean(list(metrics.ALEXNET_IMAGENET_C.values()))
  assert mean == pytest.approx(0.78899307, abs=1e-8)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: metrics.mean_errors({}), "no rows"),
    (
      lambda: metrics.mean_corruption_error(TABLE, REFERENCE),
      r"severities \[1, 2\] and the reference's errors are means over \[1, 2, 3, 4, 5\]",
    ),
    (
      lambda: metrics.relative_mean_corruption_error(TABLE, 0.1, REFERENCE, 0.2),
      r"severities \[1, 2\]",
    ),
    (
      lambda: metrics.mean_corruption_error(TABLE, REFERENCE | {"frost": 0.5}, **TWO),
      "'frost' is not in the table",
    ),
    (
      lambda: metrics.mean_corruption_error(TABLE, {"fog": 0.4}, names=["snow"], **TWO),
      "'snow' is not among the reference's errors",
    ),
    (
      lambda: metrics.corruption_errors(TABLE, REFERENCE | {"fog": 0.0}, **TWO),
      "'fog' is 0; a ratio needs a positive one",
    ),
    (
      lambda: metrics.relative_mean_corruption_error(TABLE, 0.1, REFERENCE, 0.4, **TWO),
      "losses of accuracy for 'fog' is 0",
    ),
    (
      lambda: metrics.relative_mean_corruption_error(TABLE, 12.0, REFERENCE, 0.4, **TWO),
      "clean_error is 12.0",
    ),
    (
      lambda: metrics.relative_mean_corruption_error(TABLE, 0.1, REFERENCE, -1.0, **TWO),
      "reference_clean_error is -1.0",
    ),
    (lambda: metrics.mean_flip_rate({"tilt": 0.1}, {"tilt": 0.1, "snow": 0.1}), "the network's"),
    (lambda: metrics.flip_rates({"tilt": 0.1}, {"tlt": 0.1}, names=["tilt"]), "mean 'tlt'"),
    (lambda: metrics.flip_rates({"tilt": 0.1}, {"tilt": float("nan")}), "is nan"),
    (lambda: metrics.mean_flip_rate({"tilt": 0.1}, {}), "at least one"),
  ],
)
def test_bad_input_is_one_clear_sentence(call, message):
  with pytest.raises(InputError, match=message):
    call()
