"""The tables of a suite read back, and its numbers under the names that papers give them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnoise import evaluation
from jaxnoise.core.errors import InputError
from jaxnoise.reporting._statistics import Estimate, estimate
from jaxnoise.training import writers


class Number(NamedTuple):
  """One number of a suite, over the seeds.

  Attributes:
    part: the table that it is in.
    label: what it is called.
    values: one per seed, as measured.
    scale: 100 for percent, 1 for what has no unit.
    digits: decimals that are shown; None shows four figures of the mean.
  """

  part: str
  label: str
  values: tuple[float, ...]
  scale: float
  digits: int | None

  @property
  def relative(self) -> bool:
    """Whether it is a multiple of a reference network's."""
    return self.label == "mCE" or self.label.startswith("flip rate")

  @property
  def transferred(self) -> bool:
    """Whether it is of images that were found on another network."""
    return self.part == "masking" and self.label.endswith("transferred")

  @property
  def value(self) -> Estimate:
    """Mean and spread over seeds."""
    return estimate(self.values)

  @property
  def decimals(self) -> int:
    """How many decimals are shown."""
    return figures(self.value.mean * self.scale) if self.digits is None else self.digits

  def text(self) -> str:
    """Mean (minimum / maximum)."""
    return self.value.range_text(self.scale, self.decimals)


def figures(value: float) -> int:
  """The decimals that show four figures of a number, for what may be of any size."""
  if not np.isfinite(value) or value == 0:
    return 1
  return max(0, 3 - int(np.floor(np.log10(abs(value)))))


_PERCENT, _PLAIN, _ANY_SIZE = (100.0, 2), (1.0, 4), (1.0, None)
_LABELS: Mapping[str, Mapping[str, tuple[str, tuple[float, int | None]]]] = {
  "calibration": {
    "accuracy": ("accuracy, clean", _PERCENT),
    "ece": ("ECE", _PERCENT),
    "rms": ("RMS calibration error, adaptive bins", _PERCENT),
    "rms_drop_last": ("the same without the last bin", _PERCENT),
    "max": ("largest gap of an adaptive bin", _PERCENT),
    "aurra": ("AURRA", _PERCENT),
    "nll": ("NLL, nats", _PLAIN),
    "brier": ("Brier score", _PLAIN),
    "temperature": ("temperature", _PLAIN),
    "scaled_ece": ("ECE at that temperature", _PERCENT),
    "scaled_rms": ("RMS calibration error at that temperature", _PERCENT),
    "scaled_nll": ("NLL at that temperature, nats", _PLAIN),
    "scaled_brier": ("Brier score at that temperature", _PLAIN),
  },
  "corruptions": {
    "mean_accuracy": ("accuracy, corrupted", _PERCENT),
    "without_noise": ("accuracy, corrupted, without noise", _PERCENT),
    "noise": ("accuracy, noise", _PERCENT),
    "blur": ("accuracy, blur", _PERCENT),
    "weather": ("accuracy, weather", _PERCENT),
    "digital": ("accuracy, digital", _PERCENT),
    "mean_conditional": ("accuracy, corrupted, of those right when clean", _PERCENT),
    "mean_all": ("accuracy, validation corruptions included", _PERCENT),
    "mean_all_conditional": ("the same, of those right when clean", _PERCENT),
    "mean_ece": ("ECE, corrupted", _PERCENT),
    "mce": ("mCE", _PERCENT),
  },
  "ood": {
    "accuracy": ("accuracy, images from elsewhere", _PERCENT),
    "ece": ("ECE, images from elsewhere", _PERCENT),
    "nll": ("NLL, images from elsewhere, nats", _PLAIN),
  },
  "sequences": {
    "mean_flip_probability": ("flip probability", _PERCENT),
    "without_noise": ("flip probability, without noise", _PERCENT),
    "mean_flip_rate": ("flip rate", _PERCENT),
    "rate_without_noise": ("flip rate, without noise", _PERCENT),
    "mean_top5_distance": ("top-5 distance", _PLAIN),
  },
  "gradient_norm": {
    "train": ("gradient norm, training images", _ANY_SIZE),
    "test": ("gradient norm, test images", _ANY_SIZE),
  },
  "perturbation": {
    evaluation.scale_cell(s): (f"squared change of the logits, parameter noise {s:g}", _ANY_SIZE)
    for s in evaluation.PERTURBATION_SCALES
  },
}
PARTS = (
  "calibration", "corruptions", "sequences", "fgsm", "pgd", "pgd_art", "ensemble", "masking",
  "gradient_norm", "perturbation", "pgd_steps", "pgd_epsilon", "ood",
)  # fmt: skip
GRADIENT_ATTACKS = {
  "fgsm": "FGSM",
  "pgd": "PGD",
  "pgd_art": "PGD, ART's defaults,",
  "pgd_steps": "PGD",
  "pgd_epsilon": "PGD-20",
}
"""Parts that are one attack at several radii."""
ATTACKS = {
  "apgd-ce": "APGD-CE",
  "apgd-t": "targeted APGD-DLR",
  "fab-t": "targeted FAB",
  "square": "Square",
}
"""Those of the ensemble."""
_CLEAN = "accuracy, clean"
_MASKING = {
  "pgd-20 linf 128/255": "accuracy, PGD-20 l∞ 128/255",
  "pgd-100 linf 8/255": "accuracy, PGD-100 l∞ 8/255",
  "transfer": "accuracy, PGD-20 l∞ 8/255 transferred",
  "noise linf 8/255": "accuracy, uniform noise l∞ 8/255",
}


def read_suite(run_dir: str | Path, suite: str) -> dict[str, dict[str, Any]]:
  """The complete tables of a suite, by name.

  Raises:
    InputError: where there are none.
  """
  folder = Path(run_dir) / "tables" / suite
  found = {}
  for path in sorted(folder.glob("*.json")):
    table = writers.read_json(path)
    if table.get("complete"):
      found[path.stem] = table
  if not found:
    raise InputError(
      f"{run_dir} has no complete table of the suite {suite}; measure it with "
      f"python -m jaxnoise.evaluate {run_dir} --suite={suite}"
    )
  order = [name for name in PARTS if name in found]
  return {name: found[name] for name in (*order, *(n for n in found if n not in order))}


def numbers(tables: Mapping[str, Mapping[str, Any]], predictor: str) -> Iterator[Number]:
  """Every number of the summaries that has a name, once, in the order of the parts."""
  clean = False
  for part, table in tables.items():
    summary = table["summary"].get(predictor, {})
    if part in _OF_ATTACKS:
      for label, values in _OF_ATTACKS[part](part, table, summary):
        if clean and label == _CLEAN:
          continue
        clean = clean or label == _CLEAN
        yield Number(part, label, tuple(values), *_PERCENT)
      continue
    for field, (label, (scale, digits)) in _LABELS.get(part, _LABELS["calibration"]).items():
      if field in summary:
        yield Number(part, label, tuple(summary[field]), scale, digits)


def _of_radii(part: str, table: Mapping[str, Any], summary: Mapping[str, Any]) -> Labelled:
  del table
  for cell, values in summary.items():
    label = f"accuracy, {GRADIENT_ATTACKS[part]} {radius(cell)}"
    yield _CLEAN if cell == "clean" else label, values


def _of_ensemble(part: str, table: Mapping[str, Any], summary: Mapping[str, Any]) -> Labelled:
  del part
  if not summary:
    return
  yield _CLEAN, summary["clean"]
  attacks = table["settings"]["attacks"]
  for cell in table["cells"]:
    for name in attacks[:-1]:
      yield f"accuracy, {radius(cell)} after {ATTACKS[name]}", summary[f"{cell}/{name}"]
    yield f"accuracy, {radius(cell)} after the whole ensemble", summary[cell]


def _of_masking(part: str, table: Mapping[str, Any], summary: Mapping[str, Any]) -> Labelled:
  del part, table
  return ((label, summary[cell]) for cell, label in _MASKING.items() if cell in summary)


Labelled = Iterator[tuple[str, Sequence[float]]]
_OF_ATTACKS: Mapping[str, Callable[..., Labelled]] = {
  **dict.fromkeys(GRADIENT_ATTACKS, _of_radii),
  "ensemble": _of_ensemble,
  "masking": _of_masking,
}


def radius(cell: str) -> str:
  """ "linf 8/255" as it is written on a page."""
  return cell.replace("linf", "l∞").replace("l2", "l₂")


def predictors(tables: Mapping[str, Mapping[str, Any]]) -> list[str]:
  """What was measured, the headline first."""
  return list(next(iter(tables.values()))["summary"])


def cell_array(table: Mapping[str, Any], predictor: str, field: str) -> np.ndarray:
  """[seeds, cells] of one field."""
  rows = [[row[field] for row in values[predictor]] for values in table["cells"].values()]
  return np.asarray(rows, float).T
