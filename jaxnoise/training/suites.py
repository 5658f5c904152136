"""Suites of measurements on a finished run: what `python -m jaxnoise.evaluate` does."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnoise import corruptions, evaluation, metrics
from jaxnoise import data as data_lib
from jaxnoise.core.errors import InputError, closest
from jaxnoise.training import (
  final,
  suites_adversarial,
  suites_distillation,
  suites_stability,
  writers,
)
from jaxnoise.training.contact import check_applicable, contact_sheets, draws
from jaxnoise.training.corrupted import corruption_names, load_corrupted
from jaxnoise.training.restore import Opened

SUITES: Mapping[str, tuple[str, ...]] = {
  "robustness": ("calibration", "corruptions", "sequences", "fgsm", "pgd"),
  "renditions": ("renditions",),
  "adversarial": ("fgsm", "pgd", "pgd_art", "ensemble", "masking"),
  "stability": ("gradient_norm", "perturbation"),
  "distillation": ("corruptions", "pgd_steps", "pgd_epsilon", "ood"),
}
"""The parts of each suite, in order."""
ALEXNET = "alexnet"


@dataclasses.dataclass(frozen=True)
class Options:
  """What a suite can be told.

  Attributes:
    only: parts of the suite to run; () is all of them.
    corruptions: names, or ("standard",), or ("all",).
    severities: of the corruptions.
    limit: the first so many test images; 0 is all. Where training images are measured, so many of
      them, evenly spaced.
    restarts: of PGD.
    every_run: count PGD's restarts by run too, which attacks beaten images again.
    reference: a run on which the same suite was run, or "alexnet", that mCE and flip rates are
      relative to; "" for none.
    corrupted_path: official files of corrupted images; None is what the run's config says.
    frost_path: folder of the official frost textures; "" for generated ice.
    images: of renditions and ood, a folder with one folder for each class.
    batch_size: images at a time; 0 is that of the run's evaluation.
    epsilon: of the ensemble, l_inf radii as text, such as "8/255".
    queries: of the ensemble's Square.
    attack_steps: of the ensemble's Auto-PGD and FAB.
    surrogate: of the masking check, the run that images are found on; "" is the next seed.
    estimator: of the gradient norm, "hutchinson" or "exact".
    samples: of Hutchinson's estimator, draws for each image.
    step_size: of the distillation suite's PGD, in units of pixels in [0, 1].
  """

  only: tuple[str, ...] = ()
  corruptions: tuple[str, ...] = ("standard",)
  severities: tuple[int, ...] = (1, 2, 3, 4, 5)
  limit: int = 0
  restarts: int = 5
  every_run: bool = False
  reference: str = ""
  corrupted_path: str | None = None
  frost_path: str = ""
  images: str = ""
  batch_size: int = 0
  epsilon: tuple[str, ...] = ("8/255",)
  queries: int = 5000
  attack_steps: int = 100
  surrogate: str = ""
  estimator: str = "hutchinson"
  samples: int = metrics.GRADIENT_NORM_SAMPLES
  step_size: float = evaluation.NOISEKD_STEP_SIZE


_LEAST = {
  "limit": 0, "restarts": 1, "batch_size": 0, "queries": 1, "attack_steps": 1, "samples": 2,
}  # fmt: skip


def evaluate(
  opened: Opened,
  suite: str,
  options: Options = Options(),
  *,
  tell: Callable[[str], None] = lambda text: None,
  stop: Callable[[], bool] = lambda: False,
  quiet: bool = True,
) -> bool:
  """Measures what is missing of a suite; the tables are RUN/tables/SUITE/*.json.

  Everything that can be refused is refused before anything is measured.

  Args:
    opened: the run, at the step that is measured; all its seeds are.
    suite: a name of `SUITES`.
    options: what to measure.
    tell: called with lines for the user.
    stop: asked between measurements whether to give up.
    quiet: show no progress.

  Returns:
    Whether the suite is complete; False when asked to stop.

  Raises:
    InputError: for an unknown suite, part or corruption, or an option that does not fit the run.
  """
  parts = chosen_parts(suite, options.only)
  if not options.images and not options.only:  # other images are asked for by giving them
    parts = tuple(part for part in parts if part != suites_distillation.OOD)
  for name, least in _LEAST.items():
    if getattr(options, name) < least:
      raise InputError(f"{name} is {getattr(options, name)}; it must be {least} or larger")
  subject = _subject(opened, options)
  about = {
    "step": opened.step,
    "seeds": list(opened.seeds),
    "n": subject.test.size,
    "test_crc32": final.fingerprint(subject.test.images, subject.test.labels),
  }
  folder = opened.directory / "tables" / suite
  test_set = evaluation.TestSet(subject.test, subject.batch_size, subject.mesh)
  made = [_MAKERS[suite][part](opened, subject, test_set, options) for part in parts]
  if suite == "robustness":
    _write_contact(folder / "contact.json", subject.test, made, _textures(options, opened), options)
  return evaluation.run_parts(made, folder, about, tell=tell, stop=stop, quiet=quiet)


def chosen_parts(suite: str, only: Sequence[str] = ()) -> tuple[str, ...]:
  """The parts of a suite, or those of them that were asked for.

  Raises:
    InputError: for an unknown suite or part, with the closest names.

  Example:
    >>> from jaxnoise.training import suites
    >>> suites.chosen_parts("robustness", ["pgd", "fgsm"])
    ('fgsm', 'pgd')
  """
  if suite not in SUITES:
    raise InputError(f"suite is {suite!r}, no such suite: {closest(suite, SUITES)}")
  for part in only:
    if part not in SUITES[suite]:
      raise InputError(f"{part!r} is no part of the suite {suite}: {closest(part, SUITES[suite])}")
  return tuple(part for part in SUITES[suite] if not only or part in only)


def _write_contact(
  path: Path,
  test: data_lib.Pool,
  parts: Sequence[evaluation.Part],
  textures: Any,
  options: Options,
) -> None:
  """Draws what every corruption and sequence looks like, or, of some parts only, what they have."""
  names = {part.name: part.settings.get("names", ()) for part in parts}
  shown = {
    "corruptions": list(names.get("corruptions", ()) if options.only else corruptions.NAMES),
    "sequences": list(names.get("sequences", ())),
  }
  about = {
    "image_crc32": final.fingerprint(test.images[:1], test.labels[:1]),
    "frost_path": options.frost_path,
    "shown": shown,
  }
  if not any(shown.values()) or (path.exists() and writers.read_json(path).get("about") == about):
    return
  sheets = contact_sheets(test.images[0], textures, **shown)
  writers.write_json(path, {"about": about, **sheets})


def _subject(opened: Opened, options: Options) -> evaluation.Subject:
  run, test = opened.run, opened.run.source.test
  if options.limit and options.limit < test.size:
    test = data_lib.Pool(test.images[: options.limit], test.labels[: options.limit])
  return evaluation.Subject(
    method=run.method,
    states=[opened.of_seed(seed).state for seed in opened.seeds],
    mesh=run.mesh,
    test=test,
    holdout=run.holdout,
    holdout_labels=run.loaded.holdout_labels,
    batch_size=options.batch_size or run.config["evaluate"]["batch_size"],
  )


def _calibration(opened: Opened, subject: evaluation.Subject, *_: Any) -> evaluation.Part:
  del opened
  return evaluation.calibration_part(subject)


def _corruptions(
  opened: Opened,
  subject: evaluation.Subject,
  test_set: evaluation.TestSet,
  options: Options,
) -> evaluation.Part:
  config = dict(opened.run.config["evaluate"])
  config.update(corruptions=options.corruptions, severities=options.severities)
  if options.corrupted_path is not None:
    config["corrupted_path"] = options.corrupted_path
  key = draws("corruptions")
  if config["corrupted_path"]:
    if options.limit:
      raise InputError("limit and corrupted_path exclude each other: the files are of all images")
    stored = load_corrupted(config, opened.run.source)
    names, severities = stored.names, stored.severities
    views = evaluation.stored_views(test_set, stored)
    # Other files in another place are other images.
    settings = {"images": "stored", "corrupted_path": str(Path(config["corrupted_path"]).resolve())}
  else:
    names = corruption_names(options.corruptions, "corruptions")
    severities = tuple(options.severities)
    check_applicable(names, severities, test_set.image_shape)
    textures = _textures(options, opened)
    variant = evaluation.corruption_variant(test_set.image_shape)
    views = evaluation.generated_views(test_set, key, variant, textures)
    frost = "generated" if textures is None else "official"
    settings = {"images": "generated", "variant": variant, "frost": frost}
    if textures is not None:
      settings["frost_path"] = str(Path(options.frost_path).resolve())
  reference = None
  if options.reference == ALEXNET:
    if evaluation.corruption_variant(test_set.image_shape) != "imagenet":
      raise InputError(
        "reference is 'alexnet', whose errors are those on ImageNet-C; for these images give a run"
      )
    reference = {name: metrics.ALEXNET_IMAGENET_C[name] for name in corruptions.STANDARD}
  elif options.reference:
    reference = _reference_errors(options.reference, severities)
  return evaluation.corruption_part(
    subject,
    test_set,
    views,
    names=names,
    severities=severities,
    settings=settings,
    reference=reference,
    reference_name=options.reference,
  )


def _sequences(
  opened: Opened,
  subject: evaluation.Subject,
  test_set: evaluation.TestSet,
  options: Options,
) -> evaluation.Part:
  del opened
  reference = None
  if options.reference not in ("", ALEXNET):
    table = _reference_table(options.reference, "sequences")
    reference = {
      name: _headline_mean(values, "flip_probability") for name, values in table["cells"].items()
    }
  return evaluation.sequence_part(
    subject,
    test_set,
    draws("sequences"),
    names=corruptions.SEQUENCES,
    reference=reference,
    reference_name="" if reference is None else options.reference,
  )


def _fgsm(opened: Opened, subject: evaluation.Subject, *_: Any) -> evaluation.Part:
  del opened
  return evaluation.attack_part(subject, "fgsm", evaluation.FGSM, draws("fgsm"))


def _pgd(
  opened: Opened, subject: evaluation.Subject, test_set: Any, options: Options
) -> evaluation.Part:
  del opened, test_set
  return evaluation.attack_part(
    subject,
    "pgd",
    evaluation.PGD,
    draws("pgd"),
    restarts=options.restarts,
    every_run=options.every_run,
  )


def _renditions(
  opened: Opened, subject: evaluation.Subject, test_set: Any, options: Options
) -> evaluation.Part:
  del test_set
  if not options.images:
    raise InputError(
      "images is empty; the suite renditions needs a folder with one folder of images for each "
      "class, such as ImageNet-R's"
    )
  pool = suites_distillation.read_images(opened, options.images)
  name = re.sub(r"[^\w.-]+", "_", Path(options.images).resolve().name)
  part = evaluation.rendition_part(
    subject, pool, {"images_crc32": final.fingerprint(pool.images, pool.labels)}
  )
  return dataclasses.replace(part, name=name)


_MAKERS: Mapping[str, Mapping[str, Callable[..., evaluation.Part]]] = {
  "robustness": {
    "calibration": _calibration,
    "corruptions": _corruptions,
    "sequences": _sequences,
    "fgsm": _fgsm,
    "pgd": _pgd,
  },
  "renditions": {"renditions": _renditions},
  "adversarial": suites_adversarial.MAKERS,
  "stability": suites_stability.MAKERS,
  "distillation": {
    "corruptions": suites_distillation.of_all_corruptions(_corruptions),
    **suites_distillation.MAKERS,
  },
}


def _textures(options: Options, opened: Opened) -> Any:
  if not options.frost_path:
    return None
  variant = evaluation.corruption_variant(opened.run.spec.image_shape)
  return jax.device_put(data_lib.frost_textures(options.frost_path, variant=variant))


def _reference_table(path: str, part: str) -> Mapping[str, Any]:
  table = evaluation.read_table(Path(path) / "tables" / "robustness" / f"{part}.json")
  if table is None:
    raise InputError(
      f"reference is {path}, which has no complete table of {part}; run the suite robustness on it "
      "first"
    )
  return table


def _reference_errors(path: str, severities: Sequence[int]) -> dict[str, float]:
  table = _reference_table(path, "corruptions")
  theirs = tuple(table["settings"]["severities"])
  if theirs != tuple(severities):
    raise InputError(
      f"reference is {path}, measured at the severities {theirs}, not {tuple(severities)}; measure "
      "both at the same"
    )
  names = [name for name in table["settings"]["names"] if name in corruptions.STANDARD]
  return {
    name: float(
      np.mean([1 - _headline_mean(table["cells"][f"{name}/{s}"], "accuracy") for s in theirs])
    )
    for name in names
  }


def _headline_mean(values: Mapping[str, Sequence[Mapping[str, float]]], field: str) -> float:
  """The mean over seeds of the first predictor's field."""
  return float(np.mean([row[field] for row in next(iter(values.values()))]))
