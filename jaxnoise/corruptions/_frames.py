"""The frames of perturbation sequences: one image in, its perturbed versions [T, H, W, C] out.

Every function makes its frames one after the other in a compiled loop, so that a sequence takes the
memory of its frames and not of the intermediate arrays of all of them. Parameters are known when
the program is built; see `_sequences` for their values and source.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.augment import affine
from jaxnoise.core.types import Array, PRNGKey
from jaxnoise.corruptions._blur import gaussian_blur_from, gaussian_taps
from jaxnoise.corruptions._common import flat_normal, length_scale
from jaxnoise.corruptions._motion import motion_blur_from, motion_taps, zoom_positions
from jaxnoise.corruptions._snow import snow_fall, snow_layer
from jaxnoise.corruptions._spatter import water


def noise_frames(
  rng: PRNGKey, image: Array, draw: Callable[[PRNGKey, Array], Array], count: int
) -> Array:
  """The image, then count - 1 noisy versions, each drawn with a key of its own frame.

  Example:
    >>> import jax
    >>> from jaxnoise.corruptions import _frames
    >>> def draw(key, image):
    ...   return image + jax.random.uniform(key, image.shape)
    >>> frames = _frames.noise_frames(jax.random.key(0), jax.numpy.zeros((2, 2, 1)), draw, 3)
    >>> [bool((frame > 0).all()) for frame in frames]
    [False, True, True]
  """
  noisy = jax.lax.map(lambda i: draw(jax.random.fold_in(rng, i), image), np.arange(1, count))
  return jnp.concatenate([image[None], noisy])


def motion_frames(
  image: Array, angles: np.ndarray, radius: float, sigma: float, variant: str
) -> Array:
  """Smears the image along each of the angles [T], in degrees, see `motion_blur_from`.

  Example:
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> from jaxnoise.corruptions import _frames
    >>> dot = jnp.zeros((32, 32, 1)).at[16, 16].set(1.0)
    >>> frames = _frames.motion_frames(dot, np.array([0.0, 180.0]), 2, 2.0, "cifar")
    >>> [bool(frame[16, 15, 0] > 0) for frame in frames]
    [True, False]
  """
  scale = length_scale(*image.shape[:2], variant)
  taps = jnp.asarray(motion_taps(np.asarray([[radius, sigma]]), scale)[0], image.dtype)
  angles = jnp.asarray(angles, image.dtype)
  return jax.lax.map(lambda angle: motion_blur_from(image, angle, taps), angles)


def zoom_frames(image: Array, factors: np.ndarray) -> Array:
  """Frame t is the mean of the image magnified by the factors 0..t, each cut to 8 bits.

  Example:
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> from jaxnoise.corruptions import _frames
    >>> image = jnp.array([[[0.0], [0.0], [1.0], [1.0]]] * 2)
    >>> frames = _frames.zoom_frames(image, np.array([1.0, 1.5]))
    >>> [[round(float(value), 2) for value in frame[0, :, 0]] for frame in frames]
    [[0.0, 0.0, 1.0, 1.0], [0.0, 0.08, 0.92, 1.0]]
  """
  levels = to_levels(image)
  matrices = jnp.asarray(scale_matrices(factors), image.dtype)

  def step(state: tuple[Array, Array], matrix: Array) -> tuple[tuple[Array, Array], Array]:
    total, number = state
    total = total + affine(levels, matrix).astype(image.dtype)
    return (total, number + 1.0), total / (255.0 * number)

  start = jnp.zeros_like(image), jnp.ones((), image.dtype)
  return jax.lax.scan(step, start, matrices)[1]


def snow_frames(
  rng: PRNGKey, image: Array, angles: np.ndarray, row: Sequence[float], variant: str
) -> Array:
  """One layer of flakes that falls along each of the angles [T], in degrees.

  Args:
    rng: a typed key.
    image: [H, W, 3] in [0, 1].
    angles: of the fall.
    row: the seven parameters of `_snow.snow`.
    variant: what the smear's lengths refer to.

  Returns:
    [T, H, W, 3] in [0, 1].

  Example:
    >>> import jax
    >>> import numpy as np
    >>> from jaxnoise.corruptions import _frames
    >>> grey = jax.numpy.full((8, 8, 3), 0.4)
    >>> row = (0.3, 0.3, 2, 0.3, 10, 2, 0.85)
    >>> run = jax.jit(_frames.snow_frames, static_argnums=(3, 4))
    >>> frames = run(jax.random.key(0), grey, np.array([-120.0, -60.0]), row, "cifar")
    >>> frames.shape, bool((frames[1] > grey).all())
    ((2, 8, 8, 3), True)
  """
  height, width = image.shape[:2]
  scale = length_scale(height, width, variant)
  rows, columns = (
    jnp.asarray(zoom_positions(size, row[2]), image.dtype) for size in (height, width)
  )
  taps = jnp.asarray(motion_taps(np.asarray([row[4:6]]), scale)[0], image.dtype)
  normal = flat_normal(rng, (height, width), image.dtype)
  layer = snow_layer(normal, rows, columns, jnp.asarray(row, image.dtype))
  angles = jnp.asarray(angles, image.dtype)
  return jax.lax.map(lambda angle: snow_fall(image, layer, angle, taps, row[6]), angles)


def spatter_frames(
  rng: PRNGKey,
  image: Array,
  row: Sequence[float],
  flow: Sequence[float],
  count: int,
  variant: str,
) -> Array:
  """Drops of water that run down: `count` frames, the liquid correlated along columns in between.

  Args:
    rng: a typed key.
    image: [H, W, 3] in [0, 1].
    row: mean, standard deviation and smoothing of the liquid, threshold, strength.
    flow: N weights; in the next frame row i of the liquid is sum_k flow[k] times its row
      i + (N - 1) // 2 - k, with 0 outside. In pixels at every size.
    count: T.
    variant: what the smoothing refers to.

  Returns:
    [T, H, W, 3] in [0, 1].

  Example:
    >>> import jax
    >>> from jaxnoise.corruptions import _frames
    >>> grey = jax.numpy.full((8, 8, 3), 0.4)
    >>> run = jax.jit(_frames.spatter_frames, static_argnums=(2, 3, 4, 5))
    >>> row = (0.6, 0.5, 1.75, 0.7, 0.6)
    >>> frames = run(jax.random.key(0), grey, row, (0.2, 0.8), 2, "cifar")
    >>> frames.shape, bool((frames[1] >= grey).all())
    ((2, 8, 8, 3), True)
  """
  height, width = image.shape[:2]
  mean, deviation, smoothing, threshold, strength = row
  sigma = length_scale(height, width, variant) * smoothing
  taps = jnp.asarray(gaussian_taps(sigma, int(4.0 * sigma + 0.5)), image.dtype)
  normal = flat_normal(rng, (height, width), image.dtype)
  layer = gaussian_blur_from((mean + deviation * normal)[..., None], taps)[..., 0]
  layer = jnp.where(layer < threshold, 0.0, layer)

  def step(layer: Array, _: None) -> tuple[Array, Array]:
    return run_down(layer, flow), water(image, layer, strength)

  return jax.lax.scan(step, layer, length=count)[1]


def run_down(layer: Array, flow: Sequence[float]) -> Array:
  """Moves the liquid [H, W] by one frame, see `spatter_frames`.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _frames
    >>> _frames.run_down(jnp.array([[1.0], [0.0], [0.0]]), (0.25, 0.75)).ravel().tolist()
    [0.25, 0.75, 0.0]
  """
  last = len(flow) - 1
  above = last - last // 2
  padded = jnp.pad(layer, ((above, last - above), (0, 0)))
  return sum(
    weight * padded[last - k : last - k + layer.shape[0]] for k, weight in enumerate(flow)
  )


def gaussian_frames(image: Array, sigmas: np.ndarray, truncate: float, variant: str) -> Array:
  """Smooths with each of the standard deviations [T], cut at `truncate` times themselves.

  Example:
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> from jaxnoise.corruptions import _frames
    >>> dot = jnp.zeros((32, 32, 1)).at[16, 16].set(1.0)
    >>> frames = _frames.gaussian_frames(dot, np.array([0.1, 1.0]), 4.0, "cifar")
    >>> [round(float(frame.max()), 3) for frame in frames]
    [1.0, 0.159]
  """
  sigmas = length_scale(*image.shape[:2], variant) * sigmas
  radii = [int(truncate * sigma + 0.5) for sigma in sigmas]
  taps = np.stack([
    np.pad(gaussian_taps(sigma, radius), max(radii) - radius)
    for sigma, radius in zip(sigmas, radii)
  ])
  return jax.lax.map(lambda row: gaussian_blur_from(image, row), jnp.asarray(taps, image.dtype))


def translate_frames(image: Array, pixels: np.ndarray, variant: str) -> Array:
  """Moves the image to the right by each of [T] numbers of pixels, 0 where it leaves.

  The nearest pixel is taken, so that only whole pixels move at a size where `pixels` scale to
  fractions.

  Example:
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> from jaxnoise.corruptions import _frames
    >>> image = jnp.linspace(0, 1, 5)[None, 1:, None] * jnp.ones((32, 1, 1))
    >>> frames = _frames.translate_frames(image, np.array([0.0, 8.0]), "cifar")
    >>> frames[:, 0, :, 0].tolist()
    [[0.25, 0.5, 0.75, 1.0], [0.0, 0.25, 0.5, 0.75]]
  """
  shifts = np.ceil(length_scale(*image.shape[:2], variant) * pixels - 0.5).astype(np.int32)
  reach = int(np.abs(shifts).max())
  padded = jnp.pad(image, ((0, 0), (reach, reach), (0, 0)))

  def move(shift: Array) -> Array:
    return jax.lax.dynamic_slice(padded, (0, reach - shift, 0), image.shape)

  return jax.lax.map(move, jnp.asarray(shifts))


def affine_frames(image: Array, matrices: np.ndarray) -> Array:
  """Resamples with each of the displacements [T, 2, 3], in 8 bits, 0 outside: `augment.affine`.

  Example:
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> from jaxnoise.corruptions import _frames
    >>> image = jnp.array([[[0.0], [1.0]]])
    >>> matrices = np.zeros((2, 2, 3))
    >>> matrices[1, 0, 2] = 1.0
    >>> _frames.affine_frames(image, matrices)[:, 0, :, 0].tolist()
    [[0.0, 1.0], [1.0, 0.0]]
  """
  levels = to_levels(image)
  frames = jax.lax.map(lambda m: affine(levels, m), jnp.asarray(matrices, image.dtype))
  return frames.astype(image.dtype) / 255.0


def rotation_matrices(degrees: np.ndarray) -> np.ndarray:
  """The displacements [T, 2, 3] of clockwise turns about the image's centre.

  Example:
    >>> import numpy as np
    >>> from jaxnoise.corruptions import _frames
    >>> _frames.rotation_matrices(np.array([90.0]))[0].round(3).tolist()
    [[-1.0, 1.0, 0.0], [-1.0, -1.0, 0.0]]
  """
  angle = np.deg2rad(degrees)
  sine, less = np.sin(angle), -2.0 * np.sin(angle / 2.0) ** 2
  zero = np.zeros_like(sine)
  return np.stack([less, sine, zero, -sine, less, zero], axis=-1).reshape(-1, 2, 3)


def scale_matrices(factors: np.ndarray) -> np.ndarray:
  """The displacements [T, 2, 3] of magnifications about the image's centre.

  Example:
    >>> import numpy as np
    >>> from jaxnoise.corruptions import _frames
    >>> _frames.scale_matrices(np.array([2.0]))[0].tolist()
    [[-0.5, 0.0, 0.0], [0.0, -0.5, 0.0]]
  """
  out = np.zeros((len(factors), 2, 3))
  out[:, 0, 0] = out[:, 1, 1] = 1.0 / np.asarray(factors) - 1.0
  return out


def shear_matrices(degrees: np.ndarray) -> np.ndarray:
  """The displacements [T, 2, 3] of shears along rows: x_in = x + y tan(angle), from the centre.

  Example:
    >>> import numpy as np
    >>> from jaxnoise.corruptions import _frames
    >>> _frames.shear_matrices(np.array([45.0]))[0].round(3).tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
  """
  out = np.zeros((len(degrees), 2, 3))
  out[:, 0, 1] = np.tan(np.deg2rad(degrees))
  return out


def tilt_matrices(degrees: np.ndarray, height: int, width: int) -> np.ndarray:
  """The homographies [T, 3, 3] that map an output pixel (x, y, 1) to its place in the input.

  The image stands in a plane before a camera of focal length f = sqrt(W^2 + H^2) and turns by the
  same angle about its vertical and then its horizontal axis. As in the authors' code the plane
  stands at a depth of f + 1, so that an image that is not turned is smaller by f / (f + 1).

  Example:
    >>> import numpy as np
    >>> from jaxnoise.corruptions import _frames
    >>> m = _frames.tilt_matrices(np.array([0.0]), 3, 4)[0]  # f = 5
    >>> (m / m[2, 2]).round(3).tolist()
    [[1.2, 0.0, -0.4], [0.0, 1.2, -0.3], [0.0, 0.0, 1.0]]
  """
  focal = float(np.hypot(width, height))
  centre = np.array([width / 2, height / 2])
  out = []
  for angle in np.deg2rad(degrees):
    sine, cosine = np.sin(angle), np.cos(angle)
    about_vertical = np.array([[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]])
    about_horizontal = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    # A pixel's point of the plane is (x - W/2, y - H/2, 1), turned and then moved away by f.
    plane = np.array([[1, 0, -centre[0]], [0, 1, -centre[1]], [0, 0, 1]])
    point = about_horizontal @ about_vertical @ plane
    point[2, 2] += focal
    camera = np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]])
    out.append(np.linalg.inv(camera @ point))
  return np.stack(out)


def tilt_frames(image: Array, matrices: np.ndarray) -> Array:
  """Resamples bilinearly with each of the homographies [T, 3, 3], 0 outside, rounded to 8 bits.

  Example:
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> from jaxnoise.corruptions import _frames
    >>> image = jnp.array([[[1.0], [1.0]]])
    >>> half = np.array([[[1.0, 0, 0.5], [0, 1, 0], [0, 0, 1]]])
    >>> [round(float(v) * 255) for v in _frames.tilt_frames(image, half).ravel()]
    [255, 128]
  """
  height, width, channels = image.shape
  flat = jnp.round(image * 255.0).reshape(height * width, channels)
  x = jnp.arange(width, dtype=image.dtype)[None, :]
  y = jnp.arange(height, dtype=image.dtype)[:, None]

  def turn(m: Array) -> Array:
    depth = m[2, 0] * x + m[2, 1] * y + m[2, 2]
    column = (m[0, 0] * x + m[0, 1] * y + m[0, 2]) / depth
    row = (m[1, 0] * x + m[1, 1] * y + m[1, 2]) / depth
    left, top = jnp.floor(column), jnp.floor(row)
    right, below = column - left, row - top
    total = jnp.zeros_like(image)
    for i, part_i in ((0, 1.0 - below), (1, below)):
      for j, part_j in ((0, 1.0 - right), (1, right)):
        r, c = top.astype(jnp.int32) + i, left.astype(jnp.int32) + j
        inside = (r >= 0) & (r < height) & (c >= 0) & (c < width)
        place = jnp.where(inside, r * width + c, 0)
        total = total + jnp.where(inside, part_i * part_j, 0.0)[..., None] * flat[place]
    return jnp.round(total) / 255.0

  return jax.lax.map(turn, jnp.asarray(matrices, image.dtype))


def to_levels(image: Array) -> Array:
  """Rounds an image in [0, 1] to its 8-bit levels.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.corruptions import _frames
    >>> _frames.to_levels(jnp.array([0.0, 127 / 255, 1.0])).tolist()
    [0, 127, 255]
  """
  return jnp.round(jnp.clip(image, 0.0, 1.0) * 255.0).astype(jnp.uint8)
