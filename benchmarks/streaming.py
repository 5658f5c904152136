"""Images on disk: how many a core decodes and crops, and what share of a step waits for them.

  python benchmarks/streaming.py [--small]

JPEGs of 400x480 pixels are generated (smooth noise, quality 90, about 40 kB). Decoding: each image
is read, decoded by Pillow, and a random resized crop of 224x224 is made of it, V crops for V views;
rates are of batches of 128 through `data.Decoder`, by one thread and by one per core, divided by
the threads. Waiting: `training.loop`'s steps of NoisyMix (three views of one crop) and of NRD (a
crop each for student and teacher) with a ResNet-50 at batch 64, fed by the stream; the share is the
time that steps wait for their batch, over all of it, after the first five steps.

`--small`, for a machine without an accelerator: a WRN-10-1 on crops of 64, batch 16, for which
decoding is far more of a step's work than it is anywhere else.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import tempfile
import time

import jax
import numpy as np
from PIL import Image

from jaxnoise import data
from jaxnoise.core import InputError
from jaxnoise.training import build, feeds, loop, sharding

SIDES = (480, 400)  # width, height
CLASSES = ("n00000001", "n00000002", "n00000003", "n00000004")


def write_images(root: pathlib.Path, count: int) -> pathlib.Path:
  """A folder of JPEGs of smooth noise, in classes."""
  rng = np.random.default_rng(0)
  for split, number in (("train", count), ("test", 16)):
    for i in range(number):
      folder = root / split / CLASSES[i % len(CLASSES)]
      folder.mkdir(parents=True, exist_ok=True)
      coarse = Image.fromarray(rng.integers(0, 256, (50, 60, 3), np.uint8))
      image = coarse.resize(SIDES, Image.Resampling.BICUBIC)
      image.save(folder / f"{i:05d}.JPEG", quality=90)
  return root


def decoding(images: data.StoredImages, threads: int, views: int, side: int, batches: int) -> float:
  """Images per second through the decoder."""
  crop = data.Crop(resized_crop=side, flip=True)
  size = min(128, len(images))
  index = np.arange(size)
  with data.Decoder(threads) as decoder:
    decoder.crops(images, index, crop, data.crop_numbers(0, 0, slice(0, size), views)).result()
    start = time.perf_counter()
    begun = [
      decoder.crops(images, index, crop, data.crop_numbers(0, draw, slice(0, size), views))
      for draw in range(batches)
    ]
    for batch in begun:
      batch.result()
  return size * batches / (time.perf_counter() - start)


def waiting(source: data.Source, method: dict, small: bool, steps: int) -> tuple[float, float]:
  """(images per second, share of the time that steps wait for their batch).

  The clock starts after five steps, when two batches are under way already.
  """
  model = {"name": "wide_resnet", "depth": 10, "widen_factor": 1} if small else {"name": "resnet50"}
  config = {
    "total": f"{steps + 5} steps", "batch_size": 16 if small else 64, "method": method,
    "policy": {"name": "augmix" if method["name"] == "noisymix" else ""}, "model": model,
    "first": {"resized_crop": 64 if small else 224, "flip": True},
    "precision": "float32" if jax.default_backend() == "cpu" else "bfloat16",
  }  # fmt: skip
  run = build.assemble(config, source=source)
  programs = loop.Programs(run)
  state = programs.init()
  arrays = jax.device_put(run.host_data(), sharding.replicated(run.mesh))
  feed, totals = feeds.make_feed(run, programs, arrays), None
  for step in range(steps + 5):
    if step == 5:
      jax.block_until_ready(state)
      start, waited = time.perf_counter(), feed.waited
    orders = feed(state, step)
    totals = programs.zero_totals(state, arrays, orders) if totals is None else totals
    state, totals = programs.step(state, arrays, orders, totals)
  jax.block_until_ready(state)
  seconds = time.perf_counter() - start
  waited = feed.waited - waited
  feed.close()
  return steps * run.spec.batch_size / seconds, waited / seconds


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--small", action="store_true", help="for a machine without an accelerator")
  small, cores = parser.parse_args().small, os.cpu_count() or 1
  device = jax.devices()[0]
  print(f"{data.StoredImages.decoder}, {cores} cores, {device.platform} ({device.device_kind})")
  with tempfile.TemporaryDirectory() as folder:
    root = write_images(pathlib.Path(folder) / "jpeg", 256 if small else 2048)
    sources = {"files": data.load("folder", root, stream=True, image_size=256)}
    try:
      records = data.write_array_record(sources["files"], pathlib.Path(folder) / "records", files=4)
      sources["array_record"] = data.load("array_record", records, stream=True, image_size=256)
    except InputError as error:  # the package is not installed
      print(error)
    for name, source in sources.items():
      for threads, views in ((1, 1), (cores, 1), (cores, 2)):
        rate = decoding(source.images, threads, views, 224, 2 if small else 16)
        print(
          f"decode and crop, {name}, {views} view(s), {threads} thread(s): {rate:7.0f} images/s, "
          f"{rate / threads:6.0f} per thread"
        )
    nrd = {"name": "nrd", "teacher_policy_first": False, "scale": "none"}
    for method in ({"name": "noisymix"}, nrd):
      rate, share = waiting(list(sources.values())[-1], method, small, 60 if small else 200)
      print(f"training, {method['name']}: {rate:.0f} images/s, {share:.1%} of the time waiting")


if __name__ == "__main__":
  main()
