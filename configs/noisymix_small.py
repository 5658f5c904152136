"""NoisyMix and plain training on small real images: CIFAR-10 at 16 pixels, an hour's work on a CPU.

  python -m jaxnoise.main --config=configs/noisymix_small.py --config.data.path=FILE.npz
  python -m jaxnoise.main --config=configs/noisymix_small.py:method=erm --config.data.path=FILE.npz

FILE.npz holds uint8 arrays train_images [N, 16, 16, 3], train_labels, test_images, test_labels;
10,000 and 2,000 images are meant. 1,000 training images are held out (class-balanced); the
checkpoint that is best on them is kept beside the last, whose numbers are reported. WRN-16-1, 30
epochs, batch 128, SGD with Nesterov, lr 0.1 with a cosine per step, weight decay 5e-4, flip and
pad-2 crop. A scaled-down run shows the sign of an effect, not its size; the published numbers at
full size stand in configs/noisymix.py.
"""

from ml_collections import ConfigDict

from jaxnoise.training import schema

CHOICES = {"method": ("noisymix", "erm")}


def get_config(argument: str = "") -> ConfigDict:
  """The small recipe for NoisyMix or plain training; all else is the same."""
  choice = schema.parse_argument(argument, CHOICES)
  config = ConfigDict(schema.default(), type_safe=True)
  config.name = f"{choice['method']}-small"
  config.total = "30 epochs"
  config.batch_size = 128
  config.data.name = "npz"
  config.data.holdout = 1000
  config.first.padding = 2
  config.first.flip = True
  half = (0.5, 0.5, 0.5)
  config.model = ConfigDict(
    {"name": "wide_resnet", "depth": 16, "widen_factor": 1, "mean": half, "std": half}
  )
  config.method = ConfigDict({"name": "erm", "loss": "cross_entropy"})
  if choice["method"] == "noisymix":
    config.policy = ConfigDict({"name": "augmix", "width": 3, "depth": -1, "severity": 3.0})
    config.method = ConfigDict(
      {
        "name": "noisymix",
        "alpha": 1.0,
        "add_noise": 0.5,
        "mult_noise": 0.5,
        "sparsity": 0.65,
        "jsd_weight": 12.0,
        "stages": (0, 1, 2, 3),
        "view_factors": (1.0, 2.0, 3.0),
        "random_level": True,
      }
    )
  config.evaluate.corruptions = ("standard",)
  config.checkpoint.every = "5 epochs"
  return config
