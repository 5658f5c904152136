"""AugMax on CIFAR-10 or CIFAR-100 (Wang et al. 2021): the starred row of NoisyMix' Table 2.

  python -m jaxnoise.main --config=configs/augmax.py --config.data.path=DIR
  python -m jaxnoise.main --config=configs/augmax.py:dataset=cifar100
  python -m jaxnoise.main --config=configs/augmax.py:norm=bn

`dataset`: cifar10, cifar100. `norm`: dubin_a, the authors' layers (half instance norm, half dual
batch norm, in the first norm of the blocks of stages 1 to 3); dubin (in every norm), dubn (dual
batch norm) and bn (one branch for all views) for comparison. DIR is as in configs/noisymix.py.

Published accuracy in %, mean over the 15 common corruptions at 5 severities: 90.36 on CIFAR-10-C,
65.75 on CIFAR-100-C. NoisyMix quotes them from AugMax' paper, without clean accuracies: another
network (ResNet-18 with activations after the norms) and another recipe than the other rows'.

Recipe, that of the authors' code: 200 epochs, batch 256 with the last partial batch kept, SGD with
momentum 0.9, no Nesterov, weight decay 5e-4, lr 0.1 with a cosine to 0, images in [0, 1] without
normalisation, flip and pad-4 crop, width 3, random depth, severity 3, ascent step 0.1, budget 1,
stability weight 10, and 1 on CIFAR-100.

What differs or is open:

  learning rate         the cosine falls at every step here, there at every epoch's end.
  method.steps          10, the authors' commands; the default of their code is 5, and which of the
                        two the published numbers have is not stated.
  batch statistics      clean and AugMix views share a forward pass in train mode here; there each
                        has its own.
"""

from ml_collections import ConfigDict

from jaxnoise.training import schema

CHOICES = {
  "dataset": ("cifar10", "cifar100"),
  "norm": ("dubin_a", "dubin", "dubn", "bn"),
}


def get_config(argument: str = "") -> ConfigDict:
  """The authors' recipe for one data set."""
  choice = schema.parse_argument(argument, CHOICES)
  config = ConfigDict(schema.default(), type_safe=True)
  config.name = f"augmax-{choice['dataset']}-{choice['norm']}"
  config.total = "200 epochs"
  config.batch_size = 256
  config.data.name = choice["dataset"]
  config.data.remainder = "keep"
  config.first.padding = 4
  config.first.flip = True
  config.model = ConfigDict({"name": "resnet18", "norm": choice["norm"]})
  config.method = ConfigDict(
    {
      "name": "augmax",
      "steps": 10,
      "step_size": 0.1,
      "tau": 1,
      "jsd_weight": {"cifar10": 10.0, "cifar100": 1.0}[choice["dataset"]],
      "width": 3,
      "depth": -1,
      "severity": 3.0,
      "dual_norm": choice["norm"] != "bn",
    }
  )
  config.optim.lr = 0.1
  config.optim.lr_min = 0.0
  config.optim.nesterov = False
  config.optim.weight_decay = 5e-4
  config.evaluate.every = "5 epochs"
  config.evaluate.corruptions = ("standard",)
  config.checkpoint.every = "5 epochs"
  return config
