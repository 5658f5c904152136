"""Test session: eight CPU devices, strict ranks, and the golden values of the authors' code."""

import functools
import pathlib

import jax
import numpy as np
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

GOLDEN = pathlib.Path(__file__).parent / "golden"


@functools.cache
def load_golden(name: str) -> dict[str, np.ndarray]:
  """Reads one golden file whole; keys contain '/' as a separator."""
  with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as data:
    return {key: data[key] for key in data.files}


@pytest.fixture
def golden():
  """`golden("noisymix")["jsd/c0/value"]`."""
  return load_golden
