"""Plain training on single augmented views: AutoAugment, RandAugment, Cutout and their like, CIFAR.

  python -m jaxnoise.main --config=configs/augment.py:augment=auto_augment --config.data.path=DIR
  python -m jaxnoise.main --config=configs/augment.py:augment=cutout,dataset=cifar100

`dataset`: cifar10, cifar100. `network`: preactresnet18, wrn28_4. `augment`: one of the below. DIR
is as in configs/noisymix.py, whose training recipe this is, so that the rows compare with those of
NoisyMix' Tables 2 and 3. Published there is the first alone, clean / corrupted accuracy in %, mean
(min / max) of 5 seeds:

  baseline   cifar10    preactresnet18 95.3 (95.2/95.4) / 73.8 (73.5/74.2)
                        wrn28_4        96.0 (95.9/96.1) / 74.9 (74.5/75.4)
             cifar100   preactresnet18 77.7 (77.5/78.1) / 48.4 (48.0/48.8)
                        wrn28_4        79.0 (78.8/79.1) / 47.4 (47.0/48.0)

What each does, in its order, with the parameters of its paper or code. Squares hold 0.5, which the
network's first layer makes 0. (K): from memory, not compared with a source.

  baseline               flip, pad-4 crop.
  auto_augment           baseline, the 25 pairs found on CIFAR-10, cutout 16 (K); on CIFAR-100 the
                         same. Magnitudes are torchvision's.
  fast_auto_augment      the 493 pairs of the authors' code, pad-4 crop, flip, cutout 16: its order.
  rand_augment           baseline, torchvision's RandAugment, cutout 16 (K); N = 3, M = 5 (of 30) on
                         CIFAR-10, N = 2, M = 14 on CIFAR-100, the paper's for WRN-28-10 (K).
  ildoonet_rand_augment  GJS' and NRD's strong views: N = 1, M = 3 of another library, whose small M
                         is strong; pad-4 crop, flip, cutout 16 (GJS' files; both papers have 5).
  cutout                 baseline, a square of 16 pixels on CIFAR-10 and 8 on CIFAR-100.
  random_erasing         baseline, torchvision's defaults: probability 0.5, area 0.02 to 0.33,
                         aspect 0.3 to 3.3 (K). The paper has areas to 0.4 and random values (K).
  color_jitter           baseline, strengths 0.4, 0.4, 0.4, hue 0.2: GJS' and NRD's for WebVision.
  gaussian_augment       baseline, noise of sd 0.1 on images in [0, 1], clipped (K).
"""

from typing import Any

from ml_collections import ConfigDict

from jaxnoise.training import schema

CHOICES = {
  "dataset": ("cifar10", "cifar100"),
  "network": ("preactresnet18", "wrn28_4"),
  "augment": (
    "baseline", "auto_augment", "fast_auto_augment", "rand_augment", "ildoonet_rand_augment",
    "cutout", "random_erasing", "color_jitter", "gaussian_augment",
  ),
}  # fmt: skip

NETWORKS = {
  "preactresnet18": {"name": "preact_resnet18", "variant": "noisymix"},
  "wrn28_4": {
    "name": "wide_resnet", "depth": 28, "widen_factor": 4, "variant": "conv_bias", "dropout": 0.1,
  },
}  # fmt: skip

CUTOUT = {"name": "cutout", "size": 16, "fill": 0.5}
CROP_FIRST = {
  "name": "random_crop", "padding": 4, "then": {"name": "random_flip", "then": CUTOUT},
}  # fmt: skip
WHOLE_IMAGES = ("fast_auto_augment", "ildoonet_rand_augment")


def policy(name: str, dataset: str) -> dict[str, Any]:
  """What comes after the crop and the flip, or, of whole images, the crop and the flip as well."""
  num_ops, magnitude = {"cifar10": (3, 5), "cifar100": (2, 14)}[dataset]
  return {
    "baseline": {"name": ""},
    "auto_augment": {"policy": "cifar10", "then": CUTOUT},
    "fast_auto_augment": {"policy": "cifar10", "then": CROP_FIRST},
    "rand_augment": {"num_ops": num_ops, "magnitude": magnitude, "then": CUTOUT},
    "ildoonet_rand_augment": {"num_ops": 1, "magnitude": 3, "then": CROP_FIRST},
    "cutout": {**CUTOUT, "size": {"cifar10": 16, "cifar100": 8}[dataset]},
    "random_erasing": {"probability": 0.5, "area": (0.02, 0.33), "aspect": (0.3, 3.3), "fill": 0.5},
    "color_jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.2},
    "gaussian_augment": {"std": 0.1, "clip": True},
  }[name]


def get_config(argument: str = "") -> ConfigDict:
  """The recipe for one augmentation."""
  choice = schema.parse_argument(argument, CHOICES)
  name = choice["augment"]
  config = ConfigDict(schema.default(), type_safe=True)
  config.name = f"{name}-{choice['dataset']}-{choice['network']}"
  config.total = "200 epochs"
  config.batch_size = 128
  config.data.name = choice["dataset"]
  config.data.remainder = "keep"
  if name not in WHOLE_IMAGES:
    config.first.padding = 4
    config.first.flip = True
  config.policy = ConfigDict({"name": name, **policy(name, choice["dataset"])})
  half = (0.5, 0.5, 0.5)
  config.model = ConfigDict({**NETWORKS[choice["network"]], "mean": half, "std": half})
  config.method = ConfigDict({"name": "erm", "loss": "cross_entropy"})
  config.optim.lr = 0.1
  config.optim.weight_decay = 5e-4
  config.evaluate.every = "5 epochs"
  config.evaluate.corruptions = ("standard",)
  config.checkpoint.every = "5 epochs"
  return config
