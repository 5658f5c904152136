"""NoisyMix and plain training on scikit-learn's digits: the demo's recipe, minutes on a CPU.

  python -m jaxnoise.main --config=configs/noisymix_digits.py
  python -m jaxnoise.main --config=configs/noisymix_digits.py:method=erm

1,437 training images of 8x8, grey repeated to 3 channels, 144 of them held out (class-balanced, for
choosing hyper-parameters; the checkpoint that is best on them is kept beside the last, whose
numbers are reported), 360 test images. WRN-10-1, batch 64, SGD with Nesterov, lr 0.1 with a cosine
per step, weight decay 5e-4, pad-1 crop and no flip: a mirrored digit is another shape. No number is
published for this data set; docs/results.md has what was measured.
"""

from ml_collections import ConfigDict

from jaxnoise.training import schema

CHOICES = {"method": ("noisymix", "erm")}


def get_config(argument: str = "") -> ConfigDict:
  """The digits recipe for NoisyMix or plain training; all else is the same."""
  choice = schema.parse_argument(argument, CHOICES)
  config = ConfigDict(schema.default(), type_safe=True)
  config.name = f"{choice['method']}-digits"
  config.total = "60 epochs"
  config.batch_size = 64
  config.data.name = "digits"
  config.data.holdout = 144
  config.first.padding = 1
  half = (0.5, 0.5, 0.5)
  config.model = ConfigDict(
    {"name": "wide_resnet", "depth": 10, "widen_factor": 1, "mean": half, "std": half}
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
  config.evaluate.every = "5 epochs"
  config.evaluate.batch_size = 360
  config.evaluate.corruptions = ("standard",)
  config.checkpoint.every = "20 epochs"
  return config
