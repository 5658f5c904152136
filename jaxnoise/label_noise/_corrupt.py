"""Noise of a named kind drawn into labels, and what came of it."""

from __future__ import annotations

import hashlib
import operator
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxnoise.core.errors import InputError, closest
from jaxnoise.label_noise import _flip, _instance, _matrices
from jaxnoise.label_noise._matrices import check_matrix, check_rate

KINDS = (
  "symmetric",
  "symmetric_exclusive",
  "asymmetric",
  "asymmetric_sequential",
  "asymmetric_dividemix",
  "superclass",
  "pair_flip",
  "asymmetric_digits",
  "instance",
  "matrix",
)
"""The kinds of noise that `corrupt` draws."""


class NoisyLabels(NamedTuple):
  """Labels with noise in them, and where it came from.

  Attributes:
    labels: [N] int32, the given labels.
    kind: one of `KINDS`, or "file".
    num_classes: K.
    nominal_rate: eta as asked for; of "matrix", the expected share of labels that change; None
      where a file does not say.
    matrix: [K, K] float64 the expected T[i, j] = P(given j | true i); None where the noise depends
      on the image, or a file does not say.
    flipped: [N] bool, where the given label is not the true one; None where that is unknown. An
      inclusive draw may give the true label, which is no flip.
    seed: of the draw; None where a file does not say.
    exact: whether counts were exact, or each label drawn by itself; None where a file does not say.
  """

  labels: np.ndarray
  kind: str
  num_classes: int
  nominal_rate: float | None
  matrix: np.ndarray | None
  flipped: np.ndarray | None
  seed: int | None
  exact: bool | None


class Realised(NamedTuple):
  """What noise came out.

  Attributes:
    count: N.
    changed: how many given labels are not the true one.
    rate: changed / N.
    counts: [K, K] int64, C[i, j] = #{n: true_n = i, given_n = j}.
    sha256: of the given labels as little-endian int32, hexadecimal; that of the run's record.
  """

  count: int
  changed: int
  rate: float
  counts: np.ndarray
  sha256: str


def corrupt(
  labels: Any,
  kind: str,
  *,
  num_classes: int,
  rate: float = 0.0,
  seed: int = 0,
  exact: bool = True,
  matrix: Any = None,
  images: Any = None,
  allow_unlearnable: bool = False,
) -> NoisyLabels:
  """Draws noise of rate eta into labels.

  With exact=True, counts are exact and only the choice of examples is random; eta N and eta n_c
  (n_c the examples of class c) are rounded up (i < eta N, as GJS' and ELR's code has it) but in
  "asymmetric_dividemix". With exact=False each label is drawn from the matrix' row by itself.

  | kind | exact | of |
  |---|---|---|
  | symmetric | eta N examples, a label uniform over all K, the true one included | GJS, ELR, NRD; DivideMix and NRD's CIFAR-10 round down |
  | symmetric_exclusive | eta N examples, a label uniform over the other K - 1 | many others |
  | asymmetric | K = 10: eta n_c of five CIFAR-10 classes by their true labels; K = 100: superclass | the rule as the papers print it |
  | asymmetric_sequential | the same five classes, one after the other, on the labels as they then are | GJS, ELR, NRD on CIFAR-10 |
  | asymmetric_dividemix | int(eta N) examples of all, mapped as in asymmetric, five classes to themselves | DivideMix |
  | superclass | eta N examples, the next class of CIFAR-100's superclass | GJS, ELR, NRD on CIFAR-100 |
  | pair_flip | eta n_c of each class become the next class | co-teaching (there drawn singly) |
  | asymmetric_digits | eta n_c of the digits 2 -> 7, 3 -> 8, 5 <-> 6, 7 -> 1 | Patrini et al. on MNIST (there drawn singly) |
  | instance | q_n ~ N(eta, 0.1^2) in [0, 1], direction from the image; eta N examples with a probability in proportion to q_n | Xia et al. (there drawn singly) |
  | matrix | n_c T[c, :] by the largest-remainder rule | |

  "symmetric" and "superclass" choose positions by a prefix of one permutation: of one seed, a
  larger rate flips what a smaller one does and more.

  Args:
    labels: [N] true labels.
    kind: one of `KINDS`.
    num_classes: K.
    rate: eta in [0, 1]; 0 for "matrix".
    seed: 0..2^32 - 1.
    exact: exact counts, or each label by itself.
    matrix: [K, K] for "matrix", see `check_matrix`.
    images: [N, H, W, C] for "instance"; not read otherwise.
    allow_unlearnable: take a rate or a matrix at which the true label of a class is not the one
      most often given.

  Raises:
    InputError: an unknown kind, a kind for another K, labels or a rate out of range, a matrix that
      is no noise matrix or not learnable.

  Example:
    >>> import numpy as np
    >>> from jaxnoise import label_noise
    >>> noisy = label_noise.corrupt(np.arange(1000) % 10, "symmetric", num_classes=10, rate=0.4)
    >>> noisy.labels.shape, round(float(noisy.flipped.mean()), 1)  # 0.4 (1 - 1/10)
    ((1000,), 0.4)
  """  # noqa: E501
  labels = check_labels("labels", labels, num_classes)
  if kind not in KINDS:
    raise InputError(f"kind: found {kind!r}; {closest(str(kind), KINDS)}")
  rate = check_rate(rate)
  seed = _check_seed(seed)
  if (matrix is not None) != (kind == "matrix"):
    fix = "give one" if kind == "matrix" else "leave it out, or ask for the kind 'matrix'"
    raise InputError(f"matrix: the kind is {kind!r} and the matrix {matrix!r:.40}; {fix}")
  if kind == "instance":
    noisy, expected = _instance_labels(labels, num_classes, rate, seed, exact, images), None
  else:
    expected = check_matrix(
      _expected(kind, num_classes, rate, matrix), num_classes, allow_unlearnable=allow_unlearnable
    )
    rule = "superclass" if kind == "asymmetric" and num_classes == 100 else kind
    draw = _DRAWS[rule] if exact else _draw_rows
    noisy = draw(labels, rate, expected, _Streams(rule, seed))
  if kind == "matrix":
    share = np.bincount(labels, minlength=num_classes) / max(len(labels), 1)
    rate = float(share @ (1 - np.diag(expected)))
  return NoisyLabels(
    noisy, kind, num_classes, rate, expected, noisy != labels, seed, bool(exact)
  )


def realised(labels_true: Any, labels_given: Any, num_classes: int) -> Realised:
  """Counts how given labels differ from the true ones.

  Args:
    labels_true: [N] integers.
    labels_given: [N] integers.
    num_classes: K.

  Raises:
    InputError: unequal lengths, or labels out of range.

  Example:
    >>> from jaxnoise import label_noise
    >>> out = label_noise.realised([0, 0, 1, 1], [0, 1, 1, 1], 2)
    >>> out.rate, out.counts.tolist(), out.sha256[:8]
    (0.25, [[1, 1], [0, 2]], '7e8d5b72')
  """
  true = check_labels("labels_true", labels_true, num_classes)
  given = check_labels("labels_given", labels_given, num_classes, len(true))
  counts = np.zeros((num_classes, num_classes), np.int64)
  np.add.at(counts, (true, given), 1)
  changed = int((true != given).sum())
  return Realised(len(true), changed, changed / max(len(true), 1), counts, labels_sha256(given))


def labels_sha256(labels: np.ndarray) -> str:
  """The SHA-256 of labels as little-endian int32."""
  return hashlib.sha256(np.ascontiguousarray(labels, "<i4").tobytes()).hexdigest()


def check_labels(
  field: str, labels: Any, num_classes: int, count: int | None = None
) -> np.ndarray:
  """Checks one label in 0..K-1 per example and returns them as int32."""
  try:
    out = np.asarray(labels)
  except ValueError:
    raise InputError(f"{field}: found rows of unequal length, expected [N] integers") from None
  if out.ndim != 1:
    raise InputError(f"{field}: shape is {out.shape}, expected [N]; give one integer per example")
  if count is not None and len(out) != count:
    raise InputError(
      f"{field}: found {len(out)} labels for {count} examples; give one label for each example"
    )
  if len(out) and out.dtype.kind not in "iu":
    raise InputError(
      f"{field}: dtype is {out.dtype}, expected integers; give class numbers that start at 0"
    )
  wrong = np.flatnonzero((out < 0) | (out >= num_classes))
  if len(wrong):
    raise InputError(
      f"{field}: found {out[wrong[0]]} at position {wrong[0]}, expected 0..{num_classes - 1}; "
      "classes are numbered from 0, correct the labels or num_classes"
    )
  return out.astype(np.int32)


def _check_seed(seed: Any) -> int:
  try:
    number = -1 if isinstance(seed, bool) else operator.index(seed)
  except TypeError:
    number = -1
  if not 0 <= number < 2**32:
    raise InputError(f"seed: found {seed!r}, expected a whole number in 0..{2**32 - 1}; change it")
  return number


class _Streams:
  """Generators of one draw. NumPy's legacy one, whose numbers never change between versions."""

  def __init__(self, kind: str, seed: int):
    self.kind, self._seed = kind, seed

  def __call__(self, purpose: str) -> np.random.RandomState:
    name = f"label_noise/{self.kind}/{purpose}"
    return np.random.RandomState([self._seed, zlib.crc32(name.encode())])


def _expected(kind: str, num_classes: int, rate: float, matrix: Any) -> Any:
  """The matrix that a kind of noise has in expectation."""
  if kind == "matrix":
    if rate:
      raise InputError(f"rate: found {rate} beside a matrix, which has its own rates; leave it 0")
    return matrix
  if kind == "symmetric":
    return _matrices.symmetric_matrix(num_classes, rate)
  if kind == "symmetric_exclusive":
    return _matrices.symmetric_matrix(num_classes, rate, inclusive=False)
  if kind == "pair_flip":
    return _matrices.pair_flip_matrix(num_classes, rate)
  targets = _targets(kind, num_classes)
  if kind == "asymmetric_sequential":
    return _matrices.asymmetric_cifar10_matrix(rate, sequential=True)
  return _matrices.pairs_matrix(targets, rate)


def _targets(kind: str, num_classes: int) -> tuple[int, ...]:
  """What each class of a known set is mistaken for."""
  if (kind == "asymmetric" and num_classes == 100) or kind == "superclass":
    targets, of = _matrices.CIFAR100_TARGETS, "CIFAR-100"
  elif kind == "asymmetric_digits":
    targets, of = _matrices.DIGITS_TARGETS, "the ten digits"
  elif kind == "pair_flip":
    targets, of = tuple((k + 1) % num_classes for k in range(num_classes)), ""
  else:
    targets, of = _matrices.CIFAR10_TARGETS, "CIFAR-10"
    of += " or CIFAR-100" if kind == "asymmetric" else ""
  if len(targets) != num_classes:
    raise InputError(
      f"kind: {kind!r} is defined by the classes of {of}, but there are {num_classes} classes; use "
      "'pair_flip', or 'matrix' with a matrix of your own"
    )
  return targets


def _replace_uniformly(labels, rate, expected, streams) -> np.ndarray:
  chosen = streams("positions").permutation(len(labels))[: _flip.num_flips(rate, len(labels))]
  drawn = streams("labels").randint(len(expected), size=len(chosen))
  return _flip.replace_labels(labels, chosen, drawn)


def _replace_by_others(labels, rate, expected, streams) -> np.ndarray:
  chosen = streams("positions").permutation(len(labels))[: _flip.num_flips(rate, len(labels))]
  drawn = streams("labels").randint(len(expected) - 1, size=len(chosen))
  return _flip.replace_labels(labels, chosen, drawn + (drawn >= labels[chosen]))


def _flip_of_class(labels, rate, expected, streams) -> np.ndarray:
  targets = _targets(streams.kind, len(expected))
  return _flip.flip_classes(labels, rate, targets, streams("positions").permutation(len(labels)))


def _flip_sequentially(labels, rate, expected, streams) -> np.ndarray:
  rng = streams("positions")
  return _flip.flip_sequentially(
    labels, rate, _matrices.CIFAR10_TARGETS, lambda k, members: rng.permutation(members)
  )


def _flip_of_all(labels, rate, expected, streams) -> np.ndarray:
  rounding = "floor" if streams.kind == "asymmetric_dividemix" else "ceil"
  count = _flip.num_flips(rate, len(labels), rounding=rounding)
  chosen = streams("positions").permutation(len(labels))[:count]
  targets = np.asarray(_targets(streams.kind, len(expected)))
  return _flip.replace_labels(labels, chosen, targets[labels[chosen]])


def _apportion_rows(labels, rate, expected, streams) -> np.ndarray:
  order = streams("positions").permutation(len(labels))
  out = labels.copy()
  for k, row in enumerate(expected):
    members = order[labels[order] == k]
    out[members] = np.repeat(np.arange(len(row)), _flip.apportion(row, len(members)))
  return out


def _draw_rows(labels, rate, expected, streams) -> np.ndarray:
  uniforms = streams("labels").random_sample(len(labels))
  out = labels.copy()
  for k, row in enumerate(expected):
    members = np.flatnonzero(labels == k)
    out[members] = _flip.inverse_sample(
      np.broadcast_to(row, (len(members), len(row))), uniforms[members]
    )
  return out


_DRAWS: dict[str, Callable[..., np.ndarray]] = {
  "symmetric": _replace_uniformly,
  "symmetric_exclusive": _replace_by_others,
  "asymmetric": _flip_of_class,
  "asymmetric_sequential": _flip_sequentially,
  "asymmetric_dividemix": _flip_of_all,
  "superclass": _flip_of_all,
  "pair_flip": _flip_of_class,
  "asymmetric_digits": _flip_of_class,
  "matrix": _apportion_rows,
}


def _instance_labels(labels, num_classes, rate, seed, exact, images) -> np.ndarray:
  if images is None:
    raise InputError("images: the kind 'instance' depends on them, found none; give [N, H, W, C]")
  if np.ndim(images) < 2 or len(images) != len(labels):
    raise InputError(
      f"images: shape is {np.shape(images)}, expected [{len(labels)}, H, W, C]; give one image for "
      "each label"
    )
  if not rate or not len(labels):
    return labels.copy()
  streams = _Streams("instance", seed)
  rates = _instance.truncated_rates(rate, len(labels), streams("rates"))
  given = np.ones(len(labels)) if exact else rates
  distribution = _instance.instance_distribution(
    images, labels, given, num_classes, streams("projections")
  )
  drawn = _flip.inverse_sample(distribution, streams("labels").random_sample(len(labels)))
  if not exact:
    return drawn
  # Every example has a wrong label now; of these, the given number is used.
  rng = streams("positions")
  order, uniform = rng.permutation(len(labels)), rng.random_sample()
  count = _flip.num_flips(rate, len(labels))
  chosen = _instance.systematic(rates, count, order, uniform)
  return _flip.replace_labels(labels, chosen, drawn[chosen])
