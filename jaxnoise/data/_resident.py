"""A data set on the host: checked once, never changed, split by new copies."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxnoise.core.errors import InputError
from jaxnoise.data._checks import (
  check_class_names,
  check_count,
  check_ids,
  check_images,
  check_labels,
)
from jaxnoise.data._splits import choose, equal_quota
from jaxnoise.data._stored import StoredImages

SAMPLE = 1024
"""Images on disk that the statistics of a set which has none of its own are measured on."""


@dataclasses.dataclass(frozen=True, eq=False)
class Pool:
  """Images that batches are drawn from: a training set, a test set, a held-out part, extra images.

  Attributes:
    images: [P, H, W, C] uint8; or `StoredImages`, a stack on disk.
    labels: [P] int32, the labels that training or selection may see; None if there are none.
    clean_labels: [P] int32, the true labels where `labels` are noisy; for metrics only.
    ids: [P] what the examples are called in the original training set, or None.
    index: [P] int64, the positions that the images had in the `Source` they were chosen from.

  Raises:
    InputError: images that are no uint8 stack, or arrays of other lengths.
  """

  images: np.ndarray
  labels: np.ndarray | None = None
  clean_labels: np.ndarray | None = None
  ids: np.ndarray | None = None
  index: np.ndarray | None = None

  def __post_init__(self):
    images = check_images("images", self.images)
    object.__setattr__(self, "images", images)
    for field in ("labels", "clean_labels"):
      if (value := getattr(self, field)) is not None:
        object.__setattr__(self, field, check_labels(field, value, len(images), None))
    if self.ids is not None:
      object.__setattr__(self, "ids", check_ids("ids", self.ids, len(images)))
    if self.index is not None:
      object.__setattr__(self, "index", check_ids("index", self.index, len(images)))

  @property
  def size(self) -> int:
    """How many examples there are."""
    return len(self.images)


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
  """A training set and its test set as read-only host arrays; every method returns a new one.

  The position of an example in `images` is its index, which label noise, example weights and tables
  are addressed by; its id is what it was called in the original training set, and survives splits.
  Arrays are shared, not copied, so whoever made them must not write to them afterwards.

  The images of a set that streams are `StoredImages`, on disk; all else is as of any other set, but
  that its pools beside the training set are decoded when the source is made.

  Attributes:
    name: the name of the data set.
    images: [N, H, W, C] uint8, or `StoredImages`.
    labels: [N] int32 in 0..K-1, the labels that training may see.
    test_images: [M, H, W, C] uint8, or `StoredImages`.
    test_labels: [M] int32.
    num_classes: K.
    clean_labels: [N] int32, the true labels once `labels` have been replaced by noisy ones.
    ids: [N] integers or strings, distinct; 0..N-1 unless given.
    image_mean: C numbers in [0, 1]; of the training images unless given (of images on disk, of
      1,024 evenly spaced ones).
    image_std: C numbers; of the same images unless given, and at least 1/255.
    human_labels: [N] int32 each, by the name of the annotation.
    extra_pools: pools beside the training set itself, by name.
    class_names: what the K classes are called, distinct; or empty.

  Raises:
    InputError: anything of another type, shape or range.

  Example:
    >>> from jaxnoise import data
    >>> source = data.generated(num_train=40, num_test=8, num_classes=4)
    >>> train, held_out = source.holdout(8, seed=0)
    >>> train.num_train, held_out.size, sorted({*train.ids, *held_out.ids}) == list(range(40))
    (32, 8, True)
  """

  name: str
  images: np.ndarray
  labels: np.ndarray
  test_images: np.ndarray
  test_labels: np.ndarray
  num_classes: int
  clean_labels: np.ndarray | None = None
  ids: np.ndarray = None  # type: ignore[assignment]  # an array from the first moment on
  image_mean: tuple[float, ...] = ()
  image_std: tuple[float, ...] = ()
  human_labels: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  extra_pools: Mapping[str, Pool] = dataclasses.field(default_factory=dict)
  class_names: tuple[str, ...] = ()

  def __post_init__(self):
    def put(field: str, value: Any) -> None:
      object.__setattr__(self, field, value)

    put("num_classes", check_count("num_classes", self.num_classes, 2))
    put("class_names", check_class_names("class_names", self.class_names, self.num_classes))
    put("images", check_images("images", self.images))
    put("test_images", check_images("test_images", self.test_images))
    count, shape = len(self.images), self.images.shape[1:]
    if not count:
      raise InputError(f"{self.name}: there are no training images, expected at least one")
    if self.test_images.shape[1:] != shape:
      raise InputError(
        f"test_images: one image has shape {self.test_images.shape[1:]}, expected {shape} as in "
        "the training images; resize one of them"
      )
    put("labels", check_labels("labels", self.labels, count, self.num_classes))
    put("test_labels", check_labels(
      "test_labels", self.test_labels, len(self.test_images), self.num_classes
    ))
    if self.clean_labels is not None:
      put("clean_labels", check_labels(
        "clean_labels", self.clean_labels, count, self.num_classes
      ))
    ids = np.arange(count) if self.ids is None else self.ids
    put("ids", check_ids("ids", ids, count))
    put("human_labels", types.MappingProxyType({
      name: check_labels(f"human_labels/{name}", labels, count, self.num_classes)
      for name, labels in self.human_labels.items()
    }))
    put("extra_pools", types.MappingProxyType({
      name: dataclasses.replace(pool, images=np.asarray(pool.images))
      for name, pool in self.extra_pools.items()
    }))
    for name, pool in self.extra_pools.items():
      if pool.images.shape[1:] != shape:
        raise InputError(
          f"pool {name!r}: one image has shape {pool.images.shape[1:]}, expected {shape} as in "
          "the training images; resize one of them"
        )
      if pool.labels is not None:
        check_labels(f"pool {name!r}", pool.labels, pool.size, self.num_classes)
    mean, std = self.image_mean, self.image_std
    if not len(mean) or not len(std):
      some: Any = self.images
      if self.streamed:
        some = some[np.linspace(0, count - 1, min(count, SAMPLE)).round().astype(np.int64)]
      measured = channel_statistics(some)
      mean, std = (given if len(given) else own for given, own in zip((mean, std), measured))
    put("image_mean", _channels("image_mean", mean, shape[-1], lambda x: 0.0 <= x <= 1.0))
    put("image_std", _channels("image_std", std, shape[-1], lambda x: 0.0 < x <= 1.0))

  @property
  def num_train(self) -> int:
    """N, the number of training examples."""
    return len(self.images)

  @property
  def streamed(self) -> bool:
    """Whether the training images are on disk and decoded batch by batch."""
    return isinstance(self.images, StoredImages)

  @property
  def image_shape(self) -> tuple[int, ...]:
    """(H, W, C) of one image."""
    return self.images.shape[1:]

  @property
  def true_labels(self) -> np.ndarray:
    """[N] int32: `clean_labels` where the labels are noisy, else `labels`."""
    return self.labels if self.clean_labels is None else self.clean_labels

  @property
  def train(self) -> Pool:
    """The training set as a pool."""
    return Pool(self.images, self.labels, self.clean_labels, self.ids, np.arange(self.num_train))

  @property
  def test(self) -> Pool:
    """The test set as a pool."""
    return Pool(self.test_images, self.test_labels)

  @property
  def pools(self) -> Mapping[str, Pool]:
    """All that side batches can draw from: "train", and what was added ("trusted", ...)."""
    return {"train": self.train, **self.extra_pools}

  def with_labels(self, labels: Any) -> Source:
    """Gives the training set other labels and keeps the true ones as `clean_labels`.

    A second call replaces the labels of the first; the true ones stay. Pools keep their own labels.

    Args:
      labels: [N] integers in 0..K-1, in the order of `images`.

    Raises:
      InputError: another length or dtype, or a label out of range.
    """
    labels = check_labels("labels", labels, self.num_train, self.num_classes)
    return dataclasses.replace(self, labels=labels, clean_labels=self.true_labels)

  def take(self, indices: Any) -> Source:
    """Keeps some training examples in the given order; index renumbered, ids kept.

    The test set, the pools and the image statistics stay as they are.

    Args:
      indices: [n] distinct positions in 0..N-1.
    """
    indices = np.asarray(indices)
    if indices.ndim != 1 or not len(indices) or not np.issubdtype(indices.dtype, np.integer):
      raise InputError(
        f"indices: found {indices.dtype} of shape {indices.shape}, expected a list of positions"
      )
    if indices.min() < 0 or indices.max() >= self.num_train:
      raise InputError(
        f"indices: found {indices.min()}..{indices.max()}, expected 0..{self.num_train - 1}"
      )
    return dataclasses.replace(
      self,
      images=self.images.take(indices, axis=0),
      labels=self.labels[indices],
      clean_labels=None if self.clean_labels is None else self.clean_labels[indices],
      ids=self.ids[indices],
      human_labels={name: labels[indices] for name, labels in self.human_labels.items()},
    )

  def subset(self, count: int, seed: int) -> Source:
    """Keeps `count` training examples, class-balanced by their true labels, in their old order."""
    return self.take(self._balanced(count, seed, "subset", leave=0))

  def holdout(self, count: int, seed: int) -> tuple[Source, Pool]:
    """Splits off examples for model selection.

    Classes are balanced by the true labels, so that the same images are held out at every level of
    label noise and whether noise is drawn before or after; the labels that come along are those
    that training sees. Examples that are also in a trusted pool are never held out.

    Args:
      count: how many; where K does not divide it, some classes give one more.
      seed: the seed of the choice.

    Returns:
      The rest, renumbered, and the held-out pool, whose `index` are positions in this source.

    Raises:
      InputError: a class would keep no example.
    """
    chosen = self._balanced(count, seed, "holdout", leave=1)
    return self._without(chosen), self._pool(chosen, self.labels, self.clean_labels)

  def trusted(self, count: int, seed: int, in_train: bool = False) -> Source:
    """Adds the pool "trusted": class-balanced examples with their true labels.

    Args:
      count: how many; where K does not divide it, some classes give one more.
      seed: the seed of the choice, which is the same before and after noise was drawn.
      in_train: also leave them in the training set, with the labels they have there.

    Raises:
      InputError: a class has too few examples, or there is a trusted pool already.
    """
    if "trusted" in self.extra_pools:
      raise InputError("trusted: the source has a trusted pool already; ask for one only")
    chosen = self._balanced(count, seed, "trusted", leave=0 if in_train else 1)
    rest = self if in_train else self._without(chosen)
    pool = self._pool(chosen, self.true_labels, None)
    return dataclasses.replace(rest, extra_pools={**self.extra_pools, "trusted": pool})

  def with_pool(self, name: str, images: Any, labels: Any = None) -> Source:
    """Adds a pool that side batches can draw from, e.g. "unlabelled" with extra images.

    Args:
      name: what `SideBatch.pool` calls it.
      images: [P, H, W, C] uint8, of the training images' shape.
      labels: [P] integers in 0..K-1, or None.
    """
    if name in self.pools:
      raise InputError(f"pool {name!r}: the source has a pool of this name; choose another")
    pool = Pool(check_images(f"pool {name!r}", images), labels)
    if not pool.size:
      raise InputError(f"pool {name!r}: there are no images, expected at least one")
    return dataclasses.replace(self, extra_pools={**self.extra_pools, name: pool})

  def _balanced(self, count: int, seed: int, stream: str, leave: int) -> np.ndarray:
    count = check_count(f"{stream} count", count, 1, self.num_train)
    trusted = self.extra_pools.get("trusted")
    free = None
    if trusted is not None and trusted.ids is not None:
      free = ~np.isin(self.ids, trusted.ids)
    quota = equal_quota(count, self.num_classes, seed, stream)
    return choose(self.true_labels, quota, seed, stream, free=free, leave=leave)

  def _without(self, indices: np.ndarray) -> Source:
    return self.take(np.setdiff1d(np.arange(self.num_train), indices))

  def _pool(self, indices: np.ndarray, labels: np.ndarray, clean: np.ndarray | None) -> Pool:
    clean = None if clean is None else clean[indices]
    images = self.images.take(indices, axis=0)
    return Pool(images, labels[indices], clean, self.ids[indices], indices)


def channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Mean and standard deviation of each channel over all pixels, of images scaled to [0, 1].

  A constant channel gets 1/255, one grey level, because the standard deviation is a divisor.

  Args:
    images: [N, H, W, C] uint8.

  Returns:
    C means in [0, 1] and C standard deviations in [1/255, 1].

  Example:
    >>> import numpy as np
    >>> from jaxnoise import data
    >>> data.channel_statistics(np.array([[[[0]], [[255]]]], np.uint8))
    ((0.5,), (0.5,))
  """
  channels = images.shape[-1]
  counts = np.zeros((channels, 256), np.int64)
  # A thousand images at a time: a data set as integers would be eight times its size in memory.
  for start in range(0, len(images), 1000):
    part = images[start : start + 1000].reshape(-1, channels)
    for c in range(channels):
      counts[c] += np.bincount(part[:, c], minlength=256)
  level = np.arange(256) / 255.0
  mean = counts @ level / counts.sum(axis=1)
  spread = (level[None, :] - mean[:, None]) ** 2
  std = np.sqrt((counts * spread).sum(axis=1) / counts.sum(axis=1))
  return tuple(mean.tolist()), tuple(np.maximum(std, 1 / 255).tolist())


def _channels(field: str, values: Any, count: int, good: Any) -> tuple[float, ...]:
  values = tuple(float(v) for v in values)
  if len(values) != count or not all(good(v) for v in values):
    raise InputError(
      f"{field}: found {values}, expected {count} numbers on the scale where white is 1; divide "
      "by 255 if they are grey levels"
    )
  return values
