"""The data of a run: its source, what is done to its labels, and what is held out of training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxnoise import data, label_noise
from jaxnoise.core.errors import InputError
from jaxnoise.training.resolve import OBJECT, call

FILE, MATRIX, DIGITS = "file", "matrix", "asymmetric_digits"


@dataclasses.dataclass(frozen=True, eq=False)
class Loaded:
  """What `config.data` describes.

  Attributes:
    source: training and test data; its labels are those of the first seed.
    holdout: the examples held out of training, with the noise of the first seed, or None.
    labels: [S, N] the labels of each of several seeds where they differ, else None.
    holdout_labels: [S, H] the same of the held-out examples.
    nominal: what noise was asked for, as plain values; empty where none was.
  """

  source: data.Source
  holdout: data.Pool | None
  labels: np.ndarray | None = None
  holdout_labels: np.ndarray | None = None
  nominal: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def load(
  config: Mapping[str, Any],
  source: data.Source | None = None,
  *,
  seed: int = 0,
  seeds: int = 1,
) -> Loaded:
  """Loads the data set that `config.data` names and draws its label noise.

  Noise is drawn before anything is held out, so that the held-out part is as noisy as the rest,
  while which examples are held out or trusted depends on their true labels and
  `data.split_seed` alone. Seed s of several has the labels that a single run of seed s has.

  Args:
    config: `config.data`.
    source: your own data, in place of what `name` and `path` say.
    seed: the run's first seed.
    seeds: how many.

  Raises:
    InputError: data that is not there, a name or number that does not fit.

  Example:
    >>> from jaxnoise.training import schema, sources
    >>> noise = {"kind": "symmetric", "rate": 0.4}
    >>> config = schema.check({"data": {"name": "generated", "noise": noise}})["data"]
    >>> loaded = sources.load(config, seeds=2)
    >>> loaded.labels.shape == (2, loaded.source.num_train)
    True
  """
  noise = config["noise"]
  if config["labels"] and noise["kind"]:
    raise InputError(
      f"config.data.labels is {config['labels']!r} and config.data.noise.kind is "
      f"{noise['kind']!r}; a run has one kind of noisy labels, so leave one of them ''"
    )
  source = _named(config, source)
  if not noise["kind"]:
    _check_unused(noise)
    return Loaded(*_split(config, source))
  drawn = [_noisy(noise, source, seed + s) for s in range(seeds)]
  nominal = _nominal(noise, drawn[0])
  fixed = noise["kind"] == FILE or noise["seed"] >= 0
  parts = [
    _split(config, source.with_labels(of.labels)) for of in (drawn[:1] if fixed else drawn)
  ]
  first, holdout = parts[0]
  if len(parts) == 1:
    return Loaded(first, holdout, nominal=nominal)
  labels = np.stack([part.labels for part, _ in parts])
  held = None if holdout is None else np.stack([pool.labels for _, pool in parts])
  return Loaded(first, holdout, labels, held, nominal)


def _named(config: Mapping[str, Any], source: data.Source | None) -> data.Source:
  if source is None:
    if config["name"].startswith(OBJECT):
      raise InputError(
        f"config.data.name is {config['name']!r}: the run was made with data given as an object; "
        "hand it in again as source="
      )
    for field in ("name", "path"):
      if field in config["options"]:
        raise InputError(f"config.data.options.{field} has its own field, config.data.{field}")
    source = data.load(config["name"], config["path"], **config["options"])
  if config["human_path"]:
    source = data.cifar_n(config["human_path"], source, config["human_order"])
  if config["limit"]:
    if not 0 < config["limit"] <= source.num_train:
      raise InputError(
        f"config.data.limit is {config['limit']}; the data set has {source.num_train} "
        "training examples"
      )
    source = source.take(np.arange(config["limit"]))
  if config["labels"]:
    source = source.with_labels(call("config.data", data.human_labels, source, config["labels"]))
  return source


def _split(
  config: Mapping[str, Any], source: data.Source
) -> tuple[data.Source, data.Pool | None]:
  holdout = None
  if config["holdout"]:
    source, holdout = source.holdout(config["holdout"], config["split_seed"])
  if config["trusted"]:
    in_train = config["trusted_in_train"]
    source = source.trusted(config["trusted"], config["split_seed"], in_train=in_train)
  return source, holdout


def _check_unused(noise: Mapping[str, Any]) -> None:
  for field in ("rate", "file", "matrix"):
    if noise[field]:
      raise InputError(
        f"config.data.noise.{field} is {noise[field]!r}, but config.data.noise.kind is ''; name a "
        "kind of noise, such as 'symmetric'"
      )


def _noisy(noise: Mapping[str, Any], source: data.Source, seed: int) -> label_noise.NoisyLabels:
  kind = noise["kind"]
  if kind.startswith("asymmetric") and kind != DIGITS and source.name in ("digits", "svhn"):
    raise InputError(
      f"config.data.noise.kind is {kind!r}, which confuses the classes of CIFAR as people do; for "
      f"{source.name} take {DIGITS!r}"
    )
  if bool(noise["file"]) != (kind == FILE):
    raise InputError(
      f"config.data.noise.file is {noise['file']!r} and its kind is {kind!r}; a file of labels "
      "needs the kind 'file', and that kind a file"
    )
  if bool(len(noise["matrix"])) != (kind == MATRIX):
    raise InputError(
      f"config.data.noise.matrix has {len(noise['matrix'])} rows and its kind is {kind!r}; a "
      "matrix needs the kind 'matrix', and that kind a matrix"
    )
  if kind == FILE:
    return label_noise.from_file(
      noise["file"],
      num_classes=source.num_classes,
      ids=source.ids,
      true_labels=source.true_labels,
    )
  return call(
    "config.data.noise",
    label_noise.corrupt,
    source.true_labels,
    kind,
    num_classes=source.num_classes,
    rate=noise["rate"],
    seed=noise["seed"] if noise["seed"] >= 0 else seed,
    exact=noise["exact"],
    matrix=np.asarray(noise["matrix"], float) if kind == MATRIX else None,
    images=source.images if kind == "instance" else None,
  )


def _nominal(noise: Mapping[str, Any], drawn: label_noise.NoisyLabels) -> dict[str, Any]:
  if noise["kind"] == FILE:
    return {"kind": FILE, "file": noise["file"]}
  out = {"kind": noise["kind"], "rate": noise["rate"], "exact": noise["exact"]}
  if drawn.matrix is not None and len(drawn.matrix) <= 20:
    out["matrix"] = np.asarray(drawn.matrix).tolist()
  return out
