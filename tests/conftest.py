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
# Most of the suite's time is spent compiling programs that run for milliseconds. So the tests, and
# the commands that they start as processes of their own, leave out LLVM's expensive passes and take
# the older of XLA's emitters of fusions, which is twice as fast. With JAXNOISE_TEST_OPTIMISED=1
# everything is compiled as a user's programs are.
OPTIMISED = bool(os.environ.get("JAXNOISE_TEST_OPTIMISED"))
OLDER_FUSIONS = "--xla_cpu_use_fusion_emitters=false"
jax.config.update("jax_disable_most_optimizations", not OPTIMISED)
if not OPTIMISED:
  os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
  flags = os.environ.get("XLA_FLAGS", "").split()
  # Later versions have the newer emitters alone, and XLA aborts at a flag that it does not know.
  if jax.__version__.startswith("0.10.") and OLDER_FUSIONS not in flags:
    os.environ["XLA_FLAGS"] = " ".join([*flags, OLDER_FUSIONS])

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
