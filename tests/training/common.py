"""A tiny run: 48 generated images of 8x8, the toy network, seconds on a CPU."""

import contextlib

import jax
import numpy as np

from jaxnoise import data, methods
from jaxnoise.training import build, sharding, writers
from tests.toy import toy_network

CONFIG = {
  "total": "3 epochs",
  "batch_size": 16,
  "data": {"name": "generated"},
  "evaluate": {"every": "1 epoch", "batch_size": 16},
}


def tiny_source(num_train=48, num_classes=3):
  return data.generated(num_train=num_train, num_test=24, num_classes=num_classes, size=8)


def tiny_run(method=None, *, devices=1, source=None, **changes):
  """A run on the first `devices` CPU devices; `method` is a factory, ERM unless given."""
  from jaxnoise.training import schema

  mesh = sharding.make_mesh(jax.devices()[:devices])
  return build.assemble(
    schema.merge(CONFIG, changes),
    source=source or tiny_source(),
    network=toy_network(),
    method=method or methods.erm,
    mesh=mesh,
  )


def told(workdir, *, host=False):
  """The rows of a run without the header and, unless `host`, what the host's clock said."""
  rows = (row for row in writers.read_rows(workdir / "metrics.jsonl") if "step" in row)
  return [{k: v for k, v in row.items() if host or "train/host/" not in k} for row in rows]


class Compilations(dict):
  """step -> how many programs had been compiled by then; `note` is an `on_step`."""

  def __init__(self):
    super().__init__()
    self.names = []

  def note(self, step):
    self[step] = len(self.names)


@contextlib.contextmanager
def compilations():
  """Counts programs as they are compiled, or read from a cache of compiled ones."""
  counts = Compilations()

  def listen(name, *_, **__):
    if "backend_compile" in name:
      counts.names.append(name)

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    yield counts
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)


def assert_same(a, b, **tolerance):
  """Leaf by leaf: bitwise without a tolerance."""

  def numbers(x):
    is_key = jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if is_key else x)

  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    if tolerance:
      np.testing.assert_allclose(numbers(x), numbers(y), **tolerance)
    else:
      np.testing.assert_array_equal(numbers(x), numbers(y))
