"""Noise matrices: T[i, j] = P(given label j | true label i), and when one can be learnt from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnoise.core.errors import InputError

SUPERCLASSES: dict[str, tuple[str, ...]] = {
  "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
  "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
  "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
  "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
  "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
  "household_electrical_devices": ("clock", "keyboard", "lamp", "telephone", "television"),
  "household_furniture": ("bed", "chair", "couch", "table", "wardrobe"),
  "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
  "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
  "large_man-made_outdoor_things": ("bridge", "castle", "house", "road", "skyscraper"),
  "large_natural_outdoor_scenes": ("cloud", "forest", "mountain", "plain", "sea"),
  "large_omnivores_and_herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
  "medium_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
  "non-insect_invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
  "people": ("baby", "boy", "girl", "man", "woman"),
  "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
  "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
  "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
  "vehicles_1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
  "vehicles_2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}
"""CIFAR-100's superclasses, each with its five fine classes in alphabetical order."""


def _next_in_superclass() -> tuple[int, ...]:
  # CIFAR-100 numbers its fine classes alphabetically.
  number = {name: k for k, name in enumerate(sorted(sum(SUPERCLASSES.values(), ())))}
  out = [0] * len(number)
  for names in SUPERCLASSES.values():
    for name, following in zip(names, names[1:] + names[:1], strict=True):
      out[number[name]] = number[following]
  return tuple(out)


# What each class is mistaken for; a class that is not mistaken stands for itself.
# truck -> automobile, bird -> airplane, cat <-> dog, deer -> horse.
CIFAR10_TARGETS = (0, 1, 0, 5, 7, 3, 6, 7, 8, 1)
# The next fine class of the same superclass, the last one's next being the first.
CIFAR100_TARGETS = _next_in_superclass()
# 2 -> 7, 3 -> 8, 5 <-> 6, 7 -> 1.
DIGITS_TARGETS = (0, 1, 7, 8, 4, 6, 5, 1, 8, 9)


def check_rate(rate: Any, field: str = "rate") -> float:
  """Checks a number in [0, 1]."""
  try:
    value = float(rate)
  except (TypeError, ValueError):
    value = math.nan
  if isinstance(rate, bool) or not 0.0 <= value <= 1.0:
    raise InputError(
      f"{field}: found {rate!r}, expected a fraction of the labels in [0, 1]; 40 percent is 0.4"
    )
  return value


def check_matrix(
  matrix: Any, num_classes: int | None = None, *, allow_unlearnable: bool = False
) -> np.ndarray:
  """Checks that T is a noise matrix, and one that the classes can be learnt from.

  Learnable means T[i, i] > T[i, j] for every j != i: the true label is the one most often given.
  Where it is not, the network that fits the noisy labels best predicts another class.

  Args:
    matrix: [K, K] T, rows true labels, columns given ones; rows sum to one within 1e-5.
    num_classes: K, or None for any.
    allow_unlearnable: take a matrix that is not learnable.

  Returns:
    [K, K] float64, rows divided by their sums.

  Raises:
    InputError: not square, another K, an entry that is negative or not finite, a row that does not
      sum to one, or a class that cannot be learnt.

  Example:
    >>> from jaxnoise import label_noise
    >>> label_noise.check_matrix([[0.4, 0.6], [0.0, 1.0]])
    Traceback (most recent call last):
    ...
    jaxnoise.core.errors.InputError: matrix: class 0 cannot be learnt, ...
  """
  try:
    out = np.array(matrix, np.float64)
  except (TypeError, ValueError):
    raise InputError(
      "matrix: found something else than numbers in rows of one length, expected [K, K]; give a "
      "row of K probabilities for each true class"
    ) from None
  if out.ndim != 2 or out.shape[0] != out.shape[1] or not out.size:
    raise InputError(
      f"matrix: shape is {out.shape}, expected [K, K]; give a row of K probabilities for each true "
      "class"
    )
  if num_classes is not None and len(out) != num_classes:
    raise InputError(
      f"matrix: shape is {out.shape}, but there are {num_classes} classes; give a row and a column "
      "for each"
    )
  if len(wrong := np.argwhere(~(np.isfinite(out) & (out >= 0)))):
    i, j = wrong[0]
    raise InputError(
      f"matrix: row {i}, column {j} is {out[i, j]}, expected a probability in [0, 1]; correct it"
    )
  sums = out.sum(axis=1)
  if len(wrong := np.flatnonzero(np.abs(sums - 1) > 1e-5)):
    i = wrong[0]
    fix = "divide each row by its sum"
    if np.all(np.abs(out.sum(axis=0) - 1) <= 1e-5):
      fix = "its columns do sum to 1: transpose it, rows are true labels"
    raise InputError(f"matrix: row {i} sums to {sums[i]:.6g}, expected 1; {fix}")
  out /= sums[:, None]
  if not allow_unlearnable:
    others = np.where(np.eye(len(out), dtype=bool), -1.0, out)
    # A tie that only rounding broke is a tie.
    if len(wrong := np.flatnonzero(np.diag(out) <= others.max(axis=1) + 1e-12)):
      i, j = wrong[0], int(others[wrong[0]].argmax())
      raise InputError(
        f"matrix: class {i} cannot be learnt, its examples are called {j} with probability "
        f"{out[i, j]:.4g} and {i} with {out[i, i]:.4g}, which is no larger; lower the noise, or "
        "set allow_unlearnable (--allow_unlearnable, config.data.noise.allow_unlearnable) if it is "
        "meant"
      )
  return out


def symmetric_matrix(num_classes: int, rate: float, inclusive: bool = True) -> np.ndarray:
  """Symmetric noise of rate eta.

  Inclusive: T = (1 - eta) I + eta / K, so that eta (1 - 1/K) of the labels change. Exclusive:
  T = (1 - eta) I + eta / (K - 1) (1 - I), so that eta of them do.

  Args:
    num_classes: K, at least 2.
    rate: eta in [0, 1].
    inclusive: whether a label that is drawn anew may be the true one.

  Returns:
    [K, K] float64.

  Source: inclusive: GJS, ELR, DivideMix and NRD; exclusive: many others, co-teaching's "symmetry"
    and the first experiments of NRD's author among them.

  Example:
    >>> from jaxnoise import label_noise
    >>> label_noise.symmetric_matrix(4, 0.4).round(3)[0].tolist()
    [0.7, 0.1, 0.1, 0.1]
  """
  rate, count = check_rate(rate), _check_classes(num_classes)
  if inclusive:
    return (1 - rate) * np.eye(count) + rate / count
  return (1 - rate) * np.eye(count) + rate / (count - 1) * (1 - np.eye(count))


def pairs_matrix(targets: Sequence[int], rate: float) -> np.ndarray:
  """Each class is mistaken for at most one other: T[i, targets[i]] = eta, T[i, i] = 1 - eta.

  Args:
    targets: K classes; a class with targets[i] = i keeps its labels.
    rate: eta in [0, 1].

  Returns:
    [K, K] float64.

  Example:
    >>> from jaxnoise import label_noise
    >>> label_noise.pairs_matrix((0, 2, 1), 0.25).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.75, 0.25], [0.0, 0.25, 0.75]]
  """
  rate, count = check_rate(rate), _check_classes(len(targets))
  if any(not 0 <= k < count for k in targets):
    raise InputError(
      f"targets: found {tuple(targets)}, expected {count} classes in 0..{count - 1}; name what "
      "each class is mistaken for, itself where it is not"
    )
  matrix = np.eye(count) * (1 - rate)
  matrix[np.arange(count), list(targets)] += rate
  return matrix


def pair_flip_matrix(num_classes: int, rate: float) -> np.ndarray:
  """Each class is mistaken for the next one: T[i, i + 1 mod K] = eta, T[i, i] = 1 - eta.

  Args:
    num_classes: K, at least 2.
    rate: eta in [0, 1]; learnable below 1/2.

  Returns:
    [K, K] float64.

  Source: Han et al., Co-teaching, 2018, "pair". NRD's author used it on CIFAR-100, superclasses
    ignored, in his first experiments.

  Example:
    >>> from jaxnoise import label_noise
    >>> label_noise.pair_flip_matrix(3, 0.25)[2].tolist()
    [0.25, 0.0, 0.75]
  """
  count = _check_classes(num_classes)
  return pairs_matrix([(k + 1) % count for k in range(count)], rate)


def asymmetric_cifar10_matrix(rate: float, *, sequential: bool = False) -> np.ndarray:
  """CIFAR-10's similar classes: truck -> automobile, bird -> airplane, cat <-> dog, deer -> horse.

  The other five classes keep their labels, so that eta / 2 of all labels change.

  Args:
    rate: eta in [0, 1], of the five classes.
    sequential: the expected matrix of GJS' and ELR's code instead, which goes through the classes
      in ascending order and flips the labels as they then are: of the cats that became dogs, a
      fraction eta is flipped back, T[cat, dog] = eta (1 - eta). At eta = 0.4 a share of 0.184 of
      all labels changes, at 0.2 one of 0.096.

  Returns:
    [10, 10] float64.

  Source: Patrini et al., 2017, with the rates of each source in `corrupt`.

  Example:
    >>> from jaxnoise import label_noise
    >>> label_noise.asymmetric_cifar10_matrix(0.4, sequential=True)[3].round(3).tolist()
    [0.0, 0.0, 0.0, 0.76, 0.0, 0.24, 0.0, 0.0, 0.0, 0.0]
  """
  if not sequential:
    return pairs_matrix(CIFAR10_TARGETS, rate)
  rate, matrix = check_rate(rate), np.eye(10)
  for now, then in enumerate(CIFAR10_TARGETS):
    if now != then:
      moved = rate * matrix[:, now]
      matrix[:, then] += moved
      matrix[:, now] -= moved
  return matrix


def superclass_matrix(rate: float) -> np.ndarray:
  """CIFAR-100's asymmetric noise: the next fine class of the same superclass, in a circle.

  Args:
    rate: eta in [0, 1], which is also the share of all labels that change.

  Returns:
    [100, 100] float64.

  Source: Patrini et al., 2017; GJS', ELR's and NRD's code.

  Example:
    >>> from jaxnoise import label_noise
    >>> int(label_noise.superclass_matrix(0.4)[95].argsort()[-2])  # whale -> beaver
    4
  """
  return pairs_matrix(CIFAR100_TARGETS, rate)


def asymmetric_digits_matrix(rate: float) -> np.ndarray:
  """Digits that look alike: 2 -> 7, 3 -> 8, 5 <-> 6, 7 -> 1; the other five keep their labels.

  Args:
    rate: eta in [0, 1], of the five classes; eta / 2 of all labels change.

  Returns:
    [10, 10] float64.

  Source: Patrini et al., Making deep neural networks robust to label noise, 2017 (its MNIST noise),
    taken over by much of the literature since.

  Example:
    >>> from jaxnoise import label_noise
    >>> label_noise.asymmetric_digits_matrix(0.2)[7, [1, 7]].tolist()
    [0.2, 0.8]
  """
  return pairs_matrix(DIGITS_TARGETS, rate)


def _check_classes(num_classes: int) -> int:
  if isinstance(num_classes, bool) or int(num_classes) != num_classes or num_classes < 2:
    raise InputError(
      f"num_classes: found {num_classes!r}, expected a whole number of at least 2; change it"
    )
  return int(num_classes)
