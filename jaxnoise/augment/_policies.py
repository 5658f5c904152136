"""AugMix in its two published forms: the draws, the chains and their convex combination."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnoise.augment._compose import Transform
from jaxnoise.augment._operations import ALL_OPERATIONS, BASE_OPERATIONS, augmix_chain
from jaxnoise.core.errors import InputError
from jaxnoise.core.types import Array, PRNGKey

MAX_LEVEL = 10
RANDOM_DEPTH = 3  # a chain of random depth holds 1, 2 or 3 operations


class AugMixDraw(NamedTuple):
  """Everything that is random in one AugMix view of one image.

  Attributes:
    op_index: [width, D] int32, positions in `ALL_OPERATIONS`, -1 for an unused place.
    op_param: [width, D] float32, what each operation is given, sign included; 0 where unused.
    weights: [width] float32, Dirichlet(1, ..., 1): the share of each chain in the mixture.
    m: float32 scalar, Beta(1, 1): the share of the mixture against the image itself.
  """

  op_index: Array
  op_param: Array
  weights: Array
  m: Array


def sample_augmix(
  rng: PRNGKey,
  size: tuple[int, int],
  *,
  width: int = 3,
  depth: int = -1,
  severity: float = 3.0,
  all_ops: bool = False,
) -> AugMixDraw:
  """Draws one AugMix view as its authors do.

  Operations are uniform with replacement and each has a level l ~ U(0.1, severity) of its own. With
  t(a) = trunc(a l / 10) and a random sign s they are given: posterize 4 - t(4) bits, rotate
  s t(30) degrees, solarize 256 - t(256), shear s 0.3 l / 10, translate s t(side / 3) pixels, and
  color, contrast, brightness, sharpness the factor 0.1 + 1.8 l / 10. (On an 8x8 image severity 3
  therefore never translates.)

  Args:
    rng: key.
    size: (H, W) of the image, in pixels.
    width: number of chains.
    depth: operations in a chain; -1 draws 1, 2 or 3 for each chain.
    severity: upper end of the level, above 0.1 and at most 10.
    all_ops: adds color, contrast, brightness and sharpness, which overlap with the corruptions of
      the robustness benchmarks, to the nine base operations.

  Returns:
    The draws; D is `depth`, or 3.

  Raises:
    InputError: if `width`, `depth` or `severity` is out of range.

  Source: Hendrycks et al. 2020 (AugMix), authors' code.

  Example:
    >>> import jax
    >>> draw = jax.eval_shape(lambda key: sample_augmix(key, (32, 32)), jax.random.key(0))
    >>> draw.op_index.shape, draw.weights.shape
    ((3, 3), (3,))
  """
  _check(width, depth)
  if not 0.1 < severity <= MAX_LEVEL:
    raise InputError(f"severity is {severity}; expected a level above 0.1 and at most {MAX_LEVEL}")
  draw, uniform, sign = _draw(rng, width, depth, all_ops)
  share = (0.1 + (severity - 0.1) * uniform) / MAX_LEVEL
  height, width_px = size
  enhance = dict.fromkeys(("color", "contrast", "brightness", "sharpness"), 0.1 + 1.8 * share)
  return _with_parameters(draw, {
    "posterize": 4 - jnp.trunc(4 * share),
    "rotate": sign * jnp.trunc(30 * share),
    "solarize": 256 - jnp.trunc(256 * share),
    "shear_x": sign * 0.3 * share,
    "shear_y": sign * 0.3 * share,
    "translate_x": sign * jnp.trunc(width_px / 3 * share),
    "translate_y": sign * jnp.trunc(height / 3 * share),
    **enhance,
  })  # fmt: skip


def sample_torchvision_augmix(
  rng: PRNGKey,
  size: tuple[int, int],
  *,
  width: int = 3,
  depth: int = -1,
  severity: int = 3,
  all_ops: bool = True,
) -> AugMixDraw:
  """Draws one AugMix view as torchvision does: milder, on a grid of ten magnitudes.

  Each operation has a magnitude index i uniform on {0, ..., severity - 1}, so that one third of the
  signed operations are the identity at severity 3. With a random sign s: posterize
  4 - round(4 i / 9) bits, rotate s 30 i / 9 degrees, solarize 255 - 255 i / 9, shear s 0.3 i / 9,
  translate s trunc(side / 3 * i / 9) pixels, and color, contrast, brightness, sharpness the factor
  1 + s 0.9 i / 9.

  Args:
    rng: key.
    size: (H, W) of the image, in pixels.
    width: number of chains.
    depth: operations in a chain; -1 draws 1, 2 or 3 for each chain.
    severity: how many magnitudes to draw from, 1 to 10.
    all_ops: False leaves out color, contrast, brightness and sharpness.

  Raises:
    InputError: if `width`, `depth` or `severity` is out of range.

  Source: torchvision's `transforms.AugMix`, with whose defaults NRD's authors make teacher views.

  Example:
    >>> import jax
    >>> draw = jax.jit(sample_torchvision_augmix, static_argnums=1)
    >>> draw(jax.random.key(0), (32, 32)).op_param.shape
    (3, 3)
  """
  _check(width, depth)
  if severity not in range(1, MAX_LEVEL + 1):
    raise InputError(f"severity is {severity}; expected a whole number from 1 to {MAX_LEVEL}")
  draw, uniform, sign = _draw(rng, width, depth, all_ops)
  share = jnp.floor(uniform * severity) / (MAX_LEVEL - 1)
  height, width_px = size
  enhance = dict.fromkeys(("color", "contrast", "brightness", "sharpness"), 1 + sign * 0.9 * share)
  return _with_parameters(draw, {
    "posterize": 4 - jnp.round(4 * share),
    "rotate": sign * 30 * share,
    "solarize": 255 - 255 * share,
    "shear_x": sign * 0.3 * share,
    "shear_y": sign * 0.3 * share,
    "translate_x": sign * jnp.trunc(width_px / 3 * share),
    "translate_y": sign * jnp.trunc(height / 3 * share),
    **enhance,
  })  # fmt: skip


def _check(width: int, depth: int) -> None:
  if width < 1:
    raise InputError(f"width is {width}; expected at least 1 chain")
  if depth < 1 and depth != -1:
    raise InputError(f"depth is {depth}; expected at least 1 operation, or -1 for a random depth")


def _draw(
  rng: PRNGKey, width: int, depth: int, all_ops: bool
) -> tuple[AugMixDraw, Array, Array]:
  """Draws all but the parameters, for which it returns uniforms and signs [width, D].

  All numbers come from one call of the generator: on a CPU each call takes a second to compile.
  """
  places = RANDOM_DEPTH if depth == -1 else depth
  numbers = jax.random.uniform(rng, (width * (3 * places + 2) + 1,))
  chains, m = numbers[:-1].reshape(width, 3 * places + 2), numbers[-1]
  operation, magnitude, coin = jnp.split(chains[:, :-2], 3, axis=1)
  count = len(ALL_OPERATIONS if all_ops else BASE_OPERATIONS)
  op_index = jnp.floor(operation * count).astype(jnp.int32)
  if depth == -1:
    last = jnp.floor(chains[:, -2:-1] * RANDOM_DEPTH).astype(jnp.int32)
    used = jnp.arange(places)[None, :] <= last
    op_index = jnp.where(used, op_index, -1)
  # Normalised exponentials are Dirichlet(1, ..., 1), and Beta(1, 1) is uniform.
  gaps = -jnp.log1p(-chains[:, -1])
  draw = AugMixDraw(op_index, jnp.zeros_like(operation), gaps / jnp.sum(gaps), m)
  return draw, magnitude, jnp.where(coin < 0.5, -1.0, 1.0)


def _with_parameters(draw: AugMixDraw, table: Mapping[str, Array]) -> AugMixDraw:
  """Fills in `op_param` from a table of [width, D] parameters by operation."""
  chosen = [draw.op_index == ALL_OPERATIONS.index(name) for name in table]
  return draw._replace(op_param=jnp.select(chosen, list(table.values()), 0.0))


def grey_levels(image: Array) -> Array:
  """Rounds an image in [0, 1] to uint8 grey levels; no gradient passes.

  Example:
    >>> import jax.numpy as jnp
    >>> grey_levels(jnp.array([0.0, 0.5, 1.0])).tolist()
    [0, 128, 255]
  """
  image = jax.lax.stop_gradient(image)
  return jnp.round(jnp.clip(image, 0.0, 1.0) * 255.0).astype(jnp.uint8)


def augmix_combine(image: Array, branches: Array, weights: Array, m: Array) -> Array:
  """The convex combination of AugMix: (1 - m) x + m sum_i w_i b_i.

  It is neither clipped nor rounded. Because the weights sum to one, an affine normalisation may
  come before or after it.

  Args:
    image: [H, W, C] float.
    branches: [width, H, W, C], the chains' results; uint8 is divided by 255, floats are taken on
      the image's scale.
    weights: [width].
    m: scalar.

  Returns:
    [H, W, C] of the image's dtype; differentiable in the image, the weights and m.

  Source: Hendrycks et al. 2020 (AugMix), algorithm 1.

  Example:
    >>> import jax.numpy as jnp
    >>> branches = jnp.full((2, 1, 1, 1), 255, jnp.uint8)
    >>> augmix_combine(jnp.zeros((1, 1, 1)), branches, jnp.array([0.5, 0.5]), 0.25).item()
    0.25
  """
  if branches.dtype == jnp.uint8:
    branches = branches.astype(image.dtype) / 255
  weights, m = jnp.asarray(weights, image.dtype), jnp.asarray(m, image.dtype)
  # Written out, because a reduction over so few terms is a hundred times slower on a CPU.
  mixture = sum(weights[i] * branches[i] for i in range(branches.shape[0]))
  return (1 - m) * image + m * mixture


def _chains(levels: Array, draw: AugMixDraw, all_ops: bool) -> Array:
  chain = functools.partial(augmix_chain, all_ops=all_ops)
  return jax.vmap(chain, in_axes=(None, 0, 0))(levels, draw.op_index, draw.op_param)


def augmix(
  rng: PRNGKey,
  image: Array,
  *,
  width: int = 3,
  depth: int = -1,
  severity: float = 3.0,
  all_ops: bool = False,
) -> Array:
  """One AugMix view of one image, as its authors make it.

  x' = (1 - m) x + m sum_i w_i chain_i(round(255 x)) / 255. The chains work on grey levels and pass
  no gradient: d x' / d x = 1 - m.

  Args:
    rng: key.
    image: [H, W, C] float in [0, 1].
    width, depth, severity, all_ops: see `sample_augmix`.

  Returns:
    [H, W, C] of the image's dtype.

  Raises:
    InputError: if a hyper-parameter is out of range.

  Source: Hendrycks et al. 2020 (AugMix), authors' code.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> jax.eval_shape(augmix, jax.random.key(0), jnp.full((32, 32, 3), 0.5)).shape
    (32, 32, 3)
  """
  draw = sample_augmix(
    rng, image.shape[:2], width=width, depth=depth, severity=severity, all_ops=all_ops
  )
  branches = _chains(grey_levels(image), draw, all_ops)
  return augmix_combine(image, branches, draw.weights, draw.m)


def torchvision_augmix(
  rng: PRNGKey,
  image: Array,
  *,
  width: int = 3,
  depth: int = -1,
  severity: int = 3,
  all_ops: bool = True,
) -> Array:
  """One AugMix view of one image with torchvision's draws and its 8-bit mixture.

  x' = floor((1 - m) 255 x + m sum_i w_i chain_i) / 255, x rounded to grey levels first; no gradient
  reaches the image. The operations are PIL's; torchvision's own differ by a few grey levels at the
  borders of rotated and sheared images.

  Args:
    rng: key.
    image: [H, W, C] float in [0, 1].
    width, depth, severity, all_ops: see `sample_torchvision_augmix`.

  Returns:
    [H, W, C] of the image's dtype, multiples of 1/255.

  Raises:
    InputError: if a hyper-parameter is out of range.

  Source: torchvision's `transforms.AugMix`.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> jax.eval_shape(torchvision_augmix, jax.random.key(0), jnp.full((32, 32, 3), 0.5)).shape
    (32, 32, 3)
  """
  draw = sample_torchvision_augmix(
    rng, image.shape[:2], width=width, depth=depth, severity=severity, all_ops=all_ops
  )
  levels = grey_levels(image)
  branches = _chains(levels, draw, all_ops).astype(jnp.float32)
  mixed = augmix_combine(levels.astype(jnp.float32), branches, draw.weights, draw.m)
  return (jnp.floor(mixed) / 255).astype(image.dtype)


def augmix_policy(**hyper) -> Transform:
  """`augmix` with its hyper-parameters fixed, checked at once.

  Args:
    **hyper: `width`, `depth`, `severity`, `all_ops`.

  Raises:
    InputError: if a hyper-parameter is out of range.
    TypeError: if one does not exist.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> policy = augmix_policy(severity=1.0)
    >>> jax.eval_shape(policy, jax.random.key(0), jnp.zeros((8, 8, 1))).shape
    (8, 8, 1)
  """
  jax.eval_shape(functools.partial(sample_augmix, size=(1, 1), **hyper), jax.random.key(0))
  return functools.partial(augmix, **hyper)


def torchvision_augmix_policy(**hyper) -> Transform:
  """`torchvision_augmix` with its hyper-parameters fixed, checked at once; see `augmix_policy`.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> policy = torchvision_augmix_policy(all_ops=False)
    >>> jax.eval_shape(policy, jax.random.key(0), jnp.zeros((8, 8, 1))).shape
    (8, 8, 1)
  """
  sample = functools.partial(sample_torchvision_augmix, size=(1, 1), **hyper)
  jax.eval_shape(sample, jax.random.key(0))
  return functools.partial(torchvision_augmix, **hyper)
