"""AugMix views per second: the jitted device version against PIL in one process.

Both make the same views (three chains of one to three of the nine base operations, severity 3) of
32x32 colour images. The two are timed in turn, round by round, so that a busy machine slows both,
and the ratio is the median over rounds. The results are compared too, on shared draws.

    python benchmarks/augmix.py --batch 256
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageOps

from jaxnoise import augment


def affine(image: Image.Image, *coefficients: float) -> Image.Image:
  return image.transform(image.size, Image.AFFINE, coefficients, resample=Image.BILINEAR)


PIL_OPERATIONS = (
  lambda image, _: ImageOps.autocontrast(image),
  lambda image, _: ImageOps.equalize(image),
  lambda image, bits: ImageOps.posterize(image, int(bits)),
  lambda image, degrees: image.rotate(degrees, resample=Image.BILINEAR),
  ImageOps.solarize,
  lambda image, shear: affine(image, 1, shear, 0, 0, 1, 0),
  lambda image, shear: affine(image, 1, 0, 0, shear, 1, 0),
  lambda image, pixels: affine(image, 1, 0, pixels, 0, 1, 0),
  lambda image, pixels: affine(image, 1, 0, 0, 0, 1, pixels),
)


def pil_parameter(rng: np.random.Generator, operation: int, severity: float, side: int) -> float:
  level = rng.uniform(0.1, severity) / 10
  sign = -1 if rng.random() < 0.5 else 1
  return (
    0,
    0,
    4 - int(4 * level),
    sign * int(30 * level),
    256 - int(256 * level),
    sign * 0.3 * level,
    sign * 0.3 * level,
    sign * int(side / 3 * level),
    sign * int(side / 3 * level),
  )[operation]


def pil_augmix(image: np.ndarray, rng: np.random.Generator, severity: float = 3.0) -> np.ndarray:
  """One view of a uint8 image as float32 in [0, 1]."""
  weights = rng.dirichlet([1.0] * 3).astype(np.float32)
  m = np.float32(rng.beta(1.0, 1.0))
  start = Image.fromarray(image)
  mixture = np.zeros(image.shape, np.float32)
  for weight in weights:
    branch = start
    for _ in range(rng.integers(1, 4)):
      operation = rng.integers(len(PIL_OPERATIONS))
      parameter = pil_parameter(rng, operation, severity, image.shape[0])
      branch = PIL_OPERATIONS[operation](branch, parameter)
    mixture += weight * (np.asarray(branch, np.float32) / 255)
  return (1 - m) * (image.astype(np.float32) / 255) + m * mixture


def smooth_images(count: int, side: int = 32) -> np.ndarray:
  """Images with edges, gradients and some noise, uint8 [count, side, side, 3]."""
  rng = np.random.default_rng(0)
  coarse = rng.integers(0, 256, (count, 4, 4, 3), np.uint8)
  images = [np.asarray(Image.fromarray(image).resize((side, side))) for image in coarse]
  noise = rng.normal(0, 8, (count, side, side, 3))
  return np.clip(np.stack(images) + noise, 0, 255).astype(np.uint8)


def agreement(images: np.ndarray) -> tuple[float, float]:
  """Shares of grey levels that equal PIL's, and that are within one, after chains of base ops."""
  keys = jax.random.split(jax.random.key(1), len(images))
  draw = jax.vmap(lambda key: augment.sample_augmix(key, images.shape[1:3]))(keys)
  chains = jax.jit(jax.vmap(augment.augmix_chain))
  ours = np.asarray(chains(images, draw.op_index[:, 0], draw.op_param[:, 0]), np.int32)
  difference = []
  for i, image in enumerate(images):
    branch = Image.fromarray(image)
    for operation, parameter in zip(draw.op_index[i, 0], draw.op_param[i, 0]):
      if operation >= 0:
        branch = PIL_OPERATIONS[int(operation)](branch, float(parameter))
    difference.append(np.abs(np.asarray(branch, np.int32) - ours[i]))
  return float(np.mean(np.equal(difference, 0))), float(np.mean(np.less_equal(difference, 1)))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--batch", type=int, default=256, help="images per call")
  parser.add_argument("--rounds", type=int, default=9, help="rounds of both, in turn")
  parser.add_argument("--calls", type=int, default=4, help="device calls in a round")
  arguments = parser.parse_args()

  levels = smooth_images(arguments.batch)
  images = jnp.asarray(levels, jnp.float32) / 255
  make_views = jax.jit(augment.batched(augment.augmix))
  start = time.perf_counter()
  make_views(jax.random.key(0), images).block_until_ready()
  compile_seconds = time.perf_counter() - start

  rng = np.random.default_rng(0)
  device_rates, pil_rates = [], []
  for round_number in range(arguments.rounds):
    start = time.perf_counter()
    for call in range(arguments.calls):
      key = jax.random.key(round_number * arguments.calls + call)
      make_views(key, images).block_until_ready()
    device_rates.append(arguments.calls * arguments.batch / (time.perf_counter() - start))
    start = time.perf_counter()
    for image in levels:
      pil_augmix(image, rng)
    pil_rates.append(len(levels) / (time.perf_counter() - start))

  ratios = [device / pil for device, pil in zip(device_rates, pil_rates)]
  equal, within_one = agreement(levels)
  device = jax.devices()[0]
  print(f"device     {device.platform} ({device.device_kind}), {os.cpu_count()} CPU cores")
  print(f"batch      {arguments.batch} images of 32x32x3, first call {compile_seconds:.1f} s")
  print(f"jaxnoise   {statistics.median(device_rates):9.0f} views/s")
  print(f"PIL        {statistics.median(pil_rates):9.0f} views/s in one process")
  spread = f"(rounds {min(ratios):.1f} to {max(ratios):.1f})"
  print(f"ratio      {statistics.median(ratios):9.1f} {spread}")
  print(f"agreement  {equal:9.5f} of grey levels equal PIL's, {within_one:.5f} within one")


if __name__ == "__main__":
  main()
