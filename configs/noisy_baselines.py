"""Methods for noisy labels at their own papers' CIFAR recipes: ELR, DivideMix, co-teaching, others.

  python -m jaxnoise.main --config=configs/noisy_baselines.py --config.data.path=DIR
  python -m jaxnoise.main --config=configs/noisy_baselines.py:method=dividemix,dataset=cifar100
  python -m jaxnoise.main --config=configs/noisy_baselines.py:method=glc,noise=asymmetric,rate=0.2
  python -m jaxnoise.main --config=configs/noisy_baselines.py:method=glc,rate=0.1,network=resnet18

`method`: elr, elr_plus, dividemix, dynamic_bootstrap, co_teaching, glc, meta_weight_net. `dataset`:
cifar10, cifar100. `noise`: symmetric, asymmetric. `rate`: 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8,
0.9. `network`: resnet18 in the place of the authors'. DIR is as in configs/noisymix.py, noise as in
configs/nrd.py. Each recipe is its authors', which is not one recipe: for a comparison on equal
terms see benchmarks/noisy_labels.py. (K): from memory, not compared with a source; how a method
differs from its authors' program stands in its docstring.

  elr                ResNet-34, batch 128, SGD 0.9, lr 0.02, weight decay 1e-3. CIFAR-10 symmetric:
                     beta 0.7, lambda 3, a cosine to 1e-3 that restarts every 10 of 150 epochs;
                     asymmetric: 0.9, 1, lr times 0.01 at 40 and 80 of 120; CIFAR-100: 0.9, 7, at 80
                     and 120 of 150. The authors hold out 5,000 noisy examples; here all train.
  elr_plus           two PreActResNet-18, lr 0.02, weight decay 5e-4, batch 128, times 0.1 at 150 of
                     200 epochs (CIFAR-100: 200 of 250, lambda over 40,000 steps); beta and lambda
                     as above.
  dividemix          two PreActResNet-18, lr 0.02, weight decay 5e-4, batch 128 (two of 64 after the
                     warm-up of 10 epochs, CIFAR-100: 30), times 0.1 at 150 of 300; lambda_u by
                     noise (K); at 90 % a threshold of 0.6 (K) and losses averaged over 5 epochs;
                     the entropy penalty with asymmetric noise (its own noise of that name is
                     --config.data.noise.kind=asymmetric_dividemix).
  dynamic_bootstrap  M-DYR-H: PreActResNet-18, 300 epochs, batch 128, lr 0.1 times 0.1 after 99 and
                     249 (the authors step at the start of epochs 100 and 250), weight decay 1e-4,
                     mixup alpha 32 alone for 105 epochs; CIFAR-10's mean and std for both sets.
  co_teaching        two PreActResNet-18 (the paper has 9 convolutions), 200 epochs, batch 128, Adam
                     1e-3 that falls to 0 from epoch 80 on; beta1 stays 0.9 (there 0.1 from 80 on);
                     crop and flip, which the authors do not have. tau is the expected share of
                     wrong labels, less than the rate where the true label may be drawn.
  glc                WRN-40-2, dropout 0.3, 75 epochs twice, batch 128, Nesterov, lr 0.1 with a
                     cosine per step, weight decay 5e-4; 1,000 trusted examples apart, three of a
                     batch, normalised with it (config.method.separate=True is the authors' way).
  meta_weight_net    ResNet-32, 120 epochs, batch 100, lr 0.1 times 0.1 at 80 and 100, weight decay
                     5e-4; 1,000 trusted examples apart.

All crop with pad 4 (meta_weight_net's authors reflect at the border; here it is black) and flip.

method=glc and method=meta_weight_net with network=resnet18, cifar10, symmetric noise and rates 0 to
0.4 are Table 6 of multiplicative reweighting (MR), whose numbers are in PUBLISHED below and in the
run's report. That table says 1,000 clean examples and ResNet-18; the rest is taken to be as above.
"""

import itertools
from typing import Any

from ml_collections import ConfigDict

from jaxnoise import label_noise
from jaxnoise.training import schema

CHOICES = {
  "method": (
    "elr", "elr_plus", "dividemix", "dynamic_bootstrap", "co_teaching", "glc", "meta_weight_net",
  ),
  "dataset": ("cifar10", "cifar100"),
  "noise": ("symmetric", "asymmetric"),
  "rate": ("0.4", "0.2", "0.5", "0.6", "0.8", "0.9", "0", "0.1", "0.3"),
  "network": ("", "resnet18"),
}  # fmt: skip
# MR's Table 6, test accuracy in % with network=resnet18 on CIFAR-10, one for each of RATES.
RATES = ("0", "0.1", "0.2", "0.3", "0.4")
PUBLISHED = {
  "glc": (94.28, 90.65, 89.51, 85.71, 84.90),
  "meta_weight_net": (92.24, 91.34, 90.90, 88.50, 87.37),
}
MEAN_STD = {
  "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
  "cifar100": ((0.507, 0.487, 0.441), (0.267, 0.256, 0.276)),
}
# GLC's and Meta-Weight-Net's, for both sets; M-DYR-H has CIFAR-10's above for both.
SHARED = tuple(v / 255 for v in (125.3, 123.0, 113.9)), tuple(v / 255 for v in (63.0, 62.1, 66.7))
PREACT = {"name": "preact_resnet18", "variant": "dividemix"}
WRN = {"name": "wide_resnet", "depth": 40, "widen_factor": 2, "dropout": 0.3}
LAMBDA_U = {
  "cifar10": {"0.2": 0.0, "0.9": 50.0},
  "cifar100": {"0.2": 25.0, "0.4": 150.0, "0.5": 150.0, "0.6": 150.0, "0.8": 150.0, "0.9": 150.0},
}


def arguments() -> list[str]:
  """Every method at the usual rates and without noise, and the cells of MR's Table 6."""
  kept = {**CHOICES, "rate": CHOICES["rate"][:7], "network": ("",)}
  cells = [
    ",".join(f"{key}={value}" for key, value in zip(kept, values, strict=True))
    for values in itertools.product(*kept.values())
  ]
  return cells + [f"method={m},rate={r},network=resnet18" for m in PUBLISHED for r in RATES]


def steps(lr: float, decay: float, epochs: int, *milestones: int, factor: float = 0.1) -> dict:
  """A run of so many epochs, lr times a factor at each milestone."""
  at = tuple(f"{m} epochs" for m in milestones)
  optim = {"lr": lr, "weight_decay": decay, "nesterov": False, "schedule": "step",
           "milestones": at, "factor": factor}  # fmt: skip
  return {"total": f"{epochs} epochs", "optim": optim}


def wrong(dataset: str, noise: str, rate: str) -> float:
  """The share of labels that the noise is expected to make wrong."""
  classes = 10 if dataset == "cifar10" else 100
  if noise == "symmetric":
    return float(rate) * (1 - 1 / classes)
  if classes == 100:
    return float(rate)
  matrix = label_noise.asymmetric_cifar10_matrix(float(rate), sequential=True)
  return float(1 - matrix.diagonal().mean())


def recipe(name: str, dataset: str, noise: str, rate: str) -> dict[str, Any]:
  """What a method changes in the defaults."""
  ten, asymmetric = dataset == "cifar10", noise == "asymmetric"
  elr = {"elr_weight": 7.0, "beta": 0.9}
  if ten:
    elr = {"elr_weight": 1.0, "beta": 0.9} if asymmetric else {"elr_weight": 3.0, "beta": 0.7}
  trusted = {"trusted": 1000, "trusted_in_train": False}
  if name == "elr":
    out = steps(0.02, 1e-3, 150, 80, 120, factor=0.01)
    if ten and asymmetric:
      out = steps(0.02, 1e-3, 120, 40, 80, factor=0.01)
    if ten and not asymmetric:
      out["optim"].update(schedule="restarts", decay_every="10 epochs", lr_min=1e-3, milestones=())
    return {**out, "model": {"name": "resnet34"}, "method": {"name": "elr", **elr}}
  if name == "elr_plus":
    out = steps(0.02, 5e-4, 200, 150) if ten else steps(0.02, 5e-4, 250, 200)
    method = {"name": "elr_plus", **elr, "coef_steps": 0 if ten else 40000}
    return {**out, "model": PREACT, "method": method}
  if name == "dividemix":
    weight = LAMBDA_U[dataset].get(rate, 25.0)
    method = {
      "name": "dividemix", "warm_up": 10 if ten else 30, "entropy_penalty": asymmetric,
      "lambda_u": 0.0 if ten and asymmetric else weight,
      "clean_threshold": 0.6 if rate == "0.9" else 0.5,
      "average_epochs": 5 if rate == "0.9" else 1,
    }  # fmt: skip
    return {**steps(0.02, 5e-4, 300, 150), "model": PREACT, "method": method}
  if name == "dynamic_bootstrap":
    method = {"name": name, "variant": "hard", "alpha": 32.0, "warmup_epochs": 105}
    return {**steps(0.1, 1e-4, 300, 99, 249), "model": PREACT, "method": method}
  if name == "co_teaching":
    optim = {"name": "adam", "lr": 1e-3, "weight_decay": 0.0, "schedule": "linear",
             "milestones": ("80 epochs",)}  # fmt: skip
    method = {"name": name, "noise_rate": wrong(dataset, noise, rate), "ramp_epochs": 10.0}
    return {"total": "200 epochs", "optim": optim, "model": PREACT, "method": method}
  if name == "glc":
    second = {"method": {"name": "glc"}, "label_matrix": "noisy"}
    return {
      "total": "75 epochs",
      "optim": {"lr": 0.1, "weight_decay": 5e-4, "nesterov": True, "schedule": "cosine"},
      "model": WRN,
      "data": trusted,
      "stages": ("noisy", "corrected"),
      "stage": {"noisy": {}, "corrected": second},
    }
  return {
    **steps(0.1, 5e-4, 120, 80, 100), "batch_size": 100, "data": trusted,
    "model": {"name": "cifar_resnet", "depth": 32}, "method": {"name": name},
  }  # fmt: skip


def get_config(argument: str = "") -> ConfigDict:
  """The recipe of one method for one noise."""
  choice = schema.parse_argument(argument, CHOICES)
  name, dataset, noise, rate, network = (choice[k] for k in CHOICES)
  config = schema.merge(schema.default(), recipe(name, dataset, noise, rate))
  config["name"] = "-".join(filter(None, (name, dataset, noise, rate, network)))
  if network:
    config["model"] = {"name": network}
  kinds = {"cifar10": "asymmetric_sequential", "cifar100": "superclass"}
  kind = "symmetric" if noise == "symmetric" else kinds[dataset]
  drawn = {**config["data"]["noise"], "kind": kind if rate != "0" else "", "rate": float(rate)}
  config["data"] = {**config["data"], "name": dataset, "noise": drawn}
  config["first"] = {**config["first"], "padding": 4, "flip": True}
  mean, std = MEAN_STD["cifar10" if name == "dynamic_bootstrap" else dataset]
  if name in ("glc", "meta_weight_net"):
    mean, std = SHARED
  config["model"] = {**config["model"], "mean": mean, "std": std}
  config["evaluate"] = {**config["evaluate"], "every": "5 epochs"}
  config["checkpoint"] = {**config["checkpoint"], "every": "5 epochs"}
  cell = (dataset, noise, network) == ("cifar10", "symmetric", "resnet18") and rate in RATES
  if cell and name in PUBLISHED:
    number = {"accuracy": PUBLISHED[name][RATES.index(rate)], "source": "MR, Table 6"}
    # GLC's first stage is no row of the table.
    last = config["stage"]["corrected"] if name == "glc" else config
    last["published"] = number
  return ConfigDict(config, type_safe=True)
