"""What NoisyMix costs over the network it trains: full step over bare forward and backward.

  python benchmarks/noisymix_step.py [--rounds 9] [--batch 128] [--precision bfloat16]

The full step is the one the loop runs: gather from uint8, crop and flip, two AugMix views per
image, mixing, noise, the loss with its stability term, the gradient, SGD. The bare one is the
gradient of a mean cross-entropy of the same network in train mode on the same number of images
(3B), already on the device. The two are timed in turns in one process; the ratio is that of their
medians, the range that of single rounds. Aim: 1.10 on an accelerator, 1.25 on 2 CPU cores.
"""

from __future__ import annotations

import argparse
import statistics
import time

import jax
import jax.numpy as jnp

from jaxnoise import data, losses
from jaxnoise.training import build, loop

CASES = {
  "preact_resnet18, 32 px": (
    {"name": "preact_resnet18", "variant": "noisymix"}, 32, 16, {"padding": 4, "flip": True},
  ),
  "wide_resnet-16-1, 16 px": (
    {"name": "wide_resnet", "depth": 16, "widen_factor": 1}, 16, 128, {"padding": 2, "flip": True},
  ),
}  # fmt: skip


def compare(
  model: dict, side: int, batch: int, first: dict, rounds: int, precision: str
) -> tuple[list, list]:
  """Seconds of the full step and of the bare gradient, one pair per round."""
  half = (0.5, 0.5, 0.5)
  config = {
    "batch_size": batch,
    "total": "200 epochs",
    "precision": precision,
    "first": first,
    "policy": {"name": "augmix", "width": 3, "depth": -1, "severity": 3.0},
    "model": {**model, "mean": half, "std": half},
    "method": {"name": "noisymix"},
  }
  source = data.generated(num_train=4 * batch, num_test=10, num_classes=10, size=side)
  run = build.assemble(config, source=source)
  programs = loop.Programs(run)
  arrays = data.device_data(source)
  state = programs.init()
  orders = programs.epoch_orders(state, arrays, 0)
  totals = programs.zero_totals(state, arrays, orders)
  image = jax.random.uniform(jax.random.key(1), (3 * batch, side, side, 3))
  targets = jax.nn.one_hot(jnp.arange(3 * batch) % 10, 10)

  @jax.jit
  def bare(params, batch_stats, image, targets):
    def loss(p):
      out = run.network.apply(p, batch_stats, image, train=True)
      return jnp.mean(losses.cross_entropy(out.logits, targets)), out.batch_stats

    return jax.value_and_grad(loss, has_aux=True)(params)

  full_times, bare_times = [], []
  for i in range(rounds + 1):
    jax.block_until_ready((state, image))
    start = time.perf_counter()
    state, totals = programs.step(state, arrays, orders, totals)
    jax.block_until_ready(state)
    middle = time.perf_counter()
    jax.block_until_ready(bare(state.params, state.batch_stats, image, targets))
    end = time.perf_counter()
    if i:  # the first round compiles
      full_times.append(middle - start)
      bare_times.append(end - middle)
  return full_times, bare_times


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--rounds", type=int, default=9)
  parser.add_argument("--batch", type=int, help="B of every case; 3B images go through the network")
  parser.add_argument("--precision", default="float32", help="float32 or bfloat16")
  args = parser.parse_args()
  device = jax.devices()[0]
  devices = f"{jax.device_count()} x {device.platform} ({device.device_kind})"
  print(f"{devices}, jax {jax.__version__}")
  for name, (model, side, own_batch, first) in CASES.items():
    batch = args.batch or own_batch
    full, bare = compare(model, side, batch, first, args.rounds, args.precision)
    ratios = [f / b for f, b in zip(full, bare, strict=True)]
    step_ms, bare_ms = (1e3 * statistics.median(times) for times in (full, bare))
    print(
      f"{name}, B = {batch} x 3, {args.precision}: step {step_ms:.1f} ms, bare {bare_ms:.1f} ms, "
      f"ratio {step_ms / bare_ms:.3f} (rounds {min(ratios):.3f} to {max(ratios):.3f}, "
      f"n = {args.rounds})",
      flush=True,
    )


if __name__ == "__main__":
  main()
