"""From process start to the first finished step, cold and with the compilation cache.

  python benchmarks/startup.py

Each time a fresh process imports jaxnoise, builds configs/noisymix_digits.py and runs one step;
first with an empty cache, then with the one the first left. A third process trains six epochs and
counts compilations after the first: the aim is zero.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def child(started: float, epochs: int) -> None:
  """Runs in the fresh process; prints seconds to the first step, or compilations by epoch."""
  import jax

  from jaxnoise import main as main_lib
  from jaxnoise.training import build, loop

  compiled = []

  def listen(name, *_, **__):
    if "backend_compile" in name:
      compiled.append(name)

  jax.monitoring.register_event_duration_secs_listener(listen)
  jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
  arguments = [f"--config={ROOT}/configs/noisymix_digits.py"]
  config = main_lib.parse(["main", *arguments])[0]["config"]
  config["total"] = f"{epochs} epochs" if epochs else "1 steps"
  run = build.assemble(config)
  if not epochs:
    programs = loop.Programs(run)
    from jaxnoise import data

    arrays = data.device_data(run.source)
    state = programs.init()
    orders = programs.epoch_orders(state, arrays, 0)
    totals = programs.zero_totals(state, arrays, orders)
    jax.block_until_ready(programs.step(state, arrays, orders, totals))
    print(f"{time.time() - started:.2f}")
    return
  counts = {}
  with tempfile.TemporaryDirectory() as folder:
    loop.train(
      run, Path(folder) / "run", quiet=True, on_step=lambda s: counts.update({s: len(compiled)})
    )
  per_epoch = run.spec.steps_per_epoch
  print(f"{counts[per_epoch]} {counts[epochs * per_epoch] - counts[per_epoch]}")


def spawn(cache: str, epochs: int) -> str:
  """What a fresh process prints."""
  command = [sys.executable, __file__, "--child", str(time.time()), str(epochs)]
  environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache}
  done = subprocess.run(
    command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True
  )
  return done.stdout.split("\n")[-2]


def main() -> None:
  if "--child" in sys.argv:
    child(float(sys.argv[-2]), int(sys.argv[-1]))
    return
  with tempfile.TemporaryDirectory() as cache:
    cold, warm = float(spawn(cache, 0)), float(spawn(cache, 0))
    ratio = cold / warm
    print(f"start to first step: cold {cold:.1f} s, with cache {warm:.1f} s, ratio {ratio:.1f}")
    first, later = spawn(cache, 6).split()
    print(f"compilations: {first} in the first epoch, {later} in the five after it")


if __name__ == "__main__":
  main()
