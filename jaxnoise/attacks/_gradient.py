"""Gradient ascent on the image inside a ball: FGSM, PGD and their random starts."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnoise.attacks._objectives import ImageLoss
from jaxnoise.core import InputError
from jaxnoise.core.errors import closest
from jaxnoise.core.types import Array, PRNGKey

NORMS = ("linf", "l2")


def fgsm(
  loss_fn: ImageLoss,
  image: Array,
  *,
  epsilon: float | Array,
  rng: PRNGKey | None = None,
  index: Array | None = None,
  step_size: float | Array | None = None,
  low: float = 0.0,
  high: float = 1.0,
) -> Array:
  """Takes one signed gradient step: x' = clip(x + epsilon sign(grad_x loss(x)), low, high).

  With a key the step starts at a uniform point of the l_inf ball, clipped to [low, high], and its
  end is projected back onto the ball (the "fast" attack of Wong et al., who use a step of 1.25
  epsilon). sign(0) is 0: a pixel without a gradient stays where it is.

  Args:
    loss_fn: image -> [B], to ascend; see `pgd`.
    image: [B, H, W, C] x, float32 or float64 in [low, high].
    epsilon: radius of the l_inf ball, in the units of the image (8/255, not 8).
    rng: key of the random start; None starts at the image.
    index: [B] integers that identify the examples, see `uniform_start`.
    step_size: length of the step; None means epsilon.
    low: smallest pixel value.
    high: largest pixel value.

  Returns:
    [B, H, W, C] x', like the image, within epsilon of it and in [low, high].

  Raises:
    InputError: as `pgd`.

  Source: Goodfellow et al. (2015), section 4; for the random start Wong et al. (2020), algorithm 3.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import attacks
    >>> image = jnp.array([0.5, 0.98]).reshape(2, 1, 1, 1)
    >>> brighter = lambda x: jnp.sum(x, axis=(1, 2, 3))
    >>> attacks.fgsm(brighter, image, epsilon=0.1).ravel().tolist()
    [0.6, 1.0]
  """
  step_size = epsilon if step_size is None else step_size
  return pgd(
    loss_fn,
    image,
    epsilon=epsilon,
    step_size=step_size,
    num_steps=1,
    rng=rng,
    index=index,
    low=low,
    high=high,
  )


def pgd(
  loss_fn: ImageLoss,
  image: Array,
  *,
  epsilon: float | Array,
  step_size: float | Array,
  num_steps: int | Array,
  norm: str = "linf",
  rng: PRNGKey | None = None,
  index: Array | None = None,
  start: Array | None = None,
  clip_start: bool = True,
  low: float = 0.0,
  high: float = 1.0,
) -> Array:
  """Ascends a loss by projected gradient steps: x <- clip(P(x + step_size d), low, high).

  With g the gradient of sum_i loss_i with respect to the image, d is sign(g) in the l_inf norm
  (sign(0) is 0) and g_i / ||g_i||_2 of each example in the l_2 norm (0 where g_i is 0, however
  small g_i else); P projects x_i - image_i onto the ball of radius epsilon around 0. The image
  after the last step is returned, not the one of the largest loss. A nan in the gradient stays a
  nan in the result.

  Published settings: TRADES' evaluation is epsilon = 0.031, step_size = 0.003, 20 steps, a random
  start that is *not* clipped (`clip_start=False`); Madry et al. and Free-AT clip it. Noise in
  distillation prints TRADES' numbers with a step of 0.03, which its own tables contradict; 0.003 is
  the value to use.

  Under jit, give what the loss depends on (parameters, labels) as arguments of the compiled
  function and build `loss_fn` inside it. `epsilon`, `step_size` and `num_steps` may be traced, so
  one program serves a sweep over them. No gradient flows through the result, neither to the image
  nor to what `loss_fn` closes over: adversarial training differentiates its loss at x', which costs
  one backward pass more than the ascent (the compiler drops the rest).

  Args:
    loss_fn: image -> [B], one value per example, to ascend. The loss of an example must depend on
      its own image alone (evaluation mode). Its negative at a target label is a targeted attack.
    image: [B, H, W, C], float32 or float64 in [low, high].
    epsilon: radius of the ball >= 0, in the units of the image; 0 returns the image.
    step_size: length of a step >= 0, in the same units.
    num_steps: number of steps >= 0; with 0 the start is returned, projected.
    norm: "linf" or "l2" (the l_2 norm is that of all pixels of an example).
    rng: key of the random start `uniform_start(rng, image, ...)`.
    index: [B] integers that identify the examples, for the random start.
    start: [B, H, W, C] perturbation to start from in place of a random one, such as TRADES'
      0.001 times a standard normal draw. It is not projected before the first gradient.
    clip_start: whether image + start is clipped to [low, high] before the first gradient.
    low: smallest pixel value.
    high: largest pixel value.

  Returns:
    [B, H, W, C], like the image, in the ball (to rounding) and in [low, high].

  Raises:
    InputError: for an image that is not float32 or float64, a loss that is not one value per
      example, an unknown norm, a negative radius, step or number of steps, low >= high, both `rng`
      and `start`, or a start of another shape.

  Source: Madry et al. (2018), section 2.1; the authors' code of TRADES and of Free-AT for where
  the start is clipped.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import attacks
    >>> image = jnp.full((1, 1, 1, 2), 0.5)
    >>> distance = lambda x: jnp.sum((x - 0.4) ** 2, axis=(1, 2, 3))
    >>> found = attacks.pgd(distance, image, epsilon=0.1, step_size=0.02, num_steps=10, norm="l2")
    >>> found.ravel().tolist()  # along the diagonal, 0.1 / sqrt(2) in each pixel
    [0.571, 0.571]
  """
  image = _check_image(image)
  _check_norm(norm)
  if rng is not None and start is not None:
    raise InputError("both rng and start are given; a start is random or given, so drop one")
  if not low < high:
    raise InputError(f"low is {low} and high is {high}; pixels need low < high")
  radius = _scale("epsilon", epsilon, image)
  step = _scale("step_size", step_size, image)
  if _is_known(num_steps) and (num_steps != int(num_steps) or num_steps < 0):
    raise InputError(f"num_steps is {num_steps}; it must be a whole number, 0 or larger")

  gradient = _gradient(loss_fn, image)
  if start is not None:
    start = jnp.asarray(start, image.dtype)
    if start.shape != image.shape:
      raise InputError(
        f"start has shape {start.shape}, the image {image.shape}; give one perturbation per image"
      )
    x = image + start
  elif rng is not None:
    x = image + uniform_start(rng, image, epsilon=radius, norm=norm, index=index)
  else:
    x = image
  x = jnp.clip(x, low, high) if clip_start else x

  def project(x: Array) -> Array:
    if norm == "linf":
      x = jnp.clip(x, image - radius, image + radius)
    else:
      length = _length(x - image)
      shrink = jnp.where(length > radius, radius / jnp.where(length > 0, length, 1.0), 1.0)
      x = image + shrink * (x - image)
    # Towards the image in every pixel, so the clipped point stays in the ball.
    return jnp.clip(x, low, high)

  def ascend(_: int | Array, x: Array) -> Array:
    g = gradient(x)
    return project(x + step * (jnp.sign(g) if norm == "linf" else _direction(g)))

  if isinstance(num_steps, int) and num_steps == 1:  # FGSM needs no loop
    return jax.lax.stop_gradient(ascend(0, x))
  x = jax.lax.fori_loop(0, num_steps, ascend, x)
  return jax.lax.stop_gradient(jnp.where(jnp.asarray(num_steps) > 0, x, project(x)))


def uniform_start(
  rng: PRNGKey,
  image: Array,
  *,
  epsilon: float | Array,
  norm: str = "linf",
  index: Array | None = None,
) -> Array:
  """Draws a perturbation uniformly from the ball of radius epsilon.

  l_inf: every pixel uniform in [-epsilon, epsilon). l_2: the direction of a standard normal
  vector, at the radius epsilon u^(1/d) with u uniform in [0, 1) and d = H W C, which is uniform in
  volume (at image sizes nearly all of it lies next to the sphere).

  The key of an example is folded from `rng` and its index, so with the position in the data set as
  index the start depends neither on how the set is cut into batches nor on who else is in it.

  Args:
    rng: key.
    image: [B, H, W, C], for its shape and dtype.
    epsilon: radius, in the units of the image.
    norm: "linf" or "l2".
    index: [B] integers that identify the examples; None means 0..B-1.

  Returns:
    [B, H, W, C] perturbations, not clipped to the range of pixels.

  Raises:
    InputError: for an unknown norm, or an index of another length than the batch.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import attacks
    >>> image, key = jnp.zeros((2, 8, 8, 3)), jax.random.key(0)
    >>> delta = attacks.uniform_start(key, image, epsilon=0.1)
    >>> float(abs(delta).max()) <= 0.1
    True
    >>> last = attacks.uniform_start(key, image[1:], epsilon=0.1, index=jnp.array([1]))
    >>> bool((delta[1:] == last).all())
    True
  """
  _check_norm(norm)
  index = jnp.arange(image.shape[0]) if index is None else jnp.asarray(index)
  if index.shape != image.shape[:1]:
    raise InputError(
      f"index has shape {index.shape}, but the batch has {image.shape[0]} images; give one integer "
      "per image"
    )
  rng = _by_example(rng)
  size = math.prod(image.shape[1:])

  def one(example: Array) -> Array:
    key = jax.random.fold_in(rng, example)
    if norm == "linf":
      return jax.random.uniform(key, (size,), image.dtype, -1.0, 1.0)
    of_direction, of_radius = jax.random.split(key)
    normal = jax.random.normal(of_direction, (size,), image.dtype)
    radius = jax.random.uniform(of_radius, (), image.dtype) ** (1.0 / size)
    return radius * _direction(normal[None])[0]

  return epsilon * jax.vmap(one)(index).reshape(image.shape)


def _by_example(rng: PRNGKey) -> PRNGKey:
  """A key that gives an example of a batch the numbers that it would get alone: only threefry."""
  if str(jax.random.key_impl(rng)) == "threefry2x32":
    return rng
  return jax.random.wrap_key_data(jax.random.bits(rng, (2,)), impl="threefry2x32")


def _check_norm(norm: str) -> None:
  if norm not in NORMS:
    raise InputError(f"norm is {norm!r}, which no attack has; {closest(str(norm), NORMS)}")


def _check_image(image: Array) -> Array:
  image = jnp.asarray(image)
  if image.dtype not in (jnp.float32, jnp.float64):
    raise InputError(
      f"image has dtype {image.dtype}, but an attack takes float32 or float64 in [0, 1], in which "
      "its small steps are not lost; divide 8-bit images by 255, cast half precision up"
    )
  if image.ndim < 2:
    raise InputError(f"image has shape {image.shape}; an attack takes a batch [B, H, W, C]")
  return image


def _is_known(value: object) -> bool:
  return not isinstance(value, jax.core.Tracer)


def _scale(name: str, value: float | Array, image: Array) -> Array:
  if jnp.ndim(value) != 0:
    raise InputError(f"{name} has shape {jnp.shape(value)}; it must be one number")
  if _is_known(value) and not value >= 0:
    raise InputError(f"{name} is {value}; it must be 0 or larger, in the units of the image")
  return jnp.asarray(value, image.dtype)


def _gradient(loss_fn: ImageLoss, image: Array) -> Callable[[Array], Array]:
  def total(x: Array) -> Array:
    values = loss_fn(x)
    if values.shape != image.shape[:1]:
      raise InputError(
        f"loss_fn returned shape {values.shape} for {image.shape[0]} images; it must return one "
        "value per example [B], without a mean or a sum over the batch"
      )
    return jnp.sum(values)

  return jax.grad(total)


def _length(x: Array) -> Array:
  """The l_2 norm of each example, kept as [B, 1, ...]."""
  return jnp.sqrt(jnp.sum(jnp.square(x), axis=tuple(range(1, x.ndim)), keepdims=True))


def _direction(x: Array) -> Array:
  """x_i / ||x_i||_2, and 0 for x_i = 0.

  Divided by its largest entry first: gradients of a sure network are so small that their squares
  are 0. The barrier keeps XLA from squaring before it divides.
  """
  largest = jnp.max(jnp.abs(x), axis=tuple(range(1, x.ndim)), keepdims=True)
  scaled = jax.lax.optimization_barrier(x / jnp.where(largest > 0, largest, 1.0))
  return scaled / jnp.where(largest > 0, _length(scaled), 1.0)
