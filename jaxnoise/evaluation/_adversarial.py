"""Accuracy under FGSM and PGD, parts of a suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxnoise import attacks, metrics
from jaxnoise.core import reduce
from jaxnoise.core.errors import InputError
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, Method, PredictFn, PRNGKey
from jaxnoise.evaluation import _suite
from jaxnoise.training import sharding


class Threat(NamedTuple):
  """A gradient attack within a ball.

  Attributes:
    norm: "linf" or "l2".
    epsilon: radius in units of pixels in [0, 1].
    step_size: of one step, the same units.
    num_steps: of one run.
    random_start: whether a run starts at a random point of the ball.
  """

  norm: str
  epsilon: float
  step_size: float
  num_steps: int
  random_start: bool


def fgsm_threat(epsilon: float) -> Threat:
  """One step of the whole radius from the image itself (Goodfellow et al. 2015)."""
  return Threat("linf", epsilon, epsilon, 1, random_start=False)


def pgd_threat(norm: str, epsilon: float, num_steps: int = 20) -> Threat:
  """Steps of a quarter of the radius from a random start: 2/255 at 8/255 (Madry et al. 2018)."""
  return Threat(norm, epsilon, epsilon / 4, num_steps, random_start=True)


FGSM = {f"linf {k}/255": fgsm_threat(k / 255) for k in (2, 4, 8)}
"""The threats of the robustness suite's FGSM."""

PGD = {
  "linf 2/255": pgd_threat("linf", 2 / 255),
  "linf 8/255": pgd_threat("linf", 8 / 255),
  "l2 0.25": pgd_threat("l2", 0.25),
  "l2 0.5": pgd_threat("l2", 0.5),
}
"""The threats of the robustness suite's PGD."""


def art_threat(epsilon: float) -> Threat:
  """PGD as the Adversarial Robustness Toolbox runs it when told no more than the radius.

  100 steps of 0.1 from the image itself. Multiplicative reweighting's tables come from this library
  and name neither step nor steps; these would be its defaults. The step is longer than those
  radii, so that the attack jumps between corners of the ball: for comparison with published numbers
  only.
  """
  return Threat("linf", epsilon, 0.1, 100, random_start=False)


NO_ATTACK = Threat("linf", 0.0, 0.0, 0, random_start=False)

MR_RADII: Mapping[str, float] = {"linf 0.01": 0.01, "linf 0.02": 0.02, "linf 8/255": 8 / 255}
"""The radii of multiplicative reweighting's Tables 4, 7 and 8, of the adversarial suite."""

MR_FGSM = {"clean": NO_ATTACK} | {cell: fgsm_threat(e) for cell, e in MR_RADII.items()}
"""The threats of the adversarial suite's FGSM."""

MR_PGD = {"clean": NO_ATTACK} | {cell: pgd_threat("linf", e) for cell, e in MR_RADII.items()}
"""Those of its PGD-20."""

MR_PGD_ART = {cell: art_threat(epsilon) for cell, epsilon in MR_RADII.items()}
"""Those of its PGD as the Adversarial Robustness Toolbox has it by default."""


def attack_part(
  subject: _suite.Subject,
  name: str,
  threats: Mapping[str, Threat],
  rng: PRNGKey,
  *,
  restarts: int = 1,
  every_run: bool = False,
  settings: Mapping[str, Any] | None = None,
) -> _suite.Part:
  """Measures accuracy under each threat; what is wrong without an attack counts as wrong.

  "accuracy" is the share of images that withstand all restarts; images that are beaten are not
  attacked again. With `every_run` every restart attacks every image, and "worst_run", the accuracy
  of the worst restart, is told as well.

  Args:
    subject: what is measured; the attack is on each of its predictors in evaluation mode.
    name: of the table.
    threats: by the name of the cell.
    rng: key of the random starts.
    restarts: runs of an attack that has a random start; one that has none is run once.
    every_run: count restarts by run as well as by image.
    settings: what else the numbers depend on.

  Raises:
    InputError: for a number of restarts below 1.
  """
  if restarts < 1:
    raise InputError(f"restarts is {restarts}; it must be 1 or larger")
  checks = {
    (predictor, norm): make_check(subject.method, predictor, norm, subject.mesh)
    for predictor in subject.predictors
    for norm in sorted({threat.norm for threat in threats.values()})
  }
  images, labels = subject.test.images, np.asarray(subject.test.labels)
  size = rows_at_a_time(subject)

  def measure(cell: str) -> dict[str, list[dict[str, float]]]:
    threat = threats[cell]
    runs = restarts if threat.random_start else 1
    out: dict[str, list[dict[str, float]]] = {}
    for predictor in subject.predictors:
      compiled = checks[predictor, threat.norm]
      for state in subject.states:
        out.setdefault(predictor, []).append(
          withstood(compiled, state, threat, images, labels, rng, runs, size, every_run)
        )
    return out

  def summarise(values: Mapping[str, _suite.Values]) -> dict[str, dict[str, list[float]]]:
    first = next(iter(values.values()))
    return {
      predictor: {
        cell: [row["accuracy"] for row in of_cell[predictor]] for cell, of_cell in values.items()
      }
      for predictor in first
    }

  about = {
    "threats": {cell: threat._asdict() for cell, threat in threats.items()},
    "restarts": restarts,
    "every_run": every_run,
    **(settings or {}),
  }
  return _suite.Part(name, about, tuple(threats), measure, summarise)


def rows_at_a_time(subject: _suite.Subject) -> int:
  """The batch size, or fewer for a small test set, as a multiple of the number of devices."""
  devices = subject.mesh.shape["data"]
  return -(-min(subject.batch_size, subject.test.size) // devices) * devices


Check = Callable[..., Array]
"""(state, numbers of the threat, key, image uint8 [B, H, W, C], label [B], index [B]) -> [B], 1
where the attacked image is classified correctly."""


def make_check(method: Method, predictor: str, norm: str, mesh: Mesh) -> Check:
  """Compiles one run of a gradient attack and its verdict; radius and steps are arguments.

  Without a step, no attack, it is the verdict on the images as they are.
  """

  def network(state: TrainState) -> PredictFn:
    return method.predictors(state)[predictor]

  return check_of(network, network, norm, mesh)


def check_of(
  attacked: Callable[[Any], PredictFn], judged: Callable[[Any], PredictFn], norm: str, mesh: Mesh
) -> Check:
  """The same of two networks: images found on the one are judged by the other.

  Args:
    attacked: state -> the network that the loss is of.
    judged: state -> the network whose predictions count; the state may be one of several networks.
    norm: "linf" or "l2".
    mesh: the devices; batches are split over them.
  """

  def check(
    state: Any,
    threat: Mapping[str, Array],
    rng: PRNGKey,
    image: Array,
    label: Array,
    index: Array,
  ) -> Array:
    image = image.astype(jnp.float32) / 255.0
    ascent = attacks.cross_entropy_ascent(attacked(state), label)
    start = attacks.uniform_start(rng, image, epsilon=threat["start"], norm=norm, index=index)
    found = attacks.pgd(
      ascent,
      image,
      epsilon=threat["epsilon"],
      step_size=threat["step_size"],
      num_steps=threat["num_steps"],
      norm=norm,
      start=start,
    )
    return metrics.correct(reduce.promote(judged(state)(found)), label)

  compiled = jax.jit(check, out_shardings=sharding.replicated(mesh))
  split = sharding.batch(mesh)

  def on_mesh(state: Any, threat: Mapping[str, Array], rng: PRNGKey, *rows: np.ndarray) -> Array:
    return compiled(state, threat, rng, *(jax.device_put(x, split) for x in rows))

  return on_mesh


def withstood(
  check: Check,
  state: Any,
  threat: Threat,
  images: np.ndarray,
  labels: np.ndarray,
  rng: PRNGKey,
  restarts: int,
  batch_size: int,
  every_run: bool,
) -> dict[str, float]:
  """Counts the images that withstand a threat; see `attack_part`."""
  numbers = {
    "epsilon": jnp.float32(threat.epsilon),
    "step_size": jnp.float32(threat.step_size),
    "num_steps": jnp.int32(threat.num_steps),
    "start": jnp.float32(threat.epsilon if threat.random_start else 0.0),
  }
  nothing = {k: jnp.zeros_like(v) for k, v in numbers.items()}

  def alive_after(which: Mapping[str, Array], runs: int, alive=None, key=None) -> np.ndarray:
    def verdict(of_restart: PRNGKey, *rows: Array) -> Array:
      return check(state, which, of_restart if key is None else key, *rows)

    return attacks.survivors(
      verdict, images, labels, rng, restarts=runs, batch_size=batch_size, alive=alive
    )

  clean = alive_after(nothing, 1)
  if not every_run:
    return {"accuracy": float(np.mean(alive_after(numbers, restarts, clean)))}
  # The keys that `survivors` gives its restarts: both countings are of the same runs.
  keys = [jax.random.fold_in(rng, run) for run in range(restarts)]
  each = np.stack([alive_after(numbers, 1, clean, key) for key in keys])
  return {"accuracy": float(each.all(axis=0).mean()), "worst_run": float(each.mean(axis=1).min())}


def threats_of(norm: str, radii: Sequence[str], *, num_steps: int = 20) -> dict[str, Threat]:
  """PGD threats by their text: "8/255" in the l_inf norm, "0.5" in the l_2 norm.

  Raises:
    InputError: for a norm that is neither, or a radius that is no number, or is not in (0, 1] for
      l_inf, or not positive for l_2.

  Example:
    >>> from jaxnoise import evaluation
    >>> threat = evaluation.threats_of("linf", ["8/255"])["linf 8/255"]
    >>> round(255 * threat.epsilon, 4), round(255 * threat.step_size, 4)
    (8.0, 2.0)
  """
  if norm not in ("linf", "l2"):
    raise InputError(f"norm is {norm!r}; it must be linf or l2")
  out = {}
  for text in radii:
    try:
      epsilon = float(Fraction(text))
    except (ValueError, ZeroDivisionError, OverflowError):
      raise InputError(f"epsilon is {text!r}; it must be a number such as 8/255 or 0.5") from None
    if epsilon <= 0 or (norm == "linf" and epsilon > 1):
      raise InputError(
        f"epsilon is {text}; it is in units of pixels in [0, 1], so write 8/255 for 8 grey levels"
      )
    out[f"{norm} {text}"] = pgd_threat(norm, epsilon, num_steps)
  return out
