"""Fickle Teacher, a teacher whose dropout is live as it teaches: the rows FT of NoiseKD's Table 1.

  python -m jaxnoise.main --config=configs/fickle_teacher.py --config.data.path=DIR
  python -m jaxnoise.main --config=configs/fickle_teacher.py:dropout=0.2,dataset=svhn
  python -m jaxnoise.main --config=configs/fickle_teacher.py:dropout=0.1,train=teacher
  python -m jaxnoise.main --config=configs/fickle_teacher.py:train=student --config.teacher=RUN
  python -m jaxnoise.evaluate RUN/student --suite=distillation --images=CINIC-10/test

`dropout`: 0.4, 0.1, 0.2, 0.3, 0.5, of the teacher as it is trained and as it teaches; the student
has none. `dataset`: cifar10, svhn. `train`, DIR, and how one teacher serves many students: as in
configs/distillation.py, whose recipe this is, and whose `plus=ft` are FT's columns of Table 2.

Students train for 250 (dropout 0.1, 0.2), 300 (0.3) or 350 epochs (0.4, 0.5), lr times 0.2 at 75,
150 and 200, at 90, 180 and 240, or at 105, 210 and 280. Left open by the paper, and chosen here:

  the teacher's epochs  200, by the common recipe; the longer ones are motivated by the student
                        (--config.stage.teacher.total and .optim.milestones).
  its batch norm        running statistics, as without dropout.
  where dropout acts    between the convolutions of each block, after the second ReLU.
  how often             one pass, one mask for each image and step.
"""

from typing import Any

from ml_collections import ConfigDict

from jaxnoise.training import schema

CHOICES = {
  "dropout": ("0.4", "0.1", "0.2", "0.3", "0.5"),
  "dataset": ("cifar10", "svhn"),
  "train": ("both", "teacher", "student"),
}
LONG = {"total": "350 epochs", "milestones": ("105 epochs", "210 epochs", "280 epochs")}
SHORT = {"total": "250 epochs", "milestones": ("75 epochs", "150 epochs", "200 epochs")}
MIDDLE = {"total": "300 epochs", "milestones": ("90 epochs", "180 epochs", "240 epochs")}
SCHEDULES = {"0.1": SHORT, "0.2": SHORT, "0.3": MIDDLE, "0.4": LONG, "0.5": LONG}

# Accuracy in %: the teacher's; mean and standard deviation of five students on the test set, on
# CINIC-10's images from ImageNet, over 19 corruptions (mCA).
PUBLISHED = {
  "cifar10": {
    "0.1": (95.19, (94.43, 0.15), (69.49, 0.23), (74.99, 0.48)),
    "0.2": (95.38, (94.46, 0.16), (69.59, 0.13), (74.61, 0.41)),
    "0.3": (95.12, (94.56, 0.14), (69.84, 0.22), (75.06, 0.14)),
    "0.4": (95.18, (94.67, 0.09), (69.50, 0.21), (75.09, 0.51)),
    "0.5": (94.88, (94.50, 0.23), (69.95, 0.25), (74.67, 0.30)),
  },
  "svhn": {
    "0.1": (96.90, (96.79, 0.03)),
    "0.2": (96.85, (96.74, 0.06)),
    "0.3": (96.94, (96.90, 0.07)),
    "0.4": (96.95, (96.93, 0.07)),
    "0.5": (97.00, (97.09, 0.02)),
  },
}


def arguments() -> list[str]:
  """One argument for each cell of the table."""
  return [f"dropout={p},dataset={dataset}" for dataset, rows in PUBLISHED.items() for p in rows]


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


def published(numbers: tuple[Any, ...], table: int) -> dict[str, Any]:
  """A cell as it stands in `config.published`."""
  (accuracy, deviation), *others = numbers
  rest = dict(zip(("ood", "mca"), others, strict=False))
  return {"accuracy": accuracy, "deviation": deviation, **rest, "source": f"NoiseKD, Table {table}"}


def get_config(argument: str = "") -> ConfigDict:
  """The recipe for one cell of the table."""
  choice = schema.parse_argument(argument, CHOICES)
  dropout, dataset, train = (choice[k] for k in CHOICES)
  of_teacher, *numbers = PUBLISHED[dataset][dropout]
  teacher = {
    "name": f"teacher-dropout{dropout}-{dataset}",
    "model": {"dropout": float(dropout)},
    "published": {"accuracy": of_teacher, "source": "NoiseKD, Table 1"},
  }
  schedule = SCHEDULES[dropout]
  student = {
    "total": schedule["total"],
    "optim": {"milestones": schedule["milestones"]},
    "method": {"name": "fickle_teacher", "temperature": 4.0, "alpha": 0.9, "reverse": False},
    "published": published(tuple(numbers), 1),
  }
  config = {**recipe(dataset), "name": f"fickle_teacher-{dropout}-{dataset}"}
  return ConfigDict(staged(config, teacher, student, train), type_safe=True)
