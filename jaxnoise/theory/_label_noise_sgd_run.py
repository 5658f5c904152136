"""SGD on least squares with and without label noise, and its Gaussian model, as compiled runs."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core.errors import InputError
from jaxnoise.core.types import Array, Params, PRNGKey
from jaxnoise.theory._label_noise_sgd import OutputFn, check_output, check_variance
from jaxnoise.theory._label_noise_sgd_batches import check_batch, draw_batches, draw_epochs
from jaxnoise.theory._label_noise_sgd_exact import check_learning_rate, loss_factor
from jaxnoise.theory._reweighting import check_positive, check_steps

_NUMBERS_PER_BLOCK = 2**20  # drawn at once, outside of the loop over steps: 4 MB


def least_squares_sgd(
  rng: PRNGKey,
  x: Array,
  labels: Array,
  *,
  steps: int,
  learning_rate: float | Array,
  batch_size: int,
  noise_variance: float | Array = 0.0,
  sampling: str = "with_replacement",
  loss: str = "half",
  start: Array | None = None,
  chains: int | None = None,
  every: int = 1,
  allow_divergence: bool = False,
) -> Array:
  """Runs SGD on least squares, one chain or many side by side, and returns where it went.

    beta_{k+1} = beta_k - (eta / B) sum_{i in batch k} (x_i.beta_k - y_i - eps_k,i) x_i

  Without label noise give the labels x beta*; with noise that is fixed in the data give the noisy
  labels (the paper's experiment); with `noise_variance` eps_k,i ~ N(0, sigma^2) is drawn anew for
  every example of every batch. A million steps of one chain take seconds on a CPU core.

  Args:
    rng: key of the batches and of fresh noise; chains have draws of their own.
    x: [N, d].
    labels: [N].
    steps: K >= 1.
    learning_rate: eta > 0, one number.
    batch_size: B; at most N unless with replacement.
    noise_variance: sigma^2 >= 0 of fresh noise, one number.
    sampling: "with_replacement"; "without_replacement", a new subset every step; or "epoch", N // B
      batches of a shuffled order and then a new order.
    loss: "half" for (f - y)^2 / 2, the convention of all gradients in the paper; "full" for
      (f - y)^2, which is "half" with twice the learning rate.
    start: [d], or [chains, d]; None for 0.
    chains: how many; None for one, without an axis for it.
    every: k, a divisor of `steps`: the iterates k, 2 k, ..., K are returned.
    allow_divergence: whether to run where the second moments grow (see `least_squares_sgd_limit`,
      which decides for d <= 64; wider designs are refused where they diverge for certain, and
      "epoch" is held to the limit of subsets).

  Returns:
    [steps / every, d], or [steps / every, chains, d], float32 at least.

  Raises:
    InputError: for a learning rate at which SGD diverges, shapes that do not fit, unknown names, or
      numbers out of range.

  Source: ULN, eqs. (7), (10) and (17), with half the squared loss, and its Figure 1.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> x = jnp.ones((4, 1))
    >>> theory.least_squares_sgd(
    ...   jax.random.key(0), x, jnp.ones(4), steps=2, learning_rate=0.5, batch_size=2).tolist()
    [[0.5], [0.75]]
  """
  if jnp.ndim(x) != 2 or jnp.shape(labels) != jnp.shape(x)[:1]:
    raise InputError(
      f"x is {list(jnp.shape(x))}, labels are {list(jnp.shape(labels))}; give [N, d] and [N]"
    )
  check_steps(steps)
  check_positive("learning_rate", learning_rate)
  check_variance(noise_variance)
  check_batch(batch_size, len(x), sampling)
  factor = loss_factor(loss)
  for name, value in (("chains", 1 if chains is None else chains), ("every", every)):
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
      raise InputError(f"{name} is {value}; it must be a whole number of at least 1")
  for name, value in (("learning_rate", learning_rate), ("noise_variance", noise_variance)):
    if jnp.ndim(value):
      raise InputError(f"{name} has shape {list(jnp.shape(value))}; it is one number, and jax.vmap "
                       "runs several")
  if steps % every:
    raise InputError(f"every is {every}, which does not divide the {steps} steps; take a divisor")
  unknown = any(isinstance(v, jax.core.Tracer) for v in (x, learning_rate))
  if not allow_divergence and not unknown:
    check_learning_rate(
      x, learning_rate=float(learning_rate), batch_size=batch_size, sampling=sampling, loss=loss
    )
  dtype = jnp.promote_types(jnp.result_type(x, labels, float), jnp.float32)
  shape = (chains or 1, jnp.shape(x)[1])
  start = jnp.zeros(shape[1], dtype) if start is None else jnp.asarray(start, dtype)
  if start.shape not in (shape, shape[1:]):
    raise InputError(f"start is {list(start.shape)}; it must be [d] or [chains, d], {list(shape)}")
  noisy = isinstance(noise_variance, jax.core.Tracer) or np.any(np.asarray(noise_variance) > 0)
  path = _run(
    rng,
    jnp.asarray(x, dtype),
    jnp.asarray(labels, dtype),
    jnp.broadcast_to(start.reshape(-1, shape[1]), shape),
    jnp.asarray(factor * learning_rate, dtype),
    jnp.sqrt(jnp.asarray(noise_variance, dtype)) if noisy else None,
    steps=steps,
    every=every,
    batch_size=batch_size,
    sampling=sampling,
  )
  return path if chains is not None else path[:, 0]


@functools.partial(jax.jit, static_argnames=("steps", "every", "batch_size", "sampling"))
def _run(
  rng: PRNGKey,
  x: Array,
  labels: Array,
  start: Array,
  rate: Array,
  deviation: Array | None,
  *,
  steps: int,
  every: int,
  batch_size: int,
  sampling: str,
) -> Array:
  count, width = x.shape
  chains = len(start)
  block = _block(steps, every, chains * batch_size * (width + 2))
  batch_key, noise_key = jax.random.split(rng)

  def blocks(beta: Array, number: Array):
    first = number * block
    if sampling == "epoch":
      index = draw_epochs(batch_key, first, block, chains, batch_size, count)
    else:
      key = jax.random.fold_in(batch_key, number)
      index = draw_batches(key, (block, chains), batch_size, count, sampling)
    targets = labels[index]
    if deviation is not None:
      key = jax.random.fold_in(noise_key, number)
      targets = targets + deviation * jax.random.normal(key, targets.shape, targets.dtype)
    rows = x[index]  # [block, chains, B, d]

    def step(beta: Array, batch: tuple[Array, Array]):
      rows, targets = batch
      residual = jnp.sum(rows * beta[:, None], axis=-1) - targets
      beta = beta - rate * jnp.mean(residual[..., None] * rows, axis=1)
      return beta, beta

    beta, path = jax.lax.scan(step, beta, (rows, targets))
    if every <= block:
      return beta, path[every - 1 :: every]
    # At most one iterate of this block is kept; which blocks have one is known below.
    return beta, jnp.take(path, (every - 1 - first) % every, axis=0, mode="clip")[None]

  path = jax.lax.scan(blocks, start, jnp.arange(-(-steps // block)))[1]
  path = path.reshape(-1, *start.shape)
  if every <= block:
    return path[: steps // every]
  return path[(np.arange(every, steps + 1, every) - 1) // block]


def _block(steps: int, every: int, numbers: int) -> int:
  """Steps to draw for at once: of about equal blocks, each a multiple of a short `every`."""
  most = max(_NUMBERS_PER_BLOCK // numbers, 1)
  block = -(-steps // -(-steps // most))
  return -(-block // every) * every if every <= block else block


def uln_dynamics(
  rng: PRNGKey,
  f: OutputFn,
  params: Params,
  x: Array,
  targets: Array,
  *,
  steps: int,
  learning_rate: float | Array,
  batch_size: int,
  noise_variance: float | Array,
) -> Params:
  """Runs the Gaussian model of SGD: every step a full gradient and two normal noises.

    theta_{k+1} = theta_k - eta gbar + (eta / sqrt(B)) (Sigma_SGD^(1/2) z_k + Sigma_ULN^(1/2) z'_k)

  with z_k, z'_k ~ N(0, I), gbar the mean gradient of the noiseless losses and both covariances at
  theta_k. Where noise_variance is 0 it is (9). For any factor A A^T = Sigma the law of A z is the
  same, so the N centred gradients over sqrt(N) are taken: one backward pass a step, no d x d
  matrix. Mean and covariance of a step are those of SGD with replacement and fresh noise.

  Args:
    rng: key.
    f: (params, x_i) -> scalar.
    params: theta_0, any pytree of floats.
    x: [N, ...].
    targets: [N], the noiseless labels f*(x_i).
    steps: K >= 1.
    learning_rate: eta > 0.
    batch_size: B >= 1.
    noise_variance: sigma^2 >= 0.

  Returns:
    theta_1 .. theta_K, every leaf with a leading axis [K].

  Raises:
    InputError: for targets that are not [N], an output that is not a scalar, or numbers out of
      range.

  Source: ULN, eqs. (9) and (14), whose increments lack a factor sqrt(eta) in print; the form is
    that of Li, Tai and E (2017).

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> path = theory.uln_dynamics(
    ...   jax.random.key(0), lambda beta, x: beta * x, 0.0, jnp.ones(3), jnp.ones(3), steps=2,
    ...   learning_rate=0.5, batch_size=2, noise_variance=0.0)
    >>> path.tolist()  # equal examples: nothing to sample
    [0.5, 0.75]
  """
  check_steps(steps)
  check_positive("learning_rate", learning_rate)
  check_positive("batch_size", batch_size)
  check_variance(noise_variance)
  count = jnp.shape(x)[0]
  if jnp.shape(targets) != (count,):
    raise InputError(f"targets are {list(jnp.shape(targets))} for {count} examples; give [{count}]")
  params = jax.tree.map(lambda v: jnp.asarray(v, jnp.result_type(v, float)), params)
  check_output(f, params, x)

  def run(rng: PRNGKey, params: Params, x: Array, targets: Array, eta: Array, sigma: Array):
    def step(theta: Params, k: Array):
      values, pull = jax.vjp(lambda v: jax.vmap(f, (None, 0))(v, x), theta)
      residual = values - targets.astype(values.dtype)
      z = jax.random.normal(jax.random.fold_in(rng, k), (2, count), values.dtype)
      noise = residual * (z[0] - jnp.mean(z[0])) + sigma * z[1]
      weight = noise / (batch_size * count) ** 0.5 - residual / count
      (move,) = pull(weight.astype(values.dtype))
      theta = jax.tree.map(lambda v, m: (v + eta * m).astype(v.dtype), theta, move)
      return theta, theta

    return jax.lax.scan(step, params, jnp.arange(steps))[1]

  sigma = jnp.sqrt(jnp.asarray(noise_variance, float))
  return jax.jit(run)(rng, params, jnp.asarray(x), jnp.asarray(targets), learning_rate, sigma)
