"""From the name of a data set to the data set."""

from __future__ import annotations

import dataclasses
import inspect
import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxnoise.core.errors import InputError, closest
from jaxnoise.data._archives import archive_names, find_archive
from jaxnoise.data._clothing1m import LAYOUT as CLOTHING1M
from jaxnoise.data._clothing1m import clothing1m
from jaxnoise.data._embedded import digits, generated
from jaxnoise.data._folders import cinic10, find_cinic10, folder
from jaxnoise.data._food101n import LAYOUT as FOOD101N
from jaxnoise.data._food101n import food101n
from jaxnoise.data._imagenet import LAYOUT as IMAGENET
from jaxnoise.data._imagenet import imagenet
from jaxnoise.data._known import CIFAR10, CIFAR100, CINIC10, SVHN, Known
from jaxnoise.data._npz import FORM, npz, read_npz
from jaxnoise.data._resident import Source
from jaxnoise.data._stored import StoredImages
from jaxnoise.data._stream import check_threads
from jaxnoise.data._stream_records import LAYOUT as RECORDS
from jaxnoise.data._stream_records import array_record
from jaxnoise.data._svhn import FILES, find_svhn
from jaxnoise.data._tfds import command, find_tfds, tfds
from jaxnoise.data._webvision import LAYOUT as WEBVISION
from jaxnoise.data._webvision import webvision

_EMBEDDED: dict[str, Callable[..., Source]] = {"digits": digits, "generated": generated}
_AT_PATH: dict[str, tuple[Callable[..., Source], str]] = {
  "npz": (npz, f"a .npz file with {FORM}"),
  "folder": (folder, "a folder with train/CLASS/*.png and test/CLASS/*.png"),
  "array_record": (array_record, f"a folder with {RECORDS}"),
  "webvision": (webvision, f"WebVision 1.0's folder with {WEBVISION}"),
  "clothing1m": (clothing1m, f"Clothing1M's folder with {CLOTHING1M}"),
  "food101n": (food101n, f"a folder with {FOOD101N}"),
  "imagenet": (imagenet, f"ImageNet's folder with {IMAGENET}"),
}
"""Sets that have one form: how to read it, and what the path must be."""


class Way(NamedTuple):
  """A place to look for a named set, and how to say what can be put there.

  Attributes:
    find: (set, path) -> the data set, or None if there is nothing of it at the path.
    advice: set -> what a user can put there, with the command for each.
  """

  find: Callable[..., Source | None]
  advice: Callable[[Known], tuple[str, ...]]


def _find_npz(known: Known, path: pathlib.Path) -> Source | None:
  file = path / f"{known.name}.npz" if path.is_dir() else path
  if file.suffix != ".npz" or not file.is_file():
    return None
  return read_npz(
    file, known.name, known.num_classes,
    image_mean=known.image_mean, image_std=known.image_std, class_names=known.class_names,
  )


def _npz_advice(known: Known) -> tuple[str, ...]:
  return (
    f"{known.name}.npz, by numpy.savez('{known.name}.npz', train_images=uint8 [N, H, W, C], "
    "train_labels=[N], test_images=..., test_labels=...) with optional human_labels/<name>",
  )


def _archive_advice(known: Known) -> tuple[str, ...]:
  first = known.layouts[0].archive
  return (
    f"the official archive, {archive_names(known)}: `curl -O https://www.cs.toronto.edu/~kriz/"
    f"{first}`",
  )


def _svhn_advice(known: Known) -> tuple[str, ...]:
  files = ",".join(FILES)
  return (
    f"the official {' and '.join(FILES)}: `curl -O "
    f"http://ufldl.stanford.edu/housenumbers/{{{files}}}`",
  )


def _cinic10_advice(known: Known) -> tuple[str, ...]:
  return (
    "the unpacked official archive with train/, valid/ and test/: `curl -O https://datashare.is.ed."
    "ac.uk/bitstream/handle/10283/3192/CINIC-10.tar.gz && tar xzf CINIC-10.tar.gz`",
  )


def _tfds_advice(known: Known) -> tuple[str, ...]:
  return (
    f"TFDS' {known.builder}/VERSION in array_record: `pip install array_record`",
    "the same in tfrecord, which needs nothing",
    f"where TensorFlow is installed, {command(known.builder)} downloads and makes the former, and "
    "without file_format the latter",
  )


_NPZ = Way(_find_npz, _npz_advice)
_ARCHIVE = Way(find_archive, _archive_advice)
_SVHN = Way(find_svhn, _svhn_advice)
_CINIC10 = Way(find_cinic10, _cinic10_advice)
_TFDS = Way(find_tfds, _tfds_advice)

_NAMED: dict[str, tuple[Known, tuple[Way, ...]]] = {
  "cifar10": (CIFAR10, (_NPZ, _ARCHIVE, _TFDS)),
  "cifar100": (CIFAR100, (_NPZ, _ARCHIVE, _TFDS)),
  "svhn": (SVHN, (_NPZ, _SVHN, _TFDS)),
  "cinic10": (CINIC10, (_NPZ, _CINIC10)),
}
"""The order of resolution; the first way that finds the set is taken."""

_OPTIONS: dict[str, Callable[..., Source]] = {"cinic10": cinic10}
"""Named sets whose loader has options."""


def load(
  name: str,
  path: str | os.PathLike[str] = "",
  *,
  stream: bool = False,
  threads: int = 0,
  **options: Any,
) -> Source:
  """Loads a data set by name. Nothing is ever downloaded.

  * `digits`, `generated`: always there; `path` is not used; `generated` takes its arguments as
    options.
  * `cifar10`, `cifar100`, `svhn`, `cinic10`: looked for at `path`, a directory or a file, as
    `<name>.npz`, then in the official form, then as TFDS prepared it (array_record or tfrecord,
    read without TensorFlow). `cinic10` has the options `origin` and `join_valid`.
  * `npz`, `folder`: your own data; `path` is the `.npz` file (option `num_classes`), or a folder
    with `train/<class>/` and `test/<class>/` (option `image_size`).
  * `array_record`: what `write_array_record` made, at `path` (option `image_size`).
  * `webvision`, `clothing1m`, `food101n`, `imagenet`: the official folders at `path`, images of any
    size made `image_size` pixels (256); all have the options `per_class` and `seed`, the others are
    those of the functions of these names.
  * `tfds:NAME`: any image-classification set that TFDS prepared, NAME being BUILDER or
    BUILDER/CONFIG; `path` is the TFDS data_dir (options `image_size`, `test_split`).

  Args:
    name: one of the above.
    path: where to look.
    stream: leave the images on disk and decode them batch by batch; for sets of image files and in
      array_record.
    threads: that decode a stream; 0 for one per core.
    **options: for the function that loads the set.

  Raises:
    InputError: an unknown name or option; data that is not there, with every way to get it and its
      command; data that is damaged.

  Example:
    >>> from jaxnoise import data
    >>> data.load("generated", num_train=100, num_classes=5).num_classes
    5
  """
  if "stream" in options:
    raise InputError(f"{name}: 'stream' is no option; set config.data.stream")
  if stream:
    _check_streams(name)
    options["stream"] = True
  if name in _EMBEDDED:
    return _call(name, _EMBEDDED[name], options)
  if name in _AT_PATH:
    function, expected = _AT_PATH[name]
    if not os.fspath(path):
      raise InputError(f"data.path: is empty, expected {expected}; give its path")
    return with_threads(_call(name, function, {"path": path, **options}), threads)
  if name.startswith("tfds:"):
    options = {"name": name.removeprefix("tfds:"), "path": path, **options}
    return with_threads(_call(name, tfds, options), threads)
  if name not in _NAMED:
    known_names = [*_EMBEDDED, *_AT_PATH, *_NAMED, "tfds:NAME"]
    raise InputError(f"data set {name!r} is not known; {closest(name, known_names)}")
  known, ways = _NAMED[name]
  if name in _OPTIONS:
    _check_options(name, _OPTIONS[name], options)
  elif options:
    raise InputError(f"{name}: takes no options, found {', '.join(options)}; leave them out")
  if os.fspath(path):
    for way in ways:
      given = options if way is _CINIC10 else {}
      source = way.find(known, pathlib.Path(path), **given)
      if source is not None:
        return source
  texts = [text for way in ways for text in way.advice(known)]
  advice = "; ".join(f"({i}) {text}" for i, text in enumerate(texts, 1))
  where = f"was not found at {os.fspath(path)!r}" if os.fspath(path) else "has no data.path"
  raise InputError(f"{name}: {where}; set data.path to a directory that holds one of: {advice}")


def _check_streams(name: str) -> None:
  """Refuses a set whose loader cannot leave its images on disk."""
  known = [n for n, (f, _) in _AT_PATH.items() if "stream" in inspect.signature(f).parameters]
  if name not in known and not name.startswith("tfds:"):
    raise InputError(
      f"config.data.stream is True, but {name} is held in memory; leave it False, or take one of "
      f"{', '.join(known)}, tfds:NAME"
    )


def with_threads(source: Source, threads: int) -> Source:
  """The same data set, whose images on disk are decoded by so many threads.

  Args:
    source: the set; in memory, nothing changes.
    threads: 0 for one per core.

  Raises:
    InputError: for what is no number of threads.

  Example:
    >>> from jaxnoise import data
    >>> data.with_threads(data.digits(), 2).streamed
    False
  """
  threads = check_threads(threads)
  stacks = {field: getattr(source, field) for field in ("images", "test_images")}
  return dataclasses.replace(
    source,
    **{f: x.with_threads(threads) for f, x in stacks.items() if isinstance(x, StoredImages)},
  )


def _call(name: str, function: Callable[..., Source], options: dict[str, Any]) -> Source:
  _check_options(name, function, options)
  return function(**options)


def _check_options(name: str, function: Callable[..., Source], options: dict[str, Any]) -> None:
  known = inspect.signature(function).parameters
  for option in options:
    if option not in known:
      allowed = [p for p in known if p not in ("name", "path", "stream")]
      advice = closest(option, allowed) if allowed else "it takes no options"
      raise InputError(f"{name}: has no option {option!r}; {advice}")
