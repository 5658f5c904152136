"""The method of a run: its factory, what the config gives it, its wrappers."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise import augment, data, methods
from jaxnoise.core.errors import InputError, closest
from jaxnoise.core.types import Array, Method, Network, PRNGKey, Spec
from jaxnoise.training.resolve import call, check_keywords, lookup

Transform = augment.Transform
TEACHER_POLICY = "teacher_policy"
"""A method's argument that a config gives as a section like `config.policy`."""


def make_method(
  config: Mapping[str, Any],
  network: Network,
  spec: Spec,
  *,
  method: Callable[..., Method] | Method | None = None,
  loss: Callable[[Array, Array], Array] | None = None,
  teacher_network: Network | None = None,
  label_matrix: np.ndarray | None = None,
  streamed: bool = False,
) -> Method:
  """Builds the method that `config.method` names and puts the wrappers of `config.wrappers` around.

  Args:
    config: complete; `method`, `first`, `policy`, `wrappers` and `wrapper_args` are read.
    network: of the run.
    spec: of the run; given to a factory that has an argument of this name.
    method: your own factory, or a finished `Method`, in place of the name.
    loss: in place of the factory's argument of this name.
    teacher_network: for a factory that has an argument of this name.
    label_matrix: for a factory that has an argument of this name.
    streamed: whether the first crop may have been made on the host: `config.first` then does
      nothing to an image [V, H, W, C], whose leading axis of length 1 says so, but drop that axis.

  Raises:
    InputError: for a name or a value that does not fit, or a part that the method does not use.

  Example:
    >>> from jaxnoise import core, models
    >>> from jaxnoise.training import method, schema
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> spec = core.Spec(num_train=2, num_classes=3, image_shape=(8, 8, 3))
    >>> config = schema.check({"wrappers": ("random_weighting", "with_ema")})
    >>> made = method.make_method(config, network, spec)
    >>> made.name, made.wrappers
    ('erm', ('random_weighting', 'with_ema'))
  """
  if not isinstance(method, Method):
    factory = method or lookup(
      "config.method.name", methods, config["method"].get("name", ""), "network"
    )
    parts = {"teacher_network": teacher_network, "label_matrix": label_matrix}
    method = _made(config, factory, network, spec, loss, parts, streamed)
  return _wrap(config, method, network, spec, streamed)


def host_crops(
  config: Mapping[str, Any], made: Method, factory: Callable[..., Method] | Method | None
) -> int:
  """How many first crops of each image a stream makes for a method; 0 for the uncropped image.

  Crops are made on the host where `config.first` does something and the method is given it: one
  that takes no `first` crops nothing when its data is in memory either.

  Args:
    config: complete.
    made: what `make_method` returned.
    factory: what it was given as `method`.
  """
  if not data.Crop(**config["first"]).active:
    return 0
  if factory is None:
    factory = getattr(methods, config["method"]["name"])
  given = not isinstance(factory, Method) and "first" in inspect.signature(factory).parameters
  return made.host_crops if given or made.host_crops > 1 else 0


def _made(
  config: Mapping[str, Any],
  factory: Callable[..., Method],
  network: Network,
  spec: Spec,
  loss: Callable[[Array, Array], Array] | None,
  parts: Mapping[str, Any],
  streamed: bool,
) -> Method:
  kwargs = {k: v for k, v in config["method"].items() if k != "name"}
  wanted, name = inspect.signature(factory).parameters, config["method"]["name"]
  if loss is not None:
    if "loss" not in wanted:
      raise InputError(
        f"a loss was given, but {name} has no argument `loss`; leave it out, or take a method that "
        "has one, such as erm"
      )
    kwargs["loss"] = loss
  first, policy = _transforms(config, spec)
  first = _unless_cropped(first) if streamed else first
  given = {"first": first, "policy": policy, **parts}
  fields = {
    "policy": "config.policy.name",
    "teacher_network": "config.teacher",
    "label_matrix": "config.label_matrix",
  }
  for part, value in given.items():
    if part in wanted:
      kwargs.setdefault(part, value)
    elif part in fields and value is not None:
      raise InputError(f"{fields[part]} is set, but {name} does not use it; leave it empty")
  # One with a default is wanted in some of the method's settings only; the method says in which.
  teacher = wanted.get("teacher_network")
  if teacher and teacher.default is teacher.empty and kwargs["teacher_network"] is None:
    raise InputError(
      f"config.teacher is empty, but {name} needs a teacher; name the run directory of a trained "
      "network (or an earlier stage)"
    )
  if TEACHER_POLICY in wanted and isinstance(kwargs.get(TEACHER_POLICY), Mapping):
    image = jax.ShapeDtypeStruct(spec.image_shape, jnp.float32)
    kwargs[TEACHER_POLICY] = _chain(
      f"config.method.{TEACHER_POLICY}", kwargs[TEACHER_POLICY], image
    )
  if "spec" in wanted or any(p.kind is p.VAR_KEYWORD for p in wanted.values()):
    kwargs["spec"] = spec
  made = call("config.method", factory, network, **kwargs)
  if not isinstance(made, Method):
    raise InputError(
      f"the factory {name} returned an object of type {type(made).__name__}; it must return a "
      "core.Method"
    )
  return made


def _transforms(config: Mapping[str, Any], spec: Spec) -> tuple[Transform, Transform | None]:
  """What `config.first` and `config.policy` say."""
  first = _first(config["first"])
  image = jax.ShapeDtypeStruct(spec.image_shape, jnp.float32)
  if config["first"]["resized_crop"]:
    image = _traced("config.first", first, image)
  return first, _chain("config.policy", config["policy"], image)


def _chain(
  field: str, config: Mapping[str, Any], image: jax.ShapeDtypeStruct
) -> Transform | None:
  """The transform that a section like `config.policy` says, for such images; None for none."""
  transforms = []
  for where, step in _steps(field, config):
    image = _traced(where, step, image)
    transforms.append(step)
  # One alone is given the view's key itself, from which `compose` would derive another.
  policy = transforms[0] if len(transforms) == 1 else augment.compose(*transforms)
  return policy if transforms else None


def _traced(field: str, step: Transform, image: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
  """Traced once here, so that a bad value is found before anything is written."""
  return call(field, lambda: jax.eval_shape(step, jax.random.key(0), image))


def _first(config: Mapping[str, Any]) -> Transform:
  side = config["resized_crop"]
  if not side:
    return call("config.first", augment.crop_flip, config["padding"], flip=config["flip"])
  if side < 0 or config["padding"]:
    raise InputError(
      f"config.first.resized_crop is {side} and config.first.padding is {config['padding']}; set "
      "one of them to a number of pixels, and the other to 0"
    )
  options = {name: config[name] for name in ("scale", "ratio", "flip")}
  return functools.partial(augment.random_resized_crop, size=side, **options)


def _unless_cropped(first: Transform) -> Transform:
  """The first transform of images of which a stream may have made the first crop already."""

  def transform(rng: PRNGKey, image: Array) -> Array:
    if image.ndim == 3:
      return first(rng, image)
    if image.shape[0] != 1:
      raise ValueError(
        f"an image came with {image.shape[0]} first crops, but one is asked for; a method with "
        "several hands each view its own, see Method.host_crops"
      )
    return image[0]

  return transform


def _steps(field: str, config: Mapping[str, Any]) -> Iterator[tuple[str, Transform]]:
  """The steps of a policy in their order, each with the field that describes it."""
  while config:
    if not isinstance(config, Mapping):
      raise InputError(
        f"{field} is {config!r}; it must be a section such as {{'name': 'cutout', 'size': 16}}"
      )
    kwargs = dict(config)
    name, then = kwargs.pop("name", ""), kwargs.pop("then", None)
    if name:
      transform = lookup(f"{field}.name", augment, name, "rng", "image")
      check_keywords(field, transform, kwargs, positional=2)
      for needed in list(inspect.signature(transform).parameters.values())[2:]:
        if needed.default is needed.empty and needed.name not in kwargs:
          raise InputError(f"{field}.{needed.name} is missing, but {name} needs it; give a value")
      yield field, functools.partial(transform, **kwargs)
    field, config = f"{field}.then", then


def _wrap(
  config: Mapping[str, Any], method: Method, network: Network, spec: Spec, streamed: bool
) -> Method:
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
    first = _first(config["first"])
    first = _unless_cropped(first) if streamed else first
    given = {"network": network, "spec": spec, "first": first}
    kwargs.update({k: v for k, v in given.items() if k in wanted})
    method = call(f"config.wrapper_args.{name}", wrapper, method, **kwargs)
  return method
