"""Plain supervised training, the baseline row of every table, on CIFAR-10 or CIFAR-100.

  python -m jaxnoise.main --config=configs/erm.py:dataset=cifar100 --config.data.path=DIR
  python -m jaxnoise.main --config=configs/erm.py --config.method.loss=cross_entropy

`dataset`: cifar10, cifar100. `network`: preactresnet18, wrn28_4. The recipe is that of
configs/noisymix.py (200 epochs, batch 128, SGD, lr 0.1 with a cosine per step, weight decay 5e-4,
flip and pad-4 crop), and so is DIR. Published with it in NoisyMix' Tables 2 and 3, test accuracy in
%, mean (min / max) of 5 seeds, clean and mean over the 15 common corruptions at 5 severities:

  network          CIFAR-10                                CIFAR-100
  preactresnet18   95.3 (95.2/95.4)  73.8 (73.5/74.2)      77.7 (77.5/78.1)  48.4 (48.0/48.8)
  wrn28_4          96.0 (95.9/96.1)  74.9 (74.5/75.4)      79.0 (78.8/79.1)  47.4 (47.0/48.0)
"""

from ml_collections import ConfigDict

from jaxnoise.training import schema

CHOICES = {
  "dataset": ("cifar10", "cifar100"),
  "network": ("preactresnet18", "wrn28_4"),
}
NETWORKS = {
  "preactresnet18": {"name": "preact_resnet18", "variant": "noisymix"},
  "wrn28_4": {
    "name": "wide_resnet", "depth": 28, "widen_factor": 4, "variant": "conv_bias", "dropout": 0.1,
  },
}  # fmt: skip


def get_config(argument: str = "") -> ConfigDict:
  """The recipe for one cell of the tables."""
  choice = schema.parse_argument(argument, CHOICES)
  config = ConfigDict(schema.default(), type_safe=True)
  config.name = f"erm-{choice['dataset']}-{choice['network']}"
  config.total = "200 epochs"
  config.data.name = choice["dataset"]
  config.data.remainder = "keep"
  config.first.padding = 4
  config.first.flip = True
  half = (0.5, 0.5, 0.5)
  config.model = ConfigDict({**NETWORKS[choice["network"]], "mean": half, "std": half})
  config.method = ConfigDict({"name": "erm", "loss": "cross_entropy"})
  config.evaluate.every = "5 epochs"
  config.evaluate.corruptions = ("standard",)
  config.checkpoint.every = "5 epochs"
  return config
