"""Messy Collaboration, labels redrawn as the student is taught: Tables 7 to 9 of NoiseKD.

  python -m jaxnoise.main --config=configs/messy_collaboration.py --config.data.path=DIR
  python -m jaxnoise.main --config=configs/messy_collaboration.py:corruption=0.25,rate=0.5
  python -m jaxnoise.main --config=configs/messy_collaboration.py:method=kd,dataset=svhn
  python -m jaxnoise.main --config=configs/messy_collaboration.py:method=baseline,corruption=0.5
  python -m jaxnoise.main --config=configs/messy_collaboration.py:train=student --config.teacher=RUN
  python -m jaxnoise.evaluate RUN/student --suite=distillation --only=ood --images=CINIC-10/test

`corruption`, the share of the training labels that are redrawn once, for teacher, student and
baseline alike: 0.1, 0, 0.05, 0.15, 0.25, 0.5, the tables' columns. `rate`, at which the student's
labels are redrawn in every batch: 0.1, 0.05, 0.15, 0.25, 0.5, the rows of `method=mc`. `method`:
mc, kd (their row 0), baseline (the student by itself, on the corrupted labels). `dataset`: cifar10,
svhn. `train`, DIR, and how one teacher serves many students: as in configs/distillation.py, whose
recipe this is; each corruption has a teacher of its own. Table 9 is Table 7's networks on
CINIC-10's images from ImageNet: nothing is trained on CINIC-10.

The corrupted labels are drawn with --config.data.noise.seed=0 whatever the run's seed, each by
itself with this probability and among all ten classes, so that 0.5 makes 45 % wrong: how the
paper's are drawn is not said. Nor is whether the teacher is chosen by test accuracy here too.
"""

from typing import Any

from ml_collections import ConfigDict

from jaxnoise.core import InputError
from jaxnoise.training import schema

CORRUPTIONS = ("0", "0.05", "0.1", "0.15", "0.25", "0.5")
CHOICES = {
  "rate": ("", "0.05", "0.1", "0.15", "0.25", "0.5"),
  "corruption": ("0.1", *(rate for rate in CORRUPTIONS if rate != "0.1")),
  "method": ("mc", "kd", "baseline"),
  "dataset": ("cifar10", "svhn"),
  "train": ("both", "teacher", "student"),
}

# Accuracy in % for each of CORRUPTIONS, mean and standard deviation over five seeds, of each method
# or rate: on the test set (Tables 7 and 8), on CINIC-10's images from ImageNet (Table 9).
ACCURACY = {
  "cifar10": {
    "baseline": (
      (93.95, 0.18), (90.51, 0.10), (86.91, 0.78), (83.51, 0.47), (76.07, 1.03), (56.61, 1.16),
    ),
    "kd": (
      (94.26, 0.16), (92.67, 0.14), (90.69, 0.13), (89.36, 0.47), (85.32, 0.52), (67.97, 0.40),
    ),
    "0.05": (
      (94.39, 0.12), (92.57, 0.19), (90.88, 0.25), (89.36, 0.26), (85.30, 0.20), (68.75, 0.78),
    ),
    "0.1": (
      (94.41, 0.21), (92.53, 0.13), (90.73, 0.26), (89.33, 0.25), (85.22, 0.03), (68.25, 0.50),
    ),
    "0.15": (
      (94.18, 0.08), (92.52, 0.09), (90.95, 0.10), (89.54, 0.17), (85.15, 0.28), (68.27, 0.99),
    ),
    "0.25": (
      (94.32, 0.13), (92.60, 0.24), (90.97, 0.12), (89.44, 0.24), (84.96, 0.24), (68.05, 0.56),
    ),
    "0.5": (
      (94.40, 0.19), (92.62, 0.20), (90.96, 0.18), (89.47, 0.36), (85.46, 0.36), (68.54, 0.55),
    ),
  },
  "svhn": {
    "baseline": (
      (96.11, 0.10), (93.92, 0.18), (92.78, 0.38), (91.58, 0.18), (89.01, 0.59), (81.56, 1.13),
    ),
    "kd": (
      (96.81, 0.07), (96.29, 0.13), (95.94, 0.12), (95.61, 0.14), (94.80, 0.09), (91.93, 0.25),
    ),
    "0.05": (
      (96.77, 0.16), (96.30, 0.05), (95.98, 0.11), (95.61, 0.08), (94.79, 0.13), (91.74, 0.24),
    ),
    "0.1": (
      (96.72, 0.14), (96.34, 0.09), (95.95, 0.09), (95.63, 0.13), (94.73, 0.11), (91.74, 0.12),
    ),
    "0.15": (
      (96.80, 0.13), (96.31, 0.07), (95.99, 0.11), (95.65, 0.12), (94.77, 0.17), (91.73, 0.09),
    ),
    "0.25": (
      (96.77, 0.03), (96.31, 0.07), (95.93, 0.14), (95.66, 0.13), (94.67, 0.15), (91.52, 0.12),
    ),
    "0.5": (
      (96.81, 0.13), (96.27, 0.07), (95.90, 0.08), (95.59, 0.08), (94.59, 0.10), (91.05, 0.13),
    ),
  },
}  # fmt: skip
OOD = {
  "cifar10": {
    "baseline": (
      (68.89, 0.08), (63.22, 0.53), (59.50, 0.27), (55.00, 0.79), (50.08, 1.03), (37.21, 0.99),
    ),
    "kd": (
      (68.95, 0.18), (65.52, 0.34), (63.83, 0.14), (61.24, 0.30), (56.68, 0.44), (44.42, 0.73),
    ),
    "0.05": (
      (69.04, 0.13), (65.52, 0.82), (63.69, 0.16), (61.28, 0.48), (56.58, 0.42), (45.15, 0.21),
    ),
    "0.1": (
      (69.02, 0.17), (65.97, 0.38), (63.57, 0.34), (61.68, 0.39), (56.15, 0.62), (44.92, 0.58),
    ),
    "0.15": (
      (69.20, 0.15), (65.74, 0.33), (63.73, 0.47), (61.34, 0.47), (56.41, 0.51), (44.78, 0.57),
    ),
    "0.25": (
      (69.13, 0.19), (65.92, 0.34), (63.45, 0.32), (61.52, 0.52), (56.74, 0.53), (45.02, 0.56),
    ),
    "0.5": (
      (69.06, 0.21), (65.28, 0.44), (63.62, 0.41), (61.19, 0.19), (56.40, 0.42), (44.68, 1.16),
    ),
  },
}  # fmt: skip
# The teachers', one each.
TEACHERS = {
  "cifar10": (95.11, 92.61, 89.37, 86.56, 78.94, 55.53),
  "svhn": (96.23, 94.07, 93.19, 91.82, 89.53, 82.84),
}
TEACHERS_OOD = {
  "cifar10": (70.23, 66.22, 62.66, 59.07, 53.63, 36.75),
}


def arguments() -> list[str]:
  """One argument for each cell of the tables."""
  return [
    (f"method={row}" if row in CHOICES["method"] else f"rate={row},method=mc")
    + f",corruption={corruption},dataset={dataset}"
    for dataset, rows in ACCURACY.items()
    for row in rows
    for corruption in CORRUPTIONS
  ]


def recipe(dataset: str) -> dict[str, Any]:
  """What all networks of the paper have in common, those of a student."""
  changes = {
    "total": "200 epochs",
    "batch_size": 128,
    "data": {"name": dataset},
    "first": {"padding": 4, "flip": True} if dataset == "cifar10" else {},
    "model": {"name": "wide_resnet", "depth": 16, "widen_factor": 2},
    "optim": {
      "lr": 0.1, "nesterov": False, "weight_decay": 5e-4, "schedule": "step", "factor": 0.2,
      "milestones": ("60 epochs", "120 epochs", "150 epochs"),
    },
    "evaluate": {"every": "5 epochs"},
    "checkpoint": {"every": "5 epochs"},
  }  # fmt: skip
  return schema.merge(schema.default(), changes)


def staged(
  config: dict[str, Any], teacher: dict[str, Any], student: dict[str, Any], train: str
) -> dict[str, Any]:
  """Teacher and student as stages of `config`, or one of them as a run by itself."""
  teacher = schema.merge({"model": {"depth": 40}}, teacher)
  if train != "both":
    return schema.merge(config, teacher if train == "teacher" else student)
  stage = {"teacher": teacher, "student": {**student, "teacher": "teacher"}}
  return {**config, "stages": ("teacher", "student"), "stage": stage}


def published(row: str, column: int, dataset: str) -> dict[str, Any]:
  """A cell as it stands in `config.published`."""
  if row == "teacher":
    out = {"accuracy": TEACHERS[dataset][column]}
    more = {"ood": TEACHERS_OOD[dataset][column]} if dataset in TEACHERS_OOD else {}
  else:
    out = dict(zip(("accuracy", "deviation"), ACCURACY[dataset][row][column], strict=True))
    more = {"ood": OOD[dataset][row][column]} if dataset in OOD else {}
  return {**out, **more, "source": f"NoiseKD, Table {7 if dataset == 'cifar10' else 8}"}


def get_config(argument: str = "") -> ConfigDict:
  """The recipe for one cell of the tables."""
  choice = schema.parse_argument(argument, CHOICES)
  rate, corruption, method, dataset, train = (choice[k] for k in CHOICES)
  if rate and method != "mc":
    raise InputError(
      f"the config's argument rate is {rate}, but method is {method}, which redraws no labels; "
      "leave it out, or take method=mc"
    )
  if method == "baseline" and train != "both":
    raise InputError(
      f"the config's argument train is {train}, but method is baseline, a single network without a "
      "teacher; leave it out"
    )
  rate = (rate or "0.1") if method == "mc" else ""
  column = CORRUPTIONS.index(corruption)
  told = published(rate or method, column, dataset)
  config = recipe(dataset)
  config["name"] = "-".join(filter(None, (method, rate, f"corruption{corruption}", dataset)))
  if corruption != "0":
    noise = {"kind": "symmetric", "rate": float(corruption), "exact": False, "seed": 0}
    config = schema.merge(config, {"data": {"noise": noise}})
  if method == "baseline":
    return ConfigDict({**config, "published": told}, type_safe=True)
  teacher = {
    "name": f"teacher-corruption{corruption}-{dataset}",
    "published": published("teacher", column, dataset),
  }
  section = {"temperature": 4.0, "alpha": 0.9, "reverse": False}
  if method == "mc":
    section = {"name": "messy_collaboration", "rate": float(rate), **section}
  else:
    section = {"name": "knowledge_distillation", **section}
  student = {"method": section, "published": told}
  return ConfigDict(staged(config, teacher, student, train), type_safe=True)
