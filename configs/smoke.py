"""The whole machinery in seconds: NoisyMix on generated 8x8 images, 2 epochs, one corruption.

  python -m jaxnoise.main --config=configs/smoke.py --workdir=DIR

It shows that training, saving, evaluation and the tables work on a machine; its accuracies mean
nothing.
"""

from ml_collections import ConfigDict

from jaxnoise.training import schema


def get_config(argument: str = "") -> ConfigDict:
  """Small enough for a test; `argument` takes nothing."""
  schema.parse_argument(argument, {})
  config = ConfigDict(schema.default(), type_safe=True)
  config.name = "smoke"
  config.total = "2 epochs"
  config.batch_size = 16
  config.data.name = "generated"
  config.first.padding = 1
  config.policy = ConfigDict({"name": "augmix", "width": 3, "depth": -1, "severity": 3.0})
  config.model = ConfigDict({"name": "wide_resnet", "depth": 10, "widen_factor": 1})
  config.method = ConfigDict({"name": "noisymix", "alpha": 1.0, "jsd_weight": 12.0})
  config.evaluate.corruptions = ("gaussian_noise",)
  config.evaluate.severities = (3,)
  return config
