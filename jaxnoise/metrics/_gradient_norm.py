"""How far outputs move with a network's parameters: ||d f(x) / d theta||_F^2, of each example.

Exact, with one backward pass for each output, or estimated without bias from a few random ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core import InputError
from jaxnoise.core.reduce import promote
from jaxnoise.core.types import Array, Params, PRNGKey

Predict: TypeAlias = Callable[[Params, Array], Array]
"""(params, image [B, ...]) -> logits [B, K], each row by itself: evaluation mode."""
GRADIENT_NORM_SAMPLES = 4
"""Draws for each example, by default."""
_CHUNK = 16


def output_gradient_norm(
  predict: Predict, params: Params, images: Array, *, chunk: int | None = None
) -> Array:
  """Computes ||J_i||_F^2 = sum_k ||d f_k(x_i) / d theta||_2^2 exactly, for every example.

  K backward passes for each example, one after the other, `chunk` examples at a time: memory is
  that of chunk gradients, whatever N and K are. Neither the sum of the logits nor the sum over
  examples may be differentiated in their place: gradients of different sign would cancel.

  Args:
    predict: (params, image [B, ...]) -> logits [B, K]. It has to treat every example by itself, so
      batch normalisation with its running statistics, and no dropout.
    params: what is differentiated by, any pytree of floating arrays. Batch statistics and other
      constants belong into `predict`.
    images: [N, ...].
    chunk: examples at a time; the result does not depend on it. None means 16, and on a CPU 1: the
      gradients of several examples for one kernel are a grouped convolution, which is slow there.

  Returns:
    [N], at least float32, non-negative. Their mean is the gradient norm of the paper,
    (1/N) sum_i ||d f(x_i) / d theta||^2.

  Raises:
    InputError: for logits that are not [B, K], parameters that are not floating, no images, or a
      chunk below 1.

  Source: unbiased label noise, eqs. (6), (16), (22), for K outputs.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import metrics
    >>> linear = lambda params, x: x @ params["w"] + params["b"][None]
    >>> params = {"w": jnp.ones((2, 3)), "b": jnp.zeros(3)}
    >>> metrics.output_gradient_norm(linear, params, jnp.array([[1.0, 2.0], [0.0, 0.0]])).tolist()
    [18.0, 3.0]
  """
  chunk = _check(predict, params, images, chunk)

  def of_one(image: Array) -> Array:
    logits, pull = _pullback(predict, params, image)

    def add(total: Array, k: Array) -> tuple[Array, None]:
      return total + _square(pull(jax.nn.one_hot(k, logits.size, dtype=logits.dtype))), None

    # The zero has the dtype that the sum has, whatever the parameters' is.
    zero = jnp.zeros((), _sum_dtype(params))
    return jax.lax.scan(add, zero, jnp.arange(logits.size))[0]

  return _in_chunks(of_one, chunk, images)


def gradient_norm_draws(
  predict: Predict,
  params: Params,
  images: Array,
  rng: PRNGKey,
  *,
  samples: int = GRADIENT_NORM_SAMPLES,
  chunk: int | None = None,
  index: Array | None = None,
) -> Array:
  """Draws ||J_i^T v||_2^2 with v uniform on {-1, 1}^K, whose mean is ||J_i||_F^2.

  With K_i = J_i J_i^T the variance of a draw is 2 (||K_i||_F^2 - sum_k (K_i)_kk^2), less than with
  Gaussian v by the diagonal; for one output it is 0. Every draw of every example has a v of its
  own. One v for a whole batch in a single backward pass would cost about as much and average over
  far less: the draws of its examples are no longer independent.

  Args:
    predict: see `output_gradient_norm`.
    params: see there.
    images: [N, ...].
    rng: key.
    samples: S, draws for each example, at least 1; each costs a backward pass.
    chunk: examples at a time, see there.
    index: [N] integers that the draws are folded from, so that they do not depend on how a set is
      cut into batches; None means 0..N-1.

  Returns:
    [N, S], at least float32, non-negative.

  Raises:
    InputError: see `output_gradient_norm`; for fewer than 1 sample, or an index of another length.

  Source: Hutchinson's estimator of the trace of J J^T.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import metrics
    >>> linear = lambda params, x: x @ params["w"] + params["b"][None]
    >>> params = {"w": jnp.ones((2, 3)), "b": jnp.zeros(3)}
    >>> x = jnp.array([[1.0, 2.0]])
    >>> metrics.gradient_norm_draws(linear, params, x, jax.random.key(0), samples=2).tolist()
    [[18.0, 18.0]]
  """
  chunk = _check(predict, params, images, chunk)
  if samples < 1:
    raise InputError(f"samples is {samples}; it must be 1 or larger")
  count = len(images)
  index = jnp.arange(count) if index is None else jnp.asarray(index)
  if index.shape != (count,):
    raise InputError(
      f"index has shape {index.shape}, but there are {count} images; give one integer to each"
    )

  def of_one(image: Array, number: Array) -> Array:
    logits, pull = _pullback(predict, params, image)
    signs = jax.random.rademacher(
      jax.random.fold_in(rng, number), (samples, logits.size), dtype=logits.dtype
    )
    return jax.lax.map(lambda v: _square(pull(v)), signs)

  return _in_chunks(of_one, chunk, images, index)


def hutchinson_gradient_norm(
  predict: Predict,
  params: Params,
  images: Array,
  rng: PRNGKey,
  *,
  samples: int = GRADIENT_NORM_SAMPLES,
  chunk: int | None = None,
) -> tuple[Array, Array]:
  """Estimates (1/N) sum_i ||J_i||_F^2 without bias, and says how far off that may be.

  Args:
    predict: see `output_gradient_norm`.
    params: see there.
    images: [N, ...].
    rng: key.
    samples: S, draws for each example, at least 2; see `gradient_norm_draws`.
    chunk: examples at a time, see there.

  Returns:
    (estimate, standard error), scalars; see `draws_mean`.

  Raises:
    InputError: see `gradient_norm_draws`; for fewer than 2 samples.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import metrics
    >>> shared = lambda params, x: (x @ params)[:, None] * jnp.array([[1.0, 2.0]])
    >>> x = jnp.ones((400, 3))
    >>> mean, error = metrics.hutchinson_gradient_norm(shared, jnp.ones(3), x, jax.random.key(0))
    >>> bool(abs(mean - 15) < 4 * error), bool(0.2 < error < 0.4)
    (True, True)
  """
  _check_spread(samples)
  draws = gradient_norm_draws(predict, params, images, rng, samples=samples, chunk=chunk)
  return draws_mean(draws)


def draws_mean(draws: Array) -> tuple[Array, Array]:
  """The mean of draws [N, S] over both axes, and its standard error given the N examples.

  The error is sqrt(sum_i s_i^2 / S) / N with s_i^2 the variance of the draws of example i (S - 1
  under it): that of the draws alone. How different the examples are is no part of it. Of a few
  examples and draws it is a rough number, and may be 0 where draws agree by chance.

  Args:
    draws: [N, S] from `gradient_norm_draws`, S at least 2; of real examples only.

  Returns:
    (mean, standard error), scalars.

  Raises:
    InputError: for S below 2, from which no spread can be told.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import metrics
    >>> [float(x) for x in metrics.draws_mean(jnp.array([[1.0, 3.0], [10.0, 10.0]]))]
    [6.0, 0.5]
  """
  draws = promote(jnp.asarray(draws))
  count, samples = draws.shape
  _check_spread(samples)
  # About each example's own mean, or float32 would lose the spread of a large number.
  own = jnp.var(draws, axis=1, ddof=1)
  return jnp.mean(draws), jnp.sqrt(jnp.sum(own) / samples) / count


def _check(predict: Predict, params: Params, images: Array, chunk: int | None) -> int:
  """Refuses what does not fit; returns the number of examples at a time."""
  if chunk is None:
    chunk = 1 if jax.default_backend() == "cpu" else _CHUNK
  if chunk < 1:
    raise InputError(f"chunk is {chunk}; it must be 1 or larger")
  for leaf in jax.tree.leaves(params):
    if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
      raise InputError(
        f"params has an array of type {jnp.result_type(leaf)}; give what is trained, and keep "
        "counts and other constants within predict"
      )
  if not len(images):
    raise InputError("images is empty; give one or more")
  shape = jax.eval_shape(predict, params, images[:1]).shape
  if len(shape) != 2 or shape[0] != 1:
    raise InputError(
      f"predict gives {list(shape)} for one image; it must give logits [1, K], one row per image"
    )
  return chunk


def _check_spread(samples: int) -> None:
  if samples < 2:
    raise InputError(
      f"samples is {samples}; it must be 2 or larger, for the standard error is told from the "
      "spread of an example's draws"
    )


def _pullback(predict: Predict, params: Params, image: Array):
  """Logits [K] of one image, in at least float32, and their vector-Jacobian product."""
  return jax.vjp(lambda p: promote(predict(p, image[None]))[0], params)


def _square(gradient: Params) -> Array:
  """||g||^2 over all leaves, each promoted before it is squared."""
  (tree,) = gradient
  return sum(jnp.sum(jnp.square(promote(leaf))) for leaf in jax.tree.leaves(tree))


def _sum_dtype(params: Params) -> np.dtype:
  return jnp.result_type(jnp.float32, *jax.tree.leaves(params))


def _in_chunks(of_one: Callable[..., Array], chunk: int, *rows: Array) -> Array:
  """Maps rows [N, ...] in chunks of at most `chunk`; the last is filled up and cut off again."""
  rows = tuple(jnp.asarray(x) for x in rows)
  count = len(rows[0])
  chunk = min(chunk, count)
  chunks = -(-count // chunk)
  if chunks == 1:
    return jax.vmap(of_one)(*rows)
  # Repeats of the last row rather than zeros: an image that no network expects may give nan.
  place = jnp.minimum(jnp.arange(chunks * chunk), count - 1)
  split = [x[place].reshape(chunks, chunk, *x.shape[1:]) for x in rows]
  if chunk == 1:
    out = jax.lax.map(lambda one: of_one(*(x[0] for x in one))[None], split)
  else:
    out = jax.lax.map(lambda some: jax.vmap(of_one)(*some), split)
  return out.reshape(chunks * chunk, *out.shape[2:])[:count]
