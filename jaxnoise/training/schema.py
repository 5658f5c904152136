"""The shape of a config: every field with its default, and the check of a given one against it.

Plain dictionaries in, plain dictionaries out; the config files build on `default()`. Sections whose
fields are a factory's keyword arguments (`model`, `method`, `policy`, `wrapper_args`) are open
here: Python's own keyword checking names a misspelt one when the factory is called.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from jaxnoise.core.errors import InputError, closest

OPEN = ("model", "method", "policy", "wrapper_args", "stage", "options", "published", "sweep")
"""Sections whose fields are arguments of functions."""

_NAMED = ("model", "method", "policy", "teacher_policy", "then")


def default() -> dict[str, Any]:
  """Returns a fresh config with every field at its default.

  Durations (`total`, every `every`, `optim.milestones`, `optim.warmup`,
  `optim.decay_every`) are text: "30 epochs", "500 steps",
  "1e6 examples", "5 percent".
  """
  return copy.deepcopy(_DEFAULT)


_DEFAULT: dict[str, Any] = {
  # What the experiment is called in tables and figures.
  "name": "",
  # Root of all randomness; several seeds run as one program, from `seed` upwards.
  "seed": 0,
  "seeds": 1,
  # Numbers of `optim`, `method`, `policy` or `wrapper_args` that differ between members of one
  # program, one value for each: {"optim": {"lr": (0.1, 0.05)}, "method": {"alpha": (0.5, 1.0)}} are
  # two members (training.sweep). With several seeds every member has them all.
  "sweep": {},
  "total": "30 epochs",
  "batch_size": 128,
  # The gradient of a batch is the mean over this many micro-batches (training.accumulate): less
  # memory; batch-norm statistics and mixing partners are then those of a micro-batch.
  "accumulate": 1,
  # Batch-norm statistics are those of the whole batch on however many devices; with G those of each
  # of G equal parts of it, as in the data-parallel training of papers that used G devices.
  "norm_groups": 1,
  # The same bits in every run on a GPU too, where that costs speed; a CPU and a TPU do so anyway.
  "deterministic": False,
  # Optimizer steps that one call of the compiled program takes, where nothing falls between them:
  # less to do for the host where steps are short. Of resident data only.
  "steps_per_call": 1,
  # Large parameters, their averages and the optimizer's state are split over the devices, and whole
  # copies made where a step uses them: the same numbers, less memory, more talk.
  "shard_parameters": False,
  # Less memory: what is inside a block is computed again in the backward pass, not kept; the same
  # numbers for up to a third more work.
  "remat": False,
  # "float32", or "bfloat16" for the network's compute (parameters and losses stay float32).
  "precision": "float32",
  "data": {
    "name": "digits",
    "path": "",
    # Training labels: "" for the data set's own, or a set of human labels that the file carries.
    "labels": "",
    # CIFAR-N's files of human labels, where the data set does not carry them: a file or folder, and
    # the order of CIFAR that they are in, "python" or "tfds".
    "human_path": "",
    "human_order": "python",
    # Noise drawn into the training labels, held-out ones included: a kind of `label_noise.corrupt`
    # ("symmetric", "asymmetric", "instance", "matrix", ...) or "file". `exact` flips that very
    # number of labels, else each is drawn by itself. With `seed` -1 every seed of the run has noise
    # of its own, as a single run of that seed has. `field` names the labels in a file that has
    # several columns; `check_order` refuses a file that looks shuffled.
    "noise": {
      "kind": "", "rate": 0.0, "exact": True, "seed": -1, "matrix": (), "allow_unlearnable": False,
      "file": "", "field": "", "check_order": True,
    },
    # Leave training and test images on disk and decode them batch by batch, by so many threads on
    # each host (0: one per core): for sets of image files and in array_record. Random first crops
    # are then of the whole images, not of their central squares.
    "stream": False,
    "threads": 0,
    # Arguments of the function that loads the set, such as image_size; see `data.load`.
    "options": {},
    # What an epoch visits: "uniform", every example once, or "balanced", every class equally often.
    "sampling": "uniform",
    # Keep this many training examples (the first ones); 0 keeps all.
    "limit": 0,
    # Class-balanced examples held out of training; the checkpoint best on them is kept as well.
    "holdout": 0,
    # Which examples are held out and trusted: the same for every seed of an experiment.
    "split_seed": 0,
    # Class-balanced examples with true labels for methods that ask for a trusted pool.
    "trusted": 0,
    "trusted_in_train": True,
    # What becomes of an epoch's last partial batch: "drop" or "keep".
    "remainder": "drop",
  },
  # The first transform of every training image: flip, then pad and crop. Or, with a `resized_crop`
  # of S > 0 pixels: a random box of `scale` of the area and a width of `ratio` heights becomes
  # S x S, then flip.
  "first": {
    "padding": 0,
    "flip": False,
    "resized_crop": 0,
    "scale": (0.08, 1.0),
    "ratio": (3 / 4, 4 / 3),
  },
  # What further views are drawn with, for methods that have a `policy`; "" for none. It acts after
  # the first transform. `then` is a section like this one and names what follows, as often as
  # wanted: {"name": "auto_augment", "then": {"name": "cutout", "size": 16}}. Where something has to
  # come before the crop, leave `first` as it is here and name flip and crop as steps: {"name":
  # "rand_augment", "then": {"name": "random_flip", "then": {"name": "random_crop", "padding": 4}}}.
  "policy": {"name": ""},
  "model": {"name": "wide_resnet"},
  "method": {"name": "erm"},
  # Wrappers applied to the method, innermost first, and their keyword arguments by name.
  "wrappers": (),
  "wrapper_args": {},
  "optim": {
    "name": "sgd",
    "lr": 0.1,
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 5e-4,
    # What decays: "all" parameters, or "kernels", those of two or more axes.
    "decay": "all",
    # Of "adam" and "adamw".
    "beta1": 0.9,
    "beta2": 0.999,
    "eps": 1e-8,
    # Of "lars".
    "trust_coefficient": 1e-3,
    # "constant", "cosine", "restarts", "linear", "step", "exponential" or "plateau".
    "schedule": "cosine",
    "warmup": "0 steps",
    # Where the warm-up's line begins, as a fraction of `lr`; with 0 the first step has lr / steps.
    "warmup_start": 0.0,
    "lr_min": 1e-6,
    "milestones": (),
    "factor": 0.1,
    "decay_every": "1 epoch",
    # Of "plateau": PyTorch's rule on the mean training loss of each epoch.
    "patience": 10,
    "threshold": 1e-4,
    "min_scale": 0.0,
    # -1 trains everything; L freezes the stem and stages 1 to L of the network.
    "freeze_level": -1,
  },
  "evaluate": {
    "every": "1 epoch",
    "batch_size": 500,
    # Corruptions evaluated at the end of the run: names, ("standard",) for the benchmark's 15,
    # ("all",) for its 4 validation corruptions too.
    "corruptions": (),
    "severities": (1, 2, 3, 4, 5),
    # Official files of corrupted images, a folder of .npy or a TFDS one: measured instead of making
    # the corruptions.
    "corrupted_path": "",
    # Where training labels are noisy and the true ones known: which of them the network fits, at
    # every evaluation, which costs a forward pass over the training set.
    "memorisation": True,
  },
  # TensorBoard's files are written where tensorboardX is installed; to Weights & Biases only if
  # `wandb` names a project.
  "log": {"every": "1 epoch", "tensorboard": True, "wandb": ""},
  "checkpoint": {"every": "1 epoch", "keep": 1},
  # Run directory of a frozen teacher; within `stages`, the name of an earlier stage.
  "teacher": "",
  # For methods that correct for label noise: a run trained on the noisy labels, or an earlier
  # stage; how it sees the trusted examples (data.trusted) is the noise matrix.
  "label_matrix": "",
  # What the network starts from: such a run, or PyTorch weights (.pt, .npz, .safetensors).
  "init_from": "",
  # Whether the last layer then starts afresh, for other classes.
  "new_head": False,
  # Numbers that a paper prints for this cell, shown beside the run's own in its report:
  # {"accuracy": 94.65, "source": "NRD, Table 2"}.
  "published": {},
  # Names of stages run one after the other, and what each changes in this config.
  "stages": (),
  "stage": {},
}


def check(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the config completed with defaults, every field checked for name and type.

  Args:
    config: a dictionary, or what a config file's `get_config()` returns.

  Raises:
    InputError: for an unknown field (with the closest names) or a wrong type.

  Example:
    >>> from jaxnoise.training import schema
    >>> schema.check({"optim": {"lr": 1}})["optim"]["lr"]
    1.0
  """
  config = _mapping(config)
  if not isinstance(config, Mapping):
    raise InputError(
      f"config is {config!r:.60}, of type {type(config).__name__}; it must be a dictionary of "
      "fields"
    )
  return _check(config, _DEFAULT, "config")


def merge(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
  """Returns `config` with `changes` laid over it, section by section.

  A `model`, `method`, `policy`, `teacher_policy` or `then` of another name replaces the whole
  section: the fields of one factory mean nothing to another.
  """
  out = dict(config)
  for key, value in changes.items():
    old = out.get(key)
    renamed = key in _NAMED and "name" in (value or {})
    if isinstance(value, Mapping) and isinstance(old, Mapping) and not (
      renamed and value["name"] != old.get("name")
    ):
      out[key] = merge(old, value)
    else:
      out[key] = value
  return out


def _mapping(value: Any) -> Any:
  """A section as a dictionary, if it is one that says how (ml_collections' ConfigDict)."""
  return value if isinstance(value, Mapping) or not hasattr(value, "to_dict") else value.to_dict()


def _check(given: Mapping, default: Mapping, where: str) -> dict[str, Any]:
  out = copy.deepcopy(dict(default))
  for key, value in given.items():
    name = f"{where}.{key}"
    if key not in default:
      raise InputError(f"{name} is no field of {where}: {closest(key, default)}")
    if key in OPEN:
      out[key] = _plain(name, value, dict)
      out[key] = _nested(name, out[key], {}) if key == "sweep" else out[key]
    elif isinstance(default[key], dict):
      section = _mapping(value)
      if not isinstance(section, Mapping):
        fields = ", ".join(default[key])
        raise InputError(f"{name} is {value!r}; it must be a section with {fields}")
      out[key] = _check(section, default[key], name)
    else:
      out[key] = _typed(name, value, default[key])
  return out


def _plain(name: str, value: Any, kind: type) -> Any:
  value = _mapping(value)
  if kind is dict and not isinstance(value, Mapping):
    raise InputError(f"{name} is {value!r}; it must be a section of fields")
  if isinstance(value, Mapping):
    return {k: _plain(f"{name}.{k}", v, object) for k, v in value.items()}
  return tuple(value) if isinstance(value, list) else value


def _nested(where: str, section: Mapping[str, Any], out: dict[str, Any]) -> dict[str, Any]:
  """{"optim.lr": x} as {"optim": {"lr": x}}, put into `out`."""
  for name, value in section.items():
    inner, dot, rest = name.partition(".")
    if dot or isinstance(value, Mapping):
      below = out.setdefault(inner, {})
      if not isinstance(below, dict):
        raise InputError(f"{where}.{inner} is given twice; give it once")
      _nested(f"{where}.{inner}", {rest: value} if dot else value, below)
    elif inner in out:
      raise InputError(f"{where}.{inner} is given twice; give it once")
    else:
      out[inner] = value
  return out


def _typed(name: str, value: Any, default: Any) -> Any:
  kind = type(default)
  if kind is float and isinstance(value, int) and not isinstance(value, bool):
    return float(value)
  if kind is tuple and isinstance(value, list):
    return tuple(value)
  if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
    raise InputError(
      f"{name} is {value!r}, of type {type(value).__name__}; it must be of type {kind.__name__}, "
      f"such as {default!r}"
    )
  return value


def parse_argument(text: str, choices: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
  """Reads a config file's argument, `--config=file.py:dataset=cifar100,network=wrn28_4`.

  Args:
    text: "key=value,key=value", possibly empty.
    choices: for each key its allowed values, the default first.

  Raises:
    InputError: for an unknown key or value, with the closest names.

  Example:
    >>> from jaxnoise.training import schema
    >>> schema.parse_argument("dataset=b", {"dataset": ("a", "b"), "network": ("x",)})
    {'dataset': 'b', 'network': 'x'}
  """
  out = {key: values[0] for key, values in choices.items()}
  for part in filter(None, (text or "").split(",")):
    key, equals, value = part.partition("=")
    if not equals or key not in choices:
      raise InputError(
        f"the config's argument {part!r} must be one of KEY=VALUE: {closest(key, choices)}"
      )
    if value not in choices[key]:
      raise InputError(
        f"the config's argument {key} is {value!r}, no such choice: {closest(value, choices[key])}"
      )
    out[key] = value
  return out
