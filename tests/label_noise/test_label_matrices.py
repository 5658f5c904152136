"""Noise matrices: rows, published values, the classes they name, and which are refused."""

import numpy as np
import pytest

from jaxnoise import label_noise
from jaxnoise.core.errors import InputError
from jaxnoise.data._known import CIFAR10_NAMES, CIFAR100_NAMES

MATRICES = {
  "symmetric": lambda rate: label_noise.symmetric_matrix(10, rate),
  "exclusive": lambda rate: label_noise.symmetric_matrix(10, rate, inclusive=False),
  "pair_flip": lambda rate: label_noise.pair_flip_matrix(10, rate),
  "cifar10": label_noise.asymmetric_cifar10_matrix,
  "sequential": lambda rate: label_noise.asymmetric_cifar10_matrix(rate, sequential=True),
  "superclass": label_noise.superclass_matrix,
  "digits": label_noise.asymmetric_digits_matrix,
}
# The share of all labels that changes, of classes of equal size.
CHANGED = {
  "symmetric": lambda rate: 0.9 * rate,
  "exclusive": lambda rate: rate,
  "pair_flip": lambda rate: rate,
  "cifar10": lambda rate: rate / 2,
  "sequential": lambda rate: (4 * rate + rate * (1 - rate)) / 10,
  "superclass": lambda rate: rate,
  "digits": lambda rate: rate / 2,
}


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.4])
@pytest.mark.parametrize("name", MATRICES)
def test_rows_sum_to_one_and_change_the_expected_share(name, rate):
  matrix = MATRICES[name](rate)
  assert matrix.dtype == np.float64 and matrix.min() >= 0
  np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-12)
  np.testing.assert_allclose(1 - np.diag(matrix).mean(), CHANGED[name](rate), atol=1e-12)
  np.testing.assert_allclose(label_noise.check_matrix(matrix), matrix, atol=1e-12)


def test_sequential_rates_are_the_measured_ones():
  for rate, overall, cat in ((0.4, 0.184, 0.24), (0.2, 0.096, 0.16)):
    matrix = label_noise.asymmetric_cifar10_matrix(rate, sequential=True)
    np.testing.assert_allclose(1 - np.diag(matrix).mean(), overall)
    np.testing.assert_allclose(1 - np.diag(matrix)[[3, 5, 2, 4, 9]], [cat] + [rate] * 4)


def test_golden_matrices(golden):
  nrd = golden("nrd")
  for case, matrix in (
    (5, label_noise.symmetric_matrix(10, 0.5, inclusive=False)),
    (6, label_noise.asymmetric_cifar10_matrix(0.2)),
    (7, label_noise.symmetric_matrix(100, 0.8, inclusive=False)),
    (8, label_noise.pair_flip_matrix(100, 0.1)),  # there, superclasses are ignored
  ):
    np.testing.assert_allclose(nrd[f"noise/c{case}/transition_matrix"], matrix, atol=1e-12)


def test_confusions_name_the_right_classes():
  def named(targets, names):
    return {names[i]: names[j] for i, j in enumerate(targets) if i != j}

  assert named(label_noise.CIFAR10_TARGETS, CIFAR10_NAMES) == {
    "truck": "automobile", "bird": "airplane", "cat": "dog", "dog": "cat", "deer": "horse",
  }  # fmt: skip
  assert named(label_noise.DIGITS_TARGETS, "0123456789") == {
    "2": "7", "3": "8", "5": "6", "6": "5", "7": "1",
  }  # fmt: skip
  following = named(label_noise.CIFAR100_TARGETS, CIFAR100_NAMES)
  assert len(following) == 100 and sorted(following.values()) == sorted(CIFAR100_NAMES)
  assert following["beaver"] == "dolphin" and following["whale"] == "beaver"
  assert following["maple_tree"] == "oak_tree" and following["pear"] == "sweet_pepper"
  assert sorted(sum(label_noise.SUPERCLASSES.values(), ())) == list(CIFAR100_NAMES)
  assert all(list(names) == sorted(names) for names in label_noise.SUPERCLASSES.values())


BAD = {
  "square": (np.ones((2, 3)) / 3, r"shape is \(2, 3\), expected \[K, K\]"),
  "classes": (np.eye(3), r"shape is \(3, 3\), but there are 2 classes"),
  "ragged": ([[1.0], [0.5, 0.5]], "rows of one length"),
  "negative": ([[1.2, -0.2], [0, 1]], "row 0, column 1 is -0.2"),
  "not a number": ([[1, 0], [np.nan, 1]], "row 1, column 0 is nan"),
  "sum": ([[1, 0], [0.3, 0.6]], "row 1 sums to 0.9, expected 1; divide"),
  "transposed": ([[0.9, 0.3], [0.1, 0.7]], "row 0 sums to 1.2.*transpose it"),
  "unlearnable": ([[1, 0], [0.6, 0.4]], "class 1 cannot be learnt.*called 0 with probability 0.6"),
  "tie": ([[0.5, 0.5], [0, 1]], "class 0 cannot be learnt"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused(case):
  matrix, message = BAD[case]
  with pytest.raises(InputError, match=message):
    label_noise.check_matrix(matrix, 2)


def test_a_matrix_that_cannot_be_learnt_can_be_asked_for():
  matrix = [[0.4, 0.6], [0.0, 1.0]]
  np.testing.assert_array_equal(label_noise.check_matrix(matrix, allow_unlearnable=True), matrix)


def test_exact_ties_are_refused_however_they_round():
  # (1 - 0.9) + 0.9 / 3 against 0.9 / 3 is no tie; rate 1 is, for every number of classes.
  label_noise.check_matrix(label_noise.symmetric_matrix(3, 0.9))
  for count in (2, 3, 7, 10, 49):
    with pytest.raises(InputError, match="class 0 cannot be learnt"):
      label_noise.check_matrix(label_noise.symmetric_matrix(count, 1.0))


@pytest.mark.parametrize("rate", [-0.1, 1.1, 40, float("nan"), "much", None, True])
def test_refuses_rates_out_of_range(rate):
  with pytest.raises(InputError, match=r"rate: found .*0\.4"):
    label_noise.symmetric_matrix(10, rate)
