"""Accuracy under the standard ensemble of attacks, a part of a suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise import attacks
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, PRNGKey
from jaxnoise.evaluation import _adversarial, _suite
from jaxnoise.training import sharding


def ensemble_part(
  subject: _suite.Subject,
  radii: Mapping[str, float],
  rng: PRNGKey,
  *,
  num_steps: int = 100,
  num_queries: int = 5000,
) -> _suite.Part:
  """Measures what withstands `attacks.ensemble` in the l_inf norm, attack by attack.

  A cell has, for each network, "clean" and the name of each attack: the share of images that are
  still classified correctly after it, what was beaten before not being attacked again; "accuracy"
  is the last of them, the robust accuracy. Targeted Auto-PGD needs 4 classes; for a network of
  fewer it is left out, which "left_out" in the notes says.

  Args:
    subject: what is measured; the attack is on each of its predictors in evaluation mode. Batches
      are split over its devices.
    radii: by the name of the cell, in units of pixels in [0, 1].
    rng: key of the random starts and of Square's queries.
    num_steps: of Auto-PGD and of FAB.
    num_queries: of Square.

  Returns:
    The part "ensemble". Its summary has "clean", "CELL/ATTACK" for each attack, and "CELL".

  Source: Croce and Hein (2020, "Reliable evaluation of adversarial robustness"), section 5.
  """
  image = jax.ShapeDtypeStruct((1, *subject.test.images.shape[1:]), jnp.float32)
  networks = {name: _network(subject, name) for name in subject.predictors}
  first = next(iter(networks.values()))
  classes = jax.eval_shape(first, subject.states[0], image).shape[-1]
  names = [n for n in attacks.STANDARD if classes >= attacks.FEWEST_CLASSES.get(n, 2)]
  runs = {
    predictor: attacks.ensemble(
      network,
      attacks=names,
      batch_size=_adversarial.rows_at_a_time(subject),
      num_steps=num_steps,
      num_queries=num_queries,
      sharding=sharding.batch(subject.mesh),
    )
    for predictor, network in networks.items()
  }
  images, labels = subject.test.images, np.asarray(subject.test.labels)

  def measure(cell: str) -> dict[str, list[dict[str, float]]]:
    out: dict[str, list[dict[str, float]]] = {}
    for predictor, run in runs.items():
      for state in subject.states:
        left = run(state, images, labels, rng, radii[cell])
        row = {name: float(np.mean(alive)) for name, alive in left.items()}
        out.setdefault(predictor, []).append({**row, "accuracy": row[names[-1]]})
    return out

  def summarise(values: Mapping[str, _suite.Values]) -> dict[str, dict[str, list[float]]]:
    out: dict[str, dict[str, list[float]]] = {}
    for cell, of_cell in values.items():
      for predictor, rows in of_cell.items():
        by_stage = _suite.by_seed(rows)
        found = out.setdefault(predictor, {"clean": by_stage["clean"]})
        found.update({f"{cell}/{name}": by_stage[name] for name in names})
        found[cell] = by_stage["accuracy"]
    return out

  settings = {
    "attacks": names,
    "num_steps": num_steps,
    "num_targets": min(9, classes - 1),
    "num_queries": num_queries,
  }
  left_out = [
    f"{name} needs {attacks.FEWEST_CLASSES[name]} classes or more, the network has {classes}"
    for name in attacks.STANDARD
    if name not in names
  ]
  return _suite.Part(
    "ensemble", settings, tuple(radii), measure, summarise, notes={"left_out": left_out}
  )


def _network(subject: _suite.Subject, predictor: str) -> Callable[[TrainState, Array], Any]:
  def predict(state: TrainState, image: Array) -> Array:
    return subject.method.predictors(state)[predictor](image)

  return predict
