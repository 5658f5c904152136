"""Run directories written by hand: known numbers, no training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from jaxnoise.training import schema, writers

NAMES = (
  "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "zoom_blur", "motion_blur",
  "brightness", "fog", "contrast", "pixelate", "jpeg_compression",
)  # fmt: skip


def run_directory(
  path: Path,
  method: str = "erm",
  *,
  seeds: int = 3,
  clean: tuple[float, ...] = (0.97, 0.96, 0.98),
  corrupted: tuple[float, ...] = (0.70, 0.72, 0.68),
  epochs: int = 60,
  finished: bool = True,
  predictors: tuple[str, ...] = ("student",),
  names: tuple[str, ...] = NAMES,
  dataset: str = "digits",
) -> Path:
  """A run whose seed s ends at clean[s], with every corruption table averaging corrupted[s]."""
  rng = np.random.default_rng(len(method))
  config = {
    "name": f"{method}-{dataset}",
    "seeds": seeds,
    "data": {"name": dataset, "holdout": 144},
    "method": {"name": method},
    "total": f"{epochs} epochs",
  }
  config = schema.check(config)
  info = {
    "config": json.loads(json.dumps(config)),
    "method": method,
    "wrappers": [],
    "num_steps": 20 * epochs,
    "steps_per_epoch": 20,
    "num_train": 1293,
    "num_classes": 10,
    "image_shape": [8, 8, 3],
    **writers.provenance(),
  }
  writers.write_json(path / "config.json", info)
  writer = writers.MetricsWriter(path / "metrics.jsonl", 0)

  def per_seed(values):
    values = [float(v) for v in values]
    return values if seeds > 1 else values[0]

  last = epochs if finished else epochs // 2
  for epoch in range(1, last + 1):
    loss = 2.3 * np.exp(-epoch / 8) + 0.01 + 0.02 * rng.random(seeds)
    row = {"train/student/loss": per_seed(loss), "train/student/lr": 0.1}
    writer.write(20 * epoch, epoch, row)
    if epoch % 5 == 0 or epoch == epochs:
      row = {}
      for split in ("test", "holdout"):
        for predictor in predictors:
          value = np.asarray(clean[:seeds]) - 0.5 * np.exp(-epoch / 8)
          value += 0.003 * rng.standard_normal(seeds) * (epoch < epochs)
          row[f"{split}/{predictor}/accuracy"] = per_seed(value)
      writer.write(20 * epoch, epoch, row)
  writer.close()
  if not finished:
    return path
  common = {"seeds": list(range(seeds)), "step": 20 * epochs}
  count = np.linspace(0, 60, 15).round()
  centre = (np.arange(15) + 0.5) / 15
  bins = {"count": count, "confidence": count * centre, "correct": count * centre**1.3}
  bins = {k: v.tolist() for k, v in bins.items()}
  scores = {"accuracy": list(clean[:seeds]), "nll": [0.1] * seeds, "ece": [0.02] * seeds}
  content = {
    **common,
    "n": 360,
    "predictors": dict.fromkeys(predictors, scores),
    "calibration": {p: [bins] * seeds for p in predictors},
  }
  writers.write_json(path / "tables" / "clean.json", content)
  if not names:
    return path
  severity = np.linspace(0.06, -0.06, 5)[None, :]
  kind = np.linspace(-0.1, 0.1, len(names))[:, None]
  tables = []
  for s in range(seeds):
    cells = (corrupted[s] + severity + kind).tolist()
    tables.append(
      {
        "names": list(names),
        "severities": [1, 2, 3, 4, 5],
        "n": 360,
        **dict.fromkeys(("accuracy", "conditional", "nll", "ece"), cells),
        "mean_accuracy": corrupted[s],
        "mean_conditional": corrupted[s] + 0.01,
        "mean_ece": 0.08,
      }
    )
  content = {**common, "predictors": dict.fromkeys(predictors, tables)}
  writers.write_json(path / "tables" / "corruptions.json", content)
  return path
