"""Finds training labels that are probably wrong: `python -m jaxnoise.audit RUN`.

Ranks the training examples of a run by what it knows of each: predictions averaged over augmented
views that it was not trained on, losses over training (of a run trained with the wrapper
track_losses, else of its checkpoints), and what its method keeps of every example. Writes
RUN/audit/labels.csv (index, id, given and suggested label, score, probability that the label is
wrong), RUN/audit/audit.json, and the page RUN/audit.html with the images of the worst. Nothing else
in RUN is touched, and true labels, where they are known, are only measured against.
"""

from __future__ import annotations

import argparse
import functools
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnoise.core.errors import InputError, closest

if TYPE_CHECKING:
  from jaxnoise import augment, evaluation
  from jaxnoise import data as data_lib
  from jaxnoise.training import restore

CHECKPOINTS = "checkpoints"
_AUGMIX, _OTHER = "torchvision_augmix", "auto_augment"
_METHODS_WITH_AUGMIX = ("noisymix", "augmix", "augmax")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
  """Reads the command line.

  Example:
    >>> from jaxnoise import audit
    >>> audit.parse(["runs/mine", "--views=20"]).top
    100
  """
  parser = argparse.ArgumentParser(
    prog="python -m jaxnoise.audit",
    description=__doc__.partition("\n\n")[2],
    epilog="Exit codes: 0 done, 2 bad input.",
  )
  add = parser.add_argument
  add("run", type=Path, metavar="RUN", help="run directory")
  add("--views", type=int, default=10, metavar="V", help="augmented views an image; default: 10")
  add(
    "--policy",
    default="",
    metavar="NAME",
    help="what views are drawn with, a transform of jaxnoise.augment; default: "
    f"{_AUGMIX}, or {_OTHER} for a run that was trained on AugMix' views",
  )
  add("--predictor", default="", metavar="NAME", help="default: ema, or else the method's first")
  add("--top", type=int, default=100, metavar="N", help="images on the page; default: 100")
  add(
    "--out",
    type=Path,
    metavar="DIR",
    help="folder for labels, audit.json and audit.html; default: RUN/audit, and RUN/audit.html "
    "(for a run of several seeds, RUN/audit/seedN and RUN/audit-seedN.html)",
  )
  add("--format", default="csv", metavar="FORMAT", help="csv (default) or parquet")
  add("--checkpoint", default="latest", metavar="STEP", help="latest (default), best, or a step")
  add("--seed", default="", metavar="N", help="of a run of several; default: the first")
  add("--batch_size", type=int, metavar="B", help="default: that of the run's evaluation")
  add("--path", metavar="DIR", help="where the run's data set lies now, if it has moved")
  return parser.parse_args(argv)


def write(
  run: Path,
  *,
  views: int = 10,
  policy: str = "",
  predictor: str = "",
  top: int = 100,
  out: str | os.PathLike[str] | None = None,
  format: str = "csv",
  checkpoint: str = "latest",
  seed: str | int = "",
  batch_size: int | None = None,
  path: str | None = None,
  tell: Callable[[str], None] = lambda text: None,
  **parts: Any,
) -> tuple[Path, dict[str, Any]]:
  """Audits and writes; the arguments are those of the command.

  Args:
    tell: called with lines for the user.
    **parts: `source`, `network`, `method`, where the run was given these as objects; see
      `training.restore.open_run`.

  Returns:
    The page, and what is in it; see `evaluation.audit_table`.

  Raises:
    InputError: for anything that does not exist or does not fit; nothing is written then.
  """
  from jaxnoise import evaluation, reporting
  from jaxnoise.training import restore, writers

  _check_numbers(views=views, batch_size=1 if batch_size is None else batch_size)
  if top < 0:
    raise InputError(f"--top is {top}; it must be 0 or larger")
  evaluation.check_labels_file(f"labels.{format}")
  step = _number("--checkpoint", checkpoint, ("latest", "best"))
  which = _number("--seed", str(seed), ()) if seed != "" else None
  reopen = functools.partial(restore.open_run, run, seed=which, path=path, **parts)
  opened = reopen(step=step)
  audit, about = audit_run(
    opened, views=views, policy=policy, predictor=predictor, batch_size=batch_size,
    reopen=reopen, tell=tell,
  )  # fmt: skip
  pool, names = training_set(opened), opened.run.source.class_names
  record = reporting.load_run(run)
  about = {
    "name": record.config.get("name") or record.path.resolve().name,
    "method": record.method,
    "data": record.dataset,
    **about,
  }
  table = evaluation.audit_table(audit, pool, top=top, class_names=names, about=about)
  several = len(opened.seeds) > 1
  folder = Path(run, "audit", f"seed{opened.seed}" if several else "") if out is None else Path(out)
  page = folder / "audit.html"
  if out is None:
    page = Path(run, f"audit-seed{opened.seed}.html" if several else "audit.html")
  labels = evaluation.write_labels(
    folder / f"labels.{format}", audit, pool, class_names=names, about=about
  )
  writers.write_json(folder / "audit.json", table)
  reporting.write_audit(folder / "audit.json", page)
  for line in reporting.audit_lines(table):
    tell(line)
  tell(str(labels))
  return page, table


def audit_run(
  opened: restore.Opened,
  *,
  views: int = 10,
  policy: str | augment.Transform = "",
  predictor: str = "",
  batch_size: int | None = None,
  reopen: Callable[..., restore.Opened] | None = None,
  tell: Callable[[str], None] = lambda text: None,
) -> tuple[evaluation.Audit, dict[str, Any]]:
  """Audits the training labels of an opened run; nothing is written.

  Signals, as many as the run has: "views" (`evaluation.predict_views` of the predictor), one for
  each table of examples in its state (`evaluation.table_signals`), and, where none of these is of
  losses and several checkpoints were kept, "checkpoints", the mean over them of -log p[y] on the
  images as they are.

  Args:
    opened: from `training.restore.open_run`, at the checkpoint that predicts.
    views: V.
    policy: a name in `jaxnoise.augment`, or (rng, image) -> image; "" for `view_policy`.
    predictor: "" for "ema" where there is one, else the headline.
    batch_size: None for that of the run's evaluation.
    reopen: (step=, with_data=False) -> the same run at another step; None leaves the other
      checkpoints out.
    tell: called with lines for the user.

  Returns:
    The audit, in the order of the training set, and what was done, as plain values.

  Raises:
    InputError: for an unknown policy or predictor, or a number out of range.
  """
  import jax

  from jaxnoise import evaluation
  from jaxnoise.core import rng

  run = opened.run
  names = list(opened.predictors)
  if predictor and predictor not in names:
    found = closest(predictor, names)
    raise InputError(f"--predictor is {predictor!r}, none of {opened.directory}: {found}")
  predictor = predictor or ("ema" if "ema" in names else names[0])
  size = batch_size or run.config["evaluate"]["batch_size"]
  _check_numbers(views=views, batch_size=size)
  name = policy if isinstance(policy, str) else getattr(policy, "__name__", "object")
  name = name or view_policy(run.config)
  drawn = name if isinstance(policy, str) else policy
  transform = _transform(run.config, run.spec.image_shape, drawn)
  pool = training_set(opened)
  predict = evaluation.make_view_predict(run.method, run.mesh, transform, predictor)
  tell(f"{pool.size:,} labels; {views} views an image, drawn with {name}, shown to {predictor}")
  predictions = evaluation.predict_views(
    predict, opened.state, pool, size, run.mesh, views=views,
    rng=rng.fold(jax.random.key(0), "audit/views"),
  )  # fmt: skip
  state = jax.device_get(opened.state.method_state)
  signals = evaluation.table_signals(state, pool.labels)
  steps: list[int] = []
  if not any(_has_losses(state[piece]) for piece in signals):
    steps = _kept(opened) if reopen is not None else []
    if len(steps) > 1:
      losses = [_losses(reopen(step=s, with_data=False), pool, predictor, size) for s in steps]
      signals[CHECKPOINTS] = np.mean(losses, axis=0)
    else:
      tell(
        "no losses of earlier epochs: train with --config.wrappers=\"('track_losses',)\", or keep "
        "checkpoints with --config.checkpoint.keep, and the audit uses them"
      )
  audit = evaluation.audit_labels(pool.labels, predictions.probability, signals=signals)
  tell(f"signals: {', '.join(audit.signals)}")
  about = {
    "step": opened.step,
    "seed": opened.seed,
    "predictor": predictor,
    "views": views,
    "policy": name,
    "checkpoints": steps if CHECKPOINTS in audit.signals else [],
  }
  return audit, about


def training_set(opened: restore.Opened) -> data_lib.Pool:
  """The training set as the seed of an opened run was trained on it."""
  import dataclasses

  train = opened.run.source.train
  loaded = getattr(opened.run, "loaded", None)
  if loaded is None or loaded.labels is None:
    return train
  own = loaded.labels[opened.seeds.index(opened.seed)]
  return dataclasses.replace(train, labels=own)


def view_policy(config: Mapping[str, Any]) -> str:
  """Names the transform whose views a run was not trained on.

  AugMix as torchvision makes it, which NRD's teacher is shown; AutoAugment where the policy or the
  method trains on AugMix' views. What only a teacher is shown has not been trained on.

  Args:
    config: of the run.

  Example:
    >>> from jaxnoise import audit
    >>> audit.view_policy({"policy": {"name": ""}, "method": {"name": "erm"}})
    'torchvision_augmix'
    >>> audit.view_policy({"policy": {"name": "augmix"}, "method": {"name": "noisymix"}})
    'auto_augment'
  """
  used, section = [], config["policy"]
  while isinstance(section, Mapping):
    used.append(str(section.get("name", "")))
    section = section.get("then")
  trained = any("augmix" in name for name in used)
  return _OTHER if trained or config["method"]["name"] in _METHODS_WITH_AUGMIX else _AUGMIX


def _transform(
  config: Mapping[str, Any], image_shape: Sequence[int], policy: str | augment.Transform
) -> augment.Transform:
  """Crop and flip as in training, then the policy; checked on the shape of one image."""
  import jax
  import jax.numpy as jnp

  from jaxnoise import augment
  from jaxnoise.training import resolve

  if isinstance(policy, str):
    policy = resolve.lookup("--policy", augment, policy, "rng", "image")
  first, transform = config["first"], policy
  if not first["resized_crop"]:
    steps = augment.crop_flip(first["padding"], flip=first["flip"])
    transform = augment.compose(steps, policy)
  image = jax.ShapeDtypeStruct(tuple(image_shape), jnp.float32)
  try:
    shape = jax.eval_shape(transform, jax.random.key(0), image).shape
  except TypeError as error:
    raise InputError(f"--policy cannot be called with a key and an image: {error}") from None
  if shape != image.shape:
    raise InputError(f"--policy makes images of {shape} of {image.shape}; it must keep their shape")
  return transform


def _has_losses(tree: Any) -> bool:
  """Whether a piece of the method's state holds losses of the training examples."""
  import jax

  paths = (jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree))
  return any("loss" in path for path in paths)


def _kept(opened: restore.Opened) -> list[int]:
  """Steps of the checkpoints that are still there, none after the one opened."""
  from jaxnoise.training import checkpoint

  saver = checkpoint.Checkpointer(opened.directory / "checkpoints", best=True, read_only=True)
  try:
    return [step for step in saver.steps() if step <= opened.step]
  finally:
    saver.close()


def _losses(
  opened: restore.Opened, pool: data_lib.Pool, predictor: str, batch_size: int
) -> np.ndarray:
  """-log p[y] of every example, in nats."""
  logits = opened.predict(pool, predictor, batch_size).logits.astype(np.float64)
  top = logits.max(axis=1, keepdims=True)
  total = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
  return total - np.take_along_axis(logits, pool.labels[:, None], axis=1)[:, 0]


def _check_numbers(**numbers: int) -> None:
  for name, value in numbers.items():
    if value < 1:
      raise InputError(f"--{name} is {value}; it must be 1 or larger")


def _number(flag: str, text: str, words: tuple[str, ...]) -> int | str:
  if text in words:
    return text
  if not re.fullmatch(r"\d+", text):
    raise InputError(f"{flag} is {text!r}; it must be {' or '.join(('a number', *words))}")
  return int(text)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  arguments = vars(parse(argv))
  logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)
  logging.getLogger("absl").setLevel(logging.ERROR)  # the checkpoint library narrates every restore
  from jaxnoise.training import cache

  cache.use_compilation_cache()
  tell = lambda text: print(text, flush=True)
  try:
    page, _ = write(arguments.pop("run"), tell=tell, **arguments)
  except InputError as error:
    print(f"jaxnoise: {' '.join(str(error).split())}", file=sys.stderr)
    return 2
  except OSError as error:
    print(f"jaxnoise: {error.strerror}: {error.filename}; is the path right?", file=sys.stderr)
    return 2
  print(page)
  return 0


if __name__ == "__main__":
  sys.exit(main())
