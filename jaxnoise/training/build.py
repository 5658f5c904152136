"""From a config to the objects of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from jaxnoise import data, models
from jaxnoise.core.errors import InputError, closest
from jaxnoise.core.types import Array, Method, Network, Output, PyTree, Spec
from jaxnoise.training import (
  cache,
  corrupted,
  durations,
  feeds,
  label_matrix,
  networks,
  optim,
  schedules,
  schema,
  sharding,
  sinks,
  sources,
  sweep,
)
from jaxnoise.training import method as method_lib
from jaxnoise.training.resolve import OBJECT, name_of


@dataclasses.dataclass(frozen=True)
class Run:
  """Everything that `training.loop.train` needs; nothing has been written or trained yet.

  Attributes:
    config: complete and checked.
    loaded: the training and test data, what is held out, and the labels of each seed.
    network: the model.
    method: the method, wrappers applied.
    optimizer: the optimizer.
    spec: the static facts.
    mesh: the devices.
    teacher: parameters and statistics of a frozen teacher, or None.
    start_from: parameters and statistics to start from, or None.
    corrupted: files of corrupted test images, or None where corruptions are made.
    host_crops: of a set that streams, the first crops that the host makes of each image; 0 leaves
      them to the device.
    members: of a sweep, what each member alone would be; method, optimizer and spec above are the
      first one's. Empty where there is no sweep.
  """

  config: Mapping[str, Any]
  loaded: sources.Loaded = dataclasses.field(repr=False)
  network: Network
  method: Method
  optimizer: optax.GradientTransformationExtraArgs
  spec: Spec
  mesh: Mesh
  teacher: PyTree | None = dataclasses.field(default=None, repr=False)
  start_from: PyTree | None = dataclasses.field(default=None, repr=False)
  corrupted: data.Corrupted | None = dataclasses.field(default=None, repr=False)
  host_crops: int = 0
  members: tuple[Run, ...] = dataclasses.field(default=(), repr=False)

  @property
  def source(self) -> data.Source:
    """The training and test data, with the labels of the first seed."""
    return self.loaded.source

  @property
  def holdout(self) -> data.Pool | None:
    """The examples held out of training, or None."""
    return self.loaded.holdout

  def host_data(self) -> dict[str, Any]:
    """What the compiled step is given, on the host; labels [S, N] where seeds have their own."""
    arrays = data.host_data(self.source)
    return arrays if self.loaded.labels is None else {**arrays, "labels": self.loaded.labels}

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
  network: Network | Any | None = None,
  method: Callable[..., Method] | Method | None = None,
  loss: Callable[[Array, Array], Array] | None = None,
  mesh: Mesh | None = None,
  pending: Mapping[str, Run] | None = None,
) -> Run:
  """Builds a run from a config; parts given as objects replace what the config names.

  Args:
    config: fields of `schema.default`, missing ones at their defaults.
    source: your own data.
    network: your own model: a `Network`, or a linen module for `models.network`.
    method: your own factory, called like those of `jaxnoise.methods` with the fields of
      `config.method`, or a finished `Method`, made with `network`.
    loss: your own (logits [B, K], targets [B, K]) -> [B], for a method with an argument `loss`.
    mesh: None means every device.
    pending: runs that are assembled but not trained yet, by directory. A teacher or a network to
      start from may be one of them; what is then returned is good for checking, not for training.

  Raises:
    InputError: for any name, type or value that does not fit, before anything is written.
  """
  config = schema.check(config)
  _check_objects(config, source, network, method, loss)
  config = _with_objects(config, source, network, method, loss)
  # A member of a sweep has every device: put on groups of them, rows of members would wander.
  grouped = 1 if config["sweep"] else config["seeds"]
  mesh = sharding.make_mesh(seeds=grouped) if mesh is None else mesh
  _check_numbers(config)
  if config["deterministic"]:
    cache.check_determinism(jax.default_backend())
  loaded = sources.load(config["data"], source, seed=config["seed"], seeds=config["seeds"])
  source = loaded.source
  if network is not None and config["precision"] != "float32":
    raise InputError(
      f"config.precision is {config['precision']!r}, but the network was given as an object, which "
      "computes as it was made; give a module its dtype, and leave config.precision at 'float32'"
    )
  if network is None:
    network = networks.make_network(config, source.num_classes)
  elif not isinstance(network, Network):
    options = {field: config[field] for field in ("norm_groups", "remat")}
    network = models.network(network, **options)
  else:
    for field, plain in (("norm_groups", 1), ("remat", False)):
      if config[field] != plain:
        raise InputError(
          f"config.{field} is {config[field]}, but the network was given as a finished Network; "
          f"give the linen module, or make it by models.network(module, {field}=...)"
        )
  teacher_network, teacher = None, None
  if config["teacher"]:
    teacher_network, teacher = networks.load_teacher(config["teacher"], source, pending)
  matrix = label_matrix.load(config["label_matrix"], source, pending)
  shapes = networks.variables(network, tuple(source.image_shape))
  if config["remat"] and not models.has_blocks(shapes["params"]):
    raise InputError(
      "config.remat is True, but the network has no blocks, modules called stage<i>_block<j>, that "
      "could be computed again; name its modules so, or set config.remat=False"
    )

  def parts(config: Mapping[str, Any]) -> dict[str, Any]:
    """What each member of a sweep has of its own."""

    def build(spec: Spec) -> Method:
      given = {"method": method, "loss": loss, "teacher_network": teacher_network}
      given |= {"label_matrix": matrix, "streamed": source.streamed}
      return method_lib.make_method(config, network, spec, **given)

    # An epoch's updates depend on the method's replays, and the method on the spec.
    built = build(_spec(config, source, mesh, replays=1))
    spec = _spec(config, source, mesh, replays=built.replays)
    built = build(spec)
    _check_batches(config, built, spec, mesh)
    optimizer = optim.make_optimizer(
      config["optim"], spec.learning_rate, steps_per_epoch=spec.steps_per_epoch
    )
    if config["optim"]["freeze_level"] != -1:
      level = config["optim"]["freeze_level"]
      optimizer = optim.freeze(optimizer, networks.frozen(shapes["params"], level))
    return {"method": built, "optimizer": optimizer, "spec": spec}

  configs = sweep.members(config, finished=isinstance(method, Method))
  own = [sweep.naming(config, i, lambda c=c: parts(c)) for i, c in enumerate(configs)]
  spec = own[0]["spec"]
  _check_classes(network, shapes, spec)
  start_from = networks.load_start(config, network, spec.image_shape, pending)
  stored = corrupted.load_corrupted(config["evaluate"], source)
  if stored is None:
    corrupted.check_corruptions(config["evaluate"], spec.image_shape)
  run = Run(
    config, loaded, network, mesh=mesh, teacher=teacher, start_from=start_from, corrupted=stored,
    host_crops=method_lib.host_crops(config, own[0]["method"], method), **own[0],
  )  # fmt: skip
  if config["sweep"]:
    each = zip(configs, own, strict=True)
    members = tuple(dataclasses.replace(run, config=c, **mine) for c, mine in each)
    run = dataclasses.replace(run, members=members)
    sweep.check(run)
  feeds.check(run)
  together = config["steps_per_call"]
  for section in ("log", "evaluate", "checkpoint"):
    every = run.steps(f"{section}.every", config[section]["every"])
    if 0 < every < together:
      raise InputError(
        f"config.steps_per_call is {together}, but config.{section}.every is {every} steps, so no "
        f"call could take so many; set at most {every}"
      )
  # The steps of an epoch that calls may have: not those on its shorter last batch.
  full = spec.steps_per_epoch
  if config["data"]["remainder"] == "keep" and spec.num_train % spec.batch_size:
    full -= run.method.replays
  if together > max(full, 1):
    raise InputError(
      f"config.steps_per_call is {together}, but an epoch has {full} steps on full batches, and a "
      "call ends with them; set at most that"
    )
  sinks.check(config["log"])
  return run


def _check_objects(config: Mapping[str, Any], source, network, method, loss) -> None:
  """Checks the kinds of objects given, and refuses what a finished method would ignore."""
  for name, part, fits, wanted in (
    ("source", source, isinstance(source, data.Source), "a jaxnoise.data.Source, such as "
     "jaxnoise.data.arrays(train_images, train_labels, test_images, test_labels) makes"),
    ("method", method, callable(method) or isinstance(method, Method), "a factory or a Method"),
    ("loss", loss, callable(loss), "a function (logits [B, K], targets [B, K]) -> [B]"),
  ):  # fmt: skip
    if part is not None and not fits:
      raise InputError(f"{name} is of type {type(part).__name__}; it must be {wanted}")
  if not isinstance(method, Method):
    return
  if network is None:
    raise InputError(
      "method is a finished Method; give the network that it was made with too, or its factory"
    )
  policy = config["policy"].get("name")
  unused = {"loss": loss, "config.policy.name": policy, "config.teacher": config["teacher"]}
  unused["config.label_matrix"] = config["label_matrix"]
  for what, given in unused.items():
    if given:
      raise InputError(
        f"{what} is given, but method is a finished Method, which cannot take it; hand it to the "
        "method's factory, or give the factory as method"
      )


def _with_objects(config: Mapping[str, Any], source, network, method, loss) -> dict[str, Any]:
  """The config with the names of the objects that stand in for what it names."""
  out = dict(config)
  given = {"data": source, "model": network, "method": method}
  for section, part in given.items():
    if part is None:
      continue
    own = f"{OBJECT}{part.name}" if section == "data" else name_of(part)
    fields = dict(out.get(section, {}))
    if section == "model" or isinstance(part, Method):
      fields = _own_fields(part) if section == "model" else {}
      own = f"{OBJECT}{part.name}" if isinstance(part, Method) else own
    out[section] = {**fields, "name": own}
  if loss is not None:
    out["method"] = {**out.get("method", schema.default()["method"]), "loss": name_of(loss)}
  return out


def _own_fields(module: Any) -> dict[str, Any]:
  """The plain fields of a linen module: with another width it is another run."""
  if isinstance(module, type) or not dataclasses.is_dataclass(module):
    return {}
  values = {field.name: getattr(module, field.name) for field in dataclasses.fields(module)}
  plain = (bool, int, float, str)

  def is_plain(value: Any) -> bool:
    several = isinstance(value, (tuple, list))
    return all(isinstance(v, plain) for v in value) if several else isinstance(value, plain)

  return {k: v for k, v in values.items() if k not in ("name", "parent") and is_plain(v)}


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
  batches = count // size if remainder == "drop" else -(-count // size)
  steps_per_epoch = batches * replays

  def to_steps(field: str, duration: str, total: int | None = None) -> int:
    return durations.to_steps(
      field, duration, steps_per_epoch=steps_per_epoch, batch_size=size, total_steps=total
    )

  num_steps = to_steps("total", config["total"])
  if num_steps < 1 and not config["init_from"]:
    raise InputError(
      f"config.total is {config['total']!r}; a run needs at least one step, unless "
      "config.init_from names weights to measure as they are"
    )
  length = max(num_steps, 1)
  schedule = schedules.make_schedule(
    config["optim"], length, lambda field, duration: to_steps(field, duration, length)
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


def _check_batches(config: Mapping[str, Any], method: Method, spec: Spec, mesh: Mesh) -> None:
  """Checks that batches and side batches can be shared by devices and micro-batches."""
  parts = config["accumulate"]
  sizes = {"config.batch_size": spec.batch_size}
  if config["data"]["remainder"] == "keep" and spec.num_train % spec.batch_size:
    sizes["the last partial batch (config.data.remainder)"] = spec.num_train % spec.batch_size
  for side in method.side_batches:
    if side.pool not in spec.pools:
      raise InputError(
        f"{method.name} draws from the pool {side.pool!r}, which the data does not have; "
        "set config.data.trusted, or give a source with that pool"
      )
    sizes[f"the side batch {side.name!r}"] = side.size
  for what, size in sizes.items():
    if size % parts:
      raise InputError(
        f"config.accumulate is {parts}, which does not divide {what}, {size} examples; choose a "
        "divisor"
      )
    if size // parts % config["norm_groups"]:
      raise InputError(
        f"config.norm_groups is {config['norm_groups']}, which does not divide {what}, "
        f"{size // parts} examples; choose a divisor"
      )
    sharding.check_divides(mesh, what, size // parts, parts)
  if parts > 1 and method.replays > 1:
    raise InputError(
      f"config.accumulate is {parts}, but {method.name} keeps a perturbation for each row of a "
      "batch; set it to 1"
    )


def _check_classes(network: Network, shapes: Mapping[str, Any], spec: Spec) -> None:
  image = jax.ShapeDtypeStruct((1, *spec.image_shape), jnp.float32)
  out = jax.eval_shape(network.apply, shapes["params"], shapes["batch_stats"], image)
  if not isinstance(out, Output):
    raise InputError(
      f"the network's apply returns a {type(out).__name__}; it must return a core.Output of "
      "logits, batch_stats and features"
    )
  if out.logits.shape != (1, spec.num_classes):
    raise InputError(
      f"the network's logits for one image have shape {out.logits.shape}, but the data has "
      f"{spec.num_classes} classes; the network must return (1, {spec.num_classes})"
    )


def _check_numbers(config: Mapping[str, Any]) -> None:
  for field, value in (
    ("seeds", config["seeds"]),
    ("batch_size", config["batch_size"]),
    ("accumulate", config["accumulate"]),
    ("norm_groups", config["norm_groups"]),
    ("steps_per_call", config["steps_per_call"]),
    ("evaluate.batch_size", config["evaluate"]["batch_size"]),
    ("checkpoint.keep", config["checkpoint"]["keep"]),
  ):
    if value < 1:
      raise InputError(f"config.{field} is {value}; it must be 1 or larger")
  sampling, known = config["data"]["sampling"], ("uniform", "balanced")
  if sampling not in known:
    raise InputError(f"config.data.sampling is {sampling!r}: {closest(sampling, known)}")
  if not 0 <= config["seed"] < 2**32 - config["seeds"]:
    raise InputError(f"config.seed is {config['seed']}; seeds are numbers from 0 to 2^32 - 1")
