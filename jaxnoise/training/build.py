"""From a config to the objects of a run."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from jaxnoise import augment, corruptions, data, methods, models
from jaxnoise.core.errors import InputError, closest
from jaxnoise.core.types import Method, Network, PyTree, Spec
from jaxnoise.training import checkpoint, durations, optim, schema, sharding, writers
from jaxnoise.training.resolve import call, check_keywords, lookup


@dataclasses.dataclass(frozen=True)
class Run:
  """Everything that `training.loop.train` needs; nothing has been written or trained yet.

  Attributes:
    config: complete and checked.
    source: the training and test data.
    holdout: the examples held out of training, or None.
    network: the model.
    method: the method, wrappers applied.
    optimizer: the optimizer.
    spec: the static facts.
    mesh: the devices.
    teacher: parameters and statistics of a frozen teacher, or None.
    start_from: parameters and statistics to start from, or None.
  """

  config: Mapping[str, Any]
  source: data.Source = dataclasses.field(repr=False)
  holdout: data.Pool | None = dataclasses.field(repr=False)
  network: Network
  method: Method
  optimizer: optax.GradientTransformation
  spec: Spec
  mesh: Mesh
  teacher: PyTree | None = dataclasses.field(default=None, repr=False)
  start_from: PyTree | None = dataclasses.field(default=None, repr=False)

  def steps(self, field: str, duration: str) -> int:
    """A duration of the config in optimizer steps."""
    return durations.to_steps(
      field,
      duration,
      steps_per_epoch=self.spec.steps_per_epoch,
      batch_size=self.spec.batch_size,
      total_steps=self.spec.num_steps,
    )


def assemble(
  config: Mapping[str, Any],
  *,
  source: data.Source | None = None,
  network: Network | None = None,
  method: Callable[..., Method] | None = None,
  mesh: Mesh | None = None,
  pending: Mapping[str, Run] | None = None,
) -> Run:
  """Builds a run from a config; parts given as objects replace what the config names.

  Args:
    config: fields of `schema.default`, missing ones at their defaults.
    source: your own data.
    network: your own model.
    method: your own factory, called like those of `jaxnoise.methods`.
    mesh: None means every device.
    pending: runs that are assembled but not trained yet, by directory. A teacher or a network to
      start from may be one of them; what is then returned is good for checking, not for training.

  Raises:
    InputError: for any name, type or value that does not fit, before anything is written.
  """
  config = schema.check(config)
  mesh = sharding.make_mesh() if mesh is None else mesh
  _check_numbers(config)
  source, holdout = load_source(config["data"], source)
  if network is None:
    network = make_network(config, source.num_classes)
  name = config["method"].get("name", "")
  factory = method or lookup("config.method.name", methods, name, "network")
  teacher_network, teacher = None, None
  if config["teacher"]:
    teacher_network, teacher = load_run("config.teacher", config["teacher"], source, pending)
  spec = _spec(config, source, mesh, replays=1)

  def build(spec: Spec) -> Method:
    made = _make_method(config, factory, network, spec, teacher_network)
    return _wrap(config, made, network, spec)

  built = build(spec)
  # An epoch's updates depend on the method's replays, and the method on the spec.
  spec = _spec(config, source, mesh, replays=built.replays)
  built = build(spec)
  for side in built.side_batches:
    if side.pool not in spec.pools:
      raise InputError(
        f"{built.name} draws from the pool {side.pool!r}, which the data does not have; "
        "set config.data.trusted, or give a source with that pool"
      )
    sharding.check_divides(mesh, f"the side batch {side.name!r}", side.size)
  start_from = None
  if config["init_from"]:
    like = _variables(network, spec.image_shape)
    _, start_from = load_run("config.init_from", config["init_from"], source, pending, like=like)
  optimizer = optim.make_optimizer(config["optim"], spec.learning_rate)
  run = Run(config, source, holdout, network, built, optimizer, spec, mesh, teacher, start_from)
  for section in ("log", "evaluate", "checkpoint"):
    run.steps(f"{section}.every", config[section]["every"])
  _check_evaluation(config["evaluate"], spec.image_shape)
  return run


def load_source(
  config: Mapping[str, Any], source: data.Source | None = None
) -> tuple[data.Source, data.Pool | None]:
  """Loads the data set that `config.data` names, with its held-out and trusted parts."""
  if source is None:
    source = data.load(config["name"], config["path"])
  if config["limit"]:
    if not 0 < config["limit"] <= source.num_train:
      raise InputError(
        f"config.data.limit is {config['limit']}; the data set has {source.num_train} "
        "training examples"
      )
    source = source.take(jnp.arange(config["limit"]))
  if config["labels"]:
    if config["labels"] not in source.human_labels:
      carried = source.human_labels
      raise InputError(
        f"config.data.labels is {config['labels']!r}, which the data set does not carry: "
        + (closest(config["labels"], carried) if carried else "it has no human labels; leave it ''")
      )
    source = source.with_labels(source.human_labels[config["labels"]])
  holdout = None
  if config["holdout"]:
    source, holdout = source.holdout(config["holdout"], config["split_seed"])
  if config["trusted"]:
    in_train = config["trusted_in_train"]
    source = source.trusted(config["trusted"], config["split_seed"], in_train=in_train)
  return source, holdout


def make_network(config: Mapping[str, Any], num_classes: int) -> Network:
  """Builds the network that `config.model` and `config.precision` describe."""
  precisions = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
  if config["precision"] not in precisions:
    raise InputError(
      f"config.precision is {config['precision']!r}: {closest(config['precision'], precisions)}"
    )
  kwargs = dict(config["model"])
  factory = lookup("config.model.name", models, kwargs.pop("name", ""), "num_classes")
  dtype = precisions[config["precision"]]
  return models.network(call("config.model", factory, num_classes, dtype=dtype, **kwargs))


def load_run(
  field: str,
  run: str | Path,
  source: data.Source,
  pending: Mapping[str, Run] | None = None,
  like: PyTree | None = None,
) -> tuple[Network, PyTree]:
  """Loads the network of a finished run and its latest parameters and statistics.

  Args:
    field: the config field, for messages.
    run: the run directory.
    source: data that it must fit.
    pending: runs that are not trained yet, by directory; of these, zeros are returned.
    like: the parameters and statistics wanted, where they are not those of the run's own network.

  Raises:
    InputError: when there is no such run, or it has several seeds, other classes or images.
  """
  later = (pending or {}).get(str(run))
  if later is not None:
    config, num_classes = later.config, later.spec.num_classes
    network, shape = later.network, tuple(later.spec.image_shape)
  else:
    record = writers.read_json(Path(run) / "config.json")
    config = schema.check(record["config"])
    num_classes, shape = record["num_classes"], tuple(record["image_shape"])
    network = make_network(config, num_classes)
  if config["seeds"] > 1:
    raise InputError(
      f"{field} is a run of {config['seeds']} seeds; it must be one network, trained with seeds = 1"
    )
  if (num_classes, shape) != (source.num_classes, tuple(source.image_shape)):
    raise InputError(
      f"{field} is a network of {num_classes} classes for images of shape {shape}; this run has "
      f"{source.num_classes} classes and images of shape {tuple(source.image_shape)}"
    )
  if later is not None:
    zeros = lambda x: jnp.zeros(x.shape, x.dtype)
    return network, jax.tree.map(zeros, _variables(network, shape))
  wanted = _variables(network, shape) if like is None else like
  return network, checkpoint.load_model(Path(run) / "checkpoints", wanted)


def _variables(network: Network, image_shape: tuple[int, ...]) -> dict[str, PyTree]:
  image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  params, batch_stats = jax.eval_shape(network.init, jax.random.key(0), image)
  return {"params": params, "batch_stats": batch_stats}


def _spec(config: Mapping[str, Any], source: data.Source, mesh: Mesh, replays: int) -> Spec:
  size, count = config["batch_size"], source.num_train
  remainder = config["data"]["remainder"]
  if remainder not in ("drop", "keep"):
    raise InputError(
      f"config.data.remainder is {remainder!r}: {closest(remainder, ('drop', 'keep'))}"
    )
  if size > count:
    raise InputError(
      f"config.batch_size is {size}, but the training set has {count} examples; make it smaller"
    )
  sharding.check_divides(mesh, "config.batch_size", size)
  if remainder == "keep" and count % size:
    sharding.check_divides(mesh, "the last partial batch (config.data.remainder)", count % size)
  batches = count // size if remainder == "drop" else -(-count // size)
  steps_per_epoch = batches * replays

  def to_steps(field: str, duration: str, total: int | None = None) -> int:
    return durations.to_steps(
      field, duration, steps_per_epoch=steps_per_epoch, batch_size=size, total_steps=total
    )

  num_steps = to_steps("total", config["total"])
  if num_steps < 1:
    raise InputError(f"config.total is {config['total']!r}; a run needs at least one step")
  schedule = optim.make_schedule(
    config["optim"], num_steps, lambda field, duration: to_steps(field, duration, num_steps)
  )
  return Spec(
    num_train=count,
    num_classes=source.num_classes,
    image_shape=tuple(source.image_shape),
    image_mean=tuple(source.image_mean),
    batch_size=size,
    pools={name: pool.size for name, pool in source.pools.items()},
    steps_per_epoch=steps_per_epoch,
    num_steps=num_steps,
    learning_rate=schedule,
  )


def _make_method(config, factory, network, spec, teacher_network) -> Method:
  kwargs = {k: v for k, v in config["method"].items() if k != "name"}
  wanted = inspect.signature(factory).parameters
  first = config["first"]
  given = {
    "first": call("config.first", augment.crop_flip, first["padding"], flip=first["flip"]),
    "policy": _policy(config["policy"], spec),
    "teacher_network": teacher_network,
  }
  for name, part in given.items():
    if name in wanted and name not in kwargs:
      kwargs[name] = part
    elif name not in wanted and name != "first" and part is not None:
      field = "config.policy.name" if name == "policy" else "config.teacher"
      raise InputError(
        f"{field} is set, but {config['method']['name']} does not use it; leave it empty"
      )
  if "teacher_network" in wanted and kwargs["teacher_network"] is None:
    raise InputError(
      f"config.teacher is empty, but {config['method']['name']} needs a teacher; name the run "
      "directory of a trained network (or an earlier stage)"
    )
  return call("config.method", factory, network, spec=spec, **kwargs)


def _policy(config: Mapping[str, Any], spec: Spec) -> Callable | None:
  kwargs = dict(config)
  name = kwargs.pop("name", "")
  if not name:
    return None
  transform = lookup("config.policy.name", augment, name, "rng", "image")
  check_keywords("config.policy", transform, kwargs, positional=2)
  policy = functools.partial(transform, **kwargs)
  # Traced once here, so that a bad value is found before anything is written.
  image = jax.ShapeDtypeStruct(spec.image_shape, jnp.float32)
  call("config.policy", lambda: jax.eval_shape(policy, jax.random.key(0), image))
  return policy


def _wrap(config: Mapping[str, Any], method: Method, network: Network, spec: Spec) -> Method:
  for name in config["wrapper_args"]:
    if name not in config["wrappers"]:
      raise InputError(
        f"config.wrapper_args.{name} belongs to no wrapper of config.wrappers: "
        + closest(name, config["wrappers"] or ("",))
      )
  for name in config["wrappers"]:
    wrapper = lookup("config.wrappers", methods, name, "inner")
    kwargs = dict(config["wrapper_args"].get(name, {}))
    wanted = inspect.signature(wrapper).parameters
    kwargs.update({k: v for k, v in (("network", network), ("spec", spec)) if k in wanted})
    method = call(f"config.wrapper_args.{name}", wrapper, method, **kwargs)
  return method


def corruption_names(names: tuple[str, ...]) -> tuple[str, ...]:
  """Resolves ("all",) and ("standard",), and checks other names.

  Raises:
    InputError: for an unknown corruption, with the closest names.
  """
  groups = {("all",): corruptions.NAMES, ("standard",): corruptions.STANDARD}
  if tuple(names) in groups:
    return groups[tuple(names)]
  for name in names:
    if name not in corruptions.NAMES:
      raise InputError(
        f"config.evaluate.corruptions has {name!r}, no such corruption: "
        + closest(name, corruptions.NAMES)
      )
  return tuple(names)


def _check_numbers(config: Mapping[str, Any]) -> None:
  for field, value in (
    ("seeds", config["seeds"]),
    ("batch_size", config["batch_size"]),
    ("evaluate.batch_size", config["evaluate"]["batch_size"]),
    ("checkpoint.keep", config["checkpoint"]["keep"]),
  ):
    if value < 1:
      raise InputError(f"config.{field} is {value}; it must be 1 or larger")
  if not 0 <= config["seed"] < 2**32 - config["seeds"]:
    raise InputError(f"config.seed is {config['seed']}; seeds are numbers from 0 to 2^32 - 1")


def _check_evaluation(config: Mapping[str, Any], image_shape: tuple[int, ...]) -> None:
  for severity in config["severities"]:
    if severity not in corruptions.SEVERITIES:
      raise InputError(
        f"config.evaluate.severities has {severity!r}; severities are {corruptions.SEVERITIES}"
      )
  names = corruption_names(config["corruptions"])
  if names and not config["severities"]:
    raise InputError("config.evaluate.severities is empty; name some, or no corruptions either")
  image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  for name in names:
    corrupt = functools.partial(corruptions.corrupt, name=name, severity=1)
    call(
      f"config.evaluate.corruptions, {name}",
      lambda corrupt=corrupt: jax.eval_shape(corrupt, jax.random.key(0), image),
    )
