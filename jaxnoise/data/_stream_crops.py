"""The first crop of a streamed image, made on the host from the whole image.

What is drawn depends on (seed, batch, row of the global batch, view) alone: not on the number of
threads or hosts.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from jaxnoise.data._images import open_rgb
from jaxnoise.data._stored import StoredImages

TRIES = 10
_NUMBERS = 2 * TRIES + 3


class Crop(NamedTuple):
  """The first transform of a training image; the fields of `config.first`, where they are told.

  Attributes:
    padding: pixels of black around the image, of which a window of the old size is cut.
    flip: whether every other image is mirrored.
    resized_crop: S > 0 cuts a random box and makes it S x S instead.
    scale, ratio: of that box, its share of the area and width / height.
  """

  padding: int = 0
  flip: bool = False
  resized_crop: int = 0
  scale: tuple[float, float] = (0.08, 1.0)
  ratio: tuple[float, float] = (3 / 4, 4 / 3)

  @property
  def active(self) -> bool:
    """Whether it does anything."""
    return bool(self.padding or self.flip or self.resized_crop)

  def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
    """What becomes of images of the shape (H, W, 3)."""
    return (self.resized_crop, self.resized_crop, 3) if self.resized_crop else tuple(shape)


def crop_numbers(seed: int, draw: int, rows: slice, views: int) -> np.ndarray:
  """The uniform numbers of a batch's crops: [b, V, 23] float64 in [0, 1).

  They come from the counter-based generator Philox, whose bits NumPy promises to keep.

  Args:
    seed: of the run.
    draw: which batch of the run, from 0.
    rows: of the global batch.
    views: V, crops of each image.

  Example:
    >>> from jaxnoise.data import _stream_crops
    >>> whole = _stream_crops.crop_numbers(0, 3, slice(0, 8), 2)
    >>> (whole[4:] == _stream_crops.crop_numbers(0, 3, slice(4, 8), 2)).all()
    np.True_
  """
  bits = np.random.Philox(key=np.array([seed, draw], np.uint64))
  raw = bits.random_raw(rows.stop * views * _NUMBERS) >> np.uint64(11)
  return (raw * 2.0**-53).reshape(-1, views, _NUMBERS)[rows.start :]


def first_crops(images: StoredImages, index: int, crop: Crop, numbers: np.ndarray) -> np.ndarray:
  """Reads one image and makes its first crops, one for each view.

  With a `resized_crop` of S, a box is drawn on the whole image as `augment.random_resized_crop`
  draws it, resized to S x S by Pillow (bilinear, anti-aliased) and mirrored or not. Otherwise the
  image as the stack has it is mirrored or not, and then cut out of a black border.

  Args:
    images: the stack.
    index: which image.
    crop: what to do.
    numbers: [V, 23], from `crop_numbers`.

  Returns:
    [V, H', W', 3] uint8.

  Raises:
    InputError: a file that is missing or damaged, by its name.
  """
  if crop.resized_crop:
    image = open_rgb(images.content(index), images.where(index))
    return np.stack([_resized_crop(image, crop, u) for u in numbers])
  pixels = images.square(index)
  return np.stack([_padded_crop(pixels, crop, u) for u in numbers])


def _resized_crop(image: Image.Image, crop: Crop, u: np.ndarray) -> np.ndarray:
  left, top, width, height = box(image.size, crop, u)
  side = crop.resized_crop
  part = image.crop((left, top, left + width, top + height))
  pixels = np.asarray(part.resize((side, side), Image.Resampling.BILINEAR))
  return pixels[:, ::-1] if crop.flip and u[2] < 0.5 else pixels


def box(size: tuple[int, int], crop: Crop, u: np.ndarray) -> tuple[int, int, int, int]:
  """The box of a resized crop in an image of (width, height): left, top, width, height.

  Example:
    >>> import numpy as np
    >>> from jaxnoise.data import _stream_crops
    >>> whole = _stream_crops.Crop(resized_crop=8, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    >>> _stream_crops.box((40, 40), whole, np.zeros(23))
    (0, 0, 40, 40)
  """
  width, height = size
  low, high = crop.scale
  surface = width * height * (low + (high - low) * u[3::2])
  low, high = np.log(crop.ratio)
  ratio = np.exp(low + (high - low) * u[4::2])
  columns, rows = np.round(np.sqrt(surface * ratio)), np.round(np.sqrt(surface / ratio))
  fits = np.flatnonzero((columns > 0) & (columns <= width) & (rows > 0) & (rows <= height))
  if len(fits):
    w, h = int(columns[fits[0]]), int(rows[fits[0]])
    return math.floor(u[1] * (width - w + 1)), math.floor(u[0] * (height - h + 1)), w, h
  # Otherwise the largest box about the centre whose aspect is allowed.
  w, h = width, height
  if width / height < crop.ratio[0]:
    h = round(width / crop.ratio[0])
  elif width / height > crop.ratio[1]:
    w = round(height * crop.ratio[1])
  return (width - w) // 2, (height - h) // 2, w, h


def _padded_crop(pixels: np.ndarray, crop: Crop, u: np.ndarray) -> np.ndarray:
  if crop.flip and u[2] < 0.5:
    pixels = pixels[:, ::-1]
  if not crop.padding:
    return pixels
  p = crop.padding
  height, width = pixels.shape[:2]
  top, left = (math.floor(n * (2 * p + 1)) for n in u[:2])
  return np.pad(pixels, ((p, p), (p, p), (0, 0)))[top : top + height, left : left + width]
