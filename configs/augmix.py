"""AugMix on CIFAR-10 or CIFAR-100: in NoisyMix' Tables 2 and 3, and as its authors train it.

  python -m jaxnoise.main --config=configs/augmix.py --config.data.path=DIR
  python -m jaxnoise.main --config=configs/augmix.py:dataset=cifar100,network=wrn28_4
  python -m jaxnoise.main --config=configs/augmix.py:network=wrn40_2,method=augmix_no_jsd

`dataset`: cifar10, cifar100. `network`: preactresnet18, wrn28_4; wrn40_2 is its authors' network
and recipe. `method`: augmix, or augmix_no_jsd, which trains on one view alone. `form`: google, the
authors' AugMix, or torchvision, with 13 operations, milder levels and an 8-bit mixture. DIR is as
in configs/noisymix.py.

Published test accuracy in %, mean (min / max) of 5 seeds, clean and mean over the 15 common
corruptions at 5 severities (NoisyMix, Tables 2 and 3; method=augmix, form=google):

  network          CIFAR-10                                CIFAR-100
  preactresnet18   95.5 (95.0/95.8)  88.8 (88.1/89.3)      77.0 (76.6/77.3)  64.6 (64.4/64.8)
  wrn28_4          96.5 (96.4/96.6)  90.2 (89.7/90.7)      80.5 (79.9/80.8)  66.7 (65.9/67.2)

Table 4 has the CIFAR-100 row of wrn28_4 as A--J with 66.9 instead of 66.7, and augmix_no_jsd as
A---, 79.1 / 64.0; configs/noisymix.py:row=A--J and row=A--- are the same runs, draw for draw.

Recipe: that of configs/noisymix.py, 200 epochs, which is also AugMix' own but for its 100 epochs
with wrn40_2 (its authors' code: no biases, no dropout): batch 128, SGD with momentum 0.9 and
Nesterov, weight decay 5e-4, lr 0.1 with a cosine per step to 1e-6, flip and pad-4 crop, mean and
std 0.5, width 3, random depth, severity 3, 9 operations, stability weight 12.
"""

from ml_collections import ConfigDict

from jaxnoise.training import schema

CHOICES = {
  "dataset": ("cifar10", "cifar100"),
  "network": ("preactresnet18", "wrn28_4", "wrn40_2"),
  "method": ("augmix", "augmix_no_jsd"),
  "form": ("google", "torchvision"),
}

NETWORKS = {
  "preactresnet18": {"name": "preact_resnet18", "variant": "noisymix"},
  "wrn28_4": {
    "name": "wide_resnet", "depth": 28, "widen_factor": 4, "variant": "conv_bias", "dropout": 0.1,
  },
  "wrn40_2": {"name": "wide_resnet", "depth": 40, "widen_factor": 2, "variant": "biasless"},
}  # fmt: skip

POLICIES = {
  "google": {"name": "augmix", "width": 3, "depth": -1, "severity": 3.0},
  "torchvision": {"name": "torchvision_augmix", "width": 3, "depth": -1, "severity": 3},
}


def get_config(argument: str = "") -> ConfigDict:
  """The recipe for one cell of the tables, or for the authors' own network."""
  choice = schema.parse_argument(argument, CHOICES)
  config = ConfigDict(schema.default(), type_safe=True)
  config.name = "-".join(choice[key] for key in ("method", "dataset", "network", "form"))
  config.total = "100 epochs" if choice["network"] == "wrn40_2" else "200 epochs"
  config.batch_size = 128
  config.data.name = choice["dataset"]
  config.data.remainder = "keep"
  config.first.padding = 4
  config.first.flip = True
  config.policy = ConfigDict(POLICIES[choice["form"]])
  half = (0.5, 0.5, 0.5)
  config.model = ConfigDict({**NETWORKS[choice["network"]], "mean": half, "std": half})
  jsd = choice["method"] == "augmix"
  config.method = ConfigDict({"name": "augmix", "jsd": jsd, "jsd_weight": 12.0})
  config.optim.lr = 0.1
  config.optim.weight_decay = 5e-4
  config.evaluate.every = "5 epochs"
  config.evaluate.corruptions = ("standard",)
  config.checkpoint.every = "5 epochs"
  return config
