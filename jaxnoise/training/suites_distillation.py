"""The parts of the suite "distillation": PGD by steps and radius, all corruptions, other images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxnoise import data as data_lib
from jaxnoise import evaluation
from jaxnoise.core.errors import InputError
from jaxnoise.training import final, restore
from jaxnoise.training.contact import draws

if TYPE_CHECKING:
  from jaxnoise.training.suites import Options

OOD = "ood"
FROM_IMAGENET = "n[0-9]*"
"""The names of CINIC-10's images that are not CIFAR-10's."""


def _pgd_steps(
  opened: restore.Opened, subject: evaluation.Subject, test_set: Any, options: Options
) -> evaluation.Part:
  del opened, test_set
  threats = evaluation.noisekd_by_steps(options.step_size)
  return _pgd("pgd_steps", subject, threats, options)


def _pgd_epsilon(
  opened: restore.Opened, subject: evaluation.Subject, test_set: Any, options: Options
) -> evaluation.Part:
  del opened, test_set
  threats = evaluation.noisekd_by_epsilon(options.step_size)
  return _pgd("pgd_epsilon", subject, threats, options)


def _pgd(
  name: str,
  subject: evaluation.Subject,
  threats: Mapping[str, evaluation.Threat],
  options: Options,
) -> evaluation.Part:
  return evaluation.attack_part(
    subject,
    name,
    threats,
    draws("pgd"),
    restarts=options.restarts,
    every_run=options.every_run,
  )


def _ood(
  opened: restore.Opened, subject: evaluation.Subject, test_set: Any, options: Options
) -> evaluation.Part:
  """Images of the run's classes from elsewhere; of CINIC-10's, those that are from ImageNet."""
  del test_set
  if not options.images:
    raise InputError(
      "images is empty; the part ood needs a folder with one folder of images for each class, such "
      "as CINIC-10's test"
    )
  mixed = any(Path(options.images).glob(f"*/{FROM_IMAGENET}"))
  pool = read_images(opened, options.images, FROM_IMAGENET if mixed else "*")
  part = evaluation.rendition_part(
    subject, pool, {"images_crc32": final.fingerprint(pool.images, pool.labels)}
  )
  return dataclasses.replace(part, name=OOD)


def read_images(opened: restore.Opened, path: str, pattern: str = "*") -> data_lib.Pool:
  """Reads a folder with a folder of images for each of a run's classes, or for some of them.

  Args:
    opened: the run.
    path: the folder.
    pattern: which files to read, by name.

  Raises:
    InputError: where the run's classes have no names, a folder is none of them, or the images are
      of another size.
  """
  source, shape = opened.run.source, tuple(opened.run.spec.image_shape)
  if not source.class_names:
    raise InputError(
      f"the classes of {opened.directory} have no names, so that folders of images cannot be told "
      "apart; train on a data set with class names"
    )
  side = shape[0] if shape[0] == shape[1] else 0
  pool = data_lib.image_pool(
    Path(path), side, class_names=source.class_names, pattern=pattern
  )
  if pool.images.shape[1:] != shape:
    raise InputError(
      f"{path}: the images are of shape {pool.images.shape[1:]}, the run was trained on {shape}; "
      "resize them"
    )
  return pool


def of_all_corruptions(maker: Callable[..., evaluation.Part]) -> Callable[..., evaluation.Part]:
  """The maker of the part "corruptions" for this suite: all 19, unless names were asked for."""

  def make(
    opened: restore.Opened, subject: evaluation.Subject, test_set: Any, options: Options
  ) -> evaluation.Part:
    if tuple(options.corruptions) == ("standard",):
      options = dataclasses.replace(options, corruptions=("all",))
    return maker(opened, subject, test_set, options)

  return make


MAKERS: Mapping[str, Callable[..., evaluation.Part]] = {
  "pgd_steps": _pgd_steps,
  "pgd_epsilon": _pgd_epsilon,
  OOD: _ood,
}
"""(opened run, subject, test set, options) -> a part, by its name."""
