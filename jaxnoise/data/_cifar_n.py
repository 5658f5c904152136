"""CIFAR-N: labels that people gave to CIFAR's training images, from the official files."""

from __future__ import annotations

import csv
import dataclasses
import os
import pathlib
import pickle
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxnoise.core.errors import InputError, closest
from jaxnoise.data._checks import check_labels
from jaxnoise.data._pickles import read_pickle
from jaxnoise.data._resident import Source

ORDERS = ("python", "tfds")
_CLEAN = "clean_label"
_NAMES = {
  "aggregate_label": ("aggre_label", "aggre", "aggregate"),
  "worst_label": ("worse_label", "worst", "worse"),
  "random_label1": ("random1", "rand1"),
  "random_label2": ("random2", "rand2"),
  "random_label3": ("random3", "rand3"),
  "noisy_label": ("noise_label", "noisy", "noise", "noisy100"),
}
"""What the annotations are called here, and what the official files and their users call them."""
_OFFICIAL = {other: name for name, others in _NAMES.items() for other in (name, *others)}
_LARGEST_DISAGREEMENT = 0.01


def cifar_n(
  path: str | os.PathLike[str],
  source: Source,
  order: str = "python",
  image_order: str | os.PathLike[str] = "",
) -> Source:
  """Adds CIFAR-10N's or CIFAR-100N's human labels to a data set.

  The official files come in two orders. `CIFAR-10_human.pt` (`CIFAR-100_human.pt`) is in that of
  the original archive, "python", which every form of CIFAR read here is put into.
  `CIFAR-10_human_ordered.npy`, and the .csv that TFDS has made of it, are in the order in which
  TFDS stores the images, "tfds"; `image_order_c10.npy` (`image_order_c100.npy`) links the two: row
  r of such a file belongs to the image image_order[r]. A file read in the wrong order is 90 %
  noise, so its clean labels are compared with the data set's labels. Two images of one class that
  changed places cannot be told apart.

  Labels go to images by `source.ids`, so that a part of CIFAR gets those of its images.

  Args:
    path: the file; or the folder that holds it, or holds `data/` with it.
    source: CIFAR-10 or CIFAR-100, with its own labels.
    order: "python" or "tfds", that of the file.
    image_order: the file that links the orders; "" looks beside `path` and one folder above.

  Returns:
    The source with human_labels aggregate_label, worst_label, random_label1, random_label2,
    random_label3 (of CIFAR-10N: 9.01, 40.21, 17.23, 18.12 and 17.64 percent noise), or noisy_label
    (of CIFAR-100N: 40.20); `human_labels` knows the official names too.

  Raises:
    InputError: no such file, a damaged one, one of another set, or one in another order.

  Source: Wei et al., Learning with noisy labels revisited, 2022.
  """
  if order not in ORDERS:
    raise InputError(f"order: found {order!r}; {closest(str(order), ORDERS)}")
  if source.num_classes not in (10, 100):
    raise InputError(
      f"{source.name}: has {source.num_classes} classes, but CIFAR-N are labels of CIFAR-10 and "
      "CIFAR-100; give one of these"
    )
  file = _find(pathlib.Path(path), source.num_classes, order)
  fields = _read(file, source.num_classes)
  count = len(fields[_CLEAN])
  ids = source.ids
  if ids.dtype.kind not in "iu" or int(ids.min()) < 0 or int(ids.max()) >= count:
    raise InputError(
      f"{file}: has labels of {count} images, addressed by position, but the data set has other "
      f"ids, such as {max(ids.tolist())!r}; give the original set or a part of it"
    )
  link = _link_path(file, image_order, source.num_classes)
  rows = {"python": ids}
  if link is not None:
    rows["tfds"] = _inverse(link, count)[ids]
  elif order == "tfds":
    raise InputError(
      f"{_link_name(source.num_classes)} is neither beside {file} nor one folder above, and a file "
      "in the order of TFDS needs it; get it from where the labels came from, or give its path as "
      "image_order"
    )
  true, clean = source.true_labels, fields[_CLEAN]
  share = {name: float((clean[r] != true).mean()) for name, r in rows.items()}
  if share[order] > _LARGEST_DISAGREEMENT:
    fits = [name for name in rows if share[name] <= _LARGEST_DISAGREEMENT]
    stem = f"CIFAR-{source.num_classes}_human"
    fix = (
      f"they agree with order={fits[0]!r}" if fits else
      f"{stem}.pt goes with order='python', {stem}_ordered.npy and .csv files with order='tfds' "
      f"and {_link_name(source.num_classes)}"
    )  # fmt: skip
    raise InputError(
      f"{file}: with order={order!r} its clean labels disagree with the labels of {source.name} on "
      f"{share[order]:.1%} of the images, so it is in another order or of another set; {fix}"
    )
  human = {
    _OFFICIAL[name]: labels[rows[order]] for name, labels in fields.items() if name != _CLEAN
  }
  return dataclasses.replace(source, human_labels={**source.human_labels, **human})


def human_labels(source: Source, name: str) -> np.ndarray:
  """The human labels of that name; CIFAR-N's go by their official and their usual names too.

  Args:
    source: with `human_labels`.
    name: e.g. "worst_label", or for the same "worse_label", "worst", "worse".

  Returns:
    [N] int32.

  Raises:
    InputError: the source does not have them.

  Example:
    >>> import dataclasses
    >>> from jaxnoise import data
    >>> source = data.generated(num_train=4, num_classes=2)
    >>> source = dataclasses.replace(source, human_labels={"worst_label": [0, 1, 1, 0]})
    >>> data.human_labels(source, "worse").tolist()
    [0, 1, 1, 0]
  """
  carried = source.human_labels
  if name in carried:
    return carried[name]
  known = _OFFICIAL.get(name, "")
  if known in carried:
    return carried[known]
  raise InputError(
    f"labels: found {name!r}, which the data set does not carry: "
    + (closest(str(name), carried) if carried else "it has no human labels; leave it ''")
  )


def _find(path: pathlib.Path, num_classes: int, order: str) -> pathlib.Path:
  if path.is_file():
    return path
  stem = f"CIFAR-{num_classes}_human"
  names = {
    "python": (f"{stem}.pt", f"{stem}.npy"),
    "tfds": (f"{stem}_ordered.npy", f"{stem}_annotations.csv"),
  }[order]
  for folder in (path, path / "data"):
    for name in names:
      if (folder / name).is_file():
        return folder / name
  raise InputError(
    f"{path}: there is no {' or '.join(names)}; get it from the authors' repository, "
    "`git clone https://github.com/UCSC-REAL/cifar-10-100n`, and give its path"
  )


def _read(file: pathlib.Path, num_classes: int) -> dict[str, np.ndarray]:
  """The annotations and the clean labels, by their names in the file."""
  reader = _READERS.get(file.suffix)
  if reader is None:
    raise InputError(
      f"{file}: ends with {file.suffix or 'nothing'!r}, expected one of CIFAR-N's official files, "
      f"{', '.join(_READERS)}; other files of labels are read by label_noise.from_file"
    )
  try:
    content = reader(file)
  except Exception as error:  # a damaged pickle may raise anything
    raise InputError(
      f"{file}: cannot be read as labels of CIFAR-N ({' '.join(str(error).split())}); get the "
      "official file again"
    ) from error
  if not isinstance(content, Mapping):
    raise InputError(
      f"{file}: holds a {type(content).__name__}, expected a dictionary of labels; give one of the "
      "official files"
    )
  known = {name: v for name, v in content.items() if name == _CLEAN or name in _OFFICIAL}
  if _CLEAN not in known or len(known) < 2:
    raise InputError(
      f"{file}: has {', '.join(content) or 'nothing'}, expected {_CLEAN} and annotations such as "
      f"{'worse_label' if num_classes == 10 else 'noisy_label'}; give one of the official files"
    )
  arrays = {name: np.asarray(value).reshape(-1) for name, value in known.items()}
  count = len(arrays[_CLEAN])
  if not count:
    raise InputError(f"{file}: {_CLEAN} is empty; get the official file again")
  return {
    name: check_labels(f"{file}: {name}", value, count, num_classes)
    for name, value in arrays.items()
  }


def _read_pt(file: pathlib.Path) -> Any:
  """A dictionary of arrays as `torch.save` writes it: a zip archive, or pickles one by one."""
  try:
    if zipfile.is_zipfile(file):
      with zipfile.ZipFile(file) as archive:
        name = next((n for n in archive.namelist() if n.endswith("/data.pkl")), "data.pkl")
        with archive.open(name) as content:
          return read_pickle(content)
    with file.open("rb") as stream:
      for _ in range(3):  # a magic number, the version, facts of the machine
        read_pickle(stream)
      return read_pickle(stream)
  except pickle.UnpicklingError:
    # The official files hold NumPy arrays; saved anew, they may hold tensors.
    from jaxnoise.models._torch_pickles import Tensor, read_pickled

    with file.open("rb") as stream:
      return {
        name: value.array() if isinstance(value, Tensor) else value
        for name, value in read_pickled(stream).items()
      }


def _read_npy(file: pathlib.Path) -> Any:
  """A dictionary that `numpy.save` pickled."""
  with file.open("rb") as stream:
    version = np.lib.format.read_magic(stream)
    header = (
      np.lib.format.read_array_header_1_0 if version == (1, 0)
      else np.lib.format.read_array_header_2_0
    )  # fmt: skip
    shape, _, dtype = header(stream)
    if shape or not dtype.hasobject:
      raise ValueError(f"it holds an array {dtype} of shape {shape} and no dictionary")
    return read_pickle(stream, objects=True)[0]


def _read_csv(file: pathlib.Path) -> Any:
  with file.open(newline="", encoding="utf-8") as stream:
    names, *rows = [row for row in csv.reader(stream) if row]
  columns = zip(*rows, strict=True)
  return {
    name: np.array([int(cell) for cell in column])
    for name, column in zip(names, columns, strict=True)
    if name == _CLEAN or name in _OFFICIAL
  }


_READERS: dict[str, Callable[[pathlib.Path], Any]] = {
  ".pt": _read_pt,
  ".npy": _read_npy,
  ".csv": _read_csv,
}


def _link_name(num_classes: int) -> str:
  return f"image_order_c{num_classes}.npy"


def _link_path(
  file: pathlib.Path, given: str | os.PathLike[str], num_classes: int
) -> pathlib.Path | None:
  if os.fspath(given):
    if not pathlib.Path(given).is_file():
      raise InputError(f"image_order: {given} does not exist; is the path right?")
    return pathlib.Path(given)
  folders = (file.parent, file.parent.parent)
  return next((f for d in folders if (f := d / _link_name(num_classes)).is_file()), None)


def _inverse(link: pathlib.Path, count: int) -> np.ndarray:
  """[count] the row of each image, of a file whose row r belongs to the image order[r]."""
  try:
    order = np.load(link, allow_pickle=False)
  except (ValueError, EOFError) as error:
    raise InputError(f"{link}: cannot be read ({error}); get the official file again") from error
  order = np.asarray(order).reshape(-1)
  if order.dtype.kind not in "iuf" or not np.array_equal(np.sort(order), np.arange(count)):
    raise InputError(
      f"{link}: is no order of the {count} images that the labels are of; get the official file "
      "that belongs to them"
    )
  rows = np.empty(count, np.int64)
  rows[order.astype(np.int64)] = np.arange(count)
  return rows
