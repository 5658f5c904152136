"""AugMix's operations as PIL does them, one image at a time."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

ENHANCE = {
  "color": ImageEnhance.Color,
  "contrast": ImageEnhance.Contrast,
  "brightness": ImageEnhance.Brightness,
  "sharpness": ImageEnhance.Sharpness,
}


def _affine(image: Image.Image, *coefficients: float) -> Image.Image:
  return image.transform(image.size, Image.AFFINE, coefficients, resample=Image.BILINEAR)


OPERATIONS = {
  "autocontrast": lambda image, _: ImageOps.autocontrast(image),
  "equalize": lambda image, _: ImageOps.equalize(image),
  "posterize": lambda image, bits: ImageOps.posterize(image, int(bits)),
  "rotate": lambda image, degrees: image.rotate(degrees, resample=Image.BILINEAR),
  "solarize": ImageOps.solarize,
  "shear_x": lambda image, shear: _affine(image, 1, shear, 0, 0, 1, 0),
  "shear_y": lambda image, shear: _affine(image, 1, 0, 0, shear, 1, 0),
  "translate_x": lambda image, pixels: _affine(image, 1, 0, pixels, 0, 1, 0),
  "translate_y": lambda image, pixels: _affine(image, 1, 0, 0, 0, 1, pixels),
} | {
  name: lambda image, factor, make=make: make(image).enhance(factor)
  for name, make in ENHANCE.items()
}


def apply(image: np.ndarray, name: str, parameter: float) -> np.ndarray:
  """Applies one operation to a uint8 image [H, W, 3] or [H, W, 1]."""
  grey = image.shape[-1] == 1
  out = OPERATIONS[name](Image.fromarray(image[..., 0] if grey else image), parameter)
  out = np.asarray(out)
  return out[..., None] if grey else out
