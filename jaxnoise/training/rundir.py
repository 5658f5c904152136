"""Whose a run directory is: one run's, told by its config.json."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxnoise.core.errors import InputError
from jaxnoise.training import distributed, lock, schema, sources, taught, writers
from jaxnoise.training.build import Run
from jaxnoise.training.resolve import name_of

_PATIENCE = 30.0
"""Seconds that a file which one host has written may take to be seen by the others."""


def claim(run: Run, workdir: Path) -> dict[str, Any]:
  """Writes config.json into an empty run directory, or checks that it holds this very run.

  Of several processes the first one writes, and what it refuses all refuse.

  Raises:
    InputError: when the directory holds another config, method or data set, the student of a
      teacher that has changed since, or something else; when processes would train different runs,
      or do not share the directory.
  """
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
  teacher = taught.record(run)
  _check_alike(run, {**identity, "teacher": teacher})
  record = None
  with distributed.together():
    if distributed.is_main():
      record = _claim(run, workdir, identity, teacher)
  record = distributed.from_main(record)
  _check_shared(workdir / "config.json", record)
  return record


def _claim(
  run: Run, workdir: Path, identity: Mapping[str, Any], teacher: Mapping[str, Any] | None
) -> dict[str, Any]:
  path = workdir / "config.json"
  if path.exists():
    record = writers.read_json(path)
    # Completed with today's defaults: a field that came later does not make another run of it.
    found = {**record, "config": _jsonable(schema.check(record["config"]))}
    found = _telling({key: found.get(key) for key in identity})
    if found != _telling(identity):
      field, old, new = _first_difference(found, _telling(identity))
      raise InputError(
        f"workdir {workdir} holds another run: its {field} is {old!r}, not {new!r}; "
        "choose another --workdir or remove this one"
      )
    _check_teacher(record, teacher, workdir)
    return record
  # A run killed while it wrote its very first file leaves a temporary one.
  left = lambda p: p.suffix == ".tmp" or p.name == lock.NAME
  others = [p for p in workdir.iterdir() if not left(p)] if workdir.is_dir() else []
  if others or (workdir.exists() and not workdir.is_dir()):
    raise InputError(
      f"workdir {workdir} exists and is no run of jaxnoise (it has no config.json); choose another"
    )
  # These change nothing in a run: not part of what tells runs apart.
  facts = {"class_names": list(run.source.class_names), "pools": dict(run.spec.pools)}
  if teacher is not None:
    facts["teacher"] = teacher
  record = {**identity, **facts, **writers.provenance()}
  with lock.held(workdir):
    if not path.exists():
      writers.write_json(path, record)
      return writers.read_json(path)
  # Another process was quicker: this may be the run that it began.
  return _claim(run, workdir, identity, teacher)


def _telling(identity: dict[str, Any]) -> dict[str, Any]:
  """What tells runs apart: how many threads decode images changes none of them."""
  config = identity["config"]
  data = {key: value for key, value in config["data"].items() if key != "threads"}
  return {**identity, "config": {**config, "data": data}}


def _check_alike(run: Run, identity: Mapping[str, Any]) -> None:
  """Refuses processes that would not train the same run."""
  if not distributed.several():
    return
  labels = run.source.labels if run.loaded.labels is None else run.loaded.labels
  mine = {
    **_telling(identity),
    "labels_crc32": zlib.crc32(np.ascontiguousarray(labels, "<i4")),
    "versions": writers.provenance()["versions"],
  }
  mine = json.loads(json.dumps(mine))
  of_main = distributed.from_main(mine)
  with distributed.together():
    if mine != of_main:
      field, its, own = _first_difference(of_main, mine)
      raise InputError(
        f"the processes would train different runs: {field} is {own!r} here and {its!r} on process "
        "0; start the same command with the same code and data on every host"
      )


def _check_shared(path: Path, record: Mapping[str, Any]) -> None:
  """Refuses a run directory that is not the same one on every host."""
  if not distributed.several():
    return
  with distributed.together():
    begun = time.monotonic()
    while not path.exists() and time.monotonic() - begun < _PATIENCE:
      time.sleep(0.1)
    if not path.exists() or writers.read_json(path) != record:
      raise InputError(
        f"{path} is not the file that process 0 has written; name a --workdir that every host "
        "shares"
      )


def _check_teacher(
  record: Mapping[str, Any], teacher: Mapping[str, Any] | None, workdir: Path
) -> None:
  """Refuses to go on with a student whose teacher is no longer the one it began with."""
  began = record.get("teacher")
  # A run that began before teachers were recorded has none there, and is taken as it is.
  if not began or not teacher or began["sha256"] == teacher["sha256"]:
    return
  raise InputError(
    f"workdir {workdir} holds a student whose teacher, config.teacher {began.get('run', '')!r}, "
    f"had parameters of SHA-256 {began['sha256'][:12]}, not {teacher['sha256'][:12]}; put that "
    "teacher back, or choose another --workdir or remove this one"
  )


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
