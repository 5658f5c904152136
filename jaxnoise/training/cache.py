"""Settings of the compiler: programs kept between processes, the same bits in every run."""

from __future__ import annotations

import os
from pathlib import Path

import jax

from jaxnoise.core.errors import InputError


def use_compilation_cache() -> None:
  """Keeps compiled programs in JAX_COMPILATION_CACHE_DIR, or ~/.cache/jaxnoise where it is not set.

  The commands call it; a library that is imported changes nobody's settings.
  """
  folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
  if folder is None:
    try:
      folder = str(Path.home() / ".cache" / "jaxnoise")
    except RuntimeError:  # a user without a home, as in some containers: nothing is kept
      return
  jax.config.update("jax_compilation_cache_dir", folder)
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


_DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


def ask_for_determinism() -> None:
  """Makes a GPU give the same bits in every run; to be called before a device is first used.

  The commands call it where `config.deterministic` is set. CPUs and TPUs do so anyway.
  """
  flags = os.environ.get("XLA_FLAGS", "")
  if _DETERMINISTIC not in flags:
    os.environ["XLA_FLAGS"] = f"{flags} {_DETERMINISTIC}".strip()


def check_determinism(backend: str) -> None:
  """Raises InputError where `config.deterministic` is set but a GPU was not asked for it.

  Args:
    backend: "cpu", "gpu" or "tpu".
  """
  if backend in ("gpu", "cuda", "rocm") and _DETERMINISTIC not in os.environ.get("XLA_FLAGS", ""):
    raise InputError(
      "config.deterministic is True, but the GPU was not asked for it before it was first used; "
      f"set the environment variable XLA_FLAGS={_DETERMINISTIC} before Python starts"
    )
