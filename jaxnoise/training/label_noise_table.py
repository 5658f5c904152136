"""What is known about noisy training labels, as a table: numpy on the host, no device."""

from __future__ import annotations

import hashlib
import zlib
from typing import Any

import numpy as np

from jaxnoise import evaluation
from jaxnoise.data import Source


def noise_table(source: Source) -> dict[str, Any] | None:
  """Counts how the labels that training sees differ from the true ones.

  T[i, j] = #{n: true_n = i, given_n = j}; the rate is the share of given labels that are not the
  true one, that of a class the share among its examples.

  Args:
    source: the training set, held-out and trusted examples taken out.

  Returns:
    {"n", "num_classes", "changed" (how many labels differ), "rate", "class_counts" [K],
    "class_rates" [K] (None for a class without examples), "counts" [K][K] (rows true, columns
    given; left out for more than 200 classes), "labels_crc32", "labels_sha256"}, the hashes of the
    given labels as little-endian int32. None where the labels are the true ones.

  Example:
    >>> from jaxnoise import data
    >>> from jaxnoise.training import label_noise_table
    >>> source = data.generated(num_train=8, num_classes=2)
    >>> noisy = source.with_labels([1 - source.labels[0], *source.labels[1:]])
    >>> table = label_noise_table.noise_table(noisy)
    >>> table["changed"], table["rate"], label_noise_table.noise_table(source)
    (1, 0.125, None)
  """
  if source.clean_labels is None:
    return None
  true, given, classes = source.clean_labels, source.labels, source.num_classes
  wrong = true != given
  count = np.bincount(true, minlength=classes)
  changed = np.bincount(true[wrong], minlength=classes)
  table: dict[str, Any] = {
    "n": source.num_train,
    "num_classes": classes,
    "changed": int(wrong.sum()),
    "rate": float(wrong.mean()),
    "class_counts": count.tolist(),
    "class_rates": [float(c / n) if n else None for c, n in zip(changed, count, strict=True)],
  }
  if classes <= evaluation.MAX_CONFUSION:
    table["counts"] = evaluation.confusion(true, given, classes).tolist()
  stored = np.ascontiguousarray(given, "<i4").tobytes()
  table["labels_crc32"] = zlib.crc32(stored)
  table["labels_sha256"] = hashlib.sha256(stored).hexdigest()
  return table
