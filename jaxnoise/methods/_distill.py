"""What all distillation shares: a student in training, a frozen teacher, one pass of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnoise import augment, losses
from jaxnoise.core import reduce
from jaxnoise.core.errors import InputError, closest
from jaxnoise.core.rng import Streams
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, Aux, Batch, LossFn, Method, Network, Params, PRNGKey, Spec
from jaxnoise.methods import _base

BALANCES = ("convex", "sum")


class Hinton(NamedTuple):
  """How label and teacher are balanced.

  Attributes:
    temperature: tau.
    alpha: weight of tau^2 KL(p_t || p_s).
    reverse: KL(p_s || p_t) instead.
    balance: "convex", the label has 1 - alpha, or "sum", it has 1.
  """

  temperature: float
  alpha: float
  reverse: bool = False
  balance: str = "convex"


class Live(NamedTuple):
  """A teacher whose dropout is live; a rate of None is its own."""

  dropout: float | None = None


class Term(NamedTuple):
  """What is compared of the features of one pass of each network.

  Attributes:
    field: of the config, which names the features.
    layers: names of the student's features.
    teacher_layers: names of the teacher's.
    losses: (name of the metric, weight, (student features, teacher features) -> [B]) each.
    whole_batch: the mean over the batch is unweighted: its terms are pairs, not examples.
    maps: the features must be maps [B, H, W, C].
  """

  field: str
  layers: tuple[str, ...]
  teacher_layers: tuple[str, ...]
  losses: Sequence[tuple[str, float, Callable[[Sequence[Array], Sequence[Array]], Array]]]
  whole_batch: bool = False
  maps: bool = False


def distillation(
  name: str,
  network: Network,
  *,
  spec: Spec,
  teacher_network: Network,
  hinton: Hinton,
  first: _base.Transform,
  term: Term | None = None,
  live: Live | None = None,
  perturb: _base.Transform | None = None,
  relabel: Callable[[PRNGKey, Array], Array] | None = None,
) -> Method:
  """Makes the method that minimises, with z_s of the image x' and z_t of the image x,

    b CE(z_s, y') + alpha tau^2 KL(p_t || p_s) + sum_k w_k L_k(features of the same two passes).

  x is the batch's image after `first`; x' is x, or `perturb` of it; y' the label, or `relabel` of
  it; b is 1 - alpha or 1. The teacher is `state.teacher` with its running statistics, without
  dropout unless `live`, and without a gradient. Example weights scale every term but
  those of a whole batch.

  Raises:
    InputError: for a number out of range, features that one of the networks does not have, a live
      teacher without dropout, and, at initialisation, when there is no teacher.
  """
  check(hinton)
  if term is not None or live is not None:
    _check_networks(name, network, teacher_network, spec, first, term, live)
  view = augment.batched(first)
  # The stream of a policy, so that `erm` with this policy sees the same draws.
  noisy = None if perturb is None else augment.batched(perturb)
  layers, teacher_layers = (), ()
  if term is not None:
    layers, teacher_layers = term.layers, term.teacher_layers
  taught_by_logits = term is None or hinton.alpha > 0

  def teach(state: TrainState, image: Array, streams: Streams) -> tuple[Array, list[Array]]:
    options: dict[str, Any] = {} if live is None else {"rng": streams("teacher_dropout")}
    if live is not None and live.dropout is not None:
      options["dropout"] = live.dropout
    out = teacher_network.apply(
      state.teacher["params"],
      state.teacher["batch_stats"],
      image,
      features=teacher_layers,
      **options,
    )
    check_classes(out.logits, spec)
    return jax.lax.stop_gradient((out.logits, [out.features[n] for n in teacher_layers]))

  def loss_fn(state: TrainState) -> LossFn:
    def fn(params: Params, batch: Batch, rng: PRNGKey) -> tuple[Array, Aux]:
      streams = Streams(rng)
      clean = view(streams("augment"), batch["image"])
      image = clean if noisy is None else noisy(streams("policy"), clean)
      label = batch["label"]
      if relabel is not None:
        label = relabel(streams("labels"), label)
      out = network.apply(
        params,
        state.batch_stats,
        image,
        train=True,
        rng=streams("dropout"),
        features=layers,
      )
      taught, teacher_features = teach(state, clean, streams)
      features = [out.features[n] for n in layers]

      ce = losses.cross_entropy(out.logits, _base.one_hot(label, spec.num_classes))
      metrics = {"label_loss": reduce.mean_count(ce)}
      values = ce if hinton.balance == "sum" else (1 - hinton.alpha) * ce
      if taught_by_logits:
        kd = losses.hinton(
          out.logits, taught, temperature=hinton.temperature, reverse=hinton.reverse
        )
        metrics["distillation"] = reduce.mean_count(kd)
        values = values + hinton.alpha * kd
      pairs = jnp.zeros_like(values)
      for metric, weight, loss in () if term is None else term.losses:
        rows = loss(features, teacher_features)
        metrics[metric] = reduce.mean_count(rows)
        if term.whole_batch:
          pairs = pairs + weight * rows
        else:
          values = values + weight * rows
      metrics["loss"] = reduce.mean_count(values + pairs)
      loss = reduce.weighted_mean(values, batch.get("weight")) + jnp.mean(pairs)
      return loss, Aux(out.batch_stats, ce, metrics)

    return fn

  return Method(name, loss_fn, _base.student(network), init_state=with_teacher(name))


def with_teacher(name: str) -> Callable[[TrainState], TrainState]:
  """The `init_state` of a method that needs a teacher and keeps nothing."""

  def init_state(state: TrainState) -> TrainState:
    if state.teacher is None:
      raise InputError(
        f"config.teacher is empty, but {name} needs a teacher; name the run directory of a trained "
        "network (or an earlier stage)"
      )
    return state

  return init_state


def check_classes(teacher_logits: Array, spec: Spec) -> None:
  """Refuses a teacher of other classes than the data's."""
  if teacher_logits.shape[-1] != spec.num_classes:
    raise InputError(
      f"config.teacher is a network of {teacher_logits.shape[-1]} classes, but the data have "
      f"{spec.num_classes}; name a teacher that was trained for the same classes"
    )


def check(hinton: Hinton) -> None:
  """Refuses a temperature, a balance or a weight out of range."""
  if not 0 < hinton.temperature < math.inf:
    raise InputError(
      f"config.method.temperature is {hinton.temperature}; it must be larger than 0, and finite"
    )
  if hinton.balance not in BALANCES:
    raise InputError(
      f"config.method.balance is {hinton.balance!r}, no such choice: "
      + closest(str(hinton.balance), BALANCES)
    )
  if hinton.balance == "convex" and not 0 <= hinton.alpha <= 1:
    raise InputError(f"config.method.alpha is {hinton.alpha}; it must lie in [0, 1]")
  if hinton.balance == "sum":
    check_weights(alpha=hinton.alpha)


def check_weights(**weights: float) -> None:
  """Refuses a negative or infinite weight, by the name of its field."""
  for field, weight in weights.items():
    if not 0 <= weight < math.inf:
      raise InputError(
        f"config.method.{field} is {weight}; it must be a finite number, 0 or larger"
      )


def live_teacher(fickle: bool, teacher_dropout: float | None) -> Live | None:
  """Reads the two fields of "+FT"."""
  if not isinstance(fickle, bool):
    raise InputError(
      f"config.method.fickle is {fickle!r}; it must be True or False (a rate is "
      "config.method.teacher_dropout)"
    )
  if teacher_dropout is not None and not fickle:
    raise InputError(
      f"config.method.teacher_dropout is {teacher_dropout}, but config.method.fickle is False; "
      "make that True, or leave the rate out"
    )
  if teacher_dropout is not None and not 0 <= teacher_dropout < 1:
    raise InputError(f"config.method.teacher_dropout is {teacher_dropout}; it must lie in [0, 1)")
  return Live(teacher_dropout) if fickle else None


def layer_names(value: str | Sequence[str]) -> tuple[str, ...]:
  """One name or several, as a tuple."""
  return (value,) if isinstance(value, str) else tuple(value)


def _check_networks(
  name: str,
  network: Network,
  teacher_network: Network,
  spec: Spec,
  first: _base.Transform,
  term: Term | None,
  live: Live | None,
) -> None:
  """Traces both networks once, so that what does not fit is found before anything is written."""
  image = jax.ShapeDtypeStruct(tuple(spec.image_shape), jnp.float32)
  image = jax.eval_shape(first, jax.random.key(0), image)
  image = jax.ShapeDtypeStruct((2, *image.shape), image.dtype)
  if term is not None:
    _check_features("student", term, term.layers, _probe(network, image, term.layers, None)[0])
    shapes = _probe(teacher_network, image, term.teacher_layers, None)[0]
    _check_features("teacher", term, term.teacher_layers, shapes, "teacher_")
  # A rate of 0 that was asked for is another name of a teacher without dropout.
  if live is not None and live.dropout != 0:
    layers = () if term is None else term.teacher_layers
    if not _probe(teacher_network, image, layers, live)[1]:
      raise InputError(
        f"{name} needs a teacher whose dropout is live, but that of config.teacher has none: "
        "nothing in its pass depends on the masks; train the teacher with config.model.dropout "
        "larger than 0 (with a network of your own, dropout has to act where a key is given, in "
        "evaluation mode too)"
      )


def _probe(
  network: Network, image: jax.ShapeDtypeStruct, layers: tuple[str, ...], live: Live | None
) -> tuple[Mapping[str, tuple[int, ...]] | InputError, bool]:
  """The shapes of a network's features (or why there are none), and whether its masks matter."""
  key = jax.random.key(0)
  params, batch_stats = jax.eval_shape(network.init, key, image)

  def forward(params, batch_stats, image, key):
    options = {} if live is None else {"rng": key, "dropout": live.dropout}
    out = network.apply(params, batch_stats, image, features=layers, **options)
    return out.logits, dict(out.features)

  try:
    traced, (_, features) = jax.make_jaxpr(forward, return_shape=True)(
      params, batch_stats, image, key
    )
  except InputError as error:
    if layers and str(error).startswith("features: "):
      return InputError(str(error).removeprefix("features: ")), False
    raise
  masks = traced.jaxpr.invars[-1]
  used = any(v is masks for equation in traced.jaxpr.eqns for v in equation.invars)
  return {n: tuple(f.shape) for n, f in features.items()}, used


def _check_features(
  who: str,
  term: Term,
  layers: tuple[str, ...],
  shapes: Mapping[str, tuple[int, ...]] | InputError,
  prefix: str = "",
) -> None:
  field = f"config.method.{term.field}"
  if prefix:
    other = f"; if its layers have names of their own, give config.method.{prefix}{term.field}"
  else:
    other = ""
  if isinstance(shapes, InputError):
    raise InputError(f"{field}: the {who} does not fit ({shapes}){other}")
  for name in layers:
    if name not in shapes:
      raise InputError(
        f"{field} names {name!r}, a feature that the {who} does not return; its network has to, "
        f"see jaxnoise.models.network{other}"
      )
    if term.maps and len(shapes[name]) != 4:
      raise InputError(
        f"{field} names {name!r}, but in the {who} that has shape [B, "
        f"{', '.join(map(str, shapes[name][1:]))}], which is no map [B, height, width, channels]; "
        f"name a stage such as 'stage1' (similarity_preserving and rkd take vectors){other}"
      )
    if term.maps and math.prod(shapes[name][1:3]) == 1:
      raise InputError(
        f"{field} names {name!r}, but in the {who} that has shape [B, "
        f"{', '.join(map(str, shapes[name][1:]))}], a single place, whose attention is 1 whatever "
        f"it holds; name earlier stages{other}"
      )
