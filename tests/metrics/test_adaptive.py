"""RMS, MAD and maximum calibration error over adaptive bins, and AURRA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import metrics
from jaxnoise.core import InputError


@jax.jit
def errors(bins):
  return {
    "rms_adaptive": metrics.rms_calibration_error(bins),
    "mad_adaptive": metrics.expected_calibration_error(bins),
    "max_adaptive": metrics.maximum_calibration_error(bins),
  }


skipped = jax.jit(lambda bins: metrics.rms_calibration_error(bins, drop_last_bin=True))


@jax.jit
def score(logits, labels):
  return jax.nn.softmax(logits).max(axis=-1), metrics.correct(logits, labels)


@pytest.mark.parametrize("case", range(4))
def test_adaptive_errors_and_aurra_equal_the_stored_values(case, golden):
  expected = {
    key.rpartition("/")[2]: float(value)
    for key, value in golden("metrics").items()
    if key.startswith(f"calibration/c{case}/") and value.ndim == 0
  }

  def check(dtype, rel):
    logits, labels = (golden("metrics")[f"calibration/c{case}/{k}"] for k in ("logits", "labels"))
    confidence, correct = score(logits.astype(dtype), labels)
    assert confidence.dtype == dtype
    bins = metrics.adaptive_bins(confidence, correct, bin_size=int(expected["bin_size"]))
    values = errors(bins) | {"rms_adaptive_last_bin_skipped": skipped(bins)}
    for name, value in values.items():
      assert float(value) == pytest.approx(expected[name], rel=rel), name
    assert metrics.aurra(confidence, correct) == pytest.approx(expected["aurra"], rel=rel)

  check(jnp.float32, 1e-5)
  with jax.enable_x64(True):
    check(jnp.float64, 1e-9)


def examples(n, seed=0):
  rng = np.random.default_rng(seed)
  confidence = rng.uniform(0.1, 1.0, n)
  return confidence, (rng.random(n) < confidence**2).astype(float)


@pytest.mark.parametrize(("n", "size"), [(40, 10), (49, 10), (50, 7), (9, 1)])
def test_bins_are_those_of_a_loop_and_the_last_takes_the_remainder(n, size):
  confidence, correct = examples(n)
  rows = sorted(range(n), key=lambda i: confidence[i])
  starts = [b * size for b in range(n // size)]
  parts = [rows[a:b] for a, b in zip(starts, [*starts[1:], n])]
  bins = metrics.adaptive_bins(confidence, correct, bin_size=size)
  np.testing.assert_array_equal(bins.count, [len(part) for part in parts])
  np.testing.assert_allclose(bins.confidence, [confidence[part].sum() for part in parts])
  np.testing.assert_allclose(bins.correct, [correct[part].sum() for part in parts])


@pytest.mark.parametrize("n", [1, 2, 99])
def test_fewer_examples_than_a_bin_make_one_bin(n):
  confidence, correct = examples(n)
  bins = metrics.adaptive_bins(confidence, correct)
  gap = abs(confidence.mean() - correct.mean())
  assert bins.count.tolist() == [n]
  for name, value in errors(bins).items():
    assert float(value) == pytest.approx(gap, rel=1e-5), name


def test_the_order_of_the_test_set_plays_no_part_among_equal_confidences():
  confidence = np.repeat([1.0, 0.5, 0.7], [30, 13, 20])
  correct = (np.arange(63) % 3 == 0).astype(float)
  rng = np.random.default_rng(0)
  values = set()
  for _ in range(4):
    order = rng.permutation(63)
    bins = metrics.adaptive_bins(confidence[order], correct[order], bin_size=8)
    values.add((metrics.aurra(confidence[order], correct[order]), *bins.correct.tolist()))
  spread = np.ptp(np.array(sorted(values)), axis=0)
  assert (spread < 1e-12).all()


def test_one_confidence_for_all_gives_accuracy_and_its_gap():
  correct = np.repeat([1.0, 0.0], [150, 50])
  same = np.full(200, 0.95)
  assert metrics.aurra(same, correct) == pytest.approx(0.75)
  bins = metrics.adaptive_bins(same, correct, bin_size=10)
  for name, value in errors(bins).items():
    assert float(value) == pytest.approx(0.2, rel=1e-5), name


def test_aurra_is_the_mean_accuracy_of_the_most_confident():
  confidence, correct = examples(30)
  by_confidence = [correct[i] for i in sorted(range(30), key=lambda i: -confidence[i])]
  expected = np.mean([np.mean(by_confidence[:k]) for k in range(1, 31)])
  assert metrics.aurra(confidence, correct) == pytest.approx(expected, rel=1e-12)
  assert metrics.aurra(confidence, np.ones(30)) == 1.0
  assert metrics.aurra(-confidence, correct) < expected < metrics.aurra(correct, correct) < 1


def test_nan_confidence_ranks_last_and_is_in_no_bin():
  confidence, correct = np.array([0.5, np.nan, 0.9]), np.array([1.0, 0.0, 1.0])
  assert metrics.aurra(confidence, correct) == pytest.approx((1 + 1 + 2 / 3) / 3)
  assert metrics.aurra(np.full(3, np.nan), np.zeros(3)) == 0.0
  assert metrics.adaptive_bins(confidence, correct).count.tolist() == [2.0]
  assert metrics.adaptive_bins(np.array([1.0000001]), np.ones(1)).confidence.tolist() == [1.0]


def test_without_an_example_the_errors_are_nan():
  bins = metrics.adaptive_bins(np.zeros(0), np.zeros(0))
  assert bins.count.tolist() == [0.0]
  for name, value in errors(bins).items():
    assert np.isnan(value), name


def test_errors_of_equally_wide_bins_pass_over_the_empty_ones():
  """In one compiled program, as an evaluation on the device has it."""
  confidence = np.repeat([0.55, 0.95], [10, 30]).astype(np.float32)
  probabilities = np.stack([confidence, 1 - confidence], axis=1)
  labels = np.where(np.arange(40) < 20, 1, 0)  # none of the first 10 right, 20 of the other 30

  value = jax.jit(lambda p: errors(metrics.calibration_bins(p, labels, num_bins=10)))(probabilities)
  rms, largest = value["rms_adaptive"], value["max_adaptive"]
  gaps = np.array([0.55, 0.95 - 2 / 3])
  assert float(largest) == pytest.approx(0.55, rel=1e-5)
  assert float(rms) == pytest.approx(np.sqrt(0.25 * gaps[0] ** 2 + 0.75 * gaps[1] ** 2), rel=1e-5)


def test_mad_rms_and_maximum_are_in_order():
  bins = metrics.adaptive_bins(*examples(1000), bin_size=50)
  values = errors(bins)
  mad, rms, largest = (float(values[f"{name}_adaptive"]) for name in ("mad", "rms", "max"))
  assert 0 < mad < rms < largest < 1


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: metrics.adaptive_bins(np.ones(3), np.ones(2)), "one value of each per example"),
    (lambda: metrics.adaptive_bins(np.ones((3, 2)), np.ones((3, 2))), "one value of each per"),
    (lambda: metrics.adaptive_bins(np.ones(3), np.ones(3), bin_size=0), "bin_size is 0"),
    (lambda: metrics.aurra(np.ones(3), np.ones(2)), "one value of each per example"),
    (lambda: metrics.aurra(np.zeros(0), np.zeros(0)), "one at least"),
    (
      lambda: skipped(metrics.adaptive_bins(*examples(199))),
      "leaves no bin of 1",
    ),
  ],
)
def test_bad_input_is_one_clear_sentence(call, message):
  with pytest.raises(InputError, match=message):
    call()
