"""FAB: the nearest image that is classified otherwise, by steps onto linearised boundaries."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnoise.attacks._apgd import _own
from jaxnoise.attacks._gradient import _check_image, _check_norm, _length
from jaxnoise.core import InputError
from jaxnoise.core.types import Array, PredictFn
from jaxnoise.metrics import correct


class Nearest(NamedTuple):
  """What a search for the smallest perturbation found.

  Attributes:
    image: [B, H, W, C], the nearest image found that is misclassified, or the one given if none is.
    distance: [B], its distance from the given one; inf where none was found.
  """

  image: Array
  distance: Array


def fab(
  predict: PredictFn,
  image: Array,
  label: Array,
  target: Array,
  *,
  num_steps: int | Array = 100,
  norm: str = "linf",
  largest_bias: float = 0.1,
  overshoot: float = 1.05,
  backward: float = 0.9,
) -> Nearest:
  """Seeks the nearest misclassified image, moving towards the boundary with one class (FAB-T).

  With f = z_t - z_y, linearised at x_k, let u and v be the steps from x_k and from the image to the
  hyperplane f(x_k) + grad f(x_k) . (x' - x_k) = 0 inside [0, 1] (`boundary_step`). With b the
  smaller of |u| / (|u| + |v|) and `largest_bias`, and c the overshoot,

    x_{k+1} = clip((1 - b) (x_k + c u) + b (image + c v), 0, 1).

  If x_{k+1} is misclassified (as any class) it is kept if it is the nearest yet, and the search
  goes on from image + `backward` (x_{k+1} - image). No radius is given: the result serves them all,
  and an example withstands a radius if its distance is larger. Neither the scale nor the shift of
  the logits matters.

  It starts at the image itself, as the standard ensemble's single run does; the paper's random
  restarts and final search along a line are left out.

  Args:
    predict: image [B, H, W, C] -> logits [B, K], K >= 2.
    image: [B, H, W, C], float32 or float64 in [0, 1].
    label: [B] integers in 0..K-1, the true classes y.
    target: [B] integers in 0..K-1, the classes t, such as a column of `likeliest_targets`.
    num_steps: N >= 0; may be traced. A step costs a gradient and a forward pass.
    norm: "linf" or "l2".
    largest_bias: the most weight that the projection of the image gets, in [0, 1].
    overshoot: factor >= 1 of the steps, so that they end behind the boundary.
    backward: share of the way kept after a success, in [0, 1].

  Returns:
    The images, in [0, 1], and their distances; an image that is misclassified as it is has 0.

  Raises:
    InputError: as `pgd`; for labels or targets that are not one integer per image.

  Source: Croce and Hein (2020, "Minimally distorted adversarial examples with a fast adaptive
  boundary attack"), algorithm 1; its targeted form and settings are those of Croce and Hein
  (2020, "Reliable evaluation of adversarial robustness"), section 5.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import attacks
    >>> predict = lambda image: jnp.mean(image, axis=(1, 2))
    >>> image = jnp.array([0.7, 0.5]).reshape(1, 1, 1, 2)
    >>> found = attacks.fab(predict, image, jnp.array([0]), jnp.array([1]))
    >>> abs(float(found.distance[0]) - 0.1) < 1e-3
    True
  """
  image = _check_image(image)
  _check_norm(norm)
  label, target = jnp.asarray(label), jnp.asarray(target)
  for field, classes in (("label", label), ("target", target)):
    if classes.shape != image.shape[:1]:
      raise InputError(
        f"{field} has shape {classes.shape}, but the batch has {image.shape[0]} images; give one "
        "integer per image"
      )
  wide = lambda flag: flag.reshape((-1,) + (1,) * (image.ndim - 1))

  def boundary(x: Array) -> tuple[Array, Array]:
    logits, own = _own(predict(x), label, 2, "fab")
    goal = _own(logits, target, 2, "fab", "target")[1]
    f = jnp.sum(jnp.where(goal, logits, 0.0) - jnp.where(own, logits, 0.0), axis=-1)
    return jnp.sum(f), f

  def fooled(x: Array) -> Array:
    return correct(predict(x), label) == 0

  def size(step: Array) -> Array:
    if norm == "l2":
      return _length(step)
    return jnp.max(jnp.abs(step), axis=tuple(range(1, step.ndim)), keepdims=True)

  def step_once(_: int | Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    x, best, distance = state
    gradient, f = jax.grad(boundary, has_aux=True)(x)
    at_image = f + jnp.sum(gradient * (image - x), axis=tuple(range(1, x.ndim)))
    u = boundary_step(x, gradient, f, norm=norm)
    v = boundary_step(image, gradient, at_image, norm=norm)
    of_u = jnp.maximum(size(u), 1e-8)
    bias = jnp.minimum(of_u / (of_u + jnp.maximum(size(v), 1e-8)), largest_bias)
    x = jnp.clip((1 - bias) * (x + overshoot * u) + bias * (image + overshoot * v), 0.0, 1.0)
    beaten = fooled(x)
    far = size(x - image).reshape(-1)
    nearer = beaten & (far < distance)
    best = jnp.where(wide(nearer), x, best)
    x = jnp.where(wide(beaten), image + backward * (x - image), x)
    return x, best, jnp.where(nearer, far, distance)

  distance = jnp.where(fooled(image), 0.0, jnp.inf).astype(image.dtype)
  _, best, distance = jax.lax.fori_loop(0, num_steps, step_once, (image, image, distance))
  return Nearest(jax.lax.stop_gradient(best), jax.lax.stop_gradient(distance))


def boundary_step(image: Array, weight: Array, offset: Array, *, norm: str = "linf") -> Array:
  """Returns the shortest step s with offset + weight . s = 0 and image + s in [0, 1].

  Every pixel goes the way that brings |offset + weight . s| down, by min(t v_i, room_i): room is
  how far it is from 0 or 1 that way and v is 1 (l_inf) or |weight| (l_2). What that gains,
  sum_i |w_i| min(t v_i, room_i), is piecewise linear in t with its corners at room_i / v_i, so the
  smallest t that gains |offset| is found by sorting them. If no t does, the step goes to the corner
  of [0, 1] that is nearest to the hyperplane.

  Args:
    image: [B, ...] in [0, 1].
    weight: [B, ...], the normal of each hyperplane.
    offset: [B], the value at the image.
    norm: "linf" or "l2", the length that is the shortest.

  Returns:
    [B, ...] steps; 0 where the weight is.

  Raises:
    InputError: for an unknown norm, a weight of another shape, or an offset that is not [B].

  Source: Croce and Hein (2020, "Minimally distorted adversarial examples with a fast adaptive
  boundary attack"), section 2, equation 3.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import attacks
    >>> image, weight = jnp.array([[0.9, 0.5]]), jnp.array([[1.0, 1.0]])
    >>> attacks.boundary_step(image, weight, jnp.array([-0.4])).tolist()  # the first stops at 1
    [[0.1, 0.3]]
  """
  _check_norm(norm)
  if weight.shape != image.shape or offset.shape != image.shape[:1]:
    raise InputError(
      f"image has shape {image.shape}, weight {weight.shape} and offset {offset.shape}; give a "
      "weight of the image's shape and an offset [B]"
    )
  x = image.reshape(image.shape[0], -1)
  # Scaled so that the largest weight is 1: a sure network's gradients square to 0.
  w = weight.reshape(x.shape)
  largest = jnp.max(jnp.abs(w), axis=1, keepdims=True)
  scale = jnp.where(largest > 0, largest, 1.0)
  w = jax.lax.optimization_barrier(w / scale)
  need = jnp.abs(offset).reshape(-1, 1) / scale
  away = -jnp.sign(w) * jnp.sign(offset).reshape(-1, 1)
  room = jnp.where(away > 0, 1.0 - x, jnp.where(away < 0, x, 0.0))
  speed = jnp.ones_like(w) if norm == "linf" else jnp.abs(w)
  corner = jnp.where(room > 0, room / jnp.where(speed > 0, speed, 1.0), 0.0)
  order = jnp.argsort(corner, axis=1)
  take = lambda values: jnp.take_along_axis(values, order, axis=1)
  full = jnp.cumsum(take(jnp.abs(w) * room), axis=1)
  rate = take(jnp.where(room > 0, jnp.abs(w) * speed, 0.0))
  still = jnp.cumsum(rate[:, ::-1], axis=1)[:, ::-1]  # of the pixels that have not met their bound
  before = jnp.concatenate([jnp.zeros_like(full[:, :1]), full[:, :-1]], axis=1)
  gained = before + take(corner) * still
  first = jnp.argmax(gained >= need, axis=1)[:, None]
  at = lambda values: jnp.take_along_axis(values, first, axis=1)
  t = (need - at(before)) / jnp.where(at(still) > 0, at(still), 1.0)
  enough = jnp.any(gained >= need, axis=1, keepdims=True)
  step = jnp.where(enough, jnp.minimum(jnp.maximum(t, 0.0) * speed, room), room)
  return (away * step).reshape(image.shape)
