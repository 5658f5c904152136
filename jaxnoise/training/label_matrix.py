"""The noise matrix that a trained network estimates on trusted examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise import data, methods
from jaxnoise.core.errors import InputError
from jaxnoise.training import networks

if TYPE_CHECKING:
  from jaxnoise.training.build import Run

_BATCH = 500


def load(
  run: str, source: data.Source, pending: Mapping[str, Run] | None = None
) -> np.ndarray | None:
  """Estimates P(given label | true label) with the network of a finished run.

  C[k] is the mean of its predicted probabilities over the trusted examples whose true label is k:
  `methods.estimate_label_matrix`. The network is in evaluation mode, the images are as they are.

  Args:
    run: `config.label_matrix`, the run directory of a network trained on the noisy labels; "" for
      none.
    source: its pool "trusted" is what the estimate is made on.
    pending: runs that are not trained yet, by directory; for these, the identity.

  Returns:
    [K, K] with rows that sum to 1, or None where no run is named.

  Raises:
    InputError: without a trusted pool, or where the run cannot be loaded.
  """
  if not run:
    return None
  if "trusted" not in source.pools:
    raise InputError(
      f"config.label_matrix is {run!r}, but there are no trusted examples to estimate it on; set "
      "config.data.trusted to how many there are"
    )
  network, variables = networks.load_teacher(run, source, pending, field="config.label_matrix")
  if run in (pending or {}):
    return np.eye(source.num_classes)
  pool = source.pools["trusted"]

  @jax.jit
  def probabilities(variables, image):
    logits = network.apply(variables["params"], variables["batch_stats"], image / 255.0).logits
    return jax.nn.softmax(logits)

  parts = [
    np.asarray(probabilities(variables, jnp.asarray(pool.images[i : i + _BATCH], jnp.float32)))
    for i in range(0, pool.size, _BATCH)
  ]
  return methods.estimate_label_matrix(np.concatenate(parts), pool.labels)
