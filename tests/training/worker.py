"""A run in a process of its own, for tests that kill it: `worker.py WORKDIR [die_after_step]`."""

import os
import signal
import sys

import jax

from jaxnoise.training import loop
from tests.training.common import tiny_run
from tests.training.test_contracts import noisy_mix_factory

jax.config.update("jax_compilation_cache_dir", os.environ["CACHE"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def main(workdir: str, die_after: int, how: int) -> int:
  run = tiny_run(
    noisy_mix_factory, total="4 epochs", checkpoint={"every": "2 steps"}, log={"every": "2 steps"}
  )

  def on_step(step: int) -> None:
    if step == die_after:
      os.kill(os.getpid(), how)

  result = loop.train(run, workdir, quiet=True, on_step=on_step)
  print("finished" if result.finished else "stopped", result.step)
  return 0


if __name__ == "__main__":
  die_after = int(sys.argv[2]) if len(sys.argv) > 2 else -1
  how = getattr(signal, sys.argv[3]) if len(sys.argv) > 3 else signal.SIGKILL
  sys.exit(main(sys.argv[1], die_after, how))
