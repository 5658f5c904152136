"""Run directories written by hand: known numbers, no training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from jaxnoise import evaluation
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
  seed: int = 0,
  changes: dict | None = None,
  details: bool = False,
  class_names: tuple[str, ...] = (),
) -> Path:
  """A run whose seed s ends at clean[s], with every corruption table averaging corrupted[s].

  With `details` it has what `add_details` writes; numbers of images are rounded to whole ones.
  """
  rng = np.random.default_rng(len(method))
  config = {
    **(changes or {}),
    "name": f"{method}-{dataset}",
    "seed": seed,
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
  common = {"seeds": list(range(seed, seed + seeds)), "step": 20 * epochs}
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
  if details:
    add_details(path, class_names)
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


def add_seed_labels(path: Path, rates: tuple[float, ...], first: str = "0") -> None:
  """Gives each seed labels of its own, that of seed k with a SHA-256 of digits `first` + k."""
  file = path / "tables" / "label_noise.json"
  table = json.loads(file.read_text())
  table["of_seeds"] = [
    {"changed": round(1000 * rate), "rate": rate, "labels_sha256": f"{int(first) + k}" * 64}
    for k, rate in enumerate(rates)
  ]
  table.update(table["of_seeds"][0])
  file.write_text(json.dumps(table))


def add_fitted(path: Path, memorised: tuple[tuple[float, ...], ...]) -> None:
  """Adds rows of which labels the student fits, [points][seeds]; the others follow from it."""
  writer = writers.MetricsWriter(path / "metrics.jsonl", 10**6)
  for epoch, values in enumerate(memorised, start=1):
    row = {"memorised": values, "corrected": [0.9 - v for v in values]}
    row["label_precision"] = [1 - v / 2 for v in values]
    several = len(values) > 1
    named = {f"labels/student/{k}": list(v) if several else v[0] for k, v in row.items()}
    writer.write(20 * epoch, epoch, named)
  writer.close()


def labels() -> np.ndarray:
  """Of the 360 test images, 36 of each of ten classes."""
  return np.arange(360) % 10


def add_details(path: Path, class_names: tuple[str, ...] = (), test_crc32: int = 7) -> None:
  """Adds what newer runs have: classes, confusions, examples, samples, label noise.

  Each network is wrong on the last images, as many as its accuracy says, and takes each for the
  class after its own; so one that is right more often is right wherever another is.
  """
  clean = json.loads((path / "tables" / "clean.json").read_text())
  label, common = labels(), {"seeds": clean["seeds"], "step": clean["step"]}
  clean["classes"] = {"names": list(class_names), "count": [36] * 10, "correct": {}}
  clean["confusion"], clean["examples"] = {}, {"test_crc32": test_crc32, "correct": {}}
  for predictor, scores in clean["predictors"].items():
    rights, matrices, packed = [], [], []
    for accuracy in scores["accuracy"]:
      right = np.arange(360) < round(360 * accuracy)
      matrix = evaluation.confusion(label, np.where(right, label, (label + 1) % 10), 10)
      matrices.append(matrix.tolist())
      rights.append(np.diag(matrix).tolist())
      packed.append(evaluation.pack(right))
    clean["classes"]["correct"][predictor] = rights
    clean["confusion"][predictor] = matrices
    clean["examples"]["correct"][predictor] = packed
  clean.pop("format_version")
  writers.write_json(path / "tables" / "clean.json", clean)
  images = np.random.default_rng(0).integers(0, 256, (360, 8, 8, 3), np.uint8)
  right = np.arange(360) < 350
  measured = {
    "prediction": np.where(right, label, (label + 1) % 10),
    "correct": right,
    "confidence": np.linspace(0.5, 0.99, 360),
  }
  samples = {
    "seed": clean["seeds"][0], "predictor": "student", "n": 360, "image_shape": [8, 8, 3],
    "names": list(class_names), **evaluation.samples(images, label, measured),
  }  # fmt: skip
  writers.write_json(path / "tables" / "samples.json", {**common, **samples})
  counts = np.full((10, 10), 2) + np.diag([80] * 10)
  noise = {
    "nominal": {"labels": "worse"}, "n": 1000, "num_classes": 10, "changed": 180, "rate": 0.18,
    "class_counts": [100] * 10, "class_rates": [0.18] * 10, "counts": counts.tolist(),
    "labels_crc32": 0xBEEF, "labels_sha256": "ab" * 32,
  }  # fmt: skip
  writers.write_json(path / "tables" / "label_noise.json", {**common, **noise})
