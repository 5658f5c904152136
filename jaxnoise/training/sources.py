"""The data of a run: its source, what is done to its labels, and what is held out of training."""

from __future__ import annotations

import dataclasses
import functools
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
  # A file's labels, and noise of a seed of its own, are those of every seed.
  fixed = noise["kind"] == FILE or noise["seed"] >= 0
  drawn = [_noisy(noise, source, seed + s) for s in range(1 if fixed else seeds)]
  nominal = _nominal(noise, drawn[0])
  first, holdout = _split(config, source.with_labels(drawn[0].labels))
  if len(drawn) == 1:
    return Loaded(first, holdout, nominal=nominal)
  # What is held out depends on true labels alone: the images are the same for every seed.
  position = {name: i for i, name in enumerate(source.ids.tolist())}

  def of_seeds(ids: np.ndarray) -> np.ndarray:
    rows = [position[name] for name in ids.tolist()]
    return np.stack([of.labels[rows] for of in drawn])

  held = None if holdout is None else of_seeds(holdout.ids)
  return Loaded(first, holdout, of_seeds(first.ids), held, nominal)


def _named(config: Mapping[str, Any], source: data.Source | None) -> data.Source:
  if source is None:
    if config["name"].startswith(OBJECT):
      raise InputError(
        f"config.data.name is {config['name']!r}: the run was made with data given as an object; "
        "hand it in again as source="
      )
    for field in ("name", "path", "stream", "threads"):
      if field in config["options"]:
        raise InputError(f"config.data.options.{field} has its own field, config.data.{field}")
    where = {"stream": config["stream"], "threads": config["threads"]}
    source = data.load(config["name"], config["path"], **where, **config["options"])
  elif config["stream"] and not source.streamed:
    raise InputError(
      "config.data.stream is True, but the source given has its images in memory; leave it False, "
      "or give one from jaxnoise.data.load(..., stream=True)"
    )
  elif config["threads"]:
    source = data.with_threads(source, config["threads"])
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
    try:
      source = source.with_labels(data.human_labels(source, config["labels"]))
    except InputError as error:
      raise InputError(f"config.data.{error}") from None
  return source


def _split(
  config: Mapping[str, Any], source: data.Source
) -> tuple[data.Source, data.Pool | None]:
  holdout = None
  if config["holdout"]:
    source, holdout = call(
      "config.data", source.holdout, config["holdout"], config["split_seed"]
    )
  if config["trusted"]:
    count, seed, in_train = (config[k] for k in ("trusted", "split_seed", "trusted_in_train"))
    source = call("config.data", source.trusted, count, seed, in_train=in_train)
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
  _check(noise, source)
  if kind == FILE:
    read = functools.partial(label_noise.from_file, field=noise["field"])
    return call(
      "config.data.noise",
      read,
      noise["file"],
      num_classes=source.num_classes,
      ids=source.ids,
      true_labels=source.true_labels,
      check_order=noise["check_order"],
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
    matrix=noise["matrix"] if kind == MATRIX else None,
    images=source.images if kind == "instance" else None,
    allow_unlearnable=noise["allow_unlearnable"],
  )


def _check(noise: Mapping[str, Any], source: data.Source) -> None:
  """Refuses fields that the kind of noise does not read, and a kind that the data does not fit."""
  kind = noise["kind"]
  for field, owner in (("file", FILE), ("matrix", MATRIX)):
    given = len(noise[field]) > 0
    if given and kind != owner:
      raise InputError(
        f"config.data.noise.{field} is given, but the kind is {kind!r}; set "
        f"config.data.noise.kind to {owner!r}, or leave it out"
      )
    if kind == owner and not given:
      raise InputError(
        f"config.data.noise.kind is {owner!r}, but config.data.noise.{field} is empty; give a "
        f"{field}"
      )
  if kind == FILE and noise["rate"]:
    raise InputError(
      f"config.data.noise.rate is {noise['rate']}, but the kind is 'file', whose labels are what "
      "they are; leave it out"
    )
  if noise["seed"] < -1:
    raise InputError(
      f"config.data.noise.seed is {noise['seed']}; it must be -1, for the run's own seeds, or 0 or "
      "larger"
    )
  if kind.startswith("asymmetric") and kind != DIGITS and source.name in ("digits", "svhn"):
    raise InputError(
      f"config.data.noise.kind is {kind!r}, which confuses the classes of CIFAR as people do; for "
      f"{source.name} take {DIGITS!r}"
    )


def _nominal(noise: Mapping[str, Any], drawn: label_noise.NoisyLabels) -> dict[str, Any]:
  """What was asked for: of a file, what it tells of itself."""
  if noise["kind"] == FILE:
    told = {"kind": drawn.kind, "rate": drawn.nominal_rate, "exact": drawn.exact,
            "seed": drawn.seed}  # fmt: skip
    out = {k: v for k, v in told.items() if v not in (None, "", FILE)}
    out = {"kind": FILE, **out, "file": noise["file"]}
  else:
    out = {"kind": noise["kind"], "rate": noise["rate"], "exact": noise["exact"]}
  if drawn.matrix is not None and len(drawn.matrix) <= 20:
    out["matrix"] = np.asarray(drawn.matrix).tolist()
  return out
