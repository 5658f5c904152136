"""Images of some of the classes only, such as ImageNet-R's 200 of 1000, a part of a suite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxnoise import data as data_lib
from jaxnoise.core.errors import InputError
from jaxnoise.evaluation import _predictions, _suite
from jaxnoise.evaluation._calibration import calibration


def among_classes(
  logits: np.ndarray, label: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Leaves the network only some classes to choose from: p_k = exp(z_k) / sum_(j in C) exp(z_j).

  Args:
    logits: [N, K].
    label: [N], each one of `classes`.
    classes: [C] distinct integers in 0..K-1, ascending.

  Returns:
    Logits [N, C] and labels [N] in 0..C-1.

  Raises:
    InputError: for a label that is none of the classes.

  Source: Hendrycks et al. 2021 (ImageNet-R), whose tool masks the logits of the other 800 classes.

  Example:
    >>> import numpy as np
    >>> from jaxnoise import evaluation
    >>> logits = np.array([[0.0, 9.0, 1.0]])
    >>> evaluation.among_classes(logits, np.array([2]), np.array([0, 2]))
    (array([[0., 1.]]), array([1]))
  """
  foreign = np.setdiff1d(label, classes)
  if foreign.size:
    raise InputError(
      f"labels: found {foreign[0]}, which is none of the {len(classes)} classes; leave its images "
      "out"
    )
  return logits[:, classes], np.searchsorted(classes, label)


def rendition_part(
  subject: _suite.Subject, pool: data_lib.Pool, settings: Mapping[str, Any]
) -> _suite.Part:
  """Measures accuracy and calibration on images of those classes that the set has images of.

  Args:
    subject: what is measured.
    pool: the images, with labels of the network's classes.
    settings: what the numbers depend on.
  """
  classes = np.unique(pool.labels)

  def measure(cell: str) -> dict[str, list[dict[str, Any]]]:
    del cell  # there is one
    out: dict[str, list[dict[str, Any]]] = {}
    for name in subject.predictors:
      predict = _predictions.make_predict(subject.method, subject.mesh, name)
      for state in subject.states:
        found = _predictions.predict_pool(predict, state, pool, subject.batch_size, subject.mesh)
        row = calibration(*among_classes(found.logits, pool.labels, classes))
        out.setdefault(name, []).append(row)
    return out

  def summarise(cells: Mapping[str, _suite.Values]) -> dict[str, dict[str, list[float]]]:
    return {name: _suite.by_seed(_suite.scalars(rows)) for name, rows in cells["images"].items()}

  about = {"classes": len(classes), "images": pool.size, **settings}
  return _suite.Part("renditions", about, ("images",), measure, summarise)
