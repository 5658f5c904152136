"""What single examples tell: confusions of classes, correctness bit by bit, pictures to look at."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from jaxnoise.core.errors import InputError

MAX_CONFUSION = 200
"""With more classes than this no matrix of (class, class) counts is kept."""
NUM_SAMPLES = 24
_LONGEST = 64


def confusion(label: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
  """Counts C[i, j] = #{n: y_n = i, predicted_n = j}.

  Args:
    label: [N] integers in 0..K-1.
    prediction: [N] integers in 0..K-1; a negative one, of a network that gave no number, is in no
      column.
    num_classes: K.

  Returns:
    [K, K] int64, rows true, columns predicted.

  Example:
    >>> import numpy as np
    >>> from jaxnoise import evaluation
    >>> evaluation.confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
  """
  known = prediction >= 0
  cell = label[known].astype(np.int64) * num_classes + prediction[known]
  return np.bincount(cell, minlength=num_classes**2).reshape(num_classes, num_classes)


def pack(correct: np.ndarray) -> str:
  """Writes one bit per example as base64 text: eight to a byte, the first example highest.

  Args:
    correct: [N], 1 or 0.

  Example:
    >>> from jaxnoise import evaluation
    >>> evaluation.unpack(evaluation.pack([1, 0, 1]), 3).tolist()
    [True, False, True]
  """
  return base64.b64encode(np.packbits(np.asarray(correct) > 0).tobytes()).decode()


def unpack(text: str, count: int) -> np.ndarray:
  """Reads what `pack` wrote.

  Args:
    text: base64.
    count: N.

  Returns:
    [N] bool.

  Raises:
    InputError: when the text does not hold N bits.

  Example:
    >>> from jaxnoise import evaluation
    >>> evaluation.unpack("oA==", 3).tolist()
    [True, False, True]
  """
  try:
    packed = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
  except ValueError:
    packed = np.zeros(0, np.uint8)
  if packed.size != -(-count // 8):
    raise InputError(f"the correctness of {count} examples is cut off or no base64 text")
  return np.unpackbits(packed, count=count).astype(bool)


def samples(
  images: np.ndarray, label: np.ndarray, measured: Mapping[str, Any], count: int = NUM_SAMPLES
) -> dict[str, list[dict[str, Any]]]:
  """Picks test images to look at: some whatever became of them, and the most confident mistakes.

  Args:
    images: [N, H, W, C] uint8.
    label: [N] integers.
    measured: of one predictor, with "prediction", "confidence" and "correct" [N].
    count: how many of each kind.

  Returns:
    {"spread": at positions evenly from the first image to the last, "mistakes": the wrong ones, the
    most confident first}, each a list of {"index", "label", "prediction", "probability" (of the
    prediction), "png"}; png is base64 of at most 64 pixels a side.

  Example:
    >>> import numpy as np
    >>> from jaxnoise import evaluation
    >>> images, label = np.zeros((3, 8, 8, 3), np.uint8), np.array([0, 1, 1])
    >>> measured = {"prediction": np.array([0, 0, 0]), "correct": np.array([1.0, 0.0, 0.0]),
    ...   "confidence": np.array([0.9, 0.6, 0.8])}
    >>> found = evaluation.samples(images, label, measured, count=2)
    >>> [s["index"] for s in found["spread"]], [s["index"] for s in found["mistakes"]]
    ([0, 2], [2, 1])
  """
  prediction, confidence, correct = (
    np.asarray(measured[k]) for k in ("prediction", "confidence", "correct")
  )
  spread = np.unique(np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int))
  wrong = np.flatnonzero((correct == 0) & (prediction >= 0))
  # Stable, so that equal confidences come in the order of the test set.
  wrong = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]

  def rows(positions: np.ndarray) -> list[dict[str, Any]]:
    return [
      {
        "index": int(i),
        "label": int(label[i]),
        "prediction": int(prediction[i]),
        "probability": round(float(confidence[i]), 4),
        "png": png_text(images[i]),
      }
      for i in positions
    ]

  return {"spread": rows(spread), "mistakes": rows(wrong)}


def png_text(image: np.ndarray, longest: tuple[int, int] = (_LONGEST, _LONGEST)) -> str:
  """Base64 of a PNG of an image [H, W, C] uint8; channels that are no colours become their mean.

  It is made no larger than `longest`, (width, height) in pixels.
  """
  if image.shape[-1] != 3:
    image = image.mean(axis=-1).round().astype(np.uint8)
  picture = Image.fromarray(image)
  picture.thumbnail(longest)
  with io.BytesIO() as file:
    picture.save(file, "png", optimize=True)
    return base64.b64encode(file.getvalue()).decode()
