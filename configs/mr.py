"""Multiplicative reweighting (MR) under label noise: MR's Tables 1 and 2, and 5 of the appendix.

  python -m jaxnoise.main --config=configs/mr.py --config.data.path=DIR
  python -m jaxnoise.main --config=configs/mr.py:dataset=cifar100,rate=0.2,method=mr_mixup_ls
  python -m jaxnoise.main --config=configs/mr.py:optimizer=adam,network=wrn28_10,method=mr

`dataset`: cifar10, cifar100. `rate`: 0.4, 0, 0.1, 0.2, 0.3. `optimizer`: sgd, adam. `network`:
resnet18, wrn28_10 (published at 40 % for base and mr). `method`: mr, base, random_weighting, mixup,
ls, mixup_ls, arazo (M-DYR-H), mr_mixup, mr_ls, mr_mixup_ls. DIR is as in configs/noisymix.py. The
published accuracy is in PUBLISHED below and in the run's report; the paper does not say whether of
the last epoch or the best. Table 3 is configs/mr_clothing1m.py, Tables 4, 7 and 8 are
configs/mr_adversarial.py; Table 6 sets GLC and Meta-Weight-Net, configs/noisy_baselines.py with
network=resnet18, beside method=mr here.

Recipe: 200 epochs, batch 128 (not stated; the code's), lr 0.1 times 0.1 at 80 and 120, SGD 0.9
without Nesterov, weight decay 5e-3 on CIFAR-10, 1e-3 on CIFAR-100: the paper's values, of which the
first may be a slip for 5e-4; the code's default is 1e-4 (--config.optim.weight_decay). Adam: lr
1e-3, the rest as for SGD, which the paper leaves open. Step size eta 0.01; the pass that MR learns
from sees clean images in evaluation mode (--config.wrapper_args.multiplicative_reweighting.mode=
train is the code's). Mixup alpha 1, with Adam 0.5; label smoothing 0.1, spread over the other
classes. Noise: exactly a share `rate` of the labels drawn among all classes. Arazo: the recipe of
configs/noisy_baselines.py:method=dynamic_bootstrap with this noise.
"""

from typing import Any

from ml_collections import ConfigDict

from jaxnoise.core import InputError
from jaxnoise.training import schema

METHODS = (
  "mr", "base", "random_weighting", "mixup", "ls", "mixup_ls", "arazo", "mr_mixup", "mr_ls",
  "mr_mixup_ls",
)  # fmt: skip
CHOICES = {
  "dataset": ("cifar10", "cifar100"),
  "rate": ("0.4", "0", "0.1", "0.2", "0.3"),
  "optimizer": ("sgd", "adam"),
  "network": ("resnet18", "wrn28_10"),
  "method": METHODS,
}
RATES = ("0", "0.1", "0.2", "0.3", "0.4")
COLUMNS = ("base", "random_weighting", "mixup", "ls", "mixup_ls", "arazo", "mr", "mr_mixup",
           "mr_ls", "mr_mixup_ls")  # fmt: skip
MEAN_STD = {
  "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
  "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}

# Test accuracy in % with ResNet-18, a row for each of RATES, in the order of COLUMNS.
PUBLISHED = {
  ("sgd", "cifar10"): (
    (95.15, 93.07, 95.97, 95.15, 96.26, 93.94, 94.95, 94.90, 94.97, 95.21),
    (90.83, 88.52, 92.75, 91.32, 93.21, 92.85, 94.58, 94.63, 94.39, 94.66),
    (84.66, 84.77, 87.53, 86.11, 87.97, 93.47, 93.97, 93.94, 94.11, 94.28),
    (77.92, 81.68, 80.52, 79.23, 81.75, 93.56, 92.43, 93.11, 92.47, 93.29),
    (69.22, 78.77, 72.29, 71.08, 83.87, 92.70, 90.75, 92.57, 90.36, 92.62),
  ),
  ("sgd", "cifar100"): (
    (74.77, 72.74, 78.00, 76.09, 79.36, 67.42, 75.67, 76.59, 76.87, 77.31),
    (63.59, 66.97, 72.35, 69.95, 74.42, 70.77, 67.04, 73.92, 74.42, 76.13),
    (57.08, 58.58, 66.38, 63.72, 70.50, 70.43, 62.62, 72.41, 70.50, 73.90),
    (52.12, 50.95, 62.23, 56.16, 64.43, 69.71, 56.37, 70.40, 67.11, 71.40),
    (48.30, 40.47, 58.46, 51.51, 59.55, 66.42, 52.53, 67.92, 60.02, 69.90),
  ),
  ("adam", "cifar10"): (
    (91.43, 91.23, 90.09, 91.96, 92.52, 88.95, 91.85, 91.90, 91.54, 91.60),
    (87.50, 89.23, 91.36, 90.25, 91.42, 85.87, 91.31, 89.36, 91.20, 91.39),
    (84.41, 87.18, 90.17, 86.76, 90.36, 85.39, 90.51, 90.89, 90.46, 90.80),
    (80.55, 85.43, 88.29, 84.21, 88.34, 86.63, 89.67, 90.09, 89.62, 89.94),
    (72.40, 83.82, 86.63, 80.50, 86.87, 82.28, 88.32, 89.36, 88.11, 89.11),
  ),
  ("adam", "cifar100"): (
    (69.82, 68.17, 72.88, 70.43, 72.37, 62.18, 70.54, 70.89, 70.97, 70.66),
    (59.69, 62.33, 67.67, 62.44, 69.26, 59.88, 68.84, 68.34, 68.86, 68.55),
    (52.01, 58.48, 64.46, 54.81, 64.68, 58.02, 66.57, 67.16, 68.13, 66.07),
    (44.23, 53.57, 61.26, 47.46, 61.59, 51.18, 64.89, 63.45, 65.19, 63.45),
    (37.34, 44.60, 52.41, 39.72, 59.28, 49.23, 61.68, 60.70, 62.66, 61.61),
  ),
}
# Table 2, WRN-28-10 at 40 %.
WIDE = {
  ("sgd", "cifar10"): {"base": 75.58, "mr": 91.74},
  ("adam", "cifar10"): {"base": 63.84, "mr": 79.04},
  ("sgd", "cifar100"): {"base": 55.30, "mr": 72.65},
  ("adam", "cifar100"): {"base": 45.63, "mr": 58.42},
}


def arguments() -> list[str]:
  """One argument for each cell of the tables."""
  cells = [
    (dataset, rate, optimizer, "resnet18", method)
    for dataset in CHOICES["dataset"]
    for optimizer in CHOICES["optimizer"]
    for rate in RATES
    for method in COLUMNS
  ]
  cells += [
    (dataset, "0.4", optimizer, "wrn28_10", method)
    for (optimizer, dataset), row in WIDE.items()
    for method in row
  ]
  return [",".join(f"{k}={v}" for k, v in zip(CHOICES, cell, strict=True)) for cell in cells]


def published(dataset: str, rate: str, optimizer: str, network: str, method: str) -> float | None:
  """The number of a cell in the paper's tables, None where there is none."""
  if network == "wrn28_10":
    return WIDE[optimizer, dataset].get(method) if rate == "0.4" else None
  return PUBLISHED[optimizer, dataset][RATES.index(rate)][COLUMNS.index(method)]


def method(name: str, optimizer: str) -> dict[str, Any]:
  """The config section of what is inside MR or random weighting."""
  inner = name.removeprefix("mr_")
  smoothing = {"loss": "label_smoothing", "loss_args": {"smoothing": 0.1, "variant": "off_target"}}
  loss = smoothing if inner.endswith("ls") else {"loss": "cross_entropy"}
  if inner.startswith("mixup"):
    return {"name": "mixup", "alpha": 1.0 if optimizer == "sgd" else 0.5, **loss}
  if inner == "arazo":
    return {"name": "dynamic_bootstrap", "variant": "hard", "alpha": 32.0, "warmup_epochs": 105}
  return {"name": "erm", **loss}


def get_config(argument: str = "") -> ConfigDict:
  """The recipe for one cell of the tables."""
  choice = schema.parse_argument(argument, CHOICES)
  dataset, rate, optimizer, network, name = (choice[k] for k in CHOICES)
  config = ConfigDict(schema.default(), type_safe=True)
  config.name = f"{name}-{dataset}-{rate}-{optimizer}-{network}"
  config.total = "200 epochs"
  config.data.name = dataset
  config.data.remainder = "keep"
  if rate != "0":
    config.data.noise.kind = "symmetric"
    config.data.noise.rate = float(rate)
  config.first.padding = 4
  config.first.flip = True
  mean, std = MEAN_STD[dataset]
  model = {"name": "resnet18"}
  if network == "wrn28_10":
    model = {"name": "wide_resnet", "depth": 28, "widen_factor": 10, "variant": "conv_bias"}
  config.model = ConfigDict({**model, "mean": mean, "std": std})
  config.method = ConfigDict(method(name, optimizer))
  wrapper = "multiplicative_reweighting" if name.startswith("mr") else name
  if wrapper in ("multiplicative_reweighting", "random_weighting"):
    config.wrappers = (wrapper,)
  if wrapper == "multiplicative_reweighting":
    config.wrapper_args = ConfigDict({wrapper: {"eta": 0.01}})
  config.optim.name = optimizer
  config.optim.lr = 0.1 if optimizer == "sgd" else 1e-3
  config.optim.nesterov = False
  config.optim.weight_decay = 5e-3 if dataset == "cifar10" else 1e-3
  config.optim.schedule = "step"
  config.optim.milestones = ("80 epochs", "120 epochs")
  if name == "arazo":
    if network == "wrn28_10":
      raise InputError("the config's argument method is arazo, which is not in Table 2; choose mr")
    config.total = "300 epochs"
    config.optim.weight_decay = 1e-4
    config.optim.milestones = ("99 epochs", "249 epochs")
  config.evaluate.every = "5 epochs"
  config.checkpoint.every = "5 epochs"
  number = published(dataset, rate, optimizer, network, name)
  if number is not None:
    table = "2" if network == "wrn28_10" else "1" if optimizer == "sgd" else "5"
    config.published = ConfigDict({"accuracy": number, "source": f"MR, Table {table}"})
  return config
