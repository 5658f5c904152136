"""The operations of the AutoAugment family as PIL does them, and one program for all draws."""

from __future__ import annotations

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from jaxnoise import augment
from tests.augment import pil

COUNT, PLACES, SIDE = 100, 2, 16

_run = jax.jit(jax.vmap(augment.policy_chain))


@contextlib.contextmanager
def given_uniforms():
  """Within it the "key" of a sampler is the uniform numbers that it would draw.

  So a test can say what is drawn, and is spared the generator, whose every use compiles for long.
  """
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(jax.random, "uniform", jnp.reshape)
    yield


def over_uniforms(function, count, numbers, seed=0):
  """`function` of each of `count` "keys" of so many numbers, as NumPy arrays [count, ...]."""
  uniforms = np.random.default_rng(seed).random((count, numbers), np.float32)
  with given_uniforms():
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(function))(uniforms))


def run(images, op_index, op_param):
  """`policy_chain` on [N, 16, 16, 3]; whatever N <= 100 and D <= 2, compiled once.

  `op_param` is [N, D] or [N, D, 3].
  """
  op_index, op_param = np.asarray(op_index), np.asarray(op_param, np.float32)
  count, depth = op_index.shape
  index = np.full((COUNT, PLACES), -1, np.int32)
  param = np.zeros((COUNT, PLACES, 3), np.float32)
  padded = np.zeros((COUNT, SIDE, SIDE, 3), np.uint8)
  index[:count, :depth], padded[:count] = op_index, images
  if op_param.ndim == 2:
    param[:count, :depth, 0] = op_param
  else:
    param[:count, :depth] = op_param
  return np.asarray(_run(jnp.asarray(padded), index, param))[:count]


def _transform(image, *coefficients):
  return image.transform(image.size, Image.AFFINE, coefficients)


def _rectangle(image, size, x, y):
  width, height = image.size
  left, top = int(max(0, x - size / 2)), int(max(0, y - size / 2))
  image = image.copy()
  corners = (left, top, min(width, left + size), min(height, top + size))
  ImageDraw.Draw(image).rectangle(corners, (125, 123, 114))
  return image


def _add(image, addition):
  added = np.clip(np.asarray(image).astype(int) + addition, 0, 255).astype(np.uint8)
  return ImageOps.solarize(Image.fromarray(added), 128)


def _hue(image, turns):
  hue, saturation, value = image.convert("HSV").split()
  turned = (np.asarray(hue).astype(int) + int(turns * 255)) % 256
  turned = Image.fromarray(turned.astype(np.uint8))
  return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


OPERATIONS = pil.OPERATIONS | {
  "posterize": lambda image, bits: image.point(lambda level: level & (255 << (8 - int(bits)))),
  "rotate": lambda image, degrees: image.rotate(degrees),
  "shear_x": lambda image, shear: _transform(image, 1, shear, 0, 0, 1, 0),
  "shear_y": lambda image, shear: _transform(image, 1, 0, 0, shear, 1, 0),
  "translate_x": lambda image, pixels: _transform(image, 1, 0, pixels, 0, 1, 0),
  "translate_y": lambda image, pixels: _transform(image, 1, 0, 0, 0, 1, pixels),
  "invert": lambda image, _: ImageOps.invert(image),
  "solarize_add": _add,
  "hue": _hue,
}


def apply(image, op_index, op_param):
  """Applies the drawn operations [D], [D, 3] to a uint8 image [H, W, 3] or [H, W, 1]."""
  grey = image.shape[-1] == 1
  out = Image.fromarray(image[..., 0] if grey else image)
  for position, (value, x, y) in zip(op_index, np.asarray(op_param, np.float64)):
    name = augment.POLICY_OPERATIONS[position]
    if position >= 0:
      out = _rectangle(out, value, x, y) if name == "cutout_abs" else OPERATIONS[name](out, value)
  out = np.asarray(out)
  return out[..., None] if grey else out


def difference(ours, reference, name, *, exact, largest):
  """Compares grey levels: the share that must be equal, and the largest error allowed."""
  error = np.abs(np.asarray(ours, int) - np.asarray(reference, int))
  print(f"{name}: exact {np.mean(error == 0):.6f}, largest {error.max()}")
  assert error.max() <= largest, name
  assert np.mean(error == 0) >= exact, name
