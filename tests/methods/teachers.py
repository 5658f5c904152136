"""The toy network with features and a dropout rate of its own; and a state with a teacher."""

import functools

import jax
import jax.numpy as jnp

from jaxnoise.core import Network, TrainState
from tests.toy import toy_batch, toy_network


def featured(rate: float = 0.0, *, num_classes: int = 3, calls: list | None = None) -> Network:
  """The toy network that names its stages "stage1" and "stage2", [..., 4, 4, 4], before "pooled".

  Args:
    rate: of its own dropout, which acts in stage 1.
    calls: is told of every call of `apply`, its image too.
  """
  inner = toy_network(num_classes)

  def apply(params, batch_stats, image, *, dropout=None, tap=lambda stage, h: h, features=(),
            **options):
    seen = {}

    def note(stage, h):
      seen[f"stage{stage}"] = h = tap(stage, h)
      return h

    if calls is not None:
      calls.append({"image": image, "dropout": dropout, "features": features, **options})
    out = inner.apply(
      params,
      batch_stats,
      image,
      dropout=rate if dropout is None else dropout,
      tap=note,
      features=features,
      **options,
    )
    seen |= out.features
    return out._replace(features={name: seen[name] for name in features if name in seen})

  return Network(inner.init, apply, inner.num_stages)


@functools.cache
def variables(seed: int):
  init = jax.jit(toy_network().init)
  params, stats = init(jax.random.key(seed), toy_batch()["image"])
  # Away from 0, as in a trained network: so that statistics of a batch would be seen.
  return {"params": params, "batch_stats": {"mean": stats["mean"] + 0.2}}


def taught_state() -> TrainState:
  """A student's state with a teacher of other parameters."""
  own = variables(1)
  params, stats = own["params"], jax.tree.map(jnp.zeros_like, own["batch_stats"])
  return TrainState.create(jax.random.key(2), params, stats, teacher=variables(99))
