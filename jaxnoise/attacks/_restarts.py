"""Several runs of an attack on the same images, and the two ways in which the papers count them.

"The worst of five restarts" is the accuracy of the worst run (`worst_run`, the literal reading of
noise in distillation's wording, which does not settle it) or the share of examples that withstand
every run (`per_example`, never larger, what robustness benchmarks report).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core import InputError
from jaxnoise.core.reduce import SumCount
from jaxnoise.core.types import Array, PRNGKey

Attack: TypeAlias = Callable[[PRNGKey, Array], Array]
"""(rng, image [B, H, W, C]) -> the attacked image [B, H, W, C]."""
Check: TypeAlias = Callable[[PRNGKey, Array, Array, Array], Array]
"""(rng, image [B, H, W, C], label [B], index [B]) -> [B], 1 where the attacked example is still
classified correctly."""


class WorstCase(NamedTuple):
  """What several restarts found.

  Attributes:
    image: [B, H, W, C], of each example the first attacked image that is misclassified, or that of
      the last restart if none is.
    correct: [R, B] bool, whether the example withstood each restart.
  """

  image: Array
  correct: Array


def worst_case(
  attack: Attack,
  correct_fn: Callable[[Array], Array],
  image: Array,
  rng: PRNGKey,
  restarts: int,
) -> WorstCase:
  """Runs an attack R times on every image; restart r has the key `fold_in(rng, r)`.

  Every run is made on every example, as the accuracy of a run needs; `survivors` drops the examples
  that are beaten. Jit-able: the runs are a scan, one compiled attack.

  Args:
    attack: (rng, image) -> image, such as `pgd` with a random start from that key.
    correct_fn: image -> [B], 1 or True where the example is classified correctly.
    image: [B, H, W, C].
    rng: key.
    restarts: R >= 1.

  Returns:
    The images found and the table [R, B] to be counted by `restart_counts`.

  Raises:
    InputError: for R < 1.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import attacks
    >>> image = jnp.array([0.45, 0.9]).reshape(2, 1, 1, 1)
    >>> noise = lambda rng, x: x + attacks.uniform_start(rng, x, epsilon=0.1)
    >>> is_dark = lambda x: x.ravel() < 0.5
    >>> found = attacks.worst_case(noise, is_dark, image, jax.random.key(0), 20)
    >>> found.correct.shape, found.correct.all(axis=0).tolist()
    ((20, 2), [False, False])
  """
  _check_restarts(restarts)

  def run(carry: tuple[Array, Array], key: PRNGKey):
    kept, alive = carry
    found = attack(key, image)
    correct = correct_fn(found) > 0
    kept = jnp.where(alive.reshape((-1,) + (1,) * (image.ndim - 1)), found, kept)
    return (kept, alive & correct), correct

  keys = jax.vmap(lambda r: jax.random.fold_in(rng, r))(jnp.arange(restarts))
  everyone = jnp.ones(image.shape[0], bool)
  (kept, _), correct = jax.lax.scan(run, (image, everyone), keys)
  return WorstCase(kept, correct)


def restart_counts(correct: Array, mask: Array | None = None) -> dict[str, SumCount]:
  """Counts a batch's table of restarts both ways; the pairs add across batches.

  per_run: sum_i correct[r, i] of each restart r; per_example: sum_i prod_r correct[r, i].

  Args:
    correct: [R, B], 1 or True where the example withstood the restart.
    mask: [B], 1 for real rows and 0 for padding; None means all are real.

  Returns:
    {"per_run": (sums [R], count), "per_example": (sum, count)}, to be merged by
    `core.reduce.merge`. The worst run is the minimum over R *after* all batches are added.

  Raises:
    InputError: for a table that is not [R, B].

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import attacks
    >>> counts = attacks.restart_counts(jnp.array([[1, 1, 0], [1, 0, 1]]))
    >>> counts["per_run"][0].tolist(), float(counts["per_example"][0])
    ([2.0, 2.0], 1.0)
  """
  if correct.ndim != 2 or (mask is not None and mask.shape != correct.shape[1:]):
    raise InputError(
      f"correct has shape {correct.shape} and mask {None if mask is None else mask.shape}; a table "
      "of restarts is [R, B] and its mask [B]"
    )
  real = jnp.ones(correct.shape[1:], bool) if mask is None else mask > 0
  right = (correct > 0) & real[None]
  count = jnp.sum(real, dtype=jnp.float32)
  return {
    "per_run": (jnp.sum(right, axis=1, dtype=jnp.float32), count),
    "per_example": (jnp.sum(jnp.all(right, axis=0), dtype=jnp.float32), count),
  }


def restart_accuracies(counts: Mapping[str, SumCount]) -> dict[str, float]:
  """Turns the counts of a whole set into both accuracies, on the host.

  worst_run = min_r sum[r] / count; per_example = sum / count, at most worst_run.

  Args:
    counts: `restart_counts`, added over all batches.

  Returns:
    {"worst_run", "per_example"}, in [0, 1]; nan for an empty set.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import attacks
    >>> counts = attacks.restart_counts(jnp.array([[1, 1, 0, 1], [1, 0, 1, 0]]))
    >>> attacks.restart_accuracies(counts)
    {'worst_run': 0.5, 'per_example': 0.25}
  """
  names = {"worst_run": "per_run", "per_example": "per_example"}
  out = {}
  for name, of in names.items():
    total, count = (np.asarray(value, np.float64) for value in counts[of])
    out[name] = float(np.min(total) / count) if count else float("nan")
  return out


def survivors(
  check: Check,
  image: Array,
  label: Array,
  rng: PRNGKey,
  *,
  restarts: int,
  batch_size: int,
  alive: Array | None = None,
) -> np.ndarray:
  """Finds the examples of a set that withstand every restart, attacking none that is beaten.

  A host loop over restarts: those still alive are gathered into batches of one size, the last
  padded with its own first row, so `check` is compiled once and called
  sum_r ceil(alive_r / batch_size) times. The result is that of `worst_case` on the whole set,
  `correct.all(axis=0)`, as long as a draw depends on an example's index and not on its place in
  the batch (`pgd(..., rng=rng, index=index)`). Accuracies of single runs cannot be had this way.

  Chained through `alive`, it is the example-wise worst case of several attacks; begun with the
  clean accuracy, an example that is wrong without an attack counts as wrong.

  Args:
    check: the compiled attack and verdict, (rng, image [B, ...], label [B], index [B]) -> [B]; it
      gets the rows as they are stored, so 8-bit images are divided by 255 inside.
    image: [N, ...] array of NumPy or JAX.
    label: [N].
    rng: key; restart r has `fold_in(rng, r)`.
    restarts: R >= 1.
    batch_size: rows at a time.
    alive: [N], 1 or True for the examples to begin with; None means all.

  Returns:
    [N] NumPy bool, True for the examples that were alive and withstood all.

  Raises:
    InputError: for R < 1, a batch size < 1, or arrays of different lengths.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import attacks, metrics
    >>> @jax.jit
    ... def check(rng, image, label, index):
    ...   predict = lambda x: jnp.mean(x, axis=(1, 2))
    ...   loss_fn = attacks.cross_entropy_ascent(predict, label)
    ...   found = attacks.pgd(
    ...     loss_fn, image, epsilon=0.1, step_size=0.05, num_steps=3, rng=rng, index=index
    ...   )
    ...   return metrics.correct(predict(found), label)
    >>> image = jnp.array([[0.9, 0.1], [0.55, 0.45], [0.2, 0.8]]).reshape(3, 1, 1, 2)
    >>> label = jnp.array([0, 0, 1])
    >>> attacks.survivors(
    ...   check, image, label, jax.random.key(0), restarts=2, batch_size=2
    ... ).tolist()
    [True, False, True]
  """
  _check_restarts(restarts)
  count = len(image)
  if batch_size < 1:
    raise InputError(f"batch_size is {batch_size}; it must be 1 or larger")
  alive = np.ones(count, bool) if alive is None else np.array(alive) > 0
  if len(label) != count or alive.shape != (count,):
    raise InputError(
      f"there are {count} images, {len(label)} labels and an alive of shape {alive.shape}; give "
      "one label, and one entry of alive, per image"
    )
  for restart in range(restarts):
    key = jax.random.fold_in(rng, restart)
    left = np.flatnonzero(alive).astype(np.int32)
    before: tuple[np.ndarray, Array] | None = None
    for begin in range(0, len(left), batch_size):
      rows = left[begin : begin + batch_size]
      padded = np.concatenate([rows, np.full(batch_size - len(rows), rows[0], np.int32)])
      verdict = check(key, image[padded], label[padded], padded)
      # Read one batch late: the device has work meanwhile, and never more than two batches of it.
      _record(alive, before)
      before = (rows, verdict)
    _record(alive, before)
  return alive


def _record(alive: np.ndarray, judged: tuple[np.ndarray, Array] | None) -> None:
  if judged is not None:
    rows, verdict = judged
    alive[rows] = np.asarray(verdict)[: len(rows)] > 0


def _check_restarts(restarts: int) -> None:
  if restarts < 1:
    raise InputError(f"restarts is {restarts}; it must be 1 or larger")
