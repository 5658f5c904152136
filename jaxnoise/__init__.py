"""jaxnoise: noise-robust training in JAX, as pure functions that compose.

`jaxnoise.train` trains a config from Python, with your own data, model, method or loss. It and the
sub-packages are loaded when they are first named: importing jaxnoise, or a config file, starts no
device.
"""

import importlib

__version__ = "0.1.0"

_PACKAGES = (
  "attacks",
  "augment",
  "core",
  "corruptions",
  "data",
  "evaluation",
  "losses",
  "methods",
  "metrics",
  "models",
  "reporting",
  "theory",
  "training",
)


def __getattr__(name: str):
  if name in _PACKAGES:
    return importlib.import_module(f"{__name__}.{name}")
  if name == "train":
    return importlib.import_module(f"{__name__}.api").train
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
  return [*globals(), *_PACKAGES, "train"]
