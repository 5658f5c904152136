"""Published corrupted test sets, one cell at a time, and the benchmark's photographs of ice."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable

import numpy as np

from jaxnoise.core.errors import InputError, closest
from jaxnoise.data._folders import image_pool
from jaxnoise.data._images import decode
from jaxnoise.data._resident import Pool, Source
from jaxnoise.data._tfds import read_split, stored_order
from jaxnoise.data._tfds_layout import find_version, read_prepared

BENCHMARK = (
  "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur",
  "zoom_blur", "snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate",
  "jpeg_compression", "speckle_noise", "gaussian_blur", "spatter", "saturate",
)
"""The 15 corruptions of the benchmark in its order, then the 4 kept for validation."""

FOLDERS = {"cifar10": "CIFAR-10-C", "cifar100": "CIFAR-100-C"}
LABELS = "labels.npy"
SEVERITIES = (1, 2, 3, 4, 5)

FROST_FILES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg", "frost6.jpg")
"""The authors' photographs of ice, in their order; their code draws among the first five."""

NUM_FROST = 5

_GROUPS = ("noise", "blur", "weather", "digital", "extra")
"""Folders that ImageNet-C's archives unpack to."""

_TFDS = "cifar10_corrupted"
_TFDS_NAMES = {"frosted_glass_blur": "glass_blur", "elastic": "elastic_transform"}


@dataclasses.dataclass(frozen=True, eq=False)
class Corrupted:
  """A corrupted copy of a test set, read cell by cell.

  Attributes:
    names: the corruptions that are there, in the benchmark's order.
    severities: 1..5.
    labels: [M] int32, those of the clean test set.
    read: (name, severity) -> images [M, H, W, C] uint8, in the order of the clean test set.
  """

  names: tuple[str, ...]
  severities: tuple[int, ...]
  labels: np.ndarray
  read: Callable[[str, int], np.ndarray] = dataclasses.field(repr=False)

  def pool(self, name: str, severity: int) -> Pool:
    """Reads the test set under one corruption at one severity.

    Example i is example i of the clean test set, so that accuracies can be conditioned on it.

    Args:
      name: one of `names`.
      severity: one of `severities`.

    Raises:
      InputError: another name or severity, or damaged files.
    """
    if name not in self.names:
      raise InputError(f"corruption {name!r}: is not there; {closest(name, self.names)}")
    if severity not in self.severities:
      raise InputError(
        f"severity: found {severity!r}, expected one of {self.severities}; change it"
      )
    return Pool(self.read(name, severity), self.labels)


def corrupted(path: str | os.PathLike[str], source: Source) -> Corrupted:
  """Finds the published corrupted copy of a test set: CIFAR-10-C for CIFAR-10, and so on.

  The official form is `<corruption>.npy` [5 M, H, W, C] uint8, the severities one after the other,
  and `labels.npy` [5 M]; a cell is read from its file when it is asked for. For CIFAR-10 the sets
  `cifar10_corrupted/<corruption>_<severity>` that TFDS has prepared are read too; they are put into
  the order of the test set by TFDS' own hash. ImageNet-C's form, for a source with class names, is
  `<corruption>/<severity>/<class>/` with images named as those of the test set, the corruptions
  directly in the folder or in `noise`, `blur`, `weather`, `digital` and `extra`.

  Source: D. Hendrycks, T. Dietterich, Benchmarking Neural Network Robustness to Common Corruptions
  and Perturbations, ICLR 2019.

  Args:
    path: the folder of the .npy files, the folder that holds `CIFAR-10-C` or `CIFAR-100-C`, a TFDS
      data_dir, or the folder of ImageNet-C.
    source: the clean data set; its test images and labels are what the files must fit.

  Raises:
    InputError: nothing there, a file of another shape or dtype, or labels other than those of the
      test set.

  Example:
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from jaxnoise import data
    >>> source = data.generated(num_test=6)
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> np.save(folder / "labels.npy", np.tile(source.test_labels, 5))
    >>> np.save(folder / "fog.npy", np.concatenate([source.test_images // s for s in range(1, 6)]))
    >>> found = data.corrupted(folder, source)
    >>> [(name, s, int(found.pool(name, s).images.max())) for name in found.names for s in (1, 5)]
    [('fog', 1, 255), ('fog', 5, 51)]
  """
  root = pathlib.Path(path)
  for folder in (root, root / FOLDERS.get(source.name, "")):
    if (folder / LABELS).is_file():
      return _official(folder, source)
  if source.name == "cifar10":
    inner = root if root.name == _TFDS else root / _TFDS
    if inner.is_dir() and (found := _prepared(inner, source)):
      return found
  if source.class_names and (found := _by_class(root, source)):
    return found
  name = FOLDERS.get(source.name, f"corrupted {source.name}")
  tfds = f", or a TFDS data_dir with {_TFDS}" if source.name == "cifar10" else ""
  raise InputError(
    f"{name}: was not found at {os.fspath(path)!r}; give the folder with {LABELS} and one .npy "
    f"file for each corruption, or one with <corruption>/<severity>/<class>/ folders of images"
    f"{tfds}"
  )


def frost_textures(
  path: str | os.PathLike[str], variant: str = "cifar"
) -> tuple[np.ndarray, ...]:
  """Reads the photographs of ice that the benchmark lays over its images.

  They are distributed with the authors' code and are no part of this package. The authors' code
  names six and can only draw the first five, so the sixth is not read and need not be there.

  Args:
    path: the folder of frost1.png, frost2.png, frost3.png, frost4.jpg and frost5.jpg.
    variant: "cifar" shrinks them to a fifth, as the generator of CIFAR-10-C does (a linear
      interpolation without smoothing, which at this factor takes every fifth pixel); "imagenet"
      keeps the full size.

  Returns:
    Five [h, w, 3] uint8 images, the `textures` of `corruptions.frost` and `corruptions.corrupt`;
    `jax.device_put` them once, so that they are not sent to the device at every call.

  Raises:
    InputError: a file that is missing or no image, or an unknown variant.

  Source: D. Hendrycks, T. Dietterich, Benchmarking Neural Network Robustness to Common Corruptions
  and Perturbations, ICLR 2019; authors' code.

  Example:
    >>> import pathlib, tempfile
    >>> import PIL.Image
    >>> from jaxnoise import data
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name in data.FROST_FILES[:5]:
    ...   PIL.Image.new("RGB", (300, 200), (200, 220, 240)).save(folder / name)
    >>> [texture.shape for texture in data.frost_textures(folder)]
    [(40, 60, 3), (40, 60, 3), (40, 60, 3), (40, 60, 3), (40, 60, 3)]
  """
  if variant not in ("cifar", "imagenet"):
    known = ("cifar", "imagenet")
    raise InputError(f"variant {variant!r} is not known; {closest(str(variant), known)}")
  folder = pathlib.Path(path)
  names = FROST_FILES[:NUM_FROST]
  missing = [name for name in names if not (folder / name).is_file()]
  if missing:
    raise InputError(
      f"frost textures: {', '.join(missing)} not found at {os.fspath(path)!r}; give the folder of "
      f"{names[0]} to {names[-1]} of the authors' code, or none to have ice generated"
    )
  textures = tuple(decode(folder / name, os.fspath(folder / name)) for name in names)
  # Output pixel i lies at 5 (i + 1/2) - 1/2 = 5 i + 2: a whole pixel, nothing is interpolated.
  return textures if variant == "imagenet" else tuple(t[2::5, 2::5].copy() for t in textures)


def _official(folder: pathlib.Path, source: Source) -> Corrupted:
  count = len(source.test_labels)
  labels = _open(folder / LABELS)
  if labels.shape != (5 * count,) or not np.array_equal(
    np.reshape(labels, (5, -1)), np.tile(source.test_labels, (5, 1))
  ):
    found = f"{labels.dtype} {labels.shape}" if labels.shape != (5 * count,) else "others"
    raise InputError(
      f"{folder / LABELS}: expected the {count} test labels of {source.name} five times over, "
      f"found {found}; give the corrupted copy of this test set"
    )
  names = _ordered(file.stem for file in folder.glob("*.npy") if file.name != LABELS)
  if not names:
    raise InputError(f"{folder}: has {LABELS} and no <corruption>.npy; unpack the whole archive")
  shape = (5 * count, *source.image_shape)
  for name in names:
    array = _open(folder / f"{name}.npy")
    if array.shape != shape or array.dtype != np.uint8:
      raise InputError(
        f"{folder / name}.npy: is {array.dtype} {array.shape}, expected uint8 {shape}, five times "
        f"the test images of {source.name}; get it again"
      )

  def read(name: str, severity: int) -> np.ndarray:
    array = _open(folder / f"{name}.npy")
    return np.array(array[(severity - 1) * count : severity * count])

  return Corrupted(names, SEVERITIES, source.test_labels, read)


def _by_class(root: pathlib.Path, source: Source) -> Corrupted | None:
  """ImageNet-C's form: <corruption>/<severity>/<class>/<file of the test set>."""
  folders = {}
  for inner in (root, *(root / group for group in _GROUPS)):
    for name in BENCHMARK:
      if all((inner / name / str(s)).is_dir() for s in SEVERITIES):
        folders.setdefault(name, inner / name)
  if not folders:
    return None
  height, width = source.image_shape[:2]

  def read(name: str, severity: int) -> np.ndarray:
    folder = folders[name] / str(severity)
    pool = image_pool(folder, height if height == width else 0, class_names=source.class_names)
    if not np.array_equal(pool.labels, source.test_labels):
      raise InputError(
        f"{folder}: has {len(pool.labels)} images, the test set of {source.name} "
        f"{len(source.test_labels)}, and they are not as many of each class; give the corrupted "
        "copy of this test set"
      )
    return pool.images

  return Corrupted(_ordered(folders), SEVERITIES, source.test_labels, read)


def _prepared(root: pathlib.Path, source: Source) -> Corrupted | None:
  inverse = {ours: theirs for theirs, ours in _TFDS_NAMES.items()}
  configs = {child.name for child in root.iterdir() if child.is_dir()}
  stems = {config.rpartition("_")[0] for config in configs}
  stems = {stem for stem in stems if all(f"{stem}_{s}" in configs for s in SEVERITIES)}
  names = _ordered(_TFDS_NAMES.get(stem, stem) for stem in stems)
  if not names:
    return None
  order = stored_order(len(source.test_labels), "test")

  def read(name: str, severity: int) -> np.ndarray:
    config = f"{_TFDS}/{inverse.get(name, name)}_{severity}"
    directory = find_version(root, config)
    if directory is None:
      raise InputError(f"{root}: has no prepared version of {config}; prepare it again")
    split = read_split(read_prepared(directory), "test", shape=source.image_shape)
    if len(split.labels) != len(order) or not np.array_equal(
      split.labels, source.test_labels[order]
    ):
      raise InputError(
        f"{directory}: its labels are not the test labels of {source.name} in TFDS' order; prepare "
        "it again from the published arrays"
      )
    images = np.empty_like(split.images)
    images[order] = split.images
    return images

  return Corrupted(names, SEVERITIES, source.test_labels, read)


def _ordered(names: Iterable[str]) -> tuple[str, ...]:
  rank = {name: position for position, name in enumerate(BENCHMARK)}
  return tuple(sorted(names, key=lambda name: (rank.get(name, len(rank)), name)))


def _open(path: pathlib.Path) -> np.ndarray:
  try:
    return np.load(path, mmap_mode="r", allow_pickle=False)
  except (ValueError, OSError, EOFError) as error:
    raise InputError(f"{path}: cannot be read as an array ({error}); get it again") from error
