"""From a linen module to a `Network`: the only place that knows how a model is called."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import ScopeParamShapeError

from jaxnoise.core import InputError, Network, Output
from jaxnoise.core.errors import closest
from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array, BatchStats, Params, PRNGKey, PyTree
from jaxnoise.models._batch_groups import grouped_statistics
from jaxnoise.models._layers import checked
from jaxnoise.models._linen_conv import library_convolutions
from jaxnoise.models._preact_resnet import keep
from jaxnoise.models._remat import rematerialised_blocks

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def network(module: nn.Module, *, norm_groups: int = 1, remat: bool = False) -> Network:
  """Wraps a linen module as the pair of pure functions that methods know.

  All leading axes of an image are flattened into one, the first of them slowest, so that views
  [B, V, H, W, C] of an example stay beside each other and a batch sharded over B stays so.

  The module has to have:

    num_stages: tap positions are 0..num_stages.
    __call__(image [N, H, W, C], *, train, dropout, tap, features) -> (logits [N, K], features):
      `dropout` is a rate, or None for the module's own; masks are drawn from the stream "dropout"
      and only where `has_rng("dropout")`; `h = tap(stage, h)` is called once for each stage;
      `features` are the names to return, out of "stem", "stage1", ..., "pooled".
    norm_branches (optional): names of its sets of normalisation layers, "main" among them; it is
      then also called with `norm_branch`.

  A module without `num_stages` is called as module(image), or module(image, train=train) where it
  has that argument, and returns logits [N, K]. It serves every method that asks for nothing inside
  the network: there is one tap position, 0, the image itself, and there are no features. Noise
  injected there is in units of pixels in [0, 1]; the networks of this package normalise before tap
  0, so that theirs is in units of `std`.

  Variables live in the collections "params" and "batch_stats" and nowhere else. Plain `nn.Conv`
  layers are computed by `models.conv`: the same values, with gradients that stay fast in a loop.

  Args:
    module: made by a factory of this package, or any other that keeps to the above.
    norm_groups: in training each `nn.BatchNorm` normalises so many equal parts of the flattened
      batch apart from each other, as so many devices would that do not talk; running statistics
      move by the mean over the parts.
    remat: what is inside a module called "stage<i>_block<j>" is computed again in the backward
      pass instead of kept: the same numbers, less memory, up to a third more work.

  Returns:
    A `Network`; its `apply` is described at `jaxnoise.core.types.ApplyFn`.

  Raises:
    InputError: here if it is no linen module, or needs arguments other than those above; from
      `apply` if the image is not of a floating type, has fewer than three axes or does not fit the
      parameters, for a dropout rate outside [0, 1) or one that the module does not take, for an
      unknown feature or normalisation branch, and for a batch that norm_groups does not divide.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import models
    >>> net = models.network(models.wide_resnet(10, depth=10, widen_factor=1))
    >>> image = jnp.zeros((2, 3, 8, 8, 1))
    >>> params, batch_stats = jax.eval_shape(net.init, jax.random.key(0), image[:, 0])
    >>> jax.eval_shape(net.apply, params, batch_stats, image).logits.shape
    (2, 3, 10)
  """
  if not isinstance(module, nn.Module):
    raise InputError(
      f"module: found {module!r:.60}, of type {type(module).__name__}; it must be a flax.linen "
      "module, or be made a core.Network by you"
    )
  if hasattr(module, "num_stages"):
    num_stages, call = module.num_stages, None
    known = ("stem", *(f"stage{k + 1}" for k in range(num_stages)), "pooled")
  else:
    num_stages, call, known = 0, _plain(module), ()
  branches = getattr(module, "norm_branches", ("main",))

  # Compiled, the forward pass is dropped and only the initialisers run.
  @functools.partial(jax.jit, static_argnums=1)
  def variables_of(rng: PRNGKey, image_shape: tuple[int, ...]) -> PyTree:
    return module.init({"params": rng}, jnp.zeros((1, *image_shape)), train=False, method=call)

  def init(rng: PRNGKey, image: Array) -> tuple[Params, BatchStats]:
    variables = variables_of(rng, tuple(image.shape[-3:]))
    return variables["params"], variables.get("batch_stats", {})

  def apply(
    params: Params,
    batch_stats: BatchStats,
    image: Array,
    *,
    train: bool = False,
    rng: PRNGKey | None = None,
    dropout: float | None = None,
    norm_branch: str = "main",
    tap: Callable[[int, Array], Array] = keep,
    features: Sequence[str] = (),
  ) -> Output:
    _check(image, dropout, features, known, norm_branch, branches)
    lead = image.shape[:-3]

    def unflatten(x: Array) -> Array:
      return x.reshape(*lead, *x.shape[1:])

    def flat_tap(stage: int, h: Array) -> Array:
      return tap(stage, unflatten(h)).reshape(h.shape).astype(h.dtype)

    options = {"norm_branch": norm_branch} if hasattr(module, "norm_branches") else {}
    try:
      with (
        library_convolutions(),
        grouped_statistics(norm_groups),
        rematerialised_blocks(remat),
      ):
        (logits, collected), changed = module.apply(
          {"params": params, "batch_stats": batch_stats},
          image.reshape(math.prod(lead), *image.shape[-3:]),
          train=train,
          dropout=dropout,
          tap=flat_tap,
          features=tuple(features),
          rngs={} if rng is None else {"dropout": rng},
          mutable=["batch_stats"] if train else [],
          method=call,
          **options,
        )
    except ScopeParamShapeError as error:
      raise InputError(
        f"image: shape {tuple(image.shape)} does not fit the parameters given ({error}); "
        "initialise the network with images of this shape"
      ) from error
    return Output(
      logits=unflatten(promote(logits)),
      batch_stats=changed.get("batch_stats", batch_stats),
      features={name: unflatten(value) for name, value in collected.items()},
    )

  return Network(init=init, apply=apply, num_stages=num_stages)


def _plain(module: nn.Module) -> Callable[..., tuple[Array, dict[str, Array]]]:
  """How a module that returns logits alone is called with what the library passes."""
  parameters = list(inspect.signature(type(module).__call__).parameters.values())[2:]
  needed = [p.name for p in parameters if p.default is p.empty and p.kind not in _VARIADIC]
  if set(needed) - {"train"}:
    raise InputError(
      f"module: {type(module).__name__} needs {', '.join(needed)} to be called; give all but the "
      "image and `train` a default, or see jaxnoise.models.network for what else it may take"
    )
  takes_train = any(p.name == "train" for p in parameters)

  def call(
    module: nn.Module,
    image: Array,
    *,
    train: bool,
    dropout: float | None = None,
    tap: Callable[[int, Array], Array] = keep,
    features: Sequence[str] = (),
  ) -> tuple[Array, dict[str, Array]]:
    del features  # checked: there are none
    if dropout is not None:
      raise InputError(
        f"dropout: {type(module).__name__} has its own rate, which cannot be overridden; leave it "
        "out, or see jaxnoise.models.network for what a module may take"
      )
    options = {"train": train} if takes_train else {}
    logits = module(tap(0, image), **options)
    if not isinstance(logits, jax.Array):
      raise InputError(
        f"module: {type(module).__name__} returns a {type(logits).__name__}; it must return logits "
        "[N, K] alone, or see jaxnoise.models.network for what else it may return"
      )
    return logits, {}

  return call


def _check(
  image: Array,
  dropout: float | None,
  features: Sequence[str],
  known: Sequence[str],
  norm_branch: str,
  branches: Sequence[str],
) -> None:
  if image.ndim < 3:
    raise InputError(f"image: shape {tuple(image.shape)}, expected [..., height, width, channels]")
  if not jnp.issubdtype(image.dtype, jnp.floating):
    raise InputError(
      f"image: type {image.dtype}, expected floats in [0, 1]; divide bytes by 255 first"
    )
  if dropout is not None:
    checked(dropout=dropout)
  for name in features:
    if not known:
      raise InputError(
        f"features: {name!r} was asked for, but the module returns logits alone; see "
        "jaxnoise.models.network for how it may name its features"
      )
    if name not in known:
      raise InputError(f"features: unknown name {name!r}; {closest(name, known)}")
  if norm_branch not in branches:
    raise InputError(
      f"norm_branch: this network has no normalisation layers {norm_branch!r}; "
      f"{closest(norm_branch, branches)}"
    )
