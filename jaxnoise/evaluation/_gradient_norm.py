"""How far a network's logits move with its parameters, parts of a suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxnoise import data as data_lib
from jaxnoise import metrics
from jaxnoise.core.errors import InputError, closest
from jaxnoise.core.reduce import promote
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, Method, Params, PRNGKey
from jaxnoise.evaluation import _suite
from jaxnoise.training import sharding

GRADIENT_NORM_ESTIMATORS = ("hutchinson", "exact")
"""Of the gradient norm; the first is the default."""
PERTURBATION_SCALES = (0.001, 0.01, 0.1)
"""Standard deviations of the noise that parameters are moved by."""
DIRECTIONS = 32
"""Random directions that parameters are moved along."""
CHECKED = 500
"""Test images that they are moved for, at most."""
GRADIENT_NORM = "gradient norm"
"""The cell of the images that parameters are moved for."""
_HELD = 2**26
"""Numbers in the per-example gradients that a device holds at once."""


def scale_cell(scale: float) -> str:
  """The cell of a scale.

  Example:
    >>> from jaxnoise import evaluation
    >>> evaluation.scale_cell(1e-4)
    'scale 0.0001'
  """
  return f"scale {scale:g}"


def gradient_norm_part(
  subject: _suite.Subject,
  train: data_lib.Pool,
  rng: PRNGKey,
  *,
  estimator: str = GRADIENT_NORM_ESTIMATORS[0],
  samples: int = metrics.GRADIENT_NORM_SAMPLES,
  settings: Mapping[str, Any] | None = None,
) -> _suite.Part:
  """Measures (1/N) sum_i ||d f(x_i) / d theta||_F^2 over the K logits, of two sets of images.

  The network is in evaluation mode, images are clean and not augmented. theta is every trained
  array that a predictor's logits depend on, of its averages where it is one of averages; running
  statistics are constants.

  Args:
    subject: what is measured.
    train: training images; the paper does not name its set, and this is the likely one.
    rng: key of the draws.
    estimator: "hutchinson", unbiased, with a standard error; or "exact", which takes K backward
      passes for each image.
    samples: draws for each image, at least 2; "exact" has none.
    settings: what else the numbers depend on.

  Returns:
    The part "gradient_norm" with the cells "train" and "test"; the fields are "gradient_norm" and,
    if it is an estimate, "error". The summary has "train", "test", "train_error", "test_error".

  Raises:
    InputError: for an unknown estimator, or fewer than 2 samples.
  """
  about = _check(estimator, samples)
  sets = {"train": train, "test": subject.test}
  outputs = [_Outputs(subject, name, rng, about) for name in subject.predictors]

  def measure(cell: str) -> dict[str, list[dict[str, float]]]:
    images = sets[cell].images
    return {of.predictor: [of.mean(state, images) for state in subject.states] for of in outputs}

  def summarise(cells: Mapping[str, _suite.Values]) -> dict[str, dict[str, list[float]]]:
    out: dict[str, dict[str, list[float]]] = {}
    for cell, values in cells.items():
      for predictor, rows in values.items():
        found = _suite.by_seed(rows)
        mine = out.setdefault(predictor, {})
        mine[cell] = found["gradient_norm"]
        if "error" in found:
          mine[f"{cell}_error"] = found["error"]
    return out

  return _suite.Part(
    "gradient_norm",
    {**about, "images": {name: pool.size for name, pool in sets.items()}, **(settings or {})},
    tuple(sets),
    measure,
    summarise,
    headline="gradient_norm",
    notes=_notes(outputs),
  )


def perturbation_part(
  subject: _suite.Subject,
  rng: PRNGKey,
  *,
  estimator: str = GRADIENT_NORM_ESTIMATORS[0],
  samples: int = metrics.GRADIENT_NORM_SAMPLES,
) -> _suite.Part:
  """Measures what the gradient norm foretells: how far logits move when parameters do.

  With u ~ N(0, I) over all parameters,

    (1/N) sum_i E ||f(x_i, theta + s u) - f(x_i, theta)||^2 = s^2 GN + O(s^4),

  GN the gradient norm of the same images: at most 500, evenly spaced over the test set. The mean
  over u is that of 32 draws, the same for every scale s and every image.

  Args:
    subject: what is measured.
    rng: key of the draws.
    estimator: of GN; see `gradient_norm_part`.
    samples: see there.

  Returns:
    The part "perturbation" with the cell "gradient norm" (see `gradient_norm_part`) and one for
    each of `PERTURBATION_SCALES`, with the fields "change" and "error", its standard error over the
    draws. The summary has the first fields by cell, the errors by cell + " error".

  Raises:
    InputError: see `gradient_norm_part`.
  """
  about = _check(estimator, samples)
  images = evenly_spaced(subject.test, CHECKED).images
  scales = {scale_cell(scale): scale for scale in PERTURBATION_SCALES}
  outputs = [_Outputs(subject, name, rng, about) for name in subject.predictors]

  def measure(cell: str) -> dict[str, list[dict[str, float]]]:
    def of_one(of: _Outputs, state: TrainState) -> dict[str, float]:
      return of.moved(state, images, scales[cell]) if cell in scales else of.mean(state, images)

    return {of.predictor: [of_one(of, state) for state in subject.states] for of in outputs}

  def summarise(cells: Mapping[str, _suite.Values]) -> dict[str, dict[str, list[float]]]:
    out: dict[str, dict[str, list[float]]] = {}
    for cell, values in cells.items():
      for predictor, rows in values.items():
        found = _suite.by_seed(rows)
        mine = out.setdefault(predictor, {})
        mine[cell] = found["change" if cell in scales else "gradient_norm"]
        if "error" in found:
          mine[f"{cell} error"] = found["error"]
    return out

  return _suite.Part(
    "perturbation",
    {**about, "images": len(images), "directions": DIRECTIONS, "scales": list(PERTURBATION_SCALES)},
    (GRADIENT_NORM, *scales),
    measure,
    summarise,
    headline="change",
    notes=_notes(outputs),
  )


def evenly_spaced(pool: data_lib.Pool, count: int) -> data_lib.Pool:
  """At most `count` images of a set, evenly spaced, for a set may be in the order of its classes.

  Example:
    >>> import numpy as np
    >>> from jaxnoise import data, evaluation
    >>> pool = data.Pool(np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1), np.arange(5))
    >>> evaluation.evenly_spaced(pool, 3).labels.tolist()
    [0, 1, 3]
  """
  if not count or count >= pool.size:
    return pool
  chosen = np.arange(count) * pool.size // count
  return data_lib.Pool(
    pool.images[chosen], None if pool.labels is None else pool.labels[chosen]
  )


class _Theta(NamedTuple):
  """Which arrays of a state a predictor's logits depend on.

  Attributes:
    places: among the leaves of (params, ema_params).
    size: numbers in them.
    outputs: K.
  """

  places: tuple[int, ...]
  size: int
  outputs: int


def trained_parameters(
  method: Method, predictor: str, state: TrainState, image_shape: Sequence[int]
) -> _Theta:
  """Finds what of (params, ema_params) the logits depend on, by following the traced program.

  A method of two networks has predictors of one of them, an average has parameters of its own, and
  some networks have branches that only training sees.
  """
  leaves, tree = jax.tree.flatten((state.params, state.ema_params))
  image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)

  def logits(leaves: Sequence[Array], image: Array) -> Array:
    return _predict(method, predictor, state, tree, leaves)(image)

  traced = jax.make_jaxpr(logits)(leaves, image).jaxpr
  needed = {v for v in traced.outvars if not hasattr(v, "val")}
  for equation in reversed(traced.eqns):
    if needed.intersection(equation.outvars):
      needed.update(v for v in equation.invars if not hasattr(v, "val"))
  places = tuple(k for k in range(len(leaves)) if traced.invars[k] in needed)
  return _Theta(places, sum(leaves[k].size for k in places), traced.outvars[0].aval.shape[-1])


def _predict(
  method: Method, predictor: str, state: TrainState, tree: Any, leaves: Sequence[Array]
) -> Callable[[Array], Array]:
  params, averages = jax.tree.unflatten(tree, leaves)
  return method.predictors(state.replace(params=params, ema_params=averages))[predictor]


class _Outputs:
  """One predictor's logits as a function of its parameters, compiled once for all sets and seeds.

  Args:
    subject: whose network it is.
    predictor: its name.
    rng: key of the draws.
    about: {"estimator", "samples"}.
  """

  def __init__(
    self, subject: _suite.Subject, predictor: str, rng: PRNGKey, about: Mapping[str, Any]
  ):
    self.predictor = predictor
    self._subject, self._rng, self._about = subject, rng, about
    shape = subject.test.images.shape[1:]
    self.theta = trained_parameters(subject.method, predictor, subject.states[0], shape)
    mesh = subject.mesh
    rows, everywhere = sharding.batch(mesh), sharding.replicated(mesh)
    # Every device has the gradients of its own examples: nothing is exchanged.
    split = jax.shard_map(
      self._draws,
      mesh=mesh,
      in_specs=(everywhere.spec, rows.spec, rows.spec),
      out_specs=rows.spec,
      check_vma=False,
    )
    self._compiled_draws = jax.jit(split, out_shardings=everywhere)
    self._compiled_change = jax.jit(self._change, out_shardings=everywhere)

  def mean(self, state: TrainState, images: np.ndarray) -> dict[str, float]:
    """The gradient norm of a set, and its standard error if it is an estimate."""
    size = max(1, _HELD // self.theta.size)
    found = [
      np.asarray(self._compiled_draws(state, image, index))[real]
      for image, index, real in self._batches(images, size)
    ]
    draws = np.concatenate(found)
    if self._about["estimator"] == "exact":
      return {"gradient_norm": float(np.mean(draws, dtype=np.float64))}
    value, error = metrics.draws_mean(draws)
    return {"gradient_norm": float(value), "error": float(error)}

  def moved(self, state: TrainState, images: np.ndarray, scale: float) -> dict[str, float]:
    """The mean squared change of the logits with the parameters, and its standard error."""
    total = np.zeros(DIRECTIONS)
    for image, _, real in self._batches(images, len(images)):
      change = self._compiled_change(state, image, jnp.float32(scale))
      total += np.asarray(change, np.float64)[:, real].sum(axis=1)
    change = total / len(images)
    return {
      "change": float(change.mean()),
      "error": float(change.std(ddof=1) / np.sqrt(DIRECTIONS)),
    }

  def _batches(
    self, images: np.ndarray, per_device: int
  ) -> Iterator[tuple[Array, Array, np.ndarray]]:
    """Images and their positions, split over the devices, and which of the rows are no padding."""
    devices = self._subject.mesh.shape["data"]
    size = min(self._subject.batch_size, per_device * devices, len(images))
    split = sharding.batch(self._subject.mesh)
    order = data_lib.padded_batches(len(images), -(-size // devices) * devices)
    for index, mask in zip(*order, strict=True):
      yield jax.device_put(images[index], split), jax.device_put(index, split), mask > 0

  def _function(
    self, state: TrainState
  ) -> tuple[Callable[[Params, Array], Array], list[Array]]:
    """(theta, image) -> logits, and theta."""
    leaves, tree = jax.tree.flatten((state.params, state.ema_params))

    def predict(theta: Sequence[Array], image: Array) -> Array:
      every = list(leaves)
      for place, leaf in zip(self.theta.places, theta, strict=True):
        every[place] = leaf
      return _predict(self._subject.method, self.predictor, state, tree, every)(image)

    return predict, [leaves[place] for place in self.theta.places]

  def _draws(self, state: TrainState, image: Array, index: Array) -> Array:
    """[B, S] whose mean over S is the squared norm of each image; S is 1 for the exact one."""
    predict, theta = self._function(state)
    image = image.astype(jnp.float32) / 255.0
    # Together, unless the backend does better with one at a time.
    chunk = None if jax.default_backend() == "cpu" else len(image)
    if self._about["estimator"] == "exact":
      return metrics.output_gradient_norm(predict, theta, image, chunk=chunk)[:, None]
    samples = self._about["samples"]
    return metrics.gradient_norm_draws(
      predict, theta, image, self._rng, samples=samples, chunk=chunk, index=index
    )

  def _change(self, state: TrainState, image: Array, scale: Array) -> Array:
    """[directions, B], the squared change of each image's logits."""
    predict, theta = self._function(state)
    image = image.astype(jnp.float32) / 255.0
    flat, restore = ravel_pytree(theta)
    before = promote(predict(theta, image))

    def along(number: Array) -> Array:
      u = jax.random.normal(jax.random.fold_in(self._rng, number), flat.shape, flat.dtype)
      after = promote(predict(restore(flat + scale.astype(flat.dtype) * u), image))
      return jnp.sum(jnp.square(after - before), axis=-1)

    return jax.lax.map(along, jnp.arange(DIRECTIONS))


def _check(estimator: str, samples: int) -> dict[str, Any]:
  """The settings of an estimator."""
  if estimator not in GRADIENT_NORM_ESTIMATORS:
    raise InputError(
      f"estimator is {estimator!r}, no such estimator: "
      f"{closest(estimator, GRADIENT_NORM_ESTIMATORS)}"
    )
  if estimator == "exact":
    return {"estimator": estimator}
  if samples < 2:
    raise InputError(
      f"samples is {samples}; it must be 2 or larger, for the standard error is told from the "
      "spread of an image's draws"
    )
  return {"estimator": estimator, "samples": samples}


def _notes(outputs: Sequence[_Outputs]) -> dict[str, Any]:
  return {
    "outputs": {of.predictor: of.theta.outputs for of in outputs},
    "parameters": {of.predictor: of.theta.size for of in outputs},
  }
