"""A run assembled again from its record, without what only its training needed."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnoise import data as data_lib
from jaxnoise import methods
from jaxnoise.core.errors import InputError
from jaxnoise.core.types import Method, Network
from jaxnoise.training import build, rundir, schema, sharding, writers
from jaxnoise.training.resolve import OBJECT, lookup


def reassemble(
  directory: Path,
  record: Mapping[str, Any],
  config: dict[str, Any],
  *,
  source: data_lib.Source | None = None,
  network: Network | Any | None = None,
  method: Callable[..., Method] | Method | None = None,
  with_data: bool = True,
) -> build.Run:
  """Assembles a run for predictions and measurements, on all devices.

  What it started from, its sinks of metrics and its files of corrupted images are not looked for; a
  teacher that is not there is left out, `run.teacher` being None.

  Args:
    directory: the run directory, for messages and class names.
    record: its config.json.
    config: the config in it, complete, with what has moved since.
    source: as in `build.assemble`; so are `network` and `method`.
    network: see there.
    method: see there.
    with_data: False puts blank images in the place of the data set.

  Raises:
    InputError: an object that is needed and not given, and as in `build.assemble`.
  """
  _check_objects(directory, config, source, network, method, with_data)
  reduced = {
    **config,
    "init_from": "",
    # A run that only measured what it started from has no steps; now it starts from nothing.
    "total": config["total"] if record.get("num_steps") != 0 else "1 step",
    "new_head": False,
    "label_matrix": "",
    # The command that trained asked the GPU for it before it began; this one computes as it may.
    "deterministic": False,
    "precision": config["precision"] if network is None else "float32",
    # What training alone does, however it was set.
    "steps_per_call": 1,
    "remat": False,
    "evaluate": {**config["evaluate"], "corruptions": (), "corrupted_path": ""},
    "log": schema.default()["log"],
  }
  if not with_data:
    source = _stand_in(directory, record, config)
    reduced["data"] = {
      **config["data"], "limit": 0, "labels": "", "holdout": 0, "trusted": 0,
      "noise": schema.default()["data"]["noise"],
    }  # fmt: skip
  loss = None
  if not isinstance(method, Method) and str(config["method"].get("loss", "")).startswith(OBJECT):
    loss = _no_loss
  if config["label_matrix"] and not isinstance(method, Method):
    # Only training corrects for noise: any matrix predicts alike.
    method = _with_identity(method or _factory(config), record["num_classes"])
  # Any batch can be shared by one device; the run is spread over all of them below.
  given = {"source": source, "network": network, "loss": loss}
  given["mesh"] = sharding.make_mesh(jax.devices()[:1])
  try:
    run = build.assemble(reduced, method=method, **given)
  except InputError:
    if not config["teacher"]:
      raise
    # The teacher may be what is missing; the student predicts without it.
    if not isinstance(method, Method):
      method = _without_teacher(method or _factory(config))
    run = build.assemble({**reduced, "teacher": ""}, method=method, **given)
  if with_data:
    _check_data(directory, record, run)
  return dataclasses.replace(run, config=config, mesh=sharding.make_mesh())


def _check_objects(
  directory: Path, config: Mapping[str, Any], source, network, method, with_data: bool
) -> None:
  """What was given to the run as a Python object has to be given again; its name is not enough."""
  needed = {
    "data": (source, "source") if with_data else (True, ""),
    "model": (network, "network"),
    "method": (method, "method"),
  }
  missing = [
    f"{argument}=..."
    for section, (given, argument) in needed.items()
    if given is None and str(config[section].get("name", "")).startswith(OBJECT)
  ]
  if missing:
    raise InputError(
      f"{directory} was trained with Python objects that its config.json can only name; open it "
      f"with jaxnoise.training.restore.open_run({str(directory)!r}, {', '.join(missing)}) from "
      "Python"
    )
  if isinstance(method, Method):
    return
  for section in ("method", "wrapper_args", "policy", "model"):
    for field, value in config[section].items():
      is_object = isinstance(value, str) and value.startswith(OBJECT)
      if is_object and field not in ("name", "loss"):
        raise InputError(
          f"{directory} was trained with a Python object as config.{section}.{field}, {value!r}; "
          f"open it with jaxnoise.training.restore.open_run({str(directory)!r}, network=..., "
          "method=...), the method finished, from Python"
        )


def _stand_in(
  directory: Path, record: Mapping[str, Any], config: Mapping[str, Any]
) -> data_lib.Source:
  """Blank images, as many as the run was trained on: what its network and tables depend on."""
  count, num_classes = record["num_train"], record["num_classes"]
  shape = tuple(record["image_shape"])
  labels = np.arange(count, dtype=np.int32) % num_classes
  table = directory / "tables" / "clean.json"
  names = record.get("class_names") or []
  if not names and table.exists():
    names = writers.read_json(table).get("classes", {}).get("names", [])
  source = data_lib.Source(
    "stand-in",
    np.zeros((count, *shape), np.uint8),
    labels,
    np.zeros((1, *shape), np.uint8),
    labels[:1],
    num_classes,
    image_mean=(0.5,) * shape[-1],
    image_std=(1.0,) * shape[-1],
    class_names=tuple(names),
  )
  pools = record.get("pools") or {"trusted": config["data"]["trusted"]}
  for name, size in pools.items():
    if size and name != "train":
      blank = np.zeros((size, *shape), np.uint8)
      source = source.with_pool(name, blank, np.arange(size, dtype=np.int32) % num_classes)
  return source


def _check_data(directory: Path, record: Mapping[str, Any], run: build.Run) -> None:
  found = {
    "num_classes": run.spec.num_classes,
    "image_shape": list(run.spec.image_shape),
    "num_train": run.spec.num_train,
    "data_crc32": rundir.fingerprint(run),
  }
  for field, value in found.items():
    if field in record and record[field] != value:
      raise InputError(
        f"{directory} was trained on other data than what was found now: its {field} is "
        f"{record[field]}, not {value}; give the data set that it was trained on"
      )


def _no_loss(logits, targets):
  raise RuntimeError("the loss of this run is a Python object that was not given again")


def _factory(config: Mapping[str, Any]) -> Callable[..., Method]:
  return lookup("config.method.name", methods, config["method"]["name"], "network")


def _with_identity(factory: Callable[..., Method], classes: int) -> Callable[..., Method]:
  """The factory with the identity for the noise matrix."""
  return _with(factory, "label_matrix", lambda network: np.eye(classes))


def _without_teacher(factory: Callable[..., Method]) -> Callable[..., Method]:
  """The factory with the student's network in the teacher's place, which predictions do not use."""
  return _with(factory, "teacher_network", lambda network: network)


def _with(
  factory: Callable[..., Method], argument: str, value: Callable[[Network], Any]
) -> Callable[..., Method]:
  """The factory with one argument filled in, if it has it, from the network it is given."""
  parameters = inspect.signature(factory).parameters
  if argument not in parameters:
    return factory

  @functools.wraps(factory)
  def made(network: Network, **kwargs: Any) -> Method:
    return factory(network, **{**kwargs, argument: value(network)})

  made.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [p for name, p in parameters.items() if name != argument]
  )
  return made
