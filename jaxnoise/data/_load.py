"""From the name of a data set to the data set."""

from __future__ import annotations

import inspect
import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxnoise.core.errors import InputError, closest
from jaxnoise.data._archives import CIFAR10, CIFAR100, Cifar, archive_names, find_archive
from jaxnoise.data._embedded import digits, generated
from jaxnoise.data._npz import FORM, npz, read_npz
from jaxnoise.data._resident import Source

_EMBEDDED: dict[str, Callable[..., Source]] = {"digits": digits, "generated": generated}
_NAMED: dict[str, Cifar] = {"cifar10": CIFAR10, "cifar100": CIFAR100}


class Way(NamedTuple):
  """One way to get a named set: how to look for it, and how to say so.

  Attributes:
    find: (set, path) -> the data set, or None if this way leads to nothing at the path.
    advice: set -> what a user can put there.
  """

  find: Callable[[Cifar, pathlib.Path], Source | None]
  advice: Callable[[Cifar], str]


def _find_npz(named: Cifar, path: pathlib.Path) -> Source | None:
  file = path / f"{named.name}.npz" if path.is_dir() else path
  if file.suffix != ".npz" or not file.is_file():
    return None
  facts = {"image_mean": named.image_mean, "image_std": named.image_std}
  return read_npz(file, named.name, named.num_classes, **facts)


_WAYS = (
  Way(_find_npz, lambda named: f"a file {named.name}.npz with {FORM}"),
  Way(find_archive, lambda named: f"the official archive: {archive_names(named)}"),
)
"""The order of resolution; the first that finds the set is taken."""


def load(name: str, path: str | os.PathLike[str] = "", **options: Any) -> Source:
  """Loads a data set by name. Nothing is ever downloaded.

  * `digits`, `generated`: always there; `path` is not used; `generated` takes its arguments as
    options.
  * `npz`: your own data; `path` is the `.npz` file; the option `num_classes`.
  * `cifar10`, `cifar100`: looked for at `path`, a directory or a file, as `<name>.npz`, then as the
    official archive (python version, binary version, their .tar.gz files).

  Args:
    name: one of the above.
    path: where to look.
    **options: for the function that loads the set.

  Raises:
    InputError: an unknown name or option; data that is not there, with every way to get it; data
      that is damaged.

  Example:
    >>> from jaxnoise import data
    >>> data.load("generated", num_train=100, num_classes=5).num_classes
    5
  """
  if name in _EMBEDDED:
    return _call(name, _EMBEDDED[name], options)
  if name == "npz":
    if not os.fspath(path):
      raise InputError(f"data.path: is empty, expected a .npz file with {FORM}; give its path")
    return _call(name, npz, {"path": path, **options})
  if name not in _NAMED:
    raise InputError(
      f"data set {name!r} is not known; {closest(name, [*_EMBEDDED, 'npz', *_NAMED])}"
    )
  named = _NAMED[name]
  if options:
    raise InputError(f"{name}: takes no options, found {', '.join(options)}; leave them out")
  if os.fspath(path):
    for way in _WAYS:
      source = way.find(named, pathlib.Path(path))
      if source is not None:
        return source
  ways = "; ".join(f"({i}) {way.advice(named)}" for i, way in enumerate(_WAYS, 1))
  where = f"was not found at {os.fspath(path)!r}" if os.fspath(path) else "has no data.path"
  raise InputError(f"{name}: {where}; set data.path to a directory that holds one of: {ways}")


def _call(name: str, function: Callable[..., Source], options: dict[str, Any]) -> Source:
  known = inspect.signature(function).parameters
  for option in options:
    if option not in known:
      allowed = [p for p in known if p != "path"]
      advice = closest(option, allowed) if allowed else "it takes no options"
      raise InputError(f"{name}: has no option {option!r}; {advice}")
  return function(**options)
