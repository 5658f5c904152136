"""The only place where names become functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from jaxnoise.core.errors import InputError, closest

OBJECT = "object:"
"""How the record of a run names what was given to it as a Python object."""


def name_of(part: Any) -> str:
  """What the record of a run calls an object: "object:module.name".

  Example:
    >>> from jaxnoise import methods
    >>> from jaxnoise.training import resolve
    >>> resolve.name_of(methods.erm)
    'object:jaxnoise.methods.erm.erm'
  """
  named = part if hasattr(part, "__qualname__") else type(part)
  return f"{OBJECT}{named.__module__}.{named.__qualname__}"


def lookup(field: str, package: ModuleType, name: str, *leading: str) -> Callable:
  """Finds a public function of a package whose leading parameters have these names.

  A package's public list is the registry; the leading parameters tell a method's factory (network)
  from a wrapper (inner) and from the helpers beside them.

  Args:
    field: the config field, for messages.
    package: e.g. `jaxnoise.methods`.
    name: of the function.
    *leading: names of its first parameters.

  Raises:
    InputError: for an unknown name, with the closest ones.

  Example:
    >>> from jaxnoise import methods
    >>> from jaxnoise.training import resolve
    >>> resolve.lookup("config.method.name", methods, "erm", "network").__name__
    'erm'
  """
  public = {
    n: f
    for n, f in vars(package).items()
    if inspect.isfunction(f)
    and tuple(inspect.signature(f).parameters)[: len(leading)] == leading
  }
  if str(name).startswith(OBJECT):
    raise InputError(
      f"{field} is {name!r}: the run was made with a Python object of that name, which a config "
      "cannot name; hand it in again"
    )
  if name not in public:
    raise InputError(f"{field} is {name!r}, no such name: {closest(str(name), public)}")
  return public[name]


def call(field: str, factory: Callable, *args: Any, **kwargs: Any) -> Any:
  """Calls a factory; what it says of a bad value, or Python of a bad keyword, names the field.

  Args:
    field: the config section, for messages.
    factory: the function.
    *args: what the library passes.
    **kwargs: what the config says.

  Raises:
    InputError: for a keyword that the factory does not have, or a value that it refuses.
  """
  check_keywords(field, factory, kwargs, positional=len(args))
  try:
    return factory(*args, **kwargs)
  except InputError as error:
    if "config." in str(error):
      raise
    raise InputError(f"{field}: {error}") from None


def check_keywords(field: str, factory: Callable, kwargs: Mapping, positional: int) -> None:
  """Checks keywords against a signature.

  Args:
    field: the config section, for messages.
    factory: the function.
    kwargs: what the config says.
    positional: how many leading parameters the library passes.

  Raises:
    InputError: for an unknown keyword (with the closest ones), or a word where a number belongs.
  """
  parameters = list(inspect.signature(factory).parameters.values())
  takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
  free = {p.name: p for p in parameters[positional:] if p.kind is not p.VAR_KEYWORD}
  for name in kwargs:
    if name not in free and not takes_any:
      # Objects (networks, specs, transforms) are injected, so a user need not see them.
      called = getattr(factory, "__name__", type(factory).__name__)
      shown = [n for n in free if n not in ("spec", "network", "dtype", "first", "policy")]
      raise InputError(
        f"{field}.{name} is no argument of {called}({', '.join(shown)}): "
        + closest(name, shown)
      )
  for name, value in kwargs.items():
    default = free[name].default if name in free else None
    number = isinstance(default, (int, float)) and not isinstance(default, bool)
    annotation = str(free[name].annotation) if name in free else ""
    # A fill may be one number or one for each channel, and some numbers may be left out.
    if (isinstance(value, tuple) and "Fill" in annotation) or (
      value is None and "None" in annotation
    ):
      continue
    if number and (isinstance(value, bool) or not isinstance(value, (int, float))):
      raise InputError(
        f"{field}.{name} is {value!r}, of type {type(value).__name__}; it must be a number, such "
        f"as {default!r}"
      )
