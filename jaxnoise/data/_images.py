"""Encoded images (PNG, JPEG, ...) to one uint8 array, with a bound on the memory it takes."""

from __future__ import annotations

import collections
import concurrent.futures
import io
import itertools
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxnoise.core.errors import InputError

MEMORY_LIMIT = 16 * 2**30
"""Bytes of uint8 images that a data set held in memory may have: 16 GiB, all splits together."""

THREADS = 8
CHUNK = 64

Encoded = bytes | pathlib.Path
"""The bytes of an image file, or where it lies."""


def check_memory(field: str, count: int, shape: Sequence[int]) -> None:
  """Refuses `count` images [H, W, C] that would take more than `MEMORY_LIMIT`.

  Raises:
    InputError: they would.

  Example:
    >>> from jaxnoise.data import _images
    >>> _images.check_memory("folder", 50_000, (224, 224, 3))
  """
  size = count * int(np.prod(shape, dtype=np.int64))
  if size > MEMORY_LIMIT:
    height, width = shape[:2]
    raise InputError(
      f"{field}: {count:,} images of {height}x{width} take {size / 2**30:.0f} GiB, more than the "
      f"{MEMORY_LIMIT // 2**30} GiB that a set held in memory may have; stream it from disk by "
      "config.data.stream=True, or set a smaller image_size"
    )


def decode(
  content: Encoded, where: str, image_size: int = 0, squeeze: bool = False
) -> np.ndarray:
  """Decodes one image to RGB with Pillow; grey values are repeated, transparency is dropped.

  An image_size S > 0 resizes the shorter side to S (bilinear, anti-aliased; the longer side becomes
  round(S long / short)) and then crops S x S at the centre; an image of S x S is left as it is.
  An orientation tag of a camera is not applied.

  Args:
    content: the bytes of an image file, or its path.
    where: what messages call it.
    image_size: S, or 0 to keep the size.
    squeeze: resize the whole image to S x S, whatever its aspect, in place of its central square.

  Returns:
    [H, W, 3] uint8.

  Raises:
    InputError: no image that Pillow reads, or one of more than 8 bits per channel.

  Example:
    >>> import io
    >>> from PIL import Image
    >>> from jaxnoise.data import _images
    >>> file = io.BytesIO()
    >>> Image.new("L", (20, 10), 7).save(file, "PNG")
    >>> pixels = _images.decode(file.getvalue(), "grey.png", image_size=8)
    >>> pixels.shape, pixels.max()
    ((8, 8, 3), np.uint8(7))
  """
  colour = open_rgb(content, where)
  return np.asarray(_resized(colour, image_size, squeeze) if image_size else colour)


def open_rgb(content: Encoded, where: str) -> Image.Image:
  """Decodes one image to RGB at its own size; what is done to colours is as in `decode`.

  Args:
    content: the bytes of an image file, or its path.
    where: what messages call it.

  Raises:
    InputError: no image that Pillow reads, or one of more than 8 bits per channel.
  """
  try:
    with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as image:
      if image.mode.startswith(("I", "F")):
        raise InputError(
          f"{where}: is of mode {image.mode}, expected 8 bits per channel; convert it to 8 bits"
        )
      # Pillow warns of the direct way from a transparent palette to RGB.
      transparent = image.mode == "P" and "transparency" in image.info
      return (image.convert("RGBA") if transparent else image).convert("RGB")
  except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
    if isinstance(error, InputError):
      raise
    reason = "no image format that Pillow knows" if isinstance(error, UnidentifiedImageError) else (
      " ".join(str(error).split())
    )
    raise InputError(
      f"{where}: cannot be read as an image ({reason}); replace or remove it"
    ) from error


def decode_all(
  field: str,
  count: int,
  items: Iterable[tuple[str, Encoded]],
  image_size: int = 0,
  shape: Sequence[int] = (),
  squeeze: bool = False,
) -> np.ndarray:
  """Decodes images of one size by threads, as they arrive; few encoded ones are held at a time.

  Args:
    field: what messages call the set.
    count: N.
    items: N pairs of what messages call the image, and the image.
    image_size, squeeze: see `decode`.
    shape: (H, W, 3) that the images must have, e.g. that of another split; () for the first's.

  Returns:
    [N, H, W, 3] uint8; [0, 0, 0, 3] where N is 0 and neither a shape nor an image_size is given.

  Raises:
    InputError: images of unequal size without an image_size, too many of them, or a damaged one.
  """
  items = iter(items)
  if not shape:
    first = list(itertools.islice(items, 1))
    shape = decode(first[0][1], first[0][0], image_size, squeeze).shape if first else (
      image_size, image_size, 3
    )
    items = itertools.chain(first, items)
  check_memory(field, count, shape)
  out = np.empty((count, *shape), np.uint8)

  def fill(start: int, part: list[tuple[str, Encoded]]) -> None:
    for i, (name, content) in enumerate(part, start):
      pixels = decode(content, name, image_size, squeeze)
      check_shape(f"{field}: {name}", pixels, shape)
      out[i] = pixels

  threads = min(THREADS, os.cpu_count() or 1)
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    waiting: collections.deque[concurrent.futures.Future[None]] = collections.deque()
    for start in range(0, count, CHUNK):
      waiting.append(pool.submit(fill, start, list(itertools.islice(items, CHUNK))))
      if len(waiting) > 2 * threads:
        waiting.popleft().result()
    while waiting:
      waiting.popleft().result()
  collections.deque(items, maxlen=0)  # an iterator may check at its end that nothing is missing
  return out


def check_shape(where: str, pixels: np.ndarray, shape: Sequence[int]) -> None:
  """Refuses an image of another size than the others of its set."""
  if pixels.shape != tuple(shape):
    raise InputError(
      f"{where} is {pixels.shape[0]}x{pixels.shape[1]} pixels, others are {shape[0]}x{shape[1]}; "
      "set image_size (config.data.options.image_size) to resize all"
    )


def check_image_size(image_size: Any) -> int:
  """Checks an `image_size` option: a whole number of pixels, 0 for the images' own size."""
  if not isinstance(image_size, int) or isinstance(image_size, bool) or image_size < 0:
    raise InputError(
      f"image_size: found {image_size!r}, expected a number of pixels, or 0 to keep the images' "
      "own size; change it"
    )
  return image_size


def _resized(image: Image.Image, size: int, squeeze: bool) -> Image.Image:
  width, height = image.size
  if (width, height) == (size, size):
    return image
  if squeeze:
    return image.resize((size, size), Image.Resampling.BILINEAR)
  short = min(width, height)
  scaled = (max(size, round(size * width / short)), max(size, round(size * height / short)))
  image = image.resize(scaled, Image.Resampling.BILINEAR)
  left, top = (scaled[0] - size) // 2, (scaled[1] - size) // 2
  return image.crop((left, top, left + size, top + size))
