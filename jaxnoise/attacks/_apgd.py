"""Auto-PGD: gradient ascent in a ball that sets its own step, and the losses it is run with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.attacks._gradient import (
  _check_image,
  _check_norm,
  _direction,
  _is_known,
  _length,
  _scale,
  uniform_start,
)
from jaxnoise.attacks._objectives import ImageLoss
from jaxnoise.core import InputError
from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array, PredictFn, PRNGKey
from jaxnoise.metrics import correct

JudgedLoss: TypeAlias = Callable[[Array], tuple[Array, Array]]
"""image [B, H, W, C] -> (loss [B], fooled [B] bool), both from one pass of the network."""
TINY = 1e-12


def dlr(logits: Array, label: Array) -> Array:
  """Difference of logits ratio, to ascend: (max_{k != y} z_k - z_y) / (z_(1) - z_(3)).

  z_(1) >= z_(2) >= ... are the logits in order. It changes neither when all logits are shifted nor
  when they are scaled, so a network cannot hide its gradient behind large logits as it can that of
  the cross entropy; it is positive exactly where the example is misclassified and, where it is not,
  in [-1, 0].

  Args:
    logits: [B, K], K >= 3.
    label: [B] integers in 0..K-1.

  Returns:
    [B], at least float32. Where the three largest logits are equal they are taken as 1e-12 apart.

  Raises:
    InputError: for K < 3, or labels that are not one integer per example.

  Source: Croce and Hein (2020, "Reliable evaluation of adversarial robustness"), section 4.1,
  equation 6, which is turned the same way.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import attacks
    >>> attacks.dlr(jnp.array([[5.0, 3.0, 1.0, 0.0]]), jnp.array([0])).tolist()
    [-0.5]
  """
  logits, own = _own(logits, label, 3, "dlr")
  other = jnp.max(jnp.where(own, -jnp.inf, logits), axis=-1)
  ordered = jax.lax.top_k(logits, 3)[0]
  gap = other - jnp.sum(jnp.where(own, logits, 0.0), axis=-1)
  return gap / jnp.maximum(ordered[:, 0] - ordered[:, 2], TINY)


def targeted_dlr(logits: Array, label: Array, target: Array) -> Array:
  """The targeted form, to ascend: (z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2).

  The denominator is no longer made of the logits of the numerator alone, which with K = 3 it would
  be; hence four classes at least.

  Args:
    logits: [B, K], K >= 4.
    label: [B] integers in 0..K-1, the true classes y.
    target: [B] integers in 0..K-1, the classes t to be reached.

  Returns:
    [B], at least float32; positive exactly where z_t > z_y.

  Raises:
    InputError: for K < 4, or labels or targets that are not one integer per example.

  Source: Croce and Hein (2020, "Reliable evaluation of adversarial robustness"), section 4.1,
  equation 7.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import attacks
    >>> logits = jnp.array([[5.0, 3.0, 1.0, 0.0]])
    >>> attacks.targeted_dlr(logits, jnp.array([0]), jnp.array([2])).tolist()  # -4 / 4.5
    [-0.889]
  """
  logits, own = _own(logits, label, 4, "targeted_dlr")
  goal = _own(logits, target, 4, "targeted_dlr", "target")[1]
  ordered = jax.lax.top_k(logits, 4)[0]
  gap = jnp.sum(jnp.where(goal, logits, 0.0) - jnp.where(own, logits, 0.0), axis=-1)
  return gap / jnp.maximum(ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2, TINY)


def likeliest_targets(logits: Array, label: Array, count: int = 9) -> Array:
  """Returns the `count` classes other than the true one with the largest logits, the largest first.

  Args:
    logits: [B, K] of the images without an attack.
    label: [B] integers in 0..K-1.
    count: T in 1..K-1.

  Returns:
    [B, T] integers.

  Raises:
    InputError: for a count outside 1..K-1, or labels that are not one integer per example.

  Source: Croce and Hein (2020, "Reliable evaluation of adversarial robustness"), section 5.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import attacks
    >>> attacks.likeliest_targets(jnp.array([[5.0, 3.0, 1.0, 4.0]]), jnp.array([0]), 2).tolist()
    [[3, 1]]
  """
  logits, own = _own(logits, label, 2, "likeliest_targets")
  if not 1 <= count < logits.shape[-1]:
    raise InputError(
      f"count is {count}; with {logits.shape[-1]} classes there are 1 to {logits.shape[-1] - 1} "
      "targets"
    )
  return jax.lax.top_k(jnp.where(own, -jnp.inf, logits), count)[1]


def judged_ascent(
  predict: PredictFn, label: Array, logit_loss: Callable[[Array], Array]
) -> JudgedLoss:
  """Makes a loss for `apgd(..., judged=True)`: its value, and whether the network is fooled.

  Args:
    predict: image [B, H, W, C] -> logits [B, K].
    label: [B] integers in 0..K-1.
    logit_loss: logits [B, K] -> [B], to ascend, such as `dlr` with its labels.

  Returns:
    image -> (loss [B], fooled [B] bool): whether it is wrong for `metrics.correct`.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import attacks
    >>> predict, label = lambda image: jnp.mean(image, axis=(1, 2)), jnp.array([0])
    >>> loss_fn = attacks.judged_ascent(predict, label, lambda logits: attacks.dlr(logits, label))
    >>> loss, fooled = loss_fn(jnp.array([0.2, 0.6, 0.4]).reshape(1, 1, 1, 3))
    >>> loss.tolist(), fooled.tolist()
    ([1.0], [True])
  """

  def loss_fn(image: Array) -> tuple[Array, Array]:
    logits = promote(predict(image))
    return logit_loss(logits), correct(logits, label) == 0

  return loss_fn


def checkpoints(num_steps: int) -> tuple[int, ...]:
  """Steps w_j = ceil(p_j N) after which Auto-PGD reconsiders its step size.

  p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06), as long as p_j <= 1.

  Args:
    num_steps: N >= 0.

  Returns:
    The distinct w_j > 0, rising.

  Source: Croce and Hein (2020, "Reliable evaluation of adversarial robustness"), section 3.

  Example:
    >>> from jaxnoise import attacks
    >>> attacks.checkpoints(100)
    (22, 41, 57, 70, 80, 87, 93, 99)
  """
  before, now, found = 0, 22, []  # in hundredths: sums of 0.03 would round up to the next step
  while now <= 100:
    found.append(-(-now * num_steps // 100))
    before, now = now, now + max(now - before - 3, 6)
  return tuple(sorted(set(found) - {0}))


def apgd(
  loss_fn: ImageLoss | JudgedLoss,
  image: Array,
  *,
  epsilon: float | Array,
  num_steps: int = 100,
  norm: str = "linf",
  rng: PRNGKey | None = None,
  index: Array | None = None,
  start: Array | None = None,
  judged: bool = False,
  momentum: float = 0.75,
  rho: float = 0.75,
  low: float = 0.0,
  high: float = 1.0,
) -> Array:
  """Ascends a loss by Auto-PGD, whose only settings are the radius and the number of steps.

  With P the projection onto the ball and the box, d the direction of `pgd`, a = `momentum` (1 in
  the first step) and eta = 2 epsilon at the beginning,

    z = P(x_k + eta d_k),   x_{k+1} = P(x_k + a (z - x_k) + (1 - a) (x_k - x_{k-1})).

  After step w_j of `checkpoints` an example halves its eta and goes back to the best point it has
  seen if (1) its loss rose in fewer than rho (w_j - w_{j-1}) steps since the last checkpoint, or
  (2) neither its eta nor its largest loss has changed since then. The image returned is the best
  one seen, not the last: never worse than the start. The cost is `num_steps` + 1 gradients.

  The paper prints the checkpoint one step late (x_{w_j + 1} is replaced); here, as in the code that
  it came with, x_{w_j} is. That code also counts a tie in (1) as a reason to halve, which the paper
  does not. The start is uniform in the ball, where the code scales it to its surface.

  Args:
    loss_fn: image -> [B], to ascend, as for `pgd`; with `judged`, image -> (loss, fooled).
    image: [B, H, W, C], float32 or float64 in [low, high].
    epsilon: radius of the ball >= 0, in the units of the image; may be traced.
    num_steps: N >= 0, a Python integer (the checkpoints depend on it).
    norm: "linf" or "l2".
    rng: key of the random start `uniform_start(rng, image, ...)`, clipped to the box.
    index: [B] integers that identify the examples, for the random start.
    start: [B, H, W, C] perturbation to start from; it is projected first.
    judged: whether loss_fn also tells which examples are fooled. An image that fools the network is
      then kept before any that does not, whatever their losses.
    momentum: a in (0, 1].
    rho: share of steps that must rise, in [0, 1].
    low: smallest pixel value.
    high: largest pixel value.

  Returns:
    [B, H, W, C], like the image and in [low, high]; in the l_inf ball exactly, in the l_2 ball to
    rounding. A constant for any outer gradient.

  Raises:
    InputError: as `pgd`; for a num_steps that is not a whole number, or a momentum or rho outside
      its range.

  Source: Croce and Hein (2020, "Reliable evaluation of adversarial robustness"), algorithm 1.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import attacks
    >>> image = jnp.full((1, 1, 1, 2), 0.5)
    >>> peak = lambda x: -jnp.sum((x - jnp.array([[[[0.53, 0.9]]]])) ** 2, axis=(1, 2, 3))
    >>> attacks.apgd(peak, image, epsilon=0.1, num_steps=40).ravel().tolist()
    [0.53, 0.6]
  """
  image = _check_image(image)
  _check_norm(norm)
  if rng is not None and start is not None:
    raise InputError("both rng and start are given; a start is random or given, so drop one")
  if not low < high:
    raise InputError(f"low is {low} and high is {high}; pixels need low < high")
  if not _is_known(num_steps) or num_steps != int(num_steps) or num_steps < 0:
    raise InputError(
      f"num_steps is {num_steps}; it must be a known whole number, 0 or larger: make it a static "
      "argument under jit"
    )
  if not (0 < momentum <= 1 and 0 <= rho <= 1):
    raise InputError(f"momentum is {momentum} and rho {rho}; they lie in (0, 1] and [0, 1]")
  radius = _scale("epsilon", epsilon, image)
  if start is not None and jnp.shape(start) != image.shape:
    raise InputError(
      f"start has shape {jnp.shape(start)}, the image {image.shape}; give one perturbation per "
      "image"
    )
  if rng is not None:
    start = uniform_start(rng, image, epsilon=radius, norm=norm, index=index)
  lower, upper = _box(image, radius if norm == "linf" else None, low, high)

  def project(x: Array) -> Array:
    if norm == "l2":
      length = _length(x - image)
      shrink = jnp.where(length > radius, radius / jnp.where(length > 0, length, 1.0), 1.0)
      x = image + shrink * (x - image)
    return jnp.clip(x, lower, upper)

  def total(x: Array) -> tuple[Array, tuple[Array, Array]]:
    loss, fooled = loss_fn(x) if judged else (loss_fn(x), jnp.zeros(image.shape[0], bool))
    if loss.shape != image.shape[:1] or fooled.shape != image.shape[:1]:
      raise InputError(
        f"loss_fn returned shape {loss.shape} for {image.shape[0]} images; it must return one "
        "value per example [B], without a mean or a sum over the batch"
      )
    return jnp.sum(loss), (loss, fooled)

  def evaluate(x: Array) -> tuple[Array, Array, Array]:
    gradient, (loss, fooled) = jax.grad(total, has_aux=True)(x)
    return loss, fooled, jnp.sign(gradient) if norm == "linf" else _direction(gradient)

  wide = lambda flag: flag.reshape((-1,) + (1,) * (image.ndim - 1))

  def step_once(state: dict[str, Array], now: tuple[Array, Array, Array]):
    share, judge, window = now
    x, eta = state["x"], wide(state["eta"])
    z = project(x + eta * state["direction"])
    moved = project(x + share * (z - x) + (1 - share) * (x - state["previous"]))
    loss, fooled, direction = evaluate(moved)
    risen = state["risen"] + (loss > state["loss"])
    better = loss > state["best_loss"]
    best = jnp.where(wide(better), moved, state["best"])
    best_direction = jnp.where(wide(better), direction, state["best_direction"])
    best_loss = jnp.where(better, loss, state["best_loss"])
    kept, kept_loss, kept_fooled = best, best_loss, state["kept_fooled"]
    if judged:
      keep = (fooled & ~kept_fooled) | ((fooled == kept_fooled) & (loss > state["kept_loss"]))
      kept = jnp.where(wide(keep), moved, state["kept"])
      kept_loss = jnp.where(keep, loss, state["kept_loss"])
      kept_fooled = kept_fooled | fooled
    stuck = ~state["halved"] & (state["checked_loss"] == best_loss)
    halve = judge & ((risen < rho * window) | stuck)
    return {
      "x": jnp.where(wide(halve), best, moved),
      "previous": x,
      "direction": jnp.where(wide(halve), best_direction, direction),
      "loss": jnp.where(halve, best_loss, loss),
      "eta": jnp.where(halve, state["eta"] / 2, state["eta"]),
      "risen": jnp.where(judge, 0, risen),
      "halved": jnp.where(judge, halve, state["halved"]),
      "checked_loss": jnp.where(judge, best_loss, state["checked_loss"]),
      "best": best,
      "best_direction": best_direction,
      "best_loss": best_loss,
      "kept": kept,
      "kept_loss": kept_loss,
      "kept_fooled": kept_fooled,
    }, None

  num_steps = int(num_steps)
  x = project(image if start is None else image + jnp.asarray(start, image.dtype))
  if num_steps == 0:
    return jax.lax.stop_gradient(x)
  loss, fooled, direction = evaluate(x)
  state = {
    "x": x,
    "previous": x,
    "direction": direction,
    "loss": loss,
    "eta": jnp.full(image.shape[0], 2 * radius, image.dtype),
    "risen": jnp.zeros(image.shape[0], jnp.int32),
    "halved": jnp.zeros(image.shape[0], bool),
    "checked_loss": loss,
    "best": x,
    "best_direction": direction,
    "best_loss": loss,
    "kept": x,
    "kept_loss": loss,
    "kept_fooled": fooled,
  }
  shares, judges = np.full(num_steps, momentum, image.dtype), np.zeros(num_steps, bool)
  windows, marks = np.zeros(num_steps, image.dtype), checkpoints(num_steps)
  shares[0] = 1.0
  for before, mark in zip((0, *marks), marks):
    judges[mark - 1], windows[mark - 1] = True, mark - before
  state, _ = jax.lax.scan(step_once, state, (shares, judges, windows))
  return jax.lax.stop_gradient(state["kept"])


def _box(image: Array, radius: Array | None, low: float, high: float) -> tuple[Array, Array]:
  """The bounds of each pixel; those of the ball are rounded inwards, so that no bit is outside."""
  if radius is None:
    return jnp.full_like(image, low), jnp.full_like(image, high)
  upper = jnp.maximum(image, jnp.nextafter(image + radius, -jnp.inf))
  lower = jnp.minimum(image, jnp.nextafter(image - radius, jnp.inf))
  return jnp.clip(lower, low, high), jnp.clip(upper, low, high)


def _own(
  logits: Array, label: Array, least: int, name: str, field: str = "label"
) -> tuple[Array, Array]:
  """The logits, at least float32, and which of them is the label's [B, K]."""
  logits, label = promote(logits), jnp.asarray(label)
  if logits.ndim != 2 or label.shape != logits.shape[:1]:
    raise InputError(
      f"{field} has shape {label.shape} and logits {logits.shape}; {name} takes logits [B, K] and "
      "one integer per example"
    )
  if not jnp.issubdtype(label.dtype, jnp.integer):
    raise InputError(f"{field} is {label.dtype}; {name} takes integers in 0..K-1")
  if logits.shape[-1] < least:
    raise InputError(
      f"logits have {logits.shape[-1]} classes, but {name} needs {least} or more; use the cross "
      "entropy or the margin for fewer"
    )
  return logits, jax.nn.one_hot(label, logits.shape[-1], dtype=bool)
