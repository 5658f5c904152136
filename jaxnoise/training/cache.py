"""Compiled programs kept between processes."""

from __future__ import annotations

import os
from pathlib import Path

import jax


def use_compilation_cache() -> None:
  """Keeps compiled programs in JAX_COMPILATION_CACHE_DIR, or ~/.cache/jaxnoise where it is not set.

  The commands call it; a library that is imported changes nobody's settings.
  """
  folder = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(Path.home() / ".cache" / "jaxnoise"))
  jax.config.update("jax_compilation_cache_dir", folder)
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
