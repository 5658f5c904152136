"""Adversarial training with and without multiplicative reweighting (MR): Tables 4, 7 and 8.

  python -m jaxnoise.main --config=configs/mr_adversarial.py --config.data.path=DIR
  python -m jaxnoise.main --config=configs/mr_adversarial.py:dataset=cifar100,method=adv_mr_mixup
  python -m jaxnoise.main --config=configs/mr_adversarial.py:optimizer=adam,method=adv
  python -m jaxnoise.main --config=configs/mr_adversarial.py:method=trades_mr
  python -m jaxnoise.evaluate RUN --suite=adversarial

`dataset`: cifar10, cifar100. `optimizer`: sgd (Table 4), adam (Table 7). `method`: adv (Free-AT),
adv_mr, adv_mixup, adv_mr_mixup, adv_random_weighting, the same without adversarial training (base,
mr, mixup, mr_mixup, random_weighting), trades and trades_mr (Table 8, sgd). `schedule`: plateau,
step. DIR is as in configs/noisymix.py. Labels are clean. The published natural accuracy is in the
run's report; those under PGD and FGSM are in PUBLISHED below, and what a run has there is measured
by the last command.

Recipe of Tables 4 and 7: ResNet-34, SGD 0.9 without Nesterov, lr 0.1, weight decay 1e-3, 200
epochs, batch 128 (not stated), the rate times 0.9 on a plateau with patience 3, eta 0.01, mixup
alpha 1. Adam: lr 1e-3, eta 0.001, alpha 0.1, the rest as for SGD; nothing else is given, and a
coupled weight decay of 1e-3 is strong for Adam (--config.optim.weight_decay=0). Free-AT: radius and
step 8/255 (not stated), 4 replays on CIFAR-10, 6 on CIFAR-100; MR adds the losses of clean images
after each epoch, not after each replay. Left open by the paper, and chosen here:

  plateau      of which number: the mean training loss of an epoch, of what the method minimises
               (mixed, perturbed, weighted, all replays). Test accuracy would look at the test set.
  clean rows   have the table's recipe, as nothing else is said. schedule=step is that of Tables 1
               and 5, lr times 0.1 at 80 and 120.
  the ascent   follows the gradient of the weighted loss, which an image of weight 0 has no part in
               (random weighting); --config.method.unweighted_ascent=True is the other reading.
  200 epochs   are passes over the data, each of 4 or 6 updates per batch. If replays were counted,
               as in Free-AT's own paper: --config.total="50 epochs", on CIFAR-100 "33 epochs".

Recipe of Table 8, that of TRADES' authors with a ResNet-34: 76 epochs, batch 128, SGD 0.9, lr 0.1
times 0.1 after 74 (their code steps at the start of epoch 75), weight decay 2e-4, beta 6, radius
0.031, 10 steps of 0.007, images not standardised. MR over it is not spelled out: eta 0.01, the
weights scale both terms, the inner maximum is unweighted.
"""

from typing import Any

from ml_collections import ConfigDict

from jaxnoise.core import InputError
from jaxnoise.training import schema

CHOICES = {
  "dataset": ("cifar10", "cifar100"),
  "optimizer": ("sgd", "adam"),
  "method": (
    "adv_mr", "adv", "adv_mixup", "adv_mr_mixup", "adv_random_weighting", "base", "mr", "mixup",
    "mr_mixup", "random_weighting", "trades", "trades_mr",
  ),
  "schedule": ("plateau", "step"),
}  # fmt: skip
MEAN_STD = {
  "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
  "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}
REPLAYS = {"cifar10": 4, "cifar100": 6}

# Test accuracy in %: natural, under PGD of radius 0.01, 0.02 and 8/255, under FGSM of these radii.
PUBLISHED = {
  ("sgd", "cifar10"): {
    "base": (94.02, 25.62, 5.10, 3.60, 72.48, 51.88, 41.83),
    "random_weighting": (92.57, 24.02, 5.76, 5.20, 47.18, 27.04, 20.41),
    "mr": (94.71, 29.27, 5.47, 3.76, 74.81, 51.40, 44.72),
    "mixup": (95.95, 24.89, 3.23, 2.46, 77.38, 71.96, 68.18),
    "mr_mixup": (95.50, 8.33, 3.04, 3.12, 58.42, 44.98, 39.88),
    "adv": (90.32, 81.11, 64.28, 39.09, 83.22, 73.80, 57.94),
    "adv_random_weighting": (89.18, 79.85, 61.68, 39.53, 81.24, 69.13, 56.28),
    "adv_mr": (90.62, 82.60, 65.37, 40.24, 84.25, 73.45, 60.02),
    "adv_mixup": (89.54, 81.77, 71.19, 44.54, 83.29, 77.92, 63.71),
    "adv_mr_mixup": (89.40, 83.49, 69.72, 46.66, 84.47, 76.63, 67.56),
    "trades": (84.88, 81.40, 72.66, 59.72, 81.69, 75.31, 67.83),
    "trades_mr": (83.40, 81.28, 73.47, 60.76, 81.53, 75.72, 68.74),
  },
  ("sgd", "cifar100"): {
    "base": (71.31, 21.15, 10.40, 9.39, 34.54, 21.77, 15.79),
    "random_weighting": (71.15, 20.66, 11.12, 10.07, 33.16, 21.06, 16.40),
    "mr": (71.95, 23.02, 11.00, 9.44, 37.58, 24.51, 18.85),
    "mixup": (77.91, 14.59, 8.40, 7.95, 39.50, 32.36, 29.26),
    "mr_mixup": (75.86, 12.60, 8.67, 8.37, 39.09, 32.20, 29.24),
    "adv": (61.46, 52.43, 38.81, 26.55, 53.74, 43.93, 35.15),
    "adv_random_weighting": (60.26, 50.76, 36.86, 24.92, 52.03, 41.44, 32.12),
    "adv_mr": (62.75, 54.19, 40.84, 29.00, 55.64, 46.08, 37.70),
    "adv_mixup": (60.60, 52.30, 39.27, 27.76, 53.69, 44.65, 37.44),
    "adv_mr_mixup": (59.74, 54.59, 44.45, 33.41, 55.19, 47.89, 40.20),
    "trades": (55.69, 51.98, 45.14, 36.59, 52.27, 46.46, 40.04),
    "trades_mr": (56.32, 52.47, 47.12, 37.45, 52.76, 47.12, 40.86),
  },
  ("adam", "cifar10"): {
    "base": (91.84, 11.86, 5.53, 5.21, 37.90, 21.88, 12.59),
    "mr": (91.52, 13.87, 5.39, 5.73, 42.98, 24.57, 15.49),
    "mixup": (92.67, 12.32, 5.01, 4.65, 55.33, 45.84, 41.68),
    "mr_mixup": (90.95, 11.07, 5.92, 5.31, 51.30, 38.65, 33.01),
    "adv": (84.19, 74.92, 55.31, 32.47, 76.61, 62.98, 47.91),
    "adv_mr": (85.10, 75.90, 56.56, 34.26, 77.15, 63.36, 49.20),
    "adv_mixup": (80.15, 73.45, 57.07, 33.86, 74.17, 62.62, 49.17),
    "adv_mr_mixup": (84.62, 75.05, 56.90, 31.19, 76.36, 61.88, 46.38),
  },
  ("adam", "cifar100"): {
    "base": (68.81, 14.26, 11.26, 10.75, 25.86, 20.99, 16.31),
    "mr": (69.23, 13.67, 10.32, 9.85, 26.78, 20.17, 14.74),
    "mixup": (72.80, 15.85, 10.40, 9.03, 35.86, 30.23, 27.69),
    "mr_mixup": (65.91, 10.49, 8.65, 8.46, 28.42, 20.82, 17.85),
    "adv": (59.12, 48.28, 32.71, 19.21, 50.72, 38.48, 28.72),
    "adv_mr": (58.36, 48.89, 32.95, 19.49, 50.24, 38.52, 28.51),
    "adv_mixup": (57.02, 47.88, 32.98, 19.63, 49.02, 38.50, 28.52),
    "adv_mr_mixup": (57.25, 49.51, 35.16, 21.79, 50.83, 39.44, 30.70),
  },
}


def arguments() -> list[str]:
  """One argument for each row of the tables, and two for the other schedule."""
  cells = [
    f"dataset={dataset},optimizer={optimizer},method={name}"
    for (optimizer, dataset), rows in PUBLISHED.items()
    for name in rows
  ]
  return [*cells, "method=base,schedule=step", "method=adv_mr,schedule=step"]


def source(optimizer: str, name: str) -> str:
  """The table of a row."""
  number = 8 if name.startswith("trades") else 4 if optimizer == "sgd" else 7
  return f"MR, Table {number}"


def method(name: str, dataset: str, optimizer: str) -> dict[str, Any]:
  """The config section of what is inside MR or random weighting."""
  alpha = 1.0 if optimizer == "sgd" else 0.1
  if name.startswith("trades"):
    return {"name": "trades", "beta": 6.0, "epsilon": 0.031, "step_size": 0.007, "steps": 10}
  if name.startswith("adv"):
    return {
      "name": "free_at", "epsilon": 8 / 255, "step_size": 8 / 255, "replays": REPLAYS[dataset],
      "alpha": alpha if name.endswith("mixup") else 0.0, "unweighted_ascent": False,
    }  # fmt: skip
  if name.endswith("mixup"):
    return {"name": "mixup", "alpha": alpha, "loss": "cross_entropy"}
  return {"name": "erm", "loss": "cross_entropy"}


def get_config(argument: str = "") -> ConfigDict:
  """The recipe for one row of the tables."""
  choice = schema.parse_argument(argument, CHOICES)
  dataset, optimizer, name, schedule = (choice[k] for k in CHOICES)
  trades = name.startswith("trades")
  if trades and (optimizer, schedule) != ("sgd", "plateau"):
    raise InputError(
      f"the config's argument method is {name}, which has the optimizer and schedule of TRADES' "
      "authors; leave optimizer and schedule out"
    )
  config = ConfigDict(schema.default(), type_safe=True)
  config.name = f"{name}-{dataset}-{optimizer}" + ("-step" if schedule == "step" else "")
  config.total = "76 epochs" if trades else "200 epochs"
  config.data.name = dataset
  config.data.remainder = "keep"
  config.first.padding = 4
  config.first.flip = True
  mean, std = ((), ()) if trades else MEAN_STD[dataset]
  config.model = ConfigDict({"name": "resnet34", "mean": mean, "std": std})
  config.method = ConfigDict(method(name, dataset, optimizer))
  parts = name.split("_")
  if "mr" in parts:
    eta = 0.01 if optimizer == "sgd" else 0.001
    config.wrappers = ("multiplicative_reweighting",)
    config.wrapper_args = ConfigDict({"multiplicative_reweighting": {"eta": eta}})
  elif "random" in parts:
    config.wrappers = ("random_weighting",)
  config.optim.name = optimizer
  config.optim.lr = 0.1 if optimizer == "sgd" else 1e-3
  config.optim.nesterov = False
  config.optim.weight_decay = 2e-4 if trades else 1e-3
  config.optim.schedule = "step" if trades else schedule
  if config.optim.schedule == "step":
    config.optim.milestones = ("74 epochs",) if trades else ("80 epochs", "120 epochs")
  else:
    config.optim.factor = 0.9
    config.optim.patience = 3
  config.evaluate.every = "5 epochs"
  config.checkpoint.every = "5 epochs"
  numbers = PUBLISHED[optimizer, dataset].get(name)
  if numbers is not None and schedule == "plateau":
    natural, pgd, fgsm = numbers[0], numbers[1:4], numbers[4:]
    config.published = ConfigDict(
      {"accuracy": natural, "pgd": pgd, "fgsm": fgsm, "source": source(optimizer, name)}
    )
  return config
