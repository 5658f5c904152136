"""Square Attack: random search in the l_inf ball by squares of one colour, without a gradient."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.attacks._apgd import _box
from jaxnoise.attacks._gradient import _by_example, _check_image, _is_known, _scale
from jaxnoise.attacks._objectives import ImageLoss
from jaxnoise.core import InputError
from jaxnoise.core.types import Array, PRNGKey

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries, of 10000, after which the share of changed pixels is halved."""


def square(
  loss_fn: ImageLoss,
  image: Array,
  *,
  epsilon: float | Array,
  rng: PRNGKey,
  num_queries: int | Array = 5000,
  share: float = 0.8,
  rescale: bool = False,
  goal: float = float("inf"),
  index: Array | None = None,
  low: float = 0.0,
  high: float = 1.0,
) -> Array:
  """Searches the l_inf ball for a large loss by changing one square of an image at a time.

  It begins with columns one pixel wide of +-epsilon in each channel. Query i draws, for each
  example, a square of side s = max(1, round(sqrt(p_i H W))) at a uniform place inside the image and
  a sign c of each channel, adds 2 epsilon c there, projects onto the ball and [low, high] (so the
  square becomes image + epsilon c), and keeps the result if the loss has risen. p_i is `share`,
  halved at queries 10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000. No gradient is taken, so a
  network that hides its gradient is not safe from it.

  The key of an example is folded from `rng` and its index, and every query from that; so the result
  does not depend on the batch. An example rests once its loss is above `goal`, and the search ends
  when all rest; with `margin_ascent` and goal 0 that is when the network is fooled.

  Args:
    loss_fn: image -> [B], to ascend; the paper's is `margin_ascent`. One query is one call of it.
    image: [B, H, W, C], float32 or float64 in [low, high].
    epsilon: radius of the ball >= 0, in the units of the image; may be traced.
    rng: key.
    num_queries: N >= 1, the start's included; may be traced.
    share: p_1, the share of the image's area that the first squares have, in (0, 1].
    rescale: whether the queries at which p is halved are scaled by N / 10000, as in the paper; the
      standard ensemble (N = 5000, share 0.8) leaves them where they are.
    goal: the loss above which an example is done.
    index: [B] integers that identify the examples; None means 0..B-1.
    low: smallest pixel value.
    high: largest pixel value.

  Returns:
    [B, H, W, C], like the image; in the ball and in [low, high] exactly, of the largest loss seen.

  Raises:
    InputError: as `pgd`; for an image that is not [B, H, W, C], num_queries < 1, or a share outside
      (0, 1].

  Source: Andriushchenko et al. (2020), algorithms 1 and 2.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import attacks
    >>> image = jnp.full((1, 4, 4, 1), 0.5)
    >>> brightness = lambda x: jnp.mean(x, axis=(1, 2, 3))
    >>> found = attacks.square(
    ...   brightness, image, epsilon=0.1, rng=jax.random.key(0), num_queries=99
    ... )
    >>> brightness(found).tolist()
    [0.6]
  """
  image = _check_image(image)
  radius = _scale("epsilon", epsilon, image)
  if image.ndim != 4:
    raise InputError(f"image has shape {image.shape}; squares need a batch [B, H, W, C]")
  if not low < high:
    raise InputError(f"low is {low} and high is {high}; pixels need low < high")
  if _is_known(num_queries) and (num_queries != int(num_queries) or num_queries < 1):
    raise InputError(f"num_queries is {num_queries}; it must be a whole number, 1 or larger")
  if not 0 < share <= 1:
    raise InputError(f"share is {share}; the share of pixels that a square has lies in (0, 1]")
  size, height, width, channels = image.shape
  index = jnp.arange(size) if index is None else jnp.asarray(index)
  if index.shape != (size,):
    raise InputError(
      f"index has shape {index.shape}, but the batch has {size} images; give one integer per image"
    )
  lower, upper = _box(image, radius, low, high)
  root = _by_example(rng)
  keys = jax.vmap(lambda i: jax.random.fold_in(root, i))(index)
  rows = np.arange(height).reshape(1, -1, 1, 1)
  columns = np.arange(width).reshape(1, 1, -1, 1)
  # Sides of the squares after each number of halvings: few and known, so a table.
  sides = [np.sqrt(share / 2**j * height * width) for j in range(len(HALVINGS) + 1)]
  sides = np.clip(np.rint(sides), 1, min(height, width)).astype(np.int32)

  def draw(step: int | Array, count: int) -> Array:
    one = lambda key: jax.random.uniform(jax.random.fold_in(key, step), (count,))
    return jax.vmap(one)(keys)

  def place(u: Array, room: Array) -> Array:
    """Uniform in 0..room - 1; the minimum is for a u that rounds up to 1."""
    return jnp.minimum((u * room).astype(jnp.int32), room - 1).reshape(-1, 1, 1, 1)

  def query(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    step, x, loss = state
    scaled = step * (10000 / jnp.asarray(num_queries)) if rescale else step
    side = jnp.asarray(sides)[jnp.sum(scaled > np.array(HALVINGS))]
    u = draw(step, 2 + channels)
    top, left = place(u[:, 0], height - side + 1), place(u[:, 1], width - side + 1)
    inside = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
    positive = (u[:, 2:] < 0.5).reshape(size, 1, 1, channels)
    # x is in the ball already, so that adding 2 epsilon and projecting is to go to its bound.
    proposal = jnp.where(inside, jnp.where(positive, upper, lower), x)
    value = loss_fn(proposal)
    better = (value > loss) & ~(loss > goal)
    x = jnp.where(better.reshape(-1, 1, 1, 1), proposal, x)
    return step + 1, x, jnp.where(better, value, loss)

  def goes_on(state: tuple[Array, Array, Array]) -> Array:
    step, _, loss = state
    return (step < num_queries) & ~jnp.all(loss > goal)

  stripes = (draw(0, width * channels) < 0.5).reshape(size, 1, width, channels)
  x = jnp.where(stripes, upper, lower)
  loss = loss_fn(x)
  if loss.shape != (size,):
    raise InputError(
      f"loss_fn returned shape {loss.shape} for {size} images; it must return one value per "
      "example [B], without a mean or a sum over the batch"
    )
  _, x, _ = jax.lax.while_loop(goes_on, query, (jnp.asarray(1), x, loss))
  return jax.lax.stop_gradient(x)
