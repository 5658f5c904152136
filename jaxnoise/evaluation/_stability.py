"""How steady predictions are along perturbation sequences, a part of a suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxnoise import corruptions, metrics
from jaxnoise.core import reduce
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, Method, PRNGKey
from jaxnoise.evaluation import _classification, _robustness, _suite
from jaxnoise.training import sharding


def sequence_part(
  subject: _suite.Subject,
  test_set: _classification.TestSet,
  rng: PRNGKey,
  *,
  names: Sequence[str],
  reference: Mapping[str, float] | None = None,
  reference_name: str = "",
  settings: Mapping[str, Any] | None = None,
) -> _suite.Part:
  """Measures the flip probability of every perturbation; the summary has the papers' means.

  Frames of noise are compared with the clean first one, all others with the frame before.

  Args:
    subject: what is measured.
    test_set: its test images; every image starts a sequence.
    rng: key of the perturbations.
    names: of perturbations.
    reference: flip probability by perturbation of the network that flip rates are relative to.
    reference_name: what that network is called.
    settings: what else the numbers depend on.
  """
  variant = _robustness.corruption_variant(test_set.image_shape)
  compiled = {
    (name, noise): make_flips(subject.method, name, subject.mesh, noise=noise)
    for name in subject.predictors
    for noise in (False, True)
  }

  def measure(cell: str) -> dict[str, list[dict[str, float]]]:
    noise = corruptions.is_noise(cell)
    found: dict[str, list[list[np.ndarray]]] = {
      name: [[] for _ in subject.states] for name in subject.predictors
    }
    for image, _, mask, index in test_set:
      frames = corruptions.perturb(rng, image, cell, index=index, variant=variant)
      real = np.asarray(mask) > 0
      for name, of_seeds in found.items():
        for of_seed, state in zip(of_seeds, subject.states, strict=True):
          values = compiled[name, noise](state, frames)
          of_seed.append(np.stack([np.asarray(v) for v in values])[:, real])
    out = {}
    for name, of_seeds in found.items():
      means = [np.concatenate(parts, axis=1).mean(axis=1) for parts in of_seeds]
      fields = ("flip_probability", "top5_distance")
      out[name] = [dict(zip(fields, map(float, m), strict=True)) for m in means]
    return out

  def summarise(values: Mapping[str, _suite.Values]) -> dict[str, dict[str, list[float]]]:
    out = {}
    for predictor, rows in next(iter(values.values())).items():
      each = []
      for seed in range(len(rows)):
        flips = {c: v[predictor][seed]["flip_probability"] for c, v in values.items()}
        top5 = [v[predictor][seed]["top5_distance"] for v in values.values()]
        each.append({**flip_means(flips, reference), "mean_top5_distance": float(np.mean(top5))})
      out[predictor] = _suite.by_seed(each)
    return out

  about = {"names": list(names), "variant": variant, **(settings or {})}
  return _suite.Part(
    "sequences",
    about,
    tuple(names),
    measure,
    summarise,
    headline="flip_probability",
    notes={"reference": reference_name},
  )


def make_flips(
  method: Method, predictor: str, mesh: Mesh, *, noise: bool
) -> Callable[[TrainState, Array], tuple[Array, Array]]:
  """Returns the jitted (state, frames [B, T, H, W, C]) -> (flip probability, top-5 distance), [B].

  Frames go through the network one after the other, so that memory is that of one batch.
  """

  def flips(state: TrainState, frames: Array) -> tuple[Array, Array]:
    predict = method.predictors(state)[predictor]
    logits = jax.lax.map(lambda f: reduce.promote(predict(f)), jnp.moveaxis(frames, 1, 0))
    logits = jnp.moveaxis(logits, 0, 1)
    prediction = jnp.argmax(logits, axis=-1)
    return (
      metrics.flip_probability(prediction, noise=noise),
      metrics.ranking_distance(logits, noise=noise),
    )

  return jax.jit(flips, out_shardings=sharding.replicated(mesh))


def flip_means(
  flips: Mapping[str, float], reference: Mapping[str, float] | None = None
) -> dict[str, float]:
  """The means over perturbations that the papers print, unweighted.

  "mean_flip_probability" and "without_noise"; with a reference "mean_flip_rate" and
  "rate_without_noise", multiples of the reference's.

  Args:
    flips: flip probability by perturbation.
    reference: the same of the reference network; all its perturbations must be there.

  Raises:
    InputError: where a perturbation of the reference was not measured, or it never flips.

  Example:
    >>> from jaxnoise import evaluation
    >>> means = evaluation.flip_means({"shot_noise": 0.3, "tilt": 0.1}, {"tilt": 0.2})
    >>> round(means["mean_flip_probability"], 6), means["without_noise"], means["mean_flip_rate"]
    (0.2, 0.1, 0.5)
  """
  quiet = [name for name in flips if not corruptions.is_noise(name)]
  means = {"mean_flip_probability": float(np.mean(list(flips.values())))}
  if quiet:
    means["without_noise"] = float(np.mean([flips[name] for name in quiet]))
  if reference is not None:
    means["mean_flip_rate"] = metrics.mean_flip_rate(flips, reference)
    quiet = [name for name in reference if not corruptions.is_noise(name)]
    if quiet:
      means["rate_without_noise"] = metrics.mean_flip_rate(flips, reference, names=quiet)
  return means
