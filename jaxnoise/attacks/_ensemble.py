"""The standard ensemble of attacks: each meets only the examples that withstood those before."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise import losses
from jaxnoise.attacks._apgd import (
  _box,
  apgd,
  dlr,
  judged_ascent,
  likeliest_targets,
  targeted_dlr,
)
from jaxnoise.attacks._fab import fab
from jaxnoise.attacks._gradient import _check_norm
from jaxnoise.attacks._objectives import margin_ascent
from jaxnoise.attacks._restarts import survivors
from jaxnoise.attacks._square import square
from jaxnoise.core import InputError
from jaxnoise.core.errors import closest
from jaxnoise.core.types import Array, PRNGKey
from jaxnoise.metrics import correct

STANDARD = ("apgd-ce", "apgd-t", "fab-t", "square")
"""The attacks of the standard ensemble, in order."""

NAMES = (*STANDARD, "apgd-dlr")
TARGETED = ("apgd-t", "fab-t")
FEWEST_CLASSES = {"apgd-t": 4, "apgd-dlr": 3}
"""Classes that an attack needs, where that is more than two."""

RunEnsemble: TypeAlias = Callable[..., dict[str, np.ndarray]]
"""(params, image [N, ...], label [N], rng, epsilon) -> {name: [N] bool}, see `ensemble`."""


def ensemble(
  predict: Callable[[Any, Array], Array],
  *,
  norm: str = "linf",
  attacks: Sequence[str] = STANDARD,
  batch_size: int = 256,
  num_steps: int = 100,
  num_targets: int = 9,
  num_queries: int = 5000,
  sharding: jax.sharding.Sharding | None = None,
) -> RunEnsemble:
  """Makes the standard evaluation of AutoAttack: the examples that withstand all of its attacks.

  In order: `apgd` on the cross entropy, `apgd` on `targeted_dlr` and `fab` towards each of the
  `num_targets` likeliest other classes (all K - 1 if there are fewer), `square` on the margin. An
  example that is misclassified without an attack counts as beaten; after that each attack, and each
  target of an attack, is run on those still alive alone, gathered into full batches (`survivors`).
  What an attack returns is clipped to the ball and [0, 1] before the verdict, which is the
  network's own prediction.

  The verdicts are upper bounds of the robust accuracy, as those of any attack, for a network whose
  predictions are deterministic; draws depend on an example's position alone, so that `batch_size`
  changes nothing but rounding. Each attack is compiled once for all radii and parameters.

  Args:
    predict: (params, image [B, H, W, C] float32 in [0, 1]) -> logits [B, K], in evaluation mode.
    norm: "linf" or "l2"; "square" is l_inf only.
    attacks: names, in order, of "apgd-ce", "apgd-dlr", "apgd-t", "fab-t" and "square".
    batch_size: images at a time.
    num_steps: steps of Auto-PGD and of FAB.
    num_targets: target classes of the targeted attacks, >= 1.
    num_queries: queries of Square.
    sharding: of a batch, its leading axis over several devices that share `batch_size` evenly; None
      leaves batches where parameters are. Parameters lie on all of these devices.

  Returns:
    run(params, image, label, rng, epsilon) -> {"clean": [N] bool, name of each attack: [N] bool}:
    the examples still alive after it, each a subset of the one before; their means are the
    accuracies and the last the ensemble's. `image` is [N, H, W, C], float in [0, 1] or uint8, which
    is divided by 255; `epsilon` is in units of [0, 1].

  Raises:
    InputError: for an unknown norm or attack, none, "square" in the l_2 norm, or num_targets < 1;
      by run, for "apgd-t" with K < 4 or "apgd-dlr" with K < 3, or arrays of different lengths.

  Source: Croce and Hein (2020, "Reliable evaluation of adversarial robustness"), section 5, in the
  settings of the authors' standard version.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import attacks
    >>> predict = lambda params, image: params * jnp.mean(image, axis=(1, 2))
    >>> run = attacks.ensemble(predict, attacks=("apgd-ce", "square"), num_steps=5, num_queries=9)
    >>> image = jnp.array([[0.9, 0.1], [0.55, 0.45], [0.2, 0.8]]).reshape(3, 1, 1, 2)
    >>> alive = run(jnp.float32(1), image, jnp.array([0, 0, 0]), jax.random.key(0), 0.1)
    >>> {name: left.tolist() for name, left in alive.items()}["square"]
    [True, False, False]
  """
  _check_norm(norm)
  names = tuple(attacks)
  for name in names:
    if name not in NAMES:
      raise InputError(f"attacks has {name!r}, which is none; {closest(str(name), NAMES)}")
  if not names or len(set(names)) != len(names):
    raise InputError(f"attacks is {names}; name at least one, and each once")
  if norm != "linf" and "square" in names:
    raise InputError(f"attacks has 'square', which is l_inf only; leave it out for norm {norm!r}")
  for field, value, least in (
    ("batch_size", batch_size, 1),
    ("num_steps", num_steps, 0),
    ("num_targets", num_targets, 1),
    ("num_queries", num_queries, 1),
  ):
    if not least <= value < float("inf") or value != int(value):
      raise InputError(f"{field} is {value}; it must be a whole number, {least} or larger")

  @functools.partial(jax.jit, static_argnums=0)
  def check(
    name: str, params: Any, epsilon: Array, rank: Array,
    rng: PRNGKey, image: Array, label: Array, index: Array,
  ) -> Array:
    image = _pixels(image)
    network = functools.partial(predict, params)
    if name == "clean":
      return correct(network(image), label)
    target = label
    if name in TARGETED:
      logits = network(image)
      ordered = likeliest_targets(logits, label, min(num_targets, logits.shape[-1] - 1))
      target = jnp.take(ordered, rank, axis=1)
    settings = {"epsilon": epsilon, "rng": rng, "index": index}
    if name == "square":
      loss_fn = margin_ascent(network, label)
      found = square(loss_fn, image, num_queries=num_queries, goal=0.0, **settings)
    elif name == "fab-t":
      nearest = fab(network, image, label, target, num_steps=num_steps, norm=norm)
      near = (nearest.distance <= epsilon).reshape(-1, 1, 1, 1)
      found = jnp.where(near, nearest.image, image)
    else:
      logit_loss = {
        "apgd-ce": lambda logits: losses.cross_entropy(
          logits, jax.nn.one_hot(label, logits.shape[-1], dtype=logits.dtype)
        ),
        "apgd-dlr": lambda logits: dlr(logits, label),
        "apgd-t": lambda logits: targeted_dlr(logits, label, target),
      }[name]
      loss_fn = judged_ascent(network, label, logit_loss)
      found = apgd(loss_fn, image, num_steps=num_steps, norm=norm, judged=True, **settings)
    # The l_2 ball lies in this box too, so that nothing is lost by it there.
    return correct(network(jnp.clip(found, *_box(image, epsilon, 0.0, 1.0))), label)

  def run(
    params: Any, image: Array, label: Array, rng: PRNGKey, epsilon: float
  ) -> dict[str, np.ndarray]:
    if np.ndim(image) != 4 or not len(image):
      raise InputError(f"image has shape {np.shape(image)}; run takes images [N, H, W, C], N >= 1")
    first = jax.ShapeDtypeStruct((1, *np.shape(image)[1:]), jnp.float32)
    logits = jax.eval_shape(predict, params, first)
    classes = logits.shape[-1]
    for name in names:
      least = FEWEST_CLASSES.get(name, 2)
      if classes < least:
        raise InputError(
          f"attacks has {name!r}, which needs {least} classes or more; the network has {classes}; "
          "leave it out"
        )
    if not epsilon >= 0:
      raise InputError(f"epsilon is {epsilon}; it must be 0 or larger, in units of [0, 1]")
    radius = jnp.float32(epsilon)
    alive: np.ndarray | None = None
    left: dict[str, np.ndarray] = {}
    for name in ("clean", *names):
      key = jax.random.fold_in(rng, ("clean", *NAMES).index(name))
      for rank in range(min(num_targets, classes - 1) if name in TARGETED else 1):
        fixed = (name, params, radius, jnp.int32(rank))

        def verdict(key: PRNGKey, *rows: Array, fixed=fixed) -> Array:
          if sharding is not None:
            rows = tuple(jax.device_put(x, sharding) for x in rows)
          return check(*fixed, key, *rows)

        alive = survivors(
          verdict, image, label, jax.random.fold_in(key, rank),
          restarts=1, batch_size=batch_size, alive=alive,
        )
      left[name] = alive
    return left

  return run


def _pixels(image: Array) -> Array:
  image = jnp.asarray(image)
  return image.astype(jnp.float32) / 255 if image.dtype == jnp.uint8 else image
