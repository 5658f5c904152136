"""ImageNet networks fine-tuned on CIFAR-10 or CIFAR-100: NoisyMix' Table 5.

  python -m jaxnoise.main --config=configs/transfer.py:source=noisymix --config.init_from=FILE
  python -m jaxnoise.main --config=configs/transfer.py:dataset=cifar100 --config.init_from=RUN

`source`: the row, which names the run only: noisymix, baseline, puzzlemix, mixup, auto_augment,
augmix. The weights are FILE, PyTorch's of a ResNet-50 (.pth, .npz, .safetensors), or RUN, of
configs/imagenet.py. `dataset`: cifar10, cifar100. `freeze`: -1 trains all, 1 all but the stem and
stage 1, 4 the new last layer alone. --config.data.path=DIR as in configs/noisymix.py.

Published accuracy in % (one network each): clean, and on the corrupted sets the mean over all
types, over the noise types, and a third number whose heading is not known (it is not the mean of
the other twelve types):

  source         CIFAR-10                      CIFAR-100
  baseline       97.0   77.1 / 48.8 / 86.5     84.3   57.1 / 28.0 / 66.8
  puzzlemix      97.1   77.3 / 47.7 / 87.2     84.5   57.2 / 26.1 / 67.6
  mixup          97.1   78.6 / 51.7 / 87.6     84.5   57.3 / 26.4 / 67.6
  auto_augment   97.2   78.7 / 54.6 / 86.7     84.9   57.6 / 27.3 / 67.6
  augmix         97.7   79.9 / 53.9 / 88.6     86.5   58.8 / 24.2 / 66.8
  noisymix       97.7   81.8 / 60.3 / 88.9     85.9   60.3 / 34.5 / 68.8

Recipe, that of the authors' code: 150 epochs, batch 64 with the last partial batch kept, SGD with
momentum 0.9, no Nesterov, weight decay 5e-4, lr 0.001 (0.01 with freeze=4) times 0.1 at epochs 50
and 100, random resized crop of 224 pixels and flip, inputs normalised by the target set's mean and
std, as in that code, not by ImageNet's. Test images are resized to 256 pixels and
cropped to the central 224, inside the network: corruptions act on the 32 pixels of the image.

Open in the paper: which freeze level the table has. The code has settings for all three; a linear
layer on frozen features (4) should not come near 97 %, which leaves -1, the default, or 1.
"""

from ml_collections import ConfigDict

from jaxnoise.training import schema

CHOICES = {
  "source": ("noisymix", "baseline", "puzzlemix", "mixup", "auto_augment", "augmix"),
  "dataset": ("cifar10", "cifar100"),
  "freeze": ("-1", "1", "4"),
}

STATISTICS = {
  "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
  "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}


def get_config(argument: str = "") -> ConfigDict:
  """The recipe for one cell of the table; `init_from` is to be set."""
  choice = schema.parse_argument(argument, CHOICES)
  config = ConfigDict(schema.default(), type_safe=True)
  config.name = f"{choice['source']}-to-{choice['dataset']}-freeze{choice['freeze']}"
  config.total = "150 epochs"
  config.batch_size = 64
  config.data.name = choice["dataset"]
  config.data.remainder = "keep"
  config.first.resized_crop = 224
  config.first.flip = True
  mean, std = STATISTICS[choice["dataset"]]
  config.model = ConfigDict(
    {"name": "resnet50", "mean": mean, "std": std, "input_size": (256, 224)}
  )
  config.method = ConfigDict({"name": "erm", "loss": "cross_entropy"})
  config.new_head = True
  config.optim.lr = 0.01 if choice["freeze"] == "4" else 0.001
  config.optim.nesterov = False
  config.optim.weight_decay = 5e-4
  config.optim.schedule = "step"
  config.optim.milestones = ("50 epochs", "100 epochs")
  config.optim.freeze_level = int(choice["freeze"])
  config.evaluate.every = "5 epochs"
  config.evaluate.corruptions = ("standard",)
  config.checkpoint.every = "5 epochs"
  return config
