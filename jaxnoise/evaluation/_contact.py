"""Contact sheets: what the corruptions and the perturbations make of a test image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxnoise.evaluation._examples import png_text

_LONGEST = 112
"""Pixels a side of a picture; larger images are made smaller."""


def contact_sheet(
  rows: Sequence[tuple[str, Callable[[], Sequence[np.ndarray]]]], columns: Sequence[str]
) -> dict[str, Any]:
  """Pictures of one image, row by row, as a page shows them.

  Args:
    rows: name of the row, and what makes its images [H, W, C] in [0, 1] or uint8.
    columns: headings, one per image of a row.

  Returns:
    {"columns", "rows": [{"name", "png": a base64 PNG of the row's images side by side, one pixel
    apart, "width" and "height" of it in pixels}]}.

  Example:
    >>> import numpy as np
    >>> from jaxnoise import evaluation
    >>> sheet = evaluation.contact_sheet([("grey", lambda: [np.full((8, 8, 3), 0.5)])], ["clean"])
    >>> sheet["rows"][0]["name"], sheet["rows"][0]["width"]
    ('grey', 8)
  """
  out = []
  for name, make in rows:
    images = [_grey_levels(np.asarray(image)) for image in make()]
    gap = np.full((images[0].shape[0], 1, images[0].shape[2]), 255, np.uint8)
    strip = [piece for image in images for piece in (gap, image)][1:]
    joined = np.concatenate(strip, axis=1)
    longest = (len(images) * (_LONGEST + 1), _LONGEST)
    out.append(
      {
        "name": name,
        "png": png_text(joined, longest),
        "width": joined.shape[1],
        "height": joined.shape[0],
      }
    )
  return {"columns": list(columns), "rows": out}


def _grey_levels(image: np.ndarray) -> np.ndarray:
  if image.dtype == np.uint8:
    return image
  return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
