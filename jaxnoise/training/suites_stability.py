"""The parts of the suite "stability": the gradient norm of the logits, and what it foretells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnoise import evaluation
from jaxnoise.training import final, restore
from jaxnoise.training.contact import draws

if TYPE_CHECKING:
  from jaxnoise.training.suites import Options


def _gradient_norm(
  opened: restore.Opened, subject: evaluation.Subject, test_set: Any, options: Options
) -> evaluation.Part:
  del test_set
  # All seeds are trained on the same images; their labels, which may differ, play no part.
  train = evaluation.evenly_spaced(opened.run.source.train, options.limit)
  return evaluation.gradient_norm_part(
    subject,
    train,
    draws("gradient_norm"),
    estimator=options.estimator,
    samples=options.samples,
    settings={"train_crc32": final.fingerprint(train.images, np.zeros(0))},
  )


def _perturbation(
  opened: restore.Opened, subject: evaluation.Subject, test_set: Any, options: Options
) -> evaluation.Part:
  del opened, test_set
  return evaluation.perturbation_part(
    subject, draws("perturbation"), estimator=options.estimator, samples=options.samples
  )


MAKERS: Mapping[str, Callable[..., evaluation.Part]] = {
  "gradient_norm": _gradient_norm,
  "perturbation": _perturbation,
}
"""(opened run, subject, test set, options) -> a part, by its name."""
