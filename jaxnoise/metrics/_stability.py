"""Stability on perturbation sequences: how often and how far predictions move between frames.

A perturbation sequence is one image and its ever more perturbed versions (ImageNet-P, CIFAR-10-P).
Values are per sequence, [V]; the benchmark's numbers are their means over all sequences.
"""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp

from jaxnoise.core import InputError
from jaxnoise.core.errors import closest
from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array

_TOP = 5
_KINDS = ("zipf", "top5")


def _pairs(x: Array, noise: bool, difficulty: int) -> tuple[Array, Array]:
  """Returns the earlier and the later frames of all pairs that are compared, each [V, P, ...]."""
  frames = x.shape[1]
  if noise:
    difficulty = 1
  if difficulty < 1 or frames <= difficulty:
    raise InputError(
      f"difficulty is {difficulty} for sequences of {frames} frames; frames that lie `difficulty` "
      "apart are compared, so it must be at least 1 and less than the number of frames"
    )
  later = x[:, difficulty:]
  return jnp.broadcast_to(x[:, :1], later.shape) if noise else x[:, :-difficulty], later


def flip_probability(predictions: Array, *, noise: bool = False, difficulty: int = 1) -> Array:
  """Gives the share of frame pairs of each sequence whose predicted classes differ.

  FP_v = mean_j 1[c_j != c_(j-d)] over the frames j > d; for a noise perturbation, whose frames are
  draws of their own and not a motion, mean_j 1[c_j != c_1] over j > 1.

  Args:
    predictions: [V, F] integers, the predicted class of each frame, the clean or first one first.
      A negative class stands for no prediction (a row of nan logits) and differs from all, so that
      a diverged network is not perfectly stable.
    noise: whether the perturbation's name has "noise" in it; `difficulty` then has no effect, as
      in the benchmark.
    difficulty: d, how many frames apart those compared are; 1 in the papers.

  Returns:
    [V] in [0, 1], float64 where JAX has it. FP of the perturbation is their mean (over batches:
    `reduce.mean_count`), mFP the mean over perturbations.

  Raises:
    InputError: where predictions are not integers [V, F], or sequences have `difficulty` frames or
      fewer.

  Source:
    Hendrycks and Dietterich 2019 (ImageNet-P metrics); `difficulty` from the authors' code.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import metrics
    >>> predictions = jnp.array([[3, 3, 5, 5, 5], [1, 2, 1, 1, 1]])
    >>> metrics.flip_probability(predictions).tolist()
    [0.25, 0.5]
    >>> metrics.flip_probability(predictions, noise=True).tolist()
    [0.75, 0.25]
  """
  predictions = jnp.asarray(predictions)
  if predictions.ndim != 2 or not jnp.issubdtype(predictions.dtype, jnp.integer):
    raise InputError(
      f"predictions are {predictions.dtype}{list(predictions.shape)}; stability is measured on "
      "one integer class per frame [sequences, frames]: take the arg-max of the logits"
    )
  earlier, later = _pairs(predictions, noise, difficulty)
  flipped = (earlier != later) | (later < 0)
  return jnp.mean(flipped, axis=1, dtype=jnp.result_type(float))


def ranking_distance(
  logits: Array,
  *,
  kind: Literal["zipf", "top5"] = "top5",
  noise: bool = False,
  difficulty: int = 1,
) -> Array:
  """Measures how far the ranking of the classes moves between the frames of each sequence.

  With s(i) the rank in the later frame of the class that has rank i in the earlier one,

    zipf: sum_(i=1..K) |1 / i - 1 / s(i)| / i
    top5: sum_(i=1..min(5, K)) |i - min(s(i), 6)|,

  averaged over the same pairs of frames as in `flip_probability`. Rank 1 is the largest logit; of
  equal logits the lower class ranks first.

  Args:
    logits: [V, F, K], or any scores that rank the classes in the same order.
    kind: which of the two.
    noise: whether frames are compared with the first one, see `flip_probability`.
    difficulty: how many frames apart those compared are, see `flip_probability`.

  Returns:
    [V], at least float32, non-negative, 0 where no ranking changes; top5 is at most 15. nan where a
    frame of the sequence has a nan: a network that diverged is not stable.

  Raises:
    InputError: for another kind, logits that are not [V, F, K], or too few frames.

  Source:
    Hendrycks and Dietterich 2019 (ImageNet-P metrics: T5D); zipf from the authors' code.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import metrics
    >>> logits = jnp.array([[[3.0, 2.0, 1.0], [2.0, 3.0, 1.0]]])
    >>> metrics.ranking_distance(logits).tolist()
    [2.0]
    >>> metrics.ranking_distance(logits, kind="zipf").tolist()
    [0.75]
  """
  if kind not in _KINDS:
    raise InputError(f"kind of ranking distance is {kind!r}; {closest(str(kind), _KINDS)}")
  logits = promote(jnp.asarray(logits))
  if logits.ndim != 3:
    raise InputError(
      f"logits have shape {list(logits.shape)}; a ranking distance takes the logits of every frame "
      "[sequences, frames, classes]"
    )
  order = jnp.argsort(-logits, axis=-1)  # stable; the class at each rank
  ranks = jnp.argsort(order, axis=-1) + 1  # the rank of each class
  earlier, _ = _pairs(order, noise, difficulty)
  _, later = _pairs(ranks, noise, difficulty)
  moved = jnp.take_along_axis(later, earlier, axis=-1).astype(logits.dtype)
  rank = jnp.arange(1, logits.shape[-1] + 1, dtype=logits.dtype)[None, None, :]
  if kind == "zipf":
    distance = jnp.sum(jnp.abs(1 / rank - 1 / moved) / rank, axis=-1)
  else:
    distance = jnp.sum(jnp.abs(rank - jnp.minimum(moved, _TOP + 1))[..., :_TOP], axis=-1)
  broken = jnp.any(jnp.isnan(logits), axis=(1, 2))
  return jnp.where(broken, jnp.nan, jnp.mean(distance, axis=1))
