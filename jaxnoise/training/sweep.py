"""`config.sweep`: runs that differ in a few numbers, trained as one program.

{"optim": {"lr": (0.1, 0.05)}, "method": {"alpha": (0.5, 1.0)}} are two members, the i-th of which
has the i-th value of each. Method and optimizer of a member are made from its own config by the
usual factories. Data, network and seeds are shared, and so are initial parameters, the order of
examples and every random stream: members differ by their settings alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from jaxnoise.core.errors import InputError, closest
from jaxnoise.training import schema

if TYPE_CHECKING:
  from jaxnoise.training.build import Run

T = TypeVar("T")
SECTIONS = ("optim", "method", "policy", "wrapper_args")
"""Sections of a config whose numbers may be swept."""


def fields(config: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
  """The swept fields by name, each with its values; {} where there is no sweep.

  Args:
    config: of a run; only `sweep` is read.

  Raises:
    InputError: for values that are no numbers, for one alone, or not as many as another field has.

  Example:
    >>> from jaxnoise.training import sweep
    >>> sweep.fields({"sweep": {"optim": {"lr": (0.1, 0.05)}}})
    {'optim.lr': (0.1, 0.05)}
  """
  out: dict[str, tuple[float, ...]] = {}
  for name, values in _flat(config.get("sweep") or {}):
    where = f"config.sweep.{name}"
    if not isinstance(values, (tuple, list)) or not all(map(_is_number, values)):
      raise InputError(f"{where} is {values!r}; it must be several numbers, such as (0.1, 0.05)")
    if len(values) < 2:
      raise InputError(
        f"{where} has {len(values)} value(s); give one for each member, two or more, or set "
        f"config.{name}"
      )
    other = next(iter(out), name)
    if len(values) != len(out.get(other, values)):
      raise InputError(
        f"{where} has {len(values)} values and config.sweep.{other} has {len(out[other])}; member "
        "i has the i-th of each, so give as many of both"
      )
    out[name] = tuple(values)
  return out


def labels(config: Mapping[str, Any]) -> list[str]:
  """What to call each member, by its values; [""] without a sweep.

  Example:
    >>> from jaxnoise.training import sweep
    >>> sweep.labels({"sweep": {"optim": {"lr": (0.1, 0.05)}, "method": {"alpha": (1, 2)}}})
    ['optim.lr = 0.1, method.alpha = 1', 'optim.lr = 0.05, method.alpha = 2']
  """
  swept = fields(config)
  number = lambda v: f"{v:g}" if float(f"{v:g}") == v else f"{float(v)!r}"
  told = lambda row: ", ".join(f"{n} = {number(v)}" for n, v in zip(swept, row, strict=True))
  return [told(row) for row in zip(*swept.values(), strict=True)] or [""]


def members(config: Mapping[str, Any], *, finished: bool = False) -> list[dict[str, Any]]:
  """The config of each member, that of a run without a sweep; without one, the config itself.

  Args:
    config: complete, from `schema.check`.
    finished: whether the method was given as a finished object, whose numbers are what they are.

  Raises:
    InputError: for a field that does not exist, is no number, or is shared by all members.

  Example:
    >>> from jaxnoise.training import schema, sweep
    >>> config = schema.check({"sweep": {"optim.lr": (0.1, 0.05)}})
    >>> [member["optim"]["lr"] for member in sweep.members(config)]
    [0.1, 0.05]
  """
  swept = fields(config)
  for name in swept:
    _check_field(config, name, finished)
  if not swept:
    return [dict(config)]
  return [schema.check(member(config, i)) for i in range(len(labels(config)))]


def member(config: Mapping[str, Any], i: int) -> dict[str, Any]:
  """The config with the values of member `i` and without a sweep; nothing is checked.

  Example:
    >>> from jaxnoise.training import sweep
    >>> sweep.member({"seed": 3, "sweep": {"optim": {"lr": (0.1, 0.05)}}}, 1)
    {'seed': 3, 'sweep': {}, 'optim': {'lr': 0.05}}
  """
  out = {**config, "sweep": {}}
  for name, values in fields(config).items():
    out = _with(out, name.split("."), values[i])
  return out


def naming(config: Mapping[str, Any], i: int, make: Callable[[], T]) -> T:
  """Calls `make`; what is wrong with the values of a member is said of that member."""
  try:
    return make()
  except InputError as error:
    if not config["sweep"]:
      raise
    raise InputError(f"config.sweep, member {i} ({labels(config)[i]}): {error}") from None


def check(run: Run) -> None:
  """Refuses members that are alike, or whose steps, passes or batches are not the same.

  Arrays that differ in shape are refused where members are put together; see `seeds.over_seeds`.

  Args:
    run: with its members.

  Raises:
    InputError: naming what was swept and what then differs.
  """
  rows = list(zip(*fields(run.config).values(), strict=True))
  for i, row in enumerate(rows):
    if row in rows[:i]:
      raise InputError(
        f"config.sweep has members {rows.index(row)} and {i} alike ({labels(run.config)[i]}); for "
        "another draw of one setting set config.seeds"
      )
  first = _shared(run.members[0])
  for i, member in enumerate(run.members):
    for what, value in _shared(member).items():
      if value != first[what]:
        raise InputError(
          f"{names(run.config)} changes {what}, {first[what]} of member 0 and {value} of member "
          f"{i}, which one program has to have in common; make these runs of their own"
        )


def names(config: Mapping[str, Any]) -> str:
  """The swept fields, for a message; "" without a sweep."""
  return " and ".join(f"config.sweep.{name}" for name in fields(config))


def _shared(run: Run) -> dict[str, Any]:
  """What all members of one program have in common, by name."""
  spec, method = run.spec, run.method
  passes = 0 if method.example_pass is None else method.passes_per_epoch
  return {
    "the number of steps": spec.num_steps,
    "the steps of an epoch": spec.steps_per_epoch,
    "how often a batch is used": method.replays,
    "the passes over the training set": passes,
    "the crops of an image": method.host_crops,
    "the side batches": [(s.name, s.pool, s.size, s.weights is None) for s in method.side_batches],
  }


def _check_field(config: Mapping[str, Any], name: str, finished: bool) -> None:
  where, path = f"config.sweep.{name}", name.split(".")
  may = f"numbers of {', '.join(SECTIONS[:-1])} and {SECTIONS[-1]} may be swept"
  if path[0] not in config:
    raise InputError(f"{where} is no field of the config: {closest(path[0], config)}")
  if path[0] not in SECTIONS:
    raise InputError(
      f"{where} would change what all members share (data, network, batches, steps, seeds); {may}"
    )
  if finished and path[0] in ("method", "policy"):
    raise InputError(
      f"{where} is given, but method is a finished Method, made already; give its factory as method"
    )
  section: Any = config
  for i, key in enumerate(path):
    if not isinstance(section, Mapping):
      above = ".".join(path[:i])
      raise InputError(f"{where}: config.{above} is no section, but {section!r}; {may}")
    if key not in section and path[0] == "optim":
      raise InputError(f"{where} is no field of config.optim: {closest(key, section)}")
    # An argument that the config leaves at its factory's default is checked by the factory.
    section = section.get(key, {} if i < len(path) - 1 else 0)
  if not _is_number(section) or name == "optim.freeze_level":
    what = "changes which arrays there are" if _is_number(section) else f"is {section!r}, no number"
    raise InputError(f"{where}: config.{name} {what}; {may} that change no shape")


def _with(config: Mapping[str, Any], path: list[str], value: float) -> dict[str, Any]:
  key, *rest = path
  return {**config, key: _with(config.get(key, {}), rest, value) if rest else value}


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
  for key, value in section.items():
    if isinstance(value, Mapping):
      yield from _flat(value, f"{prefix}{key}.")
    else:
      yield prefix + key, value


def _is_number(value: Any) -> bool:
  return isinstance(value, (int, float)) and not isinstance(value, bool)
