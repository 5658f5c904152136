"""The parts of the suite "adversarial": FGSM, PGD, the ensemble of attacks, the masking check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxnoise import evaluation
from jaxnoise.core.errors import InputError
from jaxnoise.training import restore, writers
from jaxnoise.training.contact import draws

if TYPE_CHECKING:
  from jaxnoise.training.suites import Options


def _fgsm(opened: restore.Opened, subject: evaluation.Subject, *_: Any) -> evaluation.Part:
  del opened
  return evaluation.attack_part(subject, "fgsm", evaluation.MR_FGSM, draws("fgsm"))


def _pgd(
  opened: restore.Opened, subject: evaluation.Subject, test_set: Any, options: Options
) -> evaluation.Part:
  del opened, test_set
  return evaluation.attack_part(
    subject,
    "pgd",
    evaluation.MR_PGD,
    draws("pgd"),
    restarts=options.restarts,
    every_run=options.every_run,
  )


def _pgd_art(opened: restore.Opened, subject: evaluation.Subject, *_: Any) -> evaluation.Part:
  del opened
  return evaluation.attack_part(subject, "pgd_art", evaluation.MR_PGD_ART, draws("pgd_art"))


def _ensemble(
  opened: restore.Opened, subject: evaluation.Subject, test_set: Any, options: Options
) -> evaluation.Part:
  del opened, test_set
  if not options.epsilon:
    raise InputError("epsilon is empty; the ensemble needs a radius such as 8/255")
  threats = evaluation.threats_of("linf", options.epsilon)
  return evaluation.ensemble_part(
    subject,
    {cell: threat.epsilon for cell, threat in threats.items()},
    draws("ensemble"),
    num_steps=options.attack_steps,
    num_queries=options.queries,
  )


def _masking(
  opened: restore.Opened, subject: evaluation.Subject, test_set: Any, options: Options
) -> evaluation.Part:
  del test_set
  surrogate = _surrogate(opened, options.surrogate) if options.surrogate else None
  return evaluation.masking_part(subject, draws("masking"), surrogate=surrogate)


def _surrogate(opened: restore.Opened, path: str) -> evaluation.Surrogate:
  """Opens the run that images are found on, at its latest step.

  Raises:
    InputError: where it is the run itself, or its data set, images or classes are others.
  """
  folder = Path(path)
  if folder.resolve() == opened.directory.resolve():
    raise InputError(
      f"surrogate is {path}, the run that is measured; give another run on the same data, or leave "
      "it out where the run has several seeds"
    )
  record = writers.read_json(folder / "config.json")
  source, spec, data = opened.run.source, opened.run.spec, opened.run.config["data"]
  named = bool(record.get("class_names") and source.class_names)
  names = tuple(record["class_names"]) if named else source.class_names
  for what, theirs, ours in (
    ("its data set", record["config"]["data"]["name"], data["name"]),
    ("its number of classes", record["num_classes"], spec.num_classes),
    ("the shape of its images", tuple(record["image_shape"]), tuple(spec.image_shape)),
    ("the list of its classes", names, source.class_names),
  ):
    if theirs != ours:
      raise InputError(
        f"surrogate is {path}: {what} is {theirs}, that of {opened.directory} {ours}; give a run "
        "trained on the same data"
      )
  found = restore.open_run(folder, with_data=False)
  return evaluation.Surrogate(
    name=f"{record['config'].get('name') or folder.name}, step {found.step}",
    key=f"{folder.resolve()}, step {found.step}",
    method=found.run.method,
    states=[found.of_seed(seed).state for seed in found.seeds],
  )


MAKERS: Mapping[str, Callable[..., evaluation.Part]] = {
  "fgsm": _fgsm,
  "pgd": _pgd,
  "pgd_art": _pgd_art,
  "ensemble": _ensemble,
  "masking": _masking,
}
"""(opened run, subject, test set, options) -> a part, by its name."""
