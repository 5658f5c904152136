"""Writes predictions of a trained run: `python -m jaxnoise.predict RUN --data=test`.

For each image its index, id, label (where there is one), prediction, and the probability and logit
of every class, in a CSV, Parquet or npz file, with FILE.json beside it that says what they are:
what cleanlab and similar tools take as `pred_probs`. Nothing else in RUN is touched.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import mimetypes
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxnoise.core.errors import InputError, closest

if TYPE_CHECKING:
  from jaxnoise import data as data_lib
  from jaxnoise import evaluation
  from jaxnoise.training import restore

SPLITS = ("test", "train", "holdout", "trusted")
"""The run's own sets; any other `--data` is a file or a folder."""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
  """Reads the command line.

  Example:
    >>> from jaxnoise import predict
    >>> predict.parse(["runs/mine", "--data=photos", "--out=photos.npz"]).checkpoint
    'latest'
  """
  parser = argparse.ArgumentParser(
    prog="python -m jaxnoise.predict",
    description=__doc__.partition("\n\n")[2],
    epilog="Exit codes: 0 done, 2 bad input.",
  )
  add = parser.add_argument
  add("run", type=Path, metavar="RUN", help="run directory")
  add(
    "--data",
    required=True,
    metavar="SET",
    help="test, train (as it was trained on, without what was held out; given labels), holdout or "
    "trusted; or FILE.npz with images [N, H, W, C] uint8 and, optionally, labels and ids [N] (or a "
    "data set's test_images and test_labels); or a folder of images, or of one folder for each "
    "class. ./test is a folder of that name",
  )
  add(
    "--out",
    metavar="FILE",
    help="ends with .csv, .parquet or .npz; default: RUN/predictions/SET-PREDICTOR-STEP.csv (for a "
    "run of several seeds, SET-PREDICTOR-STEP-seedN.csv; of a sweep, ...-memberM.csv)",
  )
  add("--predictor", default="", metavar="NAME", help="default: the method's first, the headline")
  add("--checkpoint", default="latest", metavar="STEP", help="latest (default), best, or a step")
  add(
    "--seed",
    default="",
    metavar="N",
    help="of a run of several seeds, which one (default: the first); mean averages the "
    "probabilities of all, the logits written then being their logarithms",
  )
  add("--member", type=int, metavar="M", help="of a sweep, which one, counted from 0")
  add("--batch_size", type=int, metavar="B", help="default: that of the run's evaluation")
  add("--path", metavar="DIR", help="where the run's data set lies now, if it has moved")
  return parser.parse_args(argv)


def write(
  run: Path,
  data: str,
  *,
  out: str | os.PathLike[str] | None = None,
  predictor: str = "",
  checkpoint: str = "latest",
  seed: str = "",
  member: int | None = None,
  batch_size: int | None = None,
  path: str | None = None,
) -> tuple[Path, evaluation.Predictions]:
  """Predicts and writes; the arguments are those of the command.

  Returns:
    The file, and what is in it.

  Raises:
    InputError: for anything that does not exist or does not fit; nothing is written then.
  """
  from jaxnoise import evaluation
  from jaxnoise.training import restore

  if out is not None:
    evaluation.check_predictions_file(out)
  if batch_size is not None and batch_size < 1:
    raise InputError(f"--batch_size is {batch_size}; it must be 1 or larger")
  step = _number("--checkpoint", checkpoint, ("latest", "best"))
  which = _number("--seed", seed, ("mean",)) if seed else None
  every_seed = which == "mean"
  own = data in SPLITS
  if not own and not Path(data).exists():
    raise InputError(
      f"--data is {data!r}, neither a set of the run nor a file or folder: {closest(data, SPLITS)}"
    )
  opened = restore.open_run(
    run, step=step, seed=None if every_seed else which, member=member, path=path, with_data=own
  )
  names = list(opened.predictors)
  if predictor and predictor not in names:
    raise InputError(f"--predictor is {predictor!r}, none of {run}: {closest(predictor, names)}")
  predictor = predictor or names[0]
  pool = _own_pool(opened, data) if own else _foreign_pool(opened, Path(data))
  size = batch_size or opened.run.config["evaluate"]["batch_size"]
  if every_seed and data in ("train", "holdout") and opened.run.loaded.labels is not None:
    # Each seed has noise of its own: no label is that of them all.
    pool = dataclasses.replace(pool, labels=None, clean_labels=None)
  predictions = _predict(opened, pool, predictor, size, every_seed)
  of_seed = "mean" if every_seed else opened.seed
  if out is None:
    # A folder's own name may be that of a set of the run.
    set_name = data if own else re.sub(r"[^\w.-]+", "_", "_".join(Path(data).resolve().parts[-2:]))
    suffix = "" if len(opened.seeds) == 1 else "-mean" if every_seed else f"-seed{of_seed}"
    suffix = suffix if member is None else f"-member{member}{suffix}"
    out = run / "predictions" / f"{set_name}-{predictor}-{opened.step}{suffix}.csv"
  about = {
    "run": str(run),
    "step": opened.step,
    "checkpoint": checkpoint,
    "predictor": predictor,
    "seed": of_seed,
    **({} if member is None else {"member": member}),
    "data": data,
    "data_name": opened.run.config["data"]["name"] if own else "",
  }
  class_names = opened.run.source.class_names
  return evaluation.write_predictions(
    out, predictions, class_names=class_names, about=about
  ), predictions


def _number(flag: str, text: str, words: tuple[str, ...]) -> int | str:
  if text in words:
    return text
  if not re.fullmatch(r"\d+", text):
    raise InputError(f"{flag} is {text!r}; it must be a number, or {' or '.join(words)}")
  return int(text)


def _predict(
  opened: restore.Opened, pool: data_lib.Pool, predictor: str, batch_size: int, every_seed: bool
) -> evaluation.Predictions:
  from jaxnoise import evaluation

  run = opened.run
  predict = evaluation.make_predict(run.method, run.mesh, predictor)
  each = [
    evaluation.predict_pool(predict, opened.of_seed(s).state, pool, batch_size, run.mesh)
    for s in (opened.seeds if every_seed else (opened.seed,))
  ]
  return evaluation.mean_predictions(each) if every_seed else each[0]


def _own_pool(opened: restore.Opened, name: str) -> data_lib.Pool:
  """A set that the run itself has."""
  source = opened.run.source
  pools = {"test": source.test, "holdout": opened.holdout, **source.pools, "train": opened.train}
  pool = pools.get(name)
  if pool is None:
    there = ", ".join(sorted(k for k, v in pools.items() if v is not None))
    raise InputError(
      f"--data is {name!r}, but {opened.directory} has none (config.data.{name} is 0); it has "
      f"{there}"
    )
  return pool


def _foreign_pool(opened: restore.Opened, path: Path) -> data_lib.Pool:
  """Images that the run has nothing to do with: an .npz file, or a folder."""
  if path.is_dir():
    pool = _folder(opened, path)
  elif path.suffix == ".npz":
    pool = _npz(path)
  else:
    raise InputError(
      f"--data is {path}, which ends with {path.suffix or 'nothing'!r}; give a .npz file or a "
      "folder of images"
    )
  shape, found = tuple(opened.run.spec.image_shape), pool.images.shape[1:]
  if found[-1] != shape[-1]:
    raise InputError(
      f"{path}: the images have {found[-1]} channels, but the run was trained on images of "
      f"{shape[-1]}; convert them"
    )
  if found != shape:
    raise InputError(
      f"{path}: the images are of shape {found}, but the run was trained on images of shape "
      f"{shape}; resize them"
    )
  classes = opened.run.spec.num_classes
  if pool.labels is not None and pool.labels.max(initial=0) >= classes:
    raise InputError(
      f"{path}: labels: found {pool.labels.max()}, but the run has {classes} classes, 0 to "
      f"{classes - 1}; leave labels of other classes out"
    )
  return pool


def _folder(opened: restore.Opened, path: Path) -> data_lib.Pool:
  from jaxnoise import data

  height, width, channels = opened.run.spec.image_shape
  if channels != 3:
    raise InputError(
      f"{path}: the images of a folder are read as RGB, but the run was trained on images of "
      f"{channels} channels; give a .npz file"
    )
  # Where the images that the network knows are no squares, those given must have their size.
  size = height if height == width else 0
  inner = sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
  if not inner:
    return data.image_pool(path, size)
  names = opened.run.source.class_names
  classes = opened.run.spec.num_classes
  if not names and all(re.fullmatch(r"0|[1-9]\d*", n) and int(n) < classes for n in inner):
    names = tuple(str(k) for k in range(classes))
  if not names:
    raise InputError(
      f"{path}: has folders, {', '.join(inner[:5])}, but the run knows its classes by number only; "
      f"call them 0 to {classes - 1}, or put the images into one folder without labels"
    )
  for file in sorted(path.iterdir()):
    kind = mimetypes.guess_type(file.name, strict=False)[0] or ""
    if kind.startswith("image/") and not file.name.startswith("."):
      raise InputError(
        f"{path}: has images, such as {file.name}, beside folders; move all into folders of "
        "classes, or all into one folder"
      )
  return data.image_pool(path, size, class_names=names)


def _npz(path: Path) -> data_lib.Pool:
  """Reads images, and labels and ids if there are some; or a data set's test set."""
  from jaxnoise import data

  try:
    with np.load(path, allow_pickle=False) as archive:
      found = archive.files
      prefix = "test_" if "images" not in found and "test_images" in found else ""
      wanted = {"images": f"{prefix}images", "labels": f"{prefix}labels", "ids": "ids"}
      arrays = {k: archive[name] for k, name in wanted.items() if name in found}
  except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
    raise InputError(f"{path}: cannot be read as an .npz file ({error})") from None
  if "images" not in arrays:
    raise InputError(
      f"{path}: has no images, only {', '.join(found) or 'nothing'}; expected images [N, H, W, C] "
      "uint8 and, optionally, labels and ids [N], or a data set's test_images and test_labels"
    )
  if prefix:
    arrays.pop("ids", None)  # those of a data set are its training images'
  try:
    return data.Pool(**arrays)
  except InputError as error:
    raise InputError(f"{path}: {error}") from None


def summary(predictions: evaluation.Predictions) -> str:
  """One line: how many images, and the fraction predicted right where that is known.

  Example:
    >>> import numpy as np
    >>> from jaxnoise import evaluation, predict
    >>> index, logits = np.arange(2), np.array([[0.0, 1.0], [2.0, 0.0]], np.float32)
    >>> predict.summary(evaluation.Predictions(index, index, logits, logits, np.array([1, 1])))
    '2 images, accuracy 0.5000'
  """
  text = f"{len(predictions.index)} images"
  accuracy = predictions.accuracy()
  if accuracy is not None:
    given = " of the given labels" if predictions.clean_label is not None else ""
    text += f", accuracy {accuracy:.4f}{given}"
  if predictions.clean_label is not None:
    text += f", {predictions.accuracy(predictions.clean_label):.4f} of the true ones"
  return text


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  arguments = vars(parse(argv))
  logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)
  logging.getLogger("absl").setLevel(logging.ERROR)  # the checkpoint library narrates every restore
  from jaxnoise.training import cache

  cache.use_compilation_cache()
  try:
    path, predictions = write(arguments.pop("run"), arguments.pop("data"), **arguments)
  except InputError as error:
    print(f"jaxnoise: {' '.join(str(error).split())}", file=sys.stderr)
    return 2
  except OSError as error:
    print(f"jaxnoise: {error.strerror}: {error.filename}; is the path right?", file=sys.stderr)
    return 2
  print(summary(predictions))
  print(path)
  return 0


if __name__ == "__main__":
  sys.exit(main())
