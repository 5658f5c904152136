"""The networks of a run: from its config, another run, or a file of weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from jaxnoise import data, models
from jaxnoise.core.errors import InputError, closest
from jaxnoise.core.types import Network, PyTree
from jaxnoise.training import checkpoint, schema, sweep, writers
from jaxnoise.training.resolve import OBJECT, call, lookup

if TYPE_CHECKING:
  from jaxnoise.training.build import Run

HEAD = "head"
WEIGHT_FILES = (".pt", ".pth", ".tar", ".npz", ".safetensors")


def make_network(config: Mapping[str, Any], num_classes: int) -> Network:
  """Builds the network that `config.model`, `precision`, `norm_groups` and `remat` describe."""
  precisions = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
  if config["precision"] not in precisions:
    raise InputError(
      f"config.precision is {config['precision']!r}: {closest(config['precision'], precisions)}"
    )
  kwargs = dict(config["model"])
  factory = lookup("config.model.name", models, kwargs.pop("name", ""), "num_classes")
  dtype = precisions[config["precision"]]
  module = call("config.model", factory, num_classes, dtype=dtype, **kwargs)
  return models.network(module, norm_groups=config["norm_groups"], remat=config["remat"])


def variables(network: Network, image_shape: tuple[int, ...]) -> dict[str, PyTree]:
  """The shapes of a network's parameters and statistics; nothing is computed."""
  image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  params, batch_stats = jax.eval_shape(network.init, jax.random.key(0), image)
  return {"params": params, "batch_stats": batch_stats}


def load_teacher(
  run: str | Path,
  source: data.Source,
  pending: Mapping[str, Run] | None = None,
  *,
  field: str = "config.teacher",
) -> tuple[Network, PyTree]:
  """Loads the network of a finished run and its latest parameters and statistics.

  Args:
    run: the run directory.
    source: data that it must fit.
    pending: runs that are not trained yet, by directory; of these, zeros are returned.
    field: what named the run, for messages.

  Raises:
    InputError: when there is no such run, or it has several seeds, other classes or images.
  """
  later = (pending or {}).get(str(run))
  if later is not None:
    config, num_classes = later.config, later.spec.num_classes
    network, shape = later.network, tuple(later.spec.image_shape)
    names = later.source.class_names
  else:
    record = writers.read_json(Path(run) / "config.json")
    config = schema.check(record["config"])
    num_classes, shape = record["num_classes"], tuple(record["image_shape"])
    names = record.get("class_names", ())
    if config["model"].get("name", "").startswith(OBJECT):
      raise InputError(
        f"{field} is {run}, whose network was given as an object; a config names networks "
        "of jaxnoise.models only, so make the distillation method with your own network instead"
      )
    network = make_network(config, num_classes)
  _check_one(field, config)
  if (num_classes, shape) != (source.num_classes, tuple(source.image_shape)):
    raise InputError(
      f"{field} is a network of {num_classes} classes for images of shape {shape}; this run "
      f"has {source.num_classes} classes and images of shape {tuple(source.image_shape)}; name a "
      "run on the same data, or on other images of these classes and this shape"
    )
  other = [pair for pair in zip(names, source.class_names, strict=False) if len({*pair}) > 1]
  if other:
    raise InputError(
      f"{field} is a network of other classes: {other[0][0]!r} where this run has {other[0][1]!r}; "
      "name a run on the same classes, in the same order"
    )
  wanted = variables(network, shape)
  if later is not None:
    return network, _zeros(wanted)
  return network, checkpoint.load_model(Path(run) / "checkpoints", wanted)


def load_start(
  config: Mapping[str, Any],
  network: Network,
  image_shape: tuple[int, ...],
  pending: Mapping[str, Run] | None = None,
) -> PyTree | None:
  """Loads what `config.init_from` names: a run of the same network, or a file of PyTorch weights.

  With `config.new_head` the last layer, "head", is left out: the run draws a fresh one, for as many
  classes as it has.

  Args:
    config: `init_from` and `new_head` are read.
    network: what the weights must fit.
    image_shape: (H, W, C).
    pending: runs that are not trained yet, by directory; of these, zeros are returned.

  Returns:
    {"params", "batch_stats"}, or None where nothing is named.

  Raises:
    InputError: weights that are not there, are of another network or of several seeds, or a network
      without a layer "head" where a new one is asked for.
  """
  path, new_head = config["init_from"], config["new_head"]
  if not path:
    if new_head:
      raise InputError(
        "config.new_head is True, but config.init_from is empty; name what to start from, or set "
        "config.new_head to False"
      )
    return None
  like = variables(network, image_shape)
  if new_head and (not isinstance(like["params"], Mapping) or HEAD not in like["params"]):
    raise InputError(
      f"config.new_head is True, but the network has no layer called {HEAD!r}; name its last layer "
      "so"
    )
  drop = (HEAD,) if new_head else ()
  wanted = {**like, "params": _without(like["params"], drop)}
  later = (pending or {}).get(str(path))
  if later is not None:
    _check_one("config.init_from", later.config)
    found = variables(later.network, tuple(later.spec.image_shape))
    checkpoint.compare(
      f"config.init_from {path}", {**found, "params": _without(found["params"], drop)}, wanted
    )
    return _zeros(wanted)
  is_file = Path(path).is_file() or Path(path).suffix in WEIGHT_FILES
  if is_file and not Path(path).is_dir():
    return _from_file(Path(path), wanted, drop)
  record = writers.read_json(Path(path) / "config.json")
  _check_one("config.init_from", schema.check(record["config"]))
  hint = (
    "the checkpoint is of another model, or of other classes (config.new_head starts a new last "
    "layer)"
  )
  return checkpoint.load_model(Path(path) / "checkpoints", wanted, drop=drop, hint=hint)


def frozen(params: PyTree, level: int) -> PyTree:
  """Marks what `config.optim.freeze_level` leaves as it is; see `models.frozen_stages`.

  Args:
    params: of the network, arrays or shapes.
    level: of the config.

  Raises:
    InputError: for a level that the network does not have.
  """
  if not isinstance(params, Mapping):
    raise InputError(
      f"config.optim.freeze_level is {level}, but the network's parameters are a "
      f"{type(params).__name__}, not a dictionary of layers by name; set it to -1"
    )
  return call("config.optim.freeze_level", models.frozen_stages, params, level)


def _from_file(path: Path, wanted: PyTree, drop: tuple[str, ...]) -> PyTree:
  if not path.is_file():
    raise InputError(f"config.init_from is {path}, which does not exist; give a file or a run")
  try:
    found = models.import_torch(path)
  except InputError:
    if drop:
      raise
    # Names that fit two networks fit one of them, if it is told which.
    found = models.import_torch(path, wanted)
  found = {**found, "params": _without(found["params"], drop)}
  checkpoint.compare(f"config.init_from {path}", found, wanted)
  return jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), found, wanted)


def _without(params: PyTree, names: tuple[str, ...]) -> PyTree:
  if not names:
    return params
  return {name: value for name, value in params.items() if name not in names}


def _zeros(like: PyTree) -> PyTree:
  return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)


def _check_one(field: str, config: Mapping[str, Any]) -> None:
  if config["seeds"] > 1:
    raise InputError(
      f"{field} is a run of {config['seeds']} seeds; it must be one network, trained with seeds = 1"
    )
  if config["sweep"]:
    raise InputError(
      f"{field} is a sweep of {len(sweep.labels(config))} members; it must be one network, trained "
      "without config.sweep"
    )
