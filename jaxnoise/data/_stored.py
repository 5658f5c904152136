"""Images that stay on disk: a stack [N, H, W, 3] uint8 of which only what is asked for is decoded.

It stands where an array of images would: a `Source` splits it, a test set is served from it, and an
index decodes. What it costs in memory are the names of its files.
"""

from __future__ import annotations

import pathlib
import zlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import PIL
from PIL import Image

from jaxnoise.data._images import Encoded, check_shape, decode, decode_all, open_rgb

DECODER = f"Pillow {PIL.__version__}"
"""What images are decoded and resized with; another decoder gives other grey levels."""


class Files(Protocol):
  """Where encoded images lie, by position; read by several threads at once."""

  def __len__(self) -> int:
    """How many there are."""

  def where(self, i: int) -> str:
    """What messages call image i."""

  def content(self, i: int) -> Encoded:
    """Image i: the bytes of an image file, or its path."""


class Paths:
  """Images in files of their own."""

  def __init__(self, paths: Sequence[pathlib.Path | str]):
    # Texts take a quarter of the memory of paths, which counts for a million of them.
    self._paths = tuple(str(path) for path in paths)

  def __len__(self) -> int:
    return len(self._paths)

  def where(self, i: int) -> str:
    return self._paths[i]

  def content(self, i: int) -> Encoded:
    return pathlib.Path(self._paths[i])


class StoredImages:
  """A stack of images on disk, [N, H, W, 3] uint8; nothing is decoded before it is indexed.

  `images[3]` and `images[[3, 1]]` are decoded, `images[:100]` is another stack on disk, and
  `numpy.asarray(images)` decodes all, if they take no more than 16 GiB. Every image is made
  `image_size` pixels as `folder` says: the shorter side resized, the centre cropped.

  Args:
    files: where they lie.
    image_size: S > 0, or 0 for images that are all of one size.
    shape: (H, W, 3) that they must have, e.g. that of another split; () for S x S, or the first's.
    rows: which of the files, in which order; None for all.
    threads: that decode the batches of a stream; 0 for one per core.
    squeeze: resize the whole image to S x S in place of its central square.

  Attributes:
    shape: (N, H, W, 3).
    image_size, threads, squeeze: as given.
    decoder: the decoder and its version.

  Example:
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from PIL import Image
    >>> from jaxnoise.data import _stored
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "grey.png"
    >>> Image.new("L", (12, 9), 7).save(file)
    >>> images = _stored.StoredImages(_stored.Paths([file] * 5), image_size=8)
    >>> images.shape, images[:2].shape, images[4].shape, int(images[[0, 1]].max())
    ((5, 8, 8, 3), (2, 8, 8, 3), (8, 8, 3), 7)
  """

  dtype, ndim, decoder = np.dtype(np.uint8), 4, DECODER

  def __init__(
    self,
    files: Files,
    image_size: int = 0,
    shape: Sequence[int] = (),
    rows: np.ndarray | None = None,
    threads: int = 0,
    squeeze: bool = False,
  ):
    self._files, self.squeeze = files, squeeze
    self._rows = np.arange(len(files)) if rows is None else np.asarray(rows, np.int64)
    self.image_size, self.threads = image_size, threads
    if not shape:
      shape = (image_size, image_size, 3)
      if not image_size and len(self._rows):
        first = int(self._rows[0])
        shape = decode(files.content(first), files.where(first)).shape
    self.shape = (len(self._rows), *shape)

  def __len__(self) -> int:
    return len(self._rows)

  def where(self, i: int) -> str:
    """What messages call image i."""
    return self._files.where(int(self._rows[i]))

  def content(self, i: int) -> Encoded:
    """Image i as it is on disk: the bytes of an image file, or its path."""
    return self._files.content(int(self._rows[i]))

  def whole(self, i: int) -> Image.Image:
    """Image i at its own size, RGB."""
    return open_rgb(self.content(i), self.where(i))

  def square(self, i: int) -> np.ndarray:
    """Image i as the stack has it, [H, W, 3] uint8.

    Raises:
      InputError: a file that is missing, damaged or of another size, by its name.
    """
    pixels = decode(self.content(i), self.where(i), self.image_size, self.squeeze)
    check_shape(self.where(i), pixels, self.shape[1:])
    return pixels

  def take(self, indices: Any, axis: int = 0) -> StoredImages:
    """Some of the images in the given order, still on disk; `axis` is 0, as for an array."""
    del axis
    return self._with(self._rows[np.asarray(indices, np.int64)], self.threads)

  def with_threads(self, threads: int) -> StoredImages:
    """The same images, decoded by so many threads; 0 for one per core."""
    return self._with(self._rows, threads)

  def _with(self, rows: np.ndarray, threads: int) -> StoredImages:
    shape = self.shape[1:]
    return StoredImages(self._files, self.image_size, shape, rows, threads, self.squeeze)

  def __getitem__(self, key: Any) -> np.ndarray | StoredImages:
    if isinstance(key, slice):
      return self.take(np.arange(len(self))[key])
    chosen = np.arange(len(self))[key]
    return self.square(int(chosen)) if chosen.ndim == 0 else np.asarray(self.take(chosen))

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    del copy  # there is nothing that could be shared
    items = ((self.where(i), self.content(i)) for i in range(len(self)))
    out = decode_all(
      "images", len(self), items, self.image_size, self.shape[1:], self.squeeze
    )
    return out if dtype is None else out.astype(dtype)

  def tobytes(self) -> bytes:
    """What a checksum of a data set is made of: the images' names, their number and their size.

    Nothing is decoded, so a file whose content was replaced under its old name is not noticed.
    """
    crc = 0
    for i in range(len(self)):
      crc = zlib.crc32(pathlib.PurePath(self.where(i)).name.encode() + b"\0", crc)
    return repr((self.shape, self.image_size, self.squeeze, crc)).encode()
