"""Unbiased label noise (ULN) in SGD: the noise it adds to a step, as a covariance and a strength.

Labels are y~_i = f*(x_i) + eps_i, Var eps_i = sigma^2, and the loss is (f - y~)^2 / 2, whose
gradient (f - y~) grad f is the one the paper works with. With G = (1/N) sum_i grad f_i grad f_i^T
the text has the noise of the labels in three scalings without saying so; here they are named:

  scale        what it is                                              covariance
  "gradient"   the noise of a mini-batch gradient (eqs. 10, 11)        (sigma^2 / B) G
  "paper"      the diffusion's, per root of a step (4)-(6), (15)-(22)  (eta sigma^2 / B) G
  "increment"  what one step of SGD adds to the parameters             (eta^2 sigma^2 / B) G

`_label_noise_sgd_exact` has what SGD on least squares settles to, `_label_noise_sgd_run` runs it.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core.errors import InputError, closest
from jaxnoise.core.types import Array, Params, PRNGKey
from jaxnoise.theory._label_noise_sgd_batches import check_batch, draw_batches
from jaxnoise.theory._reweighting import check_positive

OutputFn = Callable[[Params, Array], Array]

_POWERS = {"gradient": 0, "paper": 1, "increment": 2}  # of eta, in the covariance


def output_gradients(f: OutputFn, params: Params, x: Array) -> Array:
  """Computes the gradient of a scalar output for its parameters, example by example.

  Args:
    f: (params, x_i) -> scalar.
    params: any pytree of floats with d numbers in all.
    x: [N, ...].

  Returns:
    [N, d], the leaves raveled and joined in the order of `jax.tree.leaves`.

  Raises:
    InputError: for an output that is not a scalar.

  Source: ULN, the grad_theta f(x_i, theta) of eqs. (4), (12) and (15).

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    >>> theory.output_gradients(lambda beta, x: beta @ x, jnp.zeros(2), x).tolist()
    [[1.0, 2.0], [3.0, 4.0]]
  """
  check_output(f, params, x)
  gradients = jax.vmap(jax.grad(f), (None, 0))(params, x)
  rows = [leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(gradients)]
  return jnp.concatenate(rows, axis=1)


def uln_sampling_covariance(loss_gradients: Array) -> Array:
  """Computes Sigma_SGD, the covariance over examples of the gradients of noiseless losses.

    Sigma_SGD = (1/N) sum_i (g_i - gbar) (g_i - gbar)^T,    g_i = (f_i - f*_i) grad f_i

  Drawing B examples with replacement gives a gradient of covariance Sigma_SGD / B. The print
  centres on the mean of the losses, which does not have the shape; the mean gradient is meant. In
  (19), of least squares, it writes beta for beta - beta*.

  Args:
    loss_gradients: [N, d], g_i; for least squares ((x beta - x beta*)[:, None] * x).

  Returns:
    [d, d].

  Raises:
    InputError: for gradients that are not [N, d].

  Source: ULN, eqs. (12) and (19), corrected.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> theory.uln_sampling_covariance(jnp.array([[1.0, 5.0], [3.0, 5.0]])).tolist()
    [[1.0, 0.0], [0.0, 0.0]]
  """
  gradients = _checked(loss_gradients)
  off = gradients - jnp.mean(gradients, axis=0, keepdims=True)
  return off.T @ off / len(off)


def uln_noise_covariance(gradients: Array, noise_variance: float | Array) -> Array:
  """Computes Sigma_ULN = (sigma^2 / N) sum_i grad f_i grad f_i^T.

  Args:
    gradients: [N, d], grad f_i, from `output_gradients`; for least squares x itself.
    noise_variance: sigma^2 >= 0, of the labels.

  Returns:
    [d, d]; the noise of labels in a batch of B has covariance Sigma_ULN / B.

  Raises:
    InputError: for gradients that are not [N, d], or a negative variance.

  Source: ULN, eqs. (12) and (19).

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> theory.uln_noise_covariance(jnp.array([[1.0, 1.0], [1.0, 3.0]]), 0.5).tolist()
    [[0.5, 1.0], [1.0, 2.5]]
  """
  gradients = _checked(gradients)
  check_variance(noise_variance)
  return noise_variance * (gradients.T @ gradients) / len(gradients)


def uln_regularizer_covariance(
  gradients: Array,
  noise_variance: float | Array,
  *,
  batch_size: int,
  scale: str,
  learning_rate: float | Array | None = None,
) -> Array:
  """Computes the covariance of the implicit regulariser xi^ULN in a named scaling.

    "gradient" (sigma^2 / B) G,   "paper" (eta sigma^2 / B) G,   "increment" (eta^2 sigma^2 / B) G

  "paper" is eqs. (4), (5), (15) and (20), sqrt(eta / B) (sigma^2 G)^(1/2) z; one step of SGD adds
  sqrt(eta) times that.

  Args:
    gradients: [N, d], grad f_i.
    noise_variance: sigma^2 >= 0.
    batch_size: B >= 1.
    scale: "gradient", "paper" or "increment".
    learning_rate: eta > 0; needed for the last two.

  Returns:
    [d, d].

  Raises:
    InputError: for an unknown scale, a missing learning rate, or numbers out of range.

  Source: ULN, Propositions 1 and 2.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> gradients = jnp.array([[2.0], [4.0]])  # G = 10
    >>> for scale in ("gradient", "paper", "increment"):
    ...   found = theory.uln_regularizer_covariance(
    ...     gradients, 0.5, batch_size=5, learning_rate=0.1, scale=scale)
    ...   print(scale, round(float(found[0, 0]), 4))
    gradient 1.0
    paper 0.1
    increment 0.01
  """
  factor = _factor(scale, batch_size, learning_rate)
  return factor * uln_noise_covariance(gradients, noise_variance)


def uln_regularizer_strength(
  gradients: Array,
  noise_variance: float | Array,
  *,
  batch_size: int,
  scale: str,
  learning_rate: float | Array | None = None,
) -> Array:
  """Computes E |xi^ULN|^2, the expected strength of the implicit regulariser.

    scale="paper":  (eta sigma^2 / (B N)) sum_i |grad f_i|^2

  and with eta^0 or eta^2 for "gradient" and "increment": the trace of
  `uln_regularizer_covariance`, without the d x d matrix.

  Args:
    gradients: [N, d], grad f_i.
    noise_variance: sigma^2 >= 0.
    batch_size: B >= 1.
    scale: "gradient", "paper" or "increment".
    learning_rate: eta > 0; needed for the last two.

  Returns:
    A scalar.

  Raises:
    InputError: as `uln_regularizer_covariance`.

  Source: ULN, eqs. (6), (16) and (22).

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> float(theory.uln_regularizer_strength(
    ...   jnp.array([[1.0, 1.0], [1.0, 3.0]]), 0.5, batch_size=3, learning_rate=0.1, scale="paper"))
    0.1
  """
  gradients = _checked(gradients)
  check_variance(noise_variance)
  factor = _factor(scale, batch_size, learning_rate)
  return factor * noise_variance * jnp.sum(gradients**2) / len(gradients)


def uln_regularizer_draws(
  rng: PRNGKey,
  gradients: Array,
  noise_variance: float | Array,
  *,
  draws: int,
  batch_size: int,
  scale: str,
  learning_rate: float | Array | None = None,
  sampling: str = "with_replacement",
) -> Array:
  """Draws xi^ULN = -(1/B) sum_{j in batch} eps_j grad f_j, a fresh batch and fresh noise each time.

  eps is normal. Their covariance and mean square are those of the two functions above, by any way
  of drawing the batch: it is the noise that is independent.

  Args:
    rng: key.
    gradients: [N, d], grad f_i.
    noise_variance: sigma^2 >= 0.
    draws: how many, >= 1.
    batch_size: B >= 1; at most N without replacement.
    scale: "gradient"; "paper" and "increment" multiply by sqrt(eta) and eta.
    learning_rate: eta > 0; needed for the last two.
    sampling: "with_replacement" or "without_replacement".

  Returns:
    [draws, d].

  Raises:
    InputError: for names that are not known, or numbers out of range.

  Source: ULN, eq. (11); for symmetric noise the sign, which the print leaves out, is of no account.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import theory
    >>> gradients, rng = jnp.array([[1.0, 1.0], [1.0, 3.0]]), jax.random.key(0)
    >>> xi = theory.uln_regularizer_draws(
    ...   rng, gradients, 0.5, draws=4096, batch_size=3, scale="gradient")
    >>> bool(abs(jnp.mean(jnp.sum(xi**2, axis=1)) - 1.0) < 0.1)  # 0.5 / 3 * (2 + 10) / 2
    True
  """
  gradients = _checked(gradients)
  check_variance(noise_variance)
  if isinstance(draws, bool) or not isinstance(draws, int | np.integer) or draws < 1:
    raise InputError(f"draws is {draws}; it must be a whole number of at least 1")
  check_batch(batch_size, len(gradients), sampling)
  if sampling == "epoch":
    raise InputError("sampling is 'epoch'; draws that do not depend on each other have no epochs")
  batch_key, noise_key = jax.random.split(rng)
  index = draw_batches(batch_key, (draws,), batch_size, len(gradients), sampling)
  noise = jax.random.normal(noise_key, index.shape, gradients.dtype)
  # _factor has the 1 / B of a covariance; a batch mean brings its own.
  scaled = jnp.sqrt(_factor(scale, batch_size, learning_rate) * batch_size * noise_variance)
  return -scaled * jnp.mean(noise[..., None] * gradients[index], axis=1)


def check_output(f: OutputFn, params: Params, x: Array) -> None:
  """Raises InputError for an output that is not a scalar."""
  shape = jax.eval_shape(f, params, jax.ShapeDtypeStruct(jnp.shape(x)[1:], jnp.result_type(x)))
  if getattr(shape, "shape", None) != ():
    raise InputError(f"f gave {shape} for one example; it must give one number, of shape []")


def check_variance(value: float | Array) -> None:
  """Raises InputError where a variance is known and negative or not a number."""
  if not isinstance(value, jax.core.Tracer) and not np.all(np.asarray(value) >= 0):
    raise InputError(f"noise_variance is {value}; it is sigma^2 of the labels and at least 0")


def _factor(scale: str, batch_size: int, learning_rate: float | Array | None) -> float | Array:
  """What turns Sigma_ULN into the covariance in a scaling."""
  if scale not in _POWERS:
    raise InputError(f"scale is {scale!r}; {closest(scale, _POWERS)}")
  check_positive("batch_size", batch_size)
  if scale == "gradient":
    return 1 / batch_size
  if learning_rate is None:
    raise InputError(f"learning_rate is not given; scale={scale!r} depends on it")
  check_positive("learning_rate", learning_rate)
  return learning_rate ** _POWERS[scale] / batch_size


def _checked(gradients: Array) -> Array:
  gradients = jnp.asarray(gradients)
  if gradients.ndim != 2:
    raise InputError(
      f"gradients are {list(gradients.shape)}; give [N, d], one row an example "
      "(theory.output_gradients makes them)"
    )
  return gradients.astype(jnp.promote_types(gradients.dtype, jnp.float32))
