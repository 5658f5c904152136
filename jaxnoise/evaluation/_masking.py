"""Whether a network only hides its gradients, a part of a suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Method, PredictFn, PRNGKey
from jaxnoise.evaluation import _adversarial, _suite

GREY_LEVELS = (2, 4, 8, 16, 32, 64, 128)
"""Radii of the sweep, times 255; 20 steps each."""
STEPS = (1, 2, 5, 10, 20, 50, 100)
"""Of the other sweep, at 8/255 from one and the same start."""
_LEAST = 0.01


def _cell(steps: int, grey_levels: int) -> str:
  return f"pgd-{steps} linf {grey_levels}/255"


CLEAN, WHITE_BOX, NOISE = "clean", _cell(20, 8), "noise linf 8/255"
BY_RADIUS = {0: CLEAN} | {k: _cell(20, k) for k in GREY_LEVELS}
"""Radius times 255 -> the cell of the sweep over radii."""
BY_STEPS = {n: _cell(n, 8) for n in STEPS}
"""Number of steps -> the cell of the sweep over steps."""
TRANSFER = "transfer"
"""What the cell of images found on another network begins with."""
_THREATS = {
  CLEAN: _adversarial.NO_ATTACK,
  **{_cell(20, k): _adversarial.pgd_threat("linf", k / 255, 20) for k in GREY_LEVELS},
  **{_cell(n, 8): _adversarial.pgd_threat("linf", 8 / 255, n) for n in STEPS},
  NOISE: _adversarial.Threat("linf", 8 / 255, 0.0, 0, random_start=True),
}


class Surrogate(NamedTuple):
  """Another network for the same images, that attacks are made on.

  Attributes:
    name: what it is called on a page.
    key: what tells it from others; part of the cell's name.
    method: whose headline predictor is attacked.
    states: one or more; the networks that are judged take them in turn.
  """

  name: str
  key: str
  method: Method
  states: Sequence[TrainState]


def masking_part(
  subject: _suite.Subject, rng: PRNGKey, *, surrogate: Surrogate | None = None
) -> _suite.Part:
  """Measures what a network that hides its gradients would show, and judges it.

  All attacks are l_inf PGD with steps of a quarter of the radius from one random start: radii up to
  128/255 with 20 steps; up to 100 steps at 8/255; at 8/255 also images found on a surrogate, and
  random noise. For the judgement see `masking_verdicts`.

  Args:
    subject: what is measured.
    rng: key of the random starts, the same for every attack.
    surrogate: None takes the seeds' own networks in turn, each attacked on the next seed's; where
      there is one seed, transfer is not checked.

  Returns:
    The part "masking"; its summary has each cell's accuracies, and "verdicts", a list of rows.
  """
  if surrogate is None and len(subject.states) > 1:
    turned = [*subject.states[1:], subject.states[0]]
    surrogate = Surrogate("the next seed", "the next seed", subject.method, turned)
  threats = dict(_THREATS)
  judged = {name: _network(subject.method, name) for name in subject.predictors}
  checks = {
    name: _adversarial.make_check(subject.method, name, "linf", subject.mesh) for name in judged
  }
  across, transfer = {}, None
  if surrogate is not None:
    transfer = f"{TRANSFER} from {surrogate.key}"
    threats[transfer] = threats[WHITE_BOX]
    other = _network(surrogate.method, next(iter(surrogate.method.predictors(surrogate.states[0]))))
    across = {
      name: _adversarial.check_of(
        lambda states: other(states[1]),
        lambda states, own=own: own(states[0]),
        "linf",
        subject.mesh,
      )
      for name, own in judged.items()
    }
  images, labels = subject.test.images, np.asarray(subject.test.labels)
  size = _adversarial.rows_at_a_time(subject)

  def measure(cell: str) -> dict[str, list[dict[str, float]]]:
    out: dict[str, list[dict[str, float]]] = {}
    for predictor in judged:
      for s, state in enumerate(subject.states):
        check, states = checks[predictor], state
        if cell == transfer:
          check = across[predictor]
          states = (state, surrogate.states[s % len(surrogate.states)])
        row = _adversarial.withstood(
          check, states, threats[cell], images, labels, rng, 1, size, every_run=False
        )
        out.setdefault(predictor, []).append(row)
    return out

  def summarise(values: Mapping[str, _suite.Values]) -> dict[str, dict[str, list[Any]]]:
    out: dict[str, dict[str, list[Any]]] = {}
    for predictor in judged:
      found = {cell: [row["accuracy"] for row in of[predictor]] for cell, of in values.items()}
      # Under one name whatever the surrogate was: the notes say which.
      moved = found.pop(transfer, None)
      found.update({} if moved is None else {TRANSFER: moved})
      verdicts = masking_verdicts(found, subject.test.size)
      out[predictor] = {**found, "verdicts": verdicts}
    return out

  used = {cell: threat for cell, threat in threats.items() if cell != transfer}
  settings = {"threats": {cell: threat._asdict() for cell, threat in used.items()}}
  notes = {"surrogate": "" if surrogate is None else surrogate.name}
  return _suite.Part("masking", settings, tuple(threats), measure, summarise, notes=notes)


def masking_verdicts(accuracy: Mapping[str, Sequence[float]], count: int) -> list[dict[str, Any]]:
  """Judges whether accuracies under attack look like those of a network that hides its gradients.

  Each check is a number that is 0 or less without masking, up to chance:

  * reach: the accuracy at the largest radius, 128/255, at which any image can be made grey.
  * radius: the most by which accuracy is higher at some radius than at a smaller one.
  * steps: the same for more steps of the attack.
  * transfer: how much lower accuracy is on images that were found on a surrogate than on those
    found on the network itself.
  * noise: how much lower it is under uniform noise than under the attack.

  A check is passed if the number is at most 2 sqrt(p (1 - p) / N), two binomial standard errors of
  N images, with p the mean of the accuracies that are compared (of "reach", the accuracy), held
  within [0.01, 0.99]. Passing proves nothing; failing means that the attack, not the network, is
  what the accuracies speak of.

  Args:
    accuracy: cell -> one number per seed: those of `BY_RADIUS`, of `BY_STEPS`, "noise linf 8/255",
      and "transfer" where it was measured.
    count: N, images.

  Returns:
    For each check {"check", "passed" (by every seed; None for what was not measured), "value" and
    "tolerance" (one per seed)}.

  Source: Athalye et al. (2018, "Obfuscated gradients give a false sense of security"), section 3.1;
  Carlini et al. (2019, "On evaluating adversarial robustness"), section 4.

  Example:
    >>> from jaxnoise import evaluation
    >>> cells = {*evaluation.BY_RADIUS.values(), *evaluation.BY_STEPS.values(), "noise linf 8/255"}
    >>> rows = evaluation.masking_verdicts(dict.fromkeys(cells, [0.5]), 100)
    >>> {row["check"]: row["passed"] for row in rows}
    {'reach': False, 'radius': True, 'steps': True, 'transfer': None, 'noise': True}
  """
  seeds = range(len(accuracy[CLEAN]))
  radius = np.array([accuracy[cell] for cell in BY_RADIUS.values()], float)
  steps = np.array([accuracy[cell] for cell in BY_STEPS.values()], float)

  def lower(cell: str, s: int) -> tuple[float, float]:
    attacked, other = float(accuracy[WHITE_BOX][s]), float(accuracy[cell][s])
    return attacked - other, _tolerance((attacked + other) / 2, count)

  found = {
    "reach": [(float(radius[-1, s]), _tolerance(radius[-1, s], count)) for s in seeds],
    "radius": [_rise(radius[:, s], count) for s in seeds],
    "steps": [_rise(steps[:, s], count) for s in seeds],
    "transfer": [lower(TRANSFER, s) for s in seeds] if TRANSFER in accuracy else [],
    "noise": [lower(NOISE, s) for s in seeds],
  }
  return [
    {
      "check": check,
      "passed": all(value <= tolerance for value, tolerance in pairs) if pairs else None,
      "value": [value for value, _ in pairs],
      "tolerance": [tolerance for _, tolerance in pairs],
    }
    for check, pairs in found.items()
  ]


def _rise(curve: np.ndarray, count: int) -> tuple[float, float]:
  """The rise over all before that exceeds its tolerance the most, or comes nearest to that."""
  pairs = []
  for k in range(1, len(curve)):
    least = float(np.min(curve[:k]))
    pairs.append((float(curve[k]) - least, _tolerance((curve[k] + least) / 2, count)))
  return max(pairs, key=lambda pair: pair[0] - pair[1])


def _tolerance(share: float, count: int) -> float:
  share = float(np.clip(share, _LEAST, 1 - _LEAST))
  return 2 * float(np.sqrt(share * (1 - share) / count))


def _network(method: Method, predictor: str) -> Callable[[TrainState], PredictFn]:
  return lambda state: method.predictors(state)[predictor]
