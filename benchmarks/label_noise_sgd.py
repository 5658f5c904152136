"""SGD on least squares with label noise: seconds for one long chain and for many short ones.

  python benchmarks/label_noise_sgd.py [--steps 1000000] [--chains 2000] [--chain_steps 2000]

The setting of ULN's Figure 1: 100 examples of 2 numbers with second moments near 20 I, learning
rate 0.01, batches of 5 with replacement, noise of variance 0.5 that is fixed in the labels (one
chain, every tenth iterate stored) or drawn anew every step (many chains). Each is run `--rounds`
times with other keys after a call that compiles it. Aim: 60 s each on 2 CPU cores. The
covariance of the many chains is compared with the exact one. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise import theory

RATE, BATCH, VARIANCE = 0.01, 5, 0.5


def timed(
  run: Callable[[jax.Array], jax.Array], rounds: int
) -> tuple[float, list[float], np.ndarray]:
  """Seconds of the first call, those of the rounds after it, and the last result."""
  times = []
  for key in range(rounds + 1):
    begun = time.perf_counter()
    found = run(jax.random.key(key)).block_until_ready()
    times.append(time.perf_counter() - begun)
  return times[0], times[1:], np.asarray(found, np.float64)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--steps", type=int, default=1_000_000, help="of the one chain")
  parser.add_argument("--every", type=int, default=10, help="iterates of it that are stored")
  parser.add_argument("--chains", type=int, default=2000)
  parser.add_argument("--chain_steps", type=int, default=2000, help="of each of the chains")
  parser.add_argument("--rounds", type=int, default=3)
  args = parser.parse_args()

  rng = np.random.default_rng(0)
  x = rng.normal(size=(100, 2)) * 20**0.5
  clean = x.sum(axis=1)
  noisy = clean + rng.normal(size=100) * VARIANCE**0.5
  options = {"learning_rate": RATE, "batch_size": BATCH}

  def one(key: jax.Array) -> jax.Array:
    return theory.least_squares_sgd(key, x, noisy, steps=args.steps, every=args.every, **options)

  def many(key: jax.Array) -> jax.Array:
    return theory.least_squares_sgd(
      key, x, clean, steps=args.chain_steps, chains=args.chains, noise_variance=VARIANCE,
      start=jnp.ones(2), **options,
    )  # fmt: skip

  one_first, one_times, _ = timed(one, args.rounds)
  many_first, many_times, path = timed(many, args.rounds)
  exact = theory.least_squares_sgd_stationary(x, clean, noise_variance=VARIANCE, **options)
  late = path[args.chain_steps // 4 :] - exact.centre
  ratio = np.mean(late**2, axis=(0, 1)) / exact.covariance.diagonal()

  devices = f"{jax.device_count()} x {jax.devices()[0].platform}, {os.cpu_count()} CPU cores"
  one_s, many_s = statistics.median(one_times), statistics.median(many_times)
  print(
    f"{devices}, jax {jax.__version__}: one chain of {args.steps:,} steps {one_s:.2f} s "
    f"(first call {one_first:.2f} s), {args.chains:,} chains of {args.chain_steps:,} steps "
    f"{many_s:.2f} s (first call {many_first:.2f} s), medians of {args.rounds}; variances over "
    f"exact ones {ratio[0]:.3f}, {ratio[1]:.3f}"
  )
  row = {
    **vars(args),
    "device": devices,
    "jax": jax.__version__,
    "one_first_s": round(one_first, 2),
    "one_s": [round(t, 3) for t in one_times],
    "many_first_s": round(many_first, 2),
    "many_s": [round(t, 3) for t in many_times],
    "variance_ratio": ratio.round(4).tolist(),
  }
  print(json.dumps(row))


if __name__ == "__main__":
  main()
