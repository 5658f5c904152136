"""What a finished run is tested on beside the clean test set, as `config.evaluate` has it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxnoise import corruptions, data
from jaxnoise.core.errors import InputError, closest
from jaxnoise.training.resolve import call

NUM_STANDARD = 15


def corruption_names(
  names: tuple[str, ...], field: str = "config.evaluate.corruptions"
) -> tuple[str, ...]:
  """Resolves ("all",) and ("standard",), and checks other names.

  Args:
    names: what was asked for.
    field: where, for messages.

  Raises:
    InputError: for an unknown corruption, with the closest names.
  """
  groups = {("all",): corruptions.NAMES, ("standard",): corruptions.STANDARD}
  return _chosen(names, groups, corruptions.NAMES, field)


def load_corrupted(config: Mapping[str, Any], source: data.Source) -> data.Corrupted | None:
  """Finds the files of corrupted images that `config.evaluate.corrupted_path` names.

  Args:
    config: of `evaluate`; `corruptions` chooses among those that the files have, () takes all.
    source: the clean set that they must fit.

  Raises:
    InputError: nothing there, files of another set, or a corruption that they do not have.
  """
  if not config["corrupted_path"]:
    return None
  found = data.corrupted(config["corrupted_path"], source)
  standard = tuple(n for n in found.names if n in data.BENCHMARK[:NUM_STANDARD])
  groups = {(): found.names, ("all",): found.names, ("standard",): standard}
  names = _chosen(config["corruptions"], groups, found.names)
  _check_severities(config["severities"], names)
  return dataclasses.replace(found, names=names, severities=tuple(config["severities"]))


def check_corruptions(config: Mapping[str, Any], image_shape: tuple[int, ...]) -> None:
  """Checks that the corruptions of `config.evaluate` can be made on images of this shape."""
  names = corruption_names(config["corruptions"])
  _check_severities(config["severities"], names)
  image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  for name in names:
    corrupt = functools.partial(corruptions.corrupt, name=name, severity=1)
    call(
      f"config.evaluate.corruptions, {name}",
      lambda corrupt=corrupt: jax.eval_shape(corrupt, jax.random.key(0), image),
    )


def _chosen(
  names: tuple[str, ...],
  groups: Mapping,
  known: tuple[str, ...],
  field: str = "config.evaluate.corruptions",
) -> tuple[str, ...]:
  if tuple(names) in groups:
    return groups[tuple(names)]
  for name in names:
    if name not in known:
      raise InputError(f"{field} has {name!r}, no such corruption: {closest(name, known)}")
  return tuple(names)


def _check_severities(severities: tuple[int, ...], names: tuple[str, ...]) -> None:
  if names and not severities:
    raise InputError("config.evaluate.severities is empty; name some, or no corruptions either")
  for severity in severities:
    if severity not in corruptions.SEVERITIES:
      raise InputError(
        f"config.evaluate.severities has {severity!r}; severities are {corruptions.SEVERITIES}"
      )
