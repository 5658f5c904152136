"""Whose a run directory is: one run's, told by its config.json."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxnoise.core.errors import InputError
from jaxnoise.training import schema, sources, writers
from jaxnoise.training.build import Run
from jaxnoise.training.resolve import name_of


def claim(run: Run, workdir: Path) -> dict[str, Any]:
  """Writes config.json into an empty run directory, or checks that it holds this very run.

  Raises:
    InputError: when the directory holds another config, method or data set, or something else.
  """
  path = workdir / "config.json"
  identity = {
    "config": _jsonable(run.config),
    "num_classes": run.spec.num_classes,
    "image_shape": list(run.spec.image_shape),
    "num_train": run.spec.num_train,
    "steps_per_epoch": run.spec.steps_per_epoch,
    "num_steps": run.spec.num_steps,
    "method": run.method.name,
    "wrappers": list(run.method.wrappers),
    "data_crc32": fingerprint(run),
  }
  if path.exists():
    record = writers.read_json(path)
    # Completed with today's defaults: a field that came later does not make another run of it.
    found = {**record, "config": _jsonable(schema.check(record["config"]))}
    found = {key: found.get(key) for key in identity}
    if found != identity:
      field, old, new = _first_difference(found, identity)
      raise InputError(
        f"workdir {workdir} holds another run: its {field} is {old!r}, not {new!r}; "
        "choose another --workdir or remove this one"
      )
    return record
  # A run killed while it wrote its very first file leaves a temporary one.
  others = [p for p in workdir.iterdir() if p.suffix != ".tmp"] if workdir.is_dir() else []
  if others or (workdir.exists() and not workdir.is_dir()):
    raise InputError(
      f"workdir {workdir} exists and is no run of jaxnoise (it has no config.json); choose another"
    )
  # These change nothing in a run: not part of what tells runs apart.
  facts = {"class_names": list(run.source.class_names), "pools": dict(run.spec.pools)}
  writers.write_json(path, {**identity, **facts, **writers.provenance()})
  return writers.read_json(path)


def fingerprint(run: Run) -> int:
  """CRC32 of the training images and labels: a replaced data file is another run.

  Where label noise is drawn, the labels are those before it: the config says the rest, and runs of
  several seeds are of one data set.
  """
  source = run.source
  drawn = run.config["data"]["noise"]["kind"] not in ("", sources.FILE)
  labels = source.true_labels if drawn else source.labels
  return zlib.crc32(np.ascontiguousarray(labels), zlib.crc32(source.images.tobytes()))


def _jsonable(config: Any) -> Any:
  if isinstance(config, Mapping):
    return {k: _jsonable(v) for k, v in config.items()}
  if isinstance(config, (list, tuple)):
    return [_jsonable(v) for v in config]
  return name_of(config) if callable(config) else config


def _first_difference(old: Mapping, new: Mapping, prefix: str = "") -> tuple[str, Any, Any]:
  for key in sorted({*old, *new}):
    a, b = old.get(key), new.get(key)
    if a != b:
      if isinstance(a, Mapping) and isinstance(b, Mapping):
        return _first_difference(a, b, f"{prefix}{key}.")
      return prefix + key, a, b
  return prefix, None, None
