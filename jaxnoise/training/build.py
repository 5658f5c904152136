"""From a config to the objects of a run: the only place where names become functions."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from jaxnoise import augment, corruptions, data, methods, models
from jaxnoise.core.errors import InputError, closest
from jaxnoise.core.types import Method, Network, PyTree, Spec
from jaxnoise.training import checkpoint, durations, optim, schema, sharding, writers


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
  source: data.Source
  holdout: data.Pool | None
  network: Network
  method: Method
  optimizer: optax.GradientTransformation
  spec: Spec
  mesh: Mesh
  teacher: PyTree | None = None
  start_from: PyTree | None = None

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
) -> Run:
  """Builds a run from a config; parts given as objects replace what the config names.

  Args:
    config: fields of `schema.default`, missing ones at their defaults.
    source: your own data.
    network: your own model.
    method: your own factory, called like those of `jaxnoise.methods`.
    mesh: None means every device.

  Raises:
    InputError: for any name, type or value that does not fit, before anything is written.
  """
  config = schema.check(config)
  mesh = sharding.make_mesh() if mesh is None else mesh
  if config["seeds"] < 1:
    raise InputError(f"config.seeds is {config['seeds']}; it must be 1 or larger")
  if config["batch_size"] < 1:
    raise InputError(f"config.batch_size is {config['batch_size']}; it must be 1 or larger")
  source, holdout = load_source(config["data"], config["seed"], source)
  if network is None:
    network = make_network(config, source.num_classes)
  factory = method or _lookup("config.method.name", methods, config["method"]["name"], "network")
  teacher_network, teacher = None, None
  if config["teacher"]:
    teacher_network, teacher = load_run("config.teacher", config["teacher"], source)
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
    start_from = _start_from(config["init_from"], network, spec)
  optimizer = optim.make_optimizer(config["optim"], spec.learning_rate)
  run = Run(config, source, holdout, network, built, optimizer, spec, mesh, teacher, start_from)
  for section in ("log", "evaluate", "checkpoint"):
    run.steps(f"{section}.every", config[section]["every"])
  _check_evaluation(config["evaluate"])
  return run


def load_source(
  config: Mapping[str, Any], seed: int, source: data.Source | None = None
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
    source, holdout = source.holdout(config["holdout"], seed)
  if config["trusted"]:
    source = source.trusted(config["trusted"], seed, in_train=config["trusted_in_train"])
  return source, holdout


def make_network(config: Mapping[str, Any], num_classes: int) -> Network:
  """Builds the network that `config.model` and `config.precision` describe."""
  precisions = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
  if config["precision"] not in precisions:
    raise InputError(
      f"config.precision is {config['precision']!r}: {closest(config['precision'], precisions)}"
    )
  kwargs = dict(config["model"])
  factory = _lookup("config.model.name", models, kwargs.pop("name"), "num_classes")
  dtype = precisions[config["precision"]]
  return models.network(_call("config.model", factory, num_classes, dtype=dtype, **kwargs))


def load_run(
  field: str, run: str | Path, source: data.Source | None = None
) -> tuple[Network, PyTree]:
  """Loads the network of a finished run and its latest parameters and statistics.

  Args:
    field: the config field, for messages.
    run: the run directory.
    source: data that it must fit.

  Raises:
    InputError: when there is no such run, or it has other classes or another image shape.
  """
  record = writers.read_json(Path(run) / "config.json")
  config = schema.check(record["config"])
  num_classes, shape = record["num_classes"], tuple(record["image_shape"])
  if source is not None and (num_classes, shape) != (source.num_classes, source.image_shape):
    raise InputError(
      f"{field} is a network of {num_classes} classes for images of shape {shape}; this run has "
      f"{source.num_classes} classes and images of shape {source.image_shape}"
    )
  network = make_network(config, num_classes)
  like = _variables(network, shape)
  return network, checkpoint.load_model(Path(run) / "checkpoints", like)


def _start_from(run: str, network: Network, spec: Spec) -> PyTree:
  return checkpoint.load_model(Path(run) / "checkpoints", _variables(network, spec.image_shape))


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
  given = {
    "first": lambda: augment.crop_flip(config["first"]["padding"], flip=config["first"]["flip"]),
    "policy": lambda: _policy(config["policy"]),
    "teacher_network": lambda: teacher_network,
  }
  for name, make in given.items():
    if name in wanted and name not in kwargs:
      kwargs[name] = make()
  if "teacher_network" in wanted and kwargs["teacher_network"] is None:
    raise InputError(
      f"config.teacher is empty, but {config['method']['name']} needs a teacher; name the run "
      "directory of a trained network (or an earlier stage)"
    )
  return _call("config.method", factory, network, spec=spec, **kwargs)


def _policy(config: Mapping[str, Any]) -> Callable | None:
  kwargs = dict(config)
  name = kwargs.pop("name")
  if not name:
    return None
  transform = _lookup("config.policy.name", augment, name, "rng")
  _check_keywords("config.policy", transform, kwargs, positional=2)
  return functools.partial(transform, **kwargs)


def _wrap(config: Mapping[str, Any], method: Method, network: Network, spec: Spec) -> Method:
  for name in config["wrapper_args"]:
    if name not in config["wrappers"]:
      raise InputError(
        f"config.wrapper_args.{name} belongs to no wrapper of config.wrappers: "
        + closest(name, config["wrappers"] or ("",))
      )
  for name in config["wrappers"]:
    wrapper = _lookup("config.wrappers", methods, name, "inner")
    kwargs = dict(config["wrapper_args"].get(name, {}))
    wanted = inspect.signature(wrapper).parameters
    kwargs.update({k: v for k, v in (("network", network), ("spec", spec)) if k in wanted})
    method = _call(f"config.wrapper_args.{name}", wrapper, method, **kwargs)
  return method


def _lookup(field: str, package: ModuleType, name: str, first: str) -> Callable:
  """Finds a public function of a package whose first parameter is called `first`."""
  public = {
    n: f
    for n, f in vars(package).items()
    if inspect.isfunction(f) and next(iter(inspect.signature(f).parameters), None) == first
  }
  if name not in public:
    raise InputError(f"{field} is {name!r}, no such name: {closest(name, public)}")
  return public[name]


def _call(field: str, factory: Callable, *args, **kwargs):
  _check_keywords(field, factory, kwargs, positional=len(args))
  try:
    return factory(*args, **kwargs)
  except InputError as error:
    if "config." in str(error):
      raise
    raise InputError(f"{field}: {error}") from None


def _check_keywords(field: str, factory: Callable, kwargs: Mapping, positional: int) -> None:
  """Turns Python's complaint about a keyword into one that names the field and the signature."""
  parameters = list(inspect.signature(factory).parameters.values())
  free = {p.name: p for p in parameters[positional:]}
  for name in kwargs:
    if name not in free:
      # Objects (networks, specs, transforms) are injected, so a user need not see them.
      shown = [n for n in free if n not in ("spec", "network", "dtype", "first", "policy")]
      raise InputError(
        f"{field}.{name} is no argument of {factory.__name__}({', '.join(shown)}): "
        + closest(name, shown)
      )
  for name, value in kwargs.items():
    default = free[name].default
    number = isinstance(default, (int, float)) and not isinstance(default, bool)
    if number and (isinstance(value, bool) or not isinstance(value, (int, float))):
      raise InputError(
        f"{field}.{name} is {value!r}, of type {type(value).__name__}; it must be a number, such "
        f"as {default!r}"
      )


def corruption_names(names: tuple[str, ...]) -> tuple[str, ...]:
  """Resolves ("all",) and checks the others.

  Raises:
    InputError: for an unknown corruption, with the closest names.
  """
  known = corruptions.NAMES
  if tuple(names) == ("all",):
    return known
  for name in names:
    if name not in known:
      raise InputError(
        f"config.evaluate.corruptions has {name!r}, no such corruption: {closest(name, known)}"
      )
  return tuple(names)


def _check_evaluation(config: Mapping[str, Any]) -> None:
  corruption_names(config["corruptions"])
  if config["batch_size"] < 1:
    raise InputError(
      f"config.evaluate.batch_size is {config['batch_size']}; it must be 1 or larger"
    )
  for severity in config["severities"]:
    if severity not in corruptions.SEVERITIES:
      raise InputError(
        f"config.evaluate.severities has {severity!r}; severities are {corruptions.SEVERITIES}"
      )
