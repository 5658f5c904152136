"""Mixing of examples with partners, and the noise that noisy feature mixup injects.

Arrays keep the batch leading: a layer's activations are [B, V, ...] for V views. All views of an
example share the partner and the coefficient, and an example is mixed with the same view of its
partner.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxnoise.core.errors import InputError
from jaxnoise.core.types import Array, PRNGKey


def sample_partners(rng: PRNGKey, batch_size: int, groups: int = 1) -> Array:
  """Draws a uniformly random permutation inside each of `groups` contiguous groups of the batch.

  One group mixes over the whole batch, as the papers do. On a pod, groups aligned with the devices
  keep the partner gather local; this changes the method slightly, so it is part of a recipe.

  Args:
    rng: key.
    batch_size: B.
    groups: G; must divide B.

  Returns:
    [G, B / G] int32, positions within the group.

  Raises:
    InputError: if G does not divide B.

  Example:
    >>> import jax
    >>> from jaxnoise import augment
    >>> augment.sample_partners(jax.random.key(0), 8, groups=2).shape
    (2, 4)
  """
  if groups < 1 or batch_size % groups:
    raise InputError(
      f"mix_groups is {groups}, which does not divide the batch of {batch_size}; choose a divisor"
    )
  keys = jax.random.split(rng, groups)
  return jax.vmap(lambda key: jax.random.permutation(key, batch_size // groups))(keys)


def take_partners(x: Array, partners: Array) -> Array:
  """Returns x[sigma] for the partners that `sample_partners` drew.

  Args:
    x: [B, ...].
    partners: [G, B / G].
  """
  grouped = x.reshape(partners.shape + x.shape[1:])
  return jax.vmap(lambda rows, order: rows[order])(grouped, partners).reshape(x.shape)


def mix(x: Array, partners: Array, lam: Array) -> Array:
  """Computes lam x + (1 - lam) x[sigma].

  Args:
    x: [B, ...] images, features, labels or weights.
    partners: [G, B / G] from `sample_partners`.
    lam: scalar in [0, 1], in the precision of x or a wider one.

  Source: Zhang et al. (2018), eq. (1).

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import augment
    >>> augment.mix(jnp.array([0.0, 4.0]), jnp.array([[1, 0]]), 0.75).tolist()
    [1.0, 3.0]
  """
  lam = jnp.asarray(lam, x.dtype)
  return lam * x + (1 - lam) * take_partners(x, partners)


def sparse_normal(rng: PRNGKey, shape: Sequence[int], sparsity: float, dtype=jnp.float32) -> Array:
  """Draws n * b with n ~ N(0, 1) and b ~ Bernoulli(1 - sparsity), elementwise and independent.

  One uniform number serves both: below `sparsity` it is the zero of b, above, rescaled to (0, 1),
  it is the quantile of n. Half the random bits of two draws, the same distribution.

  Args:
    rng: key.
    shape: of the result.
    sparsity: probability of a zero, in [0, 1).
    dtype: of the result.
  """
  u = _uniform(rng, shape, dtype)
  v = (u - sparsity) / (1.0 - sparsity)
  tiny = jnp.finfo(u.dtype).eps / 4
  normal = math.sqrt(2.0) * jax.lax.erf_inv(2.0 * jnp.clip(v, tiny, 1 - tiny) - 1.0)
  return jnp.where(u < sparsity, 0.0, normal).astype(dtype)


def sparse_uniform(rng: PRNGKey, shape: Sequence[int], sparsity: float, dtype=jnp.float32) -> Array:
  """Draws u * b with u ~ U(-1, 1) and b ~ Bernoulli(1 - sparsity), elementwise and independent.

  Args: as `sparse_normal`.
  """
  u = _uniform(rng, shape, dtype)
  signed = 2.0 * (u - sparsity) / (1.0 - sparsity) - 1.0
  return jnp.where(u < sparsity, 0.0, signed).astype(dtype)


def _uniform(rng: PRNGKey, shape: Sequence[int], dtype) -> Array:
  # Half-precision uniforms have too few values to be split into a mask and a quantile.
  return jax.random.uniform(rng, shape, jnp.promote_types(dtype, jnp.float32))


def inject_noise(
  h: Array, add_scale: Array, add_noise: Array, mult_scale: Array, mult_noise: Array
) -> Array:
  """Computes (1 + s_m u) * h + s_a n: multiplicative noise first, then additive.

  Args:
    h: [B, V, ...] mixed activations.
    add_scale: [V] s_a, the additive amplitude of each view.
    add_noise: [B, V, ...] n, elementwise noise with its zeros.
    mult_scale: [V] s_m.
    mult_noise: [B, V, ...] u.

  Source: Noisy feature mixup, eq. (3); the authors' code for the order.
  """

  def per_view(scale):
    return jnp.asarray(scale, h.dtype).reshape((1, -1) + (1,) * (h.ndim - 2))

  return (1 + per_view(mult_scale) * mult_noise) * h + per_view(add_scale) * add_noise


def noisy_mix(
  rng: PRNGKey,
  h: Array,
  partners: Array,
  lam: Array,
  *,
  add_noise: float,
  mult_noise: float,
  sparsity: float,
  view_factors: Sequence[float],
  random_level: bool = True,
) -> Array:
  """Mixes activations with their partners' and injects noise: one layer of noisy feature mixup.

  For view v: (1 + L_m s_m u b_m) * (lam h + (1 - lam) h[sigma]) + f_v L_a s_a n b_a, with n normal,
  u uniform on (-1, 1), b Bernoulli(1 - sparsity), all elementwise, and s ~ Beta(2, 5) drawn once
  per view and kind of noise (s = 1 without `random_level`).

  Args:
    rng: key.
    h: [B, V, ...].
    partners: [G, B / G].
    lam: scalar in [0, 1].
    add_noise: L_a, in the units of h.
    mult_noise: L_m.
    sparsity: probability that an element gets no noise, in [0, 1).
    view_factors: V numbers f_v; the authors' code has 1, 2, 3, the paper 1 throughout.
    random_level: draw s; False keeps the levels as they are.

  Source: NoisyMix, section 3 and the authors' code.
  """
  mixed = mix(h, partners, lam)
  keys = jax.random.split(rng, 4)
  views = len(view_factors)
  scale = jnp.ones((2, views))
  if random_level:
    scale = jnp.stack([jax.random.beta(key, 2.0, 5.0, (views,)) for key in keys[:2]])
  zero = jnp.zeros((), h.dtype)
  add = sparse_normal(keys[2], h.shape, sparsity, h.dtype) if add_noise else zero
  mult = sparse_uniform(keys[3], h.shape, sparsity, h.dtype) if mult_noise else zero
  return inject_noise(
    mixed, add_noise * jnp.asarray(view_factors) * scale[0], add, mult_noise * scale[1], mult
  )
