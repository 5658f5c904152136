"""What the pass that multiplicative reweighting learns from costs: over a bare forward pass.

  python benchmarks/reweighting_pass.py [--model wrn-10-1] [--images 2048] [--batch 128]

The pass is the one the loop runs at the end of an epoch: every image gathered from uint8, the
network in evaluation mode, cross-entropy, the table, the summed losses. The bare one is the same
network over as many float images that already lie on the device, compiled as a loop over batches
too, logits and nothing else. The two are timed in turns in one process; the ratio is that of their
medians, the range that of single rounds. Aim: 1.10. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import jax

from jaxnoise import data
from jaxnoise.training import build, loop

MODELS = {
  "wrn-10-1": {"name": "wide_resnet", "depth": 10, "widen_factor": 1},
  "wrn-28-10": {"name": "wide_resnet", "depth": 28, "widen_factor": 10},
  "resnet18": {"name": "resnet18"},
}


def compare(
  model: str, side: int, images: int, batch: int, rounds: int, precision: str
) -> tuple[list[float], list[float]]:
  """Seconds of the pass and of the bare forward passes, one pair per round."""
  half = (0.5, 0.5, 0.5)
  config = {
    "batch_size": batch,
    "total": "200 epochs",
    "precision": precision,
    "model": {**MODELS[model], "mean": half, "std": half},
    "method": {"name": "erm"},
    "wrappers": ("multiplicative_reweighting",),
  }
  source = data.generated(num_train=images, num_test=10, num_classes=10, size=side)
  run = build.assemble(config, source=source)
  programs = loop.Programs(run)
  arrays = data.device_data(source)
  state = programs.init()
  batches = jax.random.uniform(jax.random.key(0), (images // batch, batch, side, side, 3))

  @jax.jit
  def bare(params, batch_stats, batches):
    return jax.lax.map(lambda x: run.network.apply(params, batch_stats, x).logits, batches)

  pass_times, bare_times = [], []
  for i in range(rounds + 1):
    jax.block_until_ready((state, batches))
    start = time.perf_counter()
    state = programs.example_pass(state, arrays)
    jax.block_until_ready(state)
    middle = time.perf_counter()
    jax.block_until_ready(bare(state.params, state.batch_stats, batches))
    end = time.perf_counter()
    if i:  # the first round compiles
      pass_times.append(middle - start)
      bare_times.append(end - middle)
  return pass_times, bare_times


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--model", choices=MODELS, default="wrn-10-1")
  parser.add_argument("--side", type=int, default=32, help="pixels")
  parser.add_argument("--images", type=int, default=2048, help="in the training set")
  parser.add_argument("--batch", type=int, default=128)
  parser.add_argument("--rounds", type=int, default=9)
  parser.add_argument("--precision", default="float32", help="float32 or bfloat16")
  args = parser.parse_args()
  if args.images % args.batch:
    parser.error(f"--images is {args.images}; it must be a multiple of --batch, {args.batch}")
  device = jax.devices()[0]
  took, bare = compare(**vars(args))
  ratios = [a / b for a, b in zip(took, bare, strict=True)]
  pass_ms, bare_ms = (1e3 * statistics.median(times) for times in (took, bare))
  devices = f"{jax.device_count()} x {device.platform} ({device.device_kind})"
  print(
    f"{devices}, jax {jax.__version__}: {args.model}, {args.images} images of {args.side} px, "
    f"B = {args.batch}, {args.precision}: pass {pass_ms:.1f} ms, bare {bare_ms:.1f} ms, ratio "
    f"{pass_ms / bare_ms:.3f} (rounds {min(ratios):.3f} to {max(ratios):.3f}, n = {args.rounds})"
  )
  row = {**vars(args), "device": devices, "jax": jax.__version__, "pass_ms": round(pass_ms, 2),
         "bare_ms": round(bare_ms, 2), "ratio": round(pass_ms / bare_ms, 4),
         "rounds_ratio": [round(r, 4) for r in ratios]}  # fmt: skip
  print(json.dumps(row))


if __name__ == "__main__":
  main()
