"""Draws of label noise: the authors' labels from the authors' draws, counts, seeds, bad input."""

import numpy as np
import pytest

from jaxnoise import label_noise
from jaxnoise.core.errors import InputError
from jaxnoise.training import label_noise_table

N = 5003  # eta N is no whole number
LABELS = {k: np.random.RandomState(k).permutation(np.arange(N) % k).astype(np.int32)
          for k in (10, 100)}
IMAGES = np.random.RandomState(0).randint(0, 256, (N, 2, 2, 3)).astype(np.uint8)
CASES = {
  "symmetric": 10, "symmetric_exclusive": 10, "asymmetric": 10, "asymmetric_sequential": 10,
  "asymmetric_dividemix": 10, "superclass": 100, "pair_flip": 10, "asymmetric_digits": 10,
  "instance": 10, "matrix": 10,
}  # fmt: skip
MATRIX = label_noise.symmetric_matrix(10, 0.3) @ label_noise.pair_flip_matrix(10, 0.1)


def draw(kind, rate=0.4, num_classes=None, **kwargs):
  classes = num_classes or CASES[kind]
  if kind == "matrix":
    kwargs, rate = {"matrix": MATRIX, **kwargs}, 0.0
  return label_noise.corrupt(
    LABELS[classes], kind, num_classes=classes, rate=rate, images=IMAGES, **kwargs
  )


def case(golden, number):
  nrd = golden("nrd")
  head = f"noise/c{number}/"
  return {k.removeprefix(head): v for k, v in nrd.items() if k.startswith(head)}


def test_symmetric_labels_of_the_authors(golden):
  of = case(golden, 0)  # CIFAR-10: a mask
  assert of["mask"].sum() == label_noise.num_flips(of["rate"], 200, rounding="floor")
  noisy = label_noise.replace_labels(of["labels"], of["mask"], of["replacement_labels"])
  np.testing.assert_array_equal(noisy, of["noisy_labels"])
  of = case(golden, 3)  # CIFAR-100: the head of a permutation
  chosen = of["permutation"][: label_noise.num_flips(of["rate"], len(of["labels"]))]
  noisy = label_noise.replace_labels(of["labels"], chosen, of["replacement_labels"])
  np.testing.assert_array_equal(noisy, of["noisy_labels"])
  assert noisy.dtype == np.int32


@pytest.mark.parametrize("number", [1, 2])
def test_sequential_labels_of_the_authors(golden, number):
  of = case(golden, number)
  given = {k: row[row >= 0] for k, row in enumerate(of["class_order"])}

  def shuffle(k, members):
    # The pool of a class is that of the labels by then, dogs that were cats included.
    np.testing.assert_array_equal(np.sort(given[k]), members)
    return given[k]

  noisy = label_noise.flip_sequentially(
    of["labels"], float(of["rate"]), label_noise.CIFAR10_TARGETS, shuffle
  )
  np.testing.assert_array_equal(noisy, of["noisy_labels"])


def test_superclass_labels_of_the_authors(golden):
  of = case(golden, 4)
  chosen = of["permutation"][: label_noise.num_flips(of["rate"], len(of["labels"]))]
  targets = np.asarray(label_noise.CIFAR100_TARGETS)
  noisy = label_noise.replace_labels(of["labels"], chosen, targets[of["labels"][chosen]])
  np.testing.assert_array_equal(noisy, of["noisy_labels"])


def test_number_of_flips():
  for rate, count in ((0.4, 203), (0.6, 300), (0.1, 3), (0.55, 100), (1.0, 7), (0.0, 7)):
    below = sum(i < rate * count for i in range(count))
    assert label_noise.num_flips(rate, count) == below
    assert label_noise.num_flips(rate, count, rounding="floor") == int(rate * count)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("kind", CASES)
def test_seed_decides_and_matrix_describes(kind, exact):
  noisy, again = draw(kind, exact=exact), draw(kind, exact=exact)
  true, classes = LABELS[CASES[kind]], CASES[kind]
  np.testing.assert_array_equal(noisy.labels, again.labels)
  assert np.any(noisy.labels != draw(kind, exact=exact, seed=1).labels)
  assert noisy.labels.dtype == np.int32 and noisy.labels.max() < classes
  np.testing.assert_array_equal(noisy.flipped, noisy.labels != true)
  assert (noisy.kind, noisy.seed, noisy.exact) == (kind, 0, exact)
  if noisy.matrix is None:
    assert kind == "instance"
    return
  counts = label_noise.realised(true, noisy.labels, classes).counts
  if kind == "superclass":  # 50 examples of each class: their sum along the circle
    counts, expected = np.diag(counts), np.diag(noisy.matrix) * np.bincount(true)
    counts, expected = counts.sum(), expected.sum()
  else:
    expected = noisy.matrix * np.bincount(true, minlength=classes)[:, None]
  assert np.all(np.abs(counts - expected) <= 4.5 * np.sqrt(expected) + 1)
  if kind != "superclass":
    assert not np.any(counts[noisy.matrix == 0])


def test_inclusive_draws_may_give_the_true_label():
  noisy = draw("symmetric")
  # ceil(0.4 N) labels are drawn anew; one in ten of them comes out as it was.
  rate = 0.4 * (1 - 1 / 10)
  assert abs(noisy.flipped.mean() - rate) < 4 * np.sqrt(0.4 * 0.1 * 0.9 / N)
  assert noisy.nominal_rate == 0.4
  assert draw("symmetric_exclusive").flipped.sum() == np.ceil(0.4 * N)


def test_exact_counts():
  count = np.bincount(LABELS[10], minlength=10)
  for kind, targets in (
    ("asymmetric", label_noise.CIFAR10_TARGETS),
    ("asymmetric_digits", label_noise.DIGITS_TARGETS),
    ("pair_flip", [(k + 1) % 10 for k in range(10)]),
  ):
    expected = np.diag(count)
    for k, then in enumerate(targets):
      moved = int(np.ceil(0.4 * count[k])) if k != then else 0
      expected[k, k] -= moved
      expected[k, then] += moved
    realised = label_noise.realised(LABELS[10], draw(kind).labels, 10)
    np.testing.assert_array_equal(realised.counts, expected)
  assert draw("superclass").flipped.sum() == np.ceil(0.4 * N)
  # One label at 5 percent: rounded up, it is drawn anew, nearly always to another one.
  one = [label_noise.corrupt([0], "symmetric", num_classes=10, rate=0.05, seed=s) for s in range(9)]
  assert sum(int(noisy.flipped[0]) for noisy in one) > 4
  for rate in (0.2, 0.4, 0.97):
    unlearnable = rate > 0.5
    noisy = draw("instance", rate, allow_unlearnable=unlearnable)
    assert noisy.flipped.sum() == np.ceil(rate * N)
  counts = label_noise.realised(LABELS[10], draw("matrix").labels, 10).counts
  np.testing.assert_array_equal(counts.sum(axis=1), count)
  assert np.all(np.abs(counts - MATRIX * count[:, None]) < 1)


def test_dividemix_picks_from_all_classes():
  # int(eta N) of all are mapped, half of which are of classes that stand for themselves.
  noisy = draw("asymmetric_dividemix", 0.41)
  flipped = noisy.flipped.sum()
  assert abs(flipped - 0.41 * N / 2) < 4 * np.sqrt(0.41 * N / 4)
  per_class = np.bincount(LABELS[10][noisy.flipped], minlength=10)
  exact = np.ceil(0.41 * np.bincount(LABELS[10]))
  assert np.any(per_class[[2, 3, 4, 5, 9]] != exact[[2, 3, 4, 5, 9]])
  small = label_noise.corrupt([3] * 7, "asymmetric_dividemix", num_classes=10, rate=0.4)
  assert small.flipped.sum() == 2  # int(2.8)


@pytest.mark.parametrize(("rate", "overall"), [(0.4, 0.184), (0.2, 0.096)])
def test_sequential_flips_some_back(rate, overall):
  labels = np.arange(20000) % 10
  noisy = label_noise.corrupt(labels, "asymmetric_sequential", num_classes=10, rate=rate)
  assert abs(noisy.flipped.mean() - overall) < 0.001
  cats, dogs = noisy.flipped[labels == 3].mean(), noisy.flipped[labels == 5].mean()
  assert abs(cats - rate * (1 - rate)) < 0.02 and abs(dogs - rate) < 0.02
  # The pool of class 5 is exact: cats that came and dogs alike.
  moved = int(np.ceil(rate * 2000))
  assert (noisy.labels == 3).sum() == 2000 - moved + np.ceil(rate * (2000 + moved))
  plain = label_noise.corrupt(labels, "asymmetric", num_classes=10, rate=rate)
  assert plain.flipped.sum() == 5 * moved


def test_asymmetric_means_superclasses_where_there_are_100_classes():
  one, other = draw("asymmetric", num_classes=100), draw("superclass")
  np.testing.assert_array_equal(one.labels, other.labels)
  assert one.kind == "asymmetric"


def test_larger_rates_flip_more_of_the_same():
  small, large = draw("superclass", 0.2), draw("superclass", 0.4)
  assert np.all(large.flipped[small.flipped]) and large.flipped.sum() > small.flipped.sum()


def test_instance_noise_depends_on_the_image():
  labels = np.repeat([0, 1], 500)
  images = np.random.RandomState(0).randint(0, 256, (2, 16, 16, 3)).astype(np.uint8)
  images = images[np.tile([0, 1], 500)]
  noisy = label_noise.corrupt(
    labels, "instance", num_classes=10, rate=0.4, images=images, exact=False
  )
  assert abs(noisy.flipped.mean() - 0.4) < 0.06
  favourites = [
    np.bincount(noisy.labels[noisy.flipped & (labels == k) & (np.arange(1000) % 2 == i)],
                minlength=10)
    for k in (0, 1) for i in (0, 1)
  ]
  # Same image and class: the same wrong label, mostly; another image or class: another.
  assert all(f.max() > 0.9 * f.sum() for f in favourites)
  assert len({int(f.argmax()) for f in favourites}) >= 3
  # Each example has a rate of its own, about N(0.4, 0.1^2).
  rates = label_noise.truncated_rates(0.4, 4000, np.random.RandomState(0))
  assert abs(rates.mean() - 0.4) < 0.01 and abs(rates.std() - 0.1) < 0.01
  edge = label_noise.truncated_rates(0.02, 4000, np.random.RandomState(0))
  assert edge.min() >= 0 and edge.max() < 0.5


def test_instance_distribution_is_the_formula():
  rng = np.random.RandomState(3)
  images, labels = rng.randint(0, 256, (6, 2, 2, 3)), np.array([0, 2, 1, 2, 0, 2])
  rates = np.linspace(0, 1, 6)
  found = label_noise.instance_distribution(images, labels, rates, 4, np.random.RandomState(7))
  weights = np.random.RandomState(7).standard_normal((4, 12, 4))
  x = (images - images.mean(axis=(0, 1, 2))) / images.std(axis=(0, 1, 2))
  for n in range(6):
    score = x[n].reshape(-1) @ weights[labels[n]]
    score[labels[n]] = -np.inf
    expected = rates[n] * np.exp(score - score.max()) / np.exp(score - score.max()).sum()
    expected[labels[n]] = 1 - rates[n]
    np.testing.assert_allclose(found[n], expected, atol=1e-9)


def test_no_noise_at_rate_zero():
  for kind in set(CASES) - {"matrix"}:
    for exact in (True, False):
      assert not draw(kind, 0.0, exact=exact).flipped.any(), kind


def test_inverse_sampling_hits_no_impossible_class():
  p = np.array([[0.0, 0.5, 0.5, 0.0]])
  for u, expected in ((0.0, 1), (0.4999, 1), (0.5, 2), (1 - 2**-53, 2)):
    assert label_noise.inverse_sample(p, [u])[0] == expected
  rows = np.full((1, 10), 0.1)  # sums to 0.9999999999999999
  assert label_noise.inverse_sample(rows, [1 - 2**-53])[0] == 9


def test_realised_agrees_with_the_record_of_a_run():
  from jaxnoise import data

  source = data.generated(num_train=60, num_classes=4)
  noisy = label_noise.corrupt(source.labels, "symmetric", num_classes=4, rate=0.5)
  found = label_noise.realised(source.labels, noisy.labels, 4)
  table = label_noise_table.noise_table(source.with_labels(noisy.labels))
  assert found.sha256 == table["labels_sha256"] and found.changed == table["changed"]
  assert found.rate == table["rate"] and found.counts.tolist() == table["counts"]


BAD = {
  "kind": ({"kind": "symetric"}, "kind: found 'symetric'; did you mean 'symmetric'?"),
  "rate": ({"rate": 40}, "rate: found 40"),
  "seed": ({"seed": -1}, "seed: found -1"),
  "label": ({"labels": [0, 10]}, r"labels: found 10 at position 1, expected 0\.\.9"),
  "negative": ({"labels": [-1]}, "labels: found -1"),
  "floats": ({"labels": [0.5]}, "labels: dtype is float64"),
  "rank": ({"labels": [[1], [2]]}, r"labels: shape is \(2, 1\)"),
  "no matrix": ({"kind": "matrix", "rate": 0.0}, "the kind is 'matrix' and the matrix None"),
  "matrix": ({"matrix": np.eye(10)}, "matrix: the kind is 'symmetric'"),
  "matrix and rate": ({"kind": "matrix", "matrix": np.eye(10)}, "rate: found 0.4 beside a matrix"),
  "classes": ({"kind": "superclass"}, "'superclass' is defined by the classes of CIFAR-100, but"),
  "classes of digits": (
    {"kind": "asymmetric", "num_classes": 5}, "CIFAR-10 or CIFAR-100, but there are 5 classes"
  ),
  "no images": ({"kind": "instance"}, "images: the kind 'instance' depends on them"),
  "few images": ({"kind": "instance", "images": IMAGES[:1]}, r"images: shape is \(1, 2, 2, 3\)"),
  "unlearnable": ({"kind": "pair_flip", "rate": 0.5}, "class 0 cannot be learnt"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
  changes, message = BAD[name]
  given = {"labels": [0, 3], "kind": "symmetric", "num_classes": 10, "rate": 0.4, **changes}
  with pytest.raises(InputError, match=message):
    label_noise.corrupt(**given)
