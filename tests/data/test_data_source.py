"""Source on the host: other labels, held-out parts, trusted pools, and what is refused."""

import dataclasses
import itertools

import numpy as np
import pytest

from jaxnoise import data
from jaxnoise.core import InputError

CLASSES = 5


def make(num_train=60, **changes):
  """A source whose images carry their own number, so that moved rows can be recognised."""
  rng = np.random.default_rng(0)
  fields = {
    "name": "numbered",
    "images": np.broadcast_to(
      np.arange(num_train, dtype=np.uint8)[:, None, None, None], (num_train, 4, 4, 3)
    ),
    "labels": rng.permutation(np.arange(num_train) % CLASSES),
    "test_images": np.full((7, 4, 4, 3), 200, np.uint8),
    "test_labels": np.arange(7) % CLASSES,
    "num_classes": CLASSES,
    "human_labels": {"worst": np.arange(num_train) % CLASSES},
  }
  return data.Source(**{**fields, **changes})


def noisy(source, seed=1):
  return source.with_labels(np.random.default_rng(seed).integers(0, CLASSES, source.num_train))


def check_rows(source, original):
  """Every row still belongs to the original example that its id names."""
  np.testing.assert_array_equal(source.images[:, 0, 0, 0], source.ids)
  np.testing.assert_array_equal(source.true_labels, original.true_labels[source.ids])
  np.testing.assert_array_equal(source.labels, original.labels[source.ids])


def test_fields():
  source = make()
  assert (source.num_train, source.image_shape, source.num_classes) == (60, (4, 4, 3), CLASSES)
  assert source.labels.dtype == np.int32 and source.clean_labels is None
  assert list(source.pools) == ["train"]
  assert source.pools["train"].size == 60 and source.test.size == 7
  np.testing.assert_allclose(source.image_mean, 3 * [np.arange(60).mean() / 255], rtol=1e-12)


def test_is_immutable():
  source = make()
  with pytest.raises(dataclasses.FrozenInstanceError):
    source.labels = source.labels
  for array in (source.images, source.labels, source.ids, source.human_labels["worst"]):
    with pytest.raises(ValueError, match="read-only"):
      array[0] = 1
  with pytest.raises(TypeError):
    source.human_labels["x"] = source.labels


def test_with_labels_keeps_the_true_ones():
  source = make()
  first = source.with_labels((source.labels + 1) % CLASSES)
  second = first.with_labels(first.human_labels["worst"])
  np.testing.assert_array_equal(second.labels, source.human_labels["worst"])
  for each in (first, second):
    np.testing.assert_array_equal(each.clean_labels, source.labels)
  assert source.clean_labels is None, "the first source is left as it was"


def test_take_renumbers_and_keeps_ids():
  source = noisy(make())
  taken = source.take([5, 3, 40])
  assert taken.ids.tolist() == [5, 3, 40]
  check_rows(taken, source)
  again = taken.take([2, 0])
  assert again.ids.tolist() == [40, 5]
  np.testing.assert_array_equal(again.human_labels["worst"], source.human_labels["worst"][[40, 5]])
  assert again.image_mean == source.image_mean, "normalisation does not move with a split"


@pytest.mark.parametrize("count", [5, 12, 23, 55])
@pytest.mark.parametrize("with_noise", [False, True])
def test_holdout(count, with_noise):
  source = noisy(make()) if with_noise else make()
  rest, held = source.holdout(count, seed=3)
  assert (rest.num_train, held.size) == (60 - count, count)
  assert sorted([*rest.ids, *held.ids]) == list(range(60)), "disjoint and complete"
  assert sorted(rest.ids) == rest.ids.tolist(), "the rest stays in order"
  sizes = np.bincount(source.true_labels[held.ids], minlength=CLASSES)
  assert sizes.max() - sizes.min() <= 1
  check_rows(rest, source)
  np.testing.assert_array_equal(held.index, held.ids)
  np.testing.assert_array_equal(held.images[:, 0, 0, 0], held.ids)
  np.testing.assert_array_equal(held.labels, source.labels[held.index])
  assert (held.clean_labels is not None) == with_noise


def test_index_of_a_second_holdout_refers_to_the_first_rest():
  rest, _ = make().holdout(20, seed=0)
  _, held = rest.holdout(10, seed=0)
  np.testing.assert_array_equal(rest.ids[held.index], held.ids)
  assert not np.array_equal(held.index, held.ids)


@pytest.mark.parametrize("split", [
  lambda source, seed: source.holdout(20, seed)[1].ids,
  lambda source, seed: source.trusted(20, seed).pools["trusted"].ids,
  lambda source, seed: source.subset(20, seed).ids,
], ids=["holdout", "trusted", "subset"])
def test_splits_are_functions_of_the_seed(split):
  base = split(make(), 3)
  np.testing.assert_array_equal(base, split(make(), 3))
  np.testing.assert_array_equal(base, split(noisy(make()), 3), "label noise must not move a split")
  others = [tuple(split(make(), seed)) for seed in range(20)]
  assert len(set(others)) == 20, "seeds give different splits"


def test_splits_for_different_purposes_are_independent():
  source = make()
  held = set(source.holdout(30, 0)[1].ids.tolist())
  trusted = set(source.trusted(30, 0).pools["trusted"].ids.tolist())
  assert held != trusted


def test_smaller_choices_are_part_of_larger_ones():
  """So a curve over the number of trusted examples adds examples and changes none."""
  source = make()
  chosen = [set(source.trusted(count, 0).pools["trusted"].ids.tolist()) for count in range(1, 50)]
  for smaller, larger in itertools.pairwise(chosen):
    assert smaller < larger


def test_every_example_is_as_likely_to_be_held_out():
  source = make()
  counts = np.zeros(60)
  for seed in range(300):
    counts[source.holdout(20, seed)[1].ids] += 1
  # 300 draws of probability 1/3: mean 100, standard deviation 8.2; five of them for 60 cells.
  assert abs(counts - 100).max() < 41
  assert counts.sum() == 6000


def test_a_choice_never_changes():
  """Part of the definition of every experiment that was run with it."""
  ids = make().holdout(5, seed=0)[1].ids
  assert ids.tolist() == HOLDOUT_OF_SEED_0


HOLDOUT_OF_SEED_0 = [23, 24, 28, 35, 53]


@pytest.mark.parametrize("in_train", [False, True])
@pytest.mark.parametrize("count", [5, 18])
def test_trusted(count, in_train):
  source = noisy(make())
  result = source.trusted(count, seed=2, in_train=in_train)
  pool = result.pools["trusted"]
  assert pool.size == count
  np.testing.assert_array_equal(pool.labels, source.clean_labels[pool.ids], "true labels")
  np.testing.assert_array_equal(pool.images[:, 0, 0, 0], pool.ids)
  sizes = np.bincount(pool.labels, minlength=CLASSES)
  assert sizes.max() - sizes.min() <= 1
  assert result.num_train == (60 if in_train else 60 - count)
  assert bool(np.isin(pool.ids, result.ids).any()) == in_train
  check_rows(result, source)
  assert "trusted" not in source.pools


def test_trusted_labels_survive_later_noise():
  source = make().trusted(10, seed=0, in_train=True)
  later = noisy(source)
  pool = later.pools["trusted"]
  np.testing.assert_array_equal(pool.labels, source.labels[pool.ids])
  assert not np.array_equal(pool.labels, later.labels[pool.ids])


def test_trusted_examples_are_not_held_out():
  source = make().trusted(30, seed=0, in_train=True)
  rest, held = source.holdout(20, seed=0)
  assert not np.isin(held.ids, source.pools["trusted"].ids).any()
  assert rest.pools["trusted"].size == 30


def test_unlabelled_pool():
  source = make().with_pool("unlabelled", np.zeros((11, 4, 4, 3), np.uint8))
  pool = source.holdout(5, 0)[0].pools["unlabelled"]
  assert pool.size == 11 and pool.labels is None


def test_string_ids():
  names = np.array([f"n{i:03d}.jpg" for i in range(60)])
  rest, held = make(ids=names).holdout(10, 0)
  np.testing.assert_array_equal(held.ids, names[held.index])
  assert set(rest.ids) | set(held.ids) == set(names)


def test_statistics_of_many_images():
  images = np.random.default_rng(0).integers(0, 256, (2500, 3, 4, 2), dtype=np.uint8)
  mean, std = data.channel_statistics(images)
  scaled = images.astype(np.float64) / 255
  np.testing.assert_allclose(mean, scaled.mean(axis=(0, 1, 2)), rtol=1e-12)
  np.testing.assert_allclose(std, scaled.std(axis=(0, 1, 2)), rtol=1e-12)
  assert data.channel_statistics(images[:1] * 0)[1] == (1 / 255, 1 / 255)


IMAGES = np.zeros((60, 4, 4, 3), np.uint8)
BAD = {
  "float images": (lambda: make(images=IMAGES / 255.0), "images: dtype is float64"),
  "rank": (lambda: make(images=IMAGES[0]), r"images: shape is \(4, 4, 3\)"),
  "no pixels": (lambda: make(images=IMAGES[:, :0]), "empty axis"),
  "no images": (lambda: make(0, labels=[], human_labels={}), "no training images"),
  "test shape": (lambda: make(test_images=np.zeros((7, 5, 5, 3), np.uint8)), "test_images.*resize"),
  "test labels": (lambda: make(test_labels=[9] * 7), r"test_labels: found 9.*expected 0\.\.4"),
  "labels": (lambda: make(labels=[5] * 60), r"labels: found 5 at position 0, expected 0\.\.4"),
  "clean labels": (lambda: make(clean_labels=[0] * 59), "clean_labels: found 59 labels"),
  "human labels": (lambda: make(human_labels={"a": [7] * 60}), "human_labels/a: found 7"),
  "one class": (lambda: make(num_classes=1), "num_classes: found 1"),
  "float classes": (lambda: make(num_classes=5.0), "num_classes: found 5.0"),
  "ids twice": (lambda: make(ids=np.zeros(60, int)), "ids: some occur twice"),
  "ids length": (lambda: make(ids=np.arange(59)), r"ids: found int64 of shape \(59,\)"),
  "float ids": (lambda: make(ids=np.arange(60.0)), "ids: found float64"),
  "mean of grey levels": (lambda: make(image_mean=(125.3, 123.0, 113.9)), "image_mean.*by 255"),
  "mean length": (lambda: make(image_mean=(0.5,)), "image_mean: found.*expected 3 numbers"),
  "zero std": (lambda: make(image_std=(0.0, 0.1, 0.1)), "image_std"),
  "with_labels length": (lambda: make().with_labels([0] * 61), "labels: found 61 labels for 60"),
  "with_labels range": (lambda: make().with_labels([0] * 59 + [-1]), "found -1 at position 59"),
  "with_labels dtype": (lambda: make().with_labels(np.zeros(60)), "labels: dtype is float64"),
  "with_labels seeds": (lambda: make().with_labels(np.zeros((2, 60), int)), r"shape is \(2, 60\)"),
  "holdout 0": (lambda: make().holdout(0, 0), r"holdout count: found 0, expected one in 1\.\.60"),
  "holdout float": (lambda: make().holdout(0.1, 0), "holdout count: found 0.1"),
  "holdout all": (lambda: make().holdout(60, 0), "holdout: 60 class-balanced.*leave 1.*has 12"),
  "holdout rare class": (
    lambda: make(labels=[0] * 58 + [1, 2]).holdout(5, 0), "of class [1-4] and leave 1, but it has"),
  "holdout of the trusted": (
    lambda: make().trusted(30, 0, in_train=True).holdout(31, 0), "but it has 6 to choose from"),
  "trusted too many": (lambda: make().trusted(61, 0, in_train=True), "trusted count: found 61"),
  "trusted removes all": (lambda: make().trusted(60, 0), "trusted: 60 class-balanced"),
  "trusted twice": (lambda: make().trusted(5, 0).trusted(5, 0), "has a trusted pool already"),
  "subset": (lambda: make().subset(61, 0), "subset count: found 61"),
  "negative seed": (lambda: make().holdout(5, -1), "seed: found -1"),
  "bool seed": (lambda: make().holdout(5, True), "seed: found True"),
  "take twice": (lambda: make().take([1, 1]), "ids: some occur twice"),
  "take outside": (lambda: make().take([60]), r"indices: found 60\.\.60, expected 0\.\.59"),
  "take negative": (lambda: make().take([-1]), "indices: found -1"),
  "take nothing": (lambda: make().take([]), "indices"),
  "take mask": (lambda: make().take(np.ones(60, bool)), "indices: found bool"),
  "pool shape": (lambda: make().with_pool("unlabelled", IMAGES[:, :2]), "'unlabelled'.*resize"),
  "pool dtype": (lambda: make().with_pool("unlabelled", IMAGES / 2), "pool 'unlabelled': dtype"),
  "pool labels": (lambda: make().with_pool("more", IMAGES, [5] * 60), "pool 'more': found 5"),
  "pool name": (lambda: make().with_pool("train", IMAGES), "pool 'train': the source has a pool"),
  "empty pool": (lambda: make().with_pool("unlabelled", IMAGES[:0]), "there are no images"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
  call, message = BAD[case]
  with pytest.raises(InputError, match=message):
    call()
