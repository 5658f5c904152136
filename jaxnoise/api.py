"""One call from Python, a notebook included: what `python -m jaxnoise.main` does, with objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxnoise import data, reporting
from jaxnoise.core.errors import InputError
from jaxnoise.core.types import Array, Method, Network
from jaxnoise.training import distributed, experiment, loop, schema


def train(
  config: Mapping[str, Any],
  workdir: str | Path,
  *,
  source: data.Source | None = None,
  network: Network | Any | None = None,
  method: Callable[..., Method] | Method | None = None,
  loss: Callable[[Array, Array], Array] | None = None,
  quiet: bool = False,
) -> loop.Result:
  """Trains what a config describes, with your own parts in it, measures it and writes its report.

  The same call resumes a run that was cut off, and returns the result of one that has ended. A run
  directory knows your objects by their names only: after a change inside one, take another.

  Args:
    config: fields of `jaxnoise.training.schema.default`, missing ones at their defaults; or what
      `get_config` of a config file returns.
    workdir: the run directory.
    source: your own data, from `jaxnoise.data.arrays` for instance.
    network: your own model: a linen module (see `jaxnoise.models.network`) or a `core.Network`.
    method: your own factory (network, *, spec, ...) -> Method, or a finished `Method` made with
      `network`.
    loss: your own (logits [B, K], targets [B, K]) -> [B], for a method with an argument `loss`.
    quiet: print nothing.

  Returns:
    The result of the last stage: `metrics`, `state`, `predictors()`, `directory` with the report.

  Raises:
    InputError: for bad input, before anything is written.
    NonFiniteError: on a loss or gradient that is not finite.

  Example:
    >>> import tempfile
    >>> import flax.linen as nn
    >>> import jaxnoise
    >>> source = jaxnoise.data.generated(num_train=32, num_test=8, num_classes=2)
    >>> network = nn.Sequential([lambda x: x.reshape(len(x), -1), nn.Dense(2)])
    >>> with tempfile.TemporaryDirectory() as workdir:
    ...   config = {"total": "2 steps", "batch_size": 8}
    ...   result = jaxnoise.train(config, workdir, source=source, network=network, quiet=True)
    >>> result.step, result.predictors()["student"](source.test_images / 255.0).shape
    (2, (8, 2))
  """
  parts = {"source": source, "network": network, "method": method, "loss": loss}
  return train_all(config, workdir, quiet=quiet, **parts)[-1]


def train_all(
  config: Mapping[str, Any], workdir: str | Path, *, quiet: bool = False, **parts: Any
) -> list[loop.Result]:
  """The same for every stage of a config: one result each.

  Args:
    config: as for `train`.
    workdir: as for `train`.
    quiet: as for `train`.
    **parts: `source`, `network`, `method`, `loss`, as for `train`.
  """
  if parts.get("loss") is not None and isinstance(parts.get("source"), data.Source):
    options = schema.check(config)["method"].get("loss_args") or {}
    _check_loss(parts["loss"], parts["source"].num_classes, options)
  results = experiment.run(config, workdir, quiet=quiet, **parts)
  for result in results:
    if result.finished and distributed.is_main():
      page = reporting.write_report(result.directory)
      if not quiet:
        print(f"report: {page}", flush=True)
  return results


def _check_loss(loss: Callable[..., Array], classes: int, options: Mapping[str, Any]) -> None:
  batch = 2 * classes  # unlike the number of classes
  two = jax.ShapeDtypeStruct((batch, classes), jnp.float32)
  try:
    shape = jnp.shape(jax.eval_shape(lambda *each: loss(*each, **options), two, two))
  except TypeError as error:
    raise InputError(
      f"loss cannot be called with logits and targets of shape {two.shape} ({error}); it must be "
      "(logits [B, K], targets [B, K]) -> [B]"
    ) from error
  if shape != (batch,):
    raise InputError(
      f"loss returns shape {shape} for {batch} examples; it must return one value per example, "
      f"({batch},), without a mean or a sum over them"
    )
