"""Test session: eight CPU devices, strict ranks, and the golden values of the authors' code."""

import functools
import os
import pathlib

import jax
import numpy as np
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Two thirds of the suite's time was LLVM's, on programs that run for milliseconds. Commands that
# tests start as processes of their own are compiled as a user's are, and so is everything with
# JAXNOISE_TEST_OPTIMISED=1.
OPTIMISED = bool(os.environ.get("JAXNOISE_TEST_OPTIMISED"))
jax.config.update("jax_disable_most_optimizations", not OPTIMISED)

GOLDEN = pathlib.Path(__file__).parent / "golden"


@functools.cache
def load_golden(name: str) -> dict[str, np.ndarray]:
  """Reads one golden file whole; keys contain '/' as a separator."""
  with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as data:
    return {key: data[key] for key in data.files}


@pytest.fixture
def optimised():
  """For a test that compares two programs bit by bit: both round as a user's would."""
  jax.config.update("jax_disable_most_optimizations", False)
  jax.clear_caches()
  yield
  jax.config.update("jax_disable_most_optimizations", not OPTIMISED)


@pytest.fixture
def golden():
  """`golden("noisymix")["jsd/c0/value"]`."""
  return load_golden
