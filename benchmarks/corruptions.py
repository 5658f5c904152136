"""Corrupted images per second: ours on the present backend against `imagecorruptions` on one core.

  python benchmarks/corruptions.py
  python benchmarks/corruptions.py --size 224 --batch 16 --out corruptions.json

Ours are compiled programs on a batch, timed after the first call; theirs (where that package is
installed: pip install imagecorruptions) goes image by image in one thread. Both take the severities
in turn, and the two are timed in turn, round by round, so that a busy machine slows both; a number
is the median over rounds. imagecorruptions has ImageNet-C's parameters, so ours are the variant
"imagenet"; at other sizes than 224 pixels ours scale lengths with the image, and theirs do not.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxnoise import corruptions

Theirs = Callable[[np.ndarray, int, str], np.ndarray]


def smooth_images(count: int, side: int) -> np.ndarray:
  """Images with edges, gradients and some noise, uint8 [count, side, side, 3]."""
  rng = np.random.default_rng(0)
  coarse = rng.integers(0, 256, (count, 4, 4, 3), np.uint8)
  images = [np.asarray(Image.fromarray(image).resize((side, side))) for image in coarse]
  noise = rng.normal(0, 8, (count, side, side, 3))
  return np.clip(np.stack(images) + noise, 0, 255).astype(np.uint8)


def load_theirs() -> tuple[Theirs | None, str]:
  """The other package's function, or None and the reason.

  It was written for NumPy 1 and scikit-image 0.18: two names that have changed since are put back.
  """
  warnings.simplefilter("ignore")
  try:
    import cv2
    import imagecorruptions
    import skimage.filters
    from imagecorruptions import corruptions as module
  except ImportError as error:
    return None, f"imagecorruptions cannot be imported ({error})"

  def gaussian(image, sigma=1, *, multichannel=False, **options):
    axis = -1 if multichannel else None
    return skimage.filters.gaussian(image, sigma=sigma, channel_axis=axis, **options)

  if not hasattr(np, "float_"):
    np.float_ = np.float64
  module.gaussian = gaussian
  cv2.setNumThreads(1)

  def corrupt(image: np.ndarray, severity: int, name: str) -> np.ndarray:
    return imagecorruptions.corrupt(image, severity=severity, corruption_name=name)

  return corrupt, ""


def rate(call: Callable[[int], int], severities: tuple[int, ...], seconds: float) -> float:
  """Images per second of `call(severity) -> images`, whole turns of the severities."""
  done, start = 0, time.perf_counter()
  while True:
    done += sum(call(severity) for severity in severities)
    elapsed = time.perf_counter() - start
    if elapsed >= seconds:
      return done / elapsed


def measure(name: str, levels: np.ndarray, theirs: Theirs | None, arguments) -> dict:
  """One row of the table."""
  images, key = jnp.asarray(levels, jnp.float32) / 255, jax.random.key(0)

  def our_call(severity: int) -> int:
    out = corruptions.corrupt(key, images, name, severity, variant=arguments.variant)
    out.block_until_ready()
    return len(images)

  cursor = iter(range(10**9))

  def their_call(severity: int) -> int:
    theirs(levels[next(cursor) % len(levels)], severity, name)
    return 1

  start = time.perf_counter()
  our_call(arguments.severities[0])
  row = {"name": name, "first_call_seconds": round(time.perf_counter() - start, 2), "reason": ""}
  if theirs is not None:
    try:
      for severity in arguments.severities:
        their_call(severity)
    except Exception as error:  # whatever an old package meets in new libraries
      row["reason"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
      theirs = None
  ours, other = [], []
  for _ in range(arguments.rounds):
    ours.append(rate(our_call, arguments.severities, arguments.seconds))
    if theirs is not None:
      other.append(rate(their_call, arguments.severities, arguments.seconds))
  row["ours"] = statistics.median(ours)
  if other:
    row["theirs_per_core"] = statistics.median(other)
    row["ratio"] = statistics.median(a / b for a, b in zip(ours, other))
  return row


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--batch", type=int, default=128, help="images per call of ours")
  parser.add_argument("--size", type=int, default=32, help="side of the images, at least 32")
  parser.add_argument("--severities", type=int, nargs="+", default=(1, 2, 3, 4, 5))
  parser.add_argument("--variant", default="imagenet", help="table of our parameters")
  parser.add_argument("--names", nargs="+", default=corruptions.NAMES)
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--seconds", type=float, default=0.3, help="time per round for each of both")
  parser.add_argument("--out", type=Path, help="a JSON file to write")
  arguments = parser.parse_args()

  theirs, reason = load_theirs()
  levels = smooth_images(arguments.batch, arguments.size)
  device = jax.devices()[0]
  backend = f"{device.platform} ({device.device_kind})"
  print(f"device      {backend}, {os.cpu_count()} CPU cores")
  severities = ", ".join(map(str, arguments.severities))
  print(f"images      batches of {arguments.batch}, {arguments.size}x{arguments.size}x3")
  print(f"parameters  severities {severities}, variant {arguments.variant!r}")
  if arguments.size != 224:
    print("lengths     ours are scaled with the image, theirs are those of 224 pixels")
  if theirs is None:
    print(f"theirs      not measured: {reason}")
  print(f"\n{'images per second':20}{'ours':>12}{'theirs/core':>14}{'ratio':>8}{'first call':>12}")
  rows = []
  for name in arguments.names:
    row = measure(name, levels, theirs, arguments)
    rows.append(row)
    other = f"{'-':>14}{'-':>8}"
    if "ratio" in row:
      other = f"{row['theirs_per_core']:14.0f}{row['ratio']:8.1f}"
    note = f"  not measured: {row['reason']}" if row["reason"] else ""
    first = f"{row['first_call_seconds']:10.1f} s"
    print(f"{name:20}{row['ours']:12.0f}{other}{first}{note}", flush=True)
  measured = [row["ratio"] for row in rows if "ratio" in row]
  if measured:
    middle = statistics.geometric_mean(measured)
    print(f"\nratio: {middle:.1f}, geometric mean of {len(measured)} (our device to one core)")
  if arguments.out:
    arguments.out.write_text(json.dumps({
      "device": backend,
      "cores": os.cpu_count(),
      "batch": arguments.batch,
      "size": arguments.size,
      "severities": list(arguments.severities),
      "variant": arguments.variant,
      "not_measured": reason,
      "rows": rows,
    }, indent=1) + "\n")


if __name__ == "__main__":
  main()
