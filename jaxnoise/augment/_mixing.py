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

  The gradient is taken with the inverse permutation: a gather, where that of a general index would
  be a scatter.

  Args:
    x: [B, ...].
    partners: [G, B / G].

  Returns:
    [B, ...], row i from i's partner.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import augment
    >>> augment.take_partners(jnp.array([5, 6, 7, 8]), jnp.array([[1, 0], [0, 1]])).tolist()
    [6, 5, 7, 8]
  """
  return _take(x, partners)


def _gather(x: Array, partners: Array) -> Array:
  grouped = x.reshape(partners.shape + x.shape[1:])
  return jax.vmap(lambda rows, order: rows[order])(grouped, partners).reshape(x.shape)


_take = jax.custom_vjp(_gather)


# Both rules call the plain gather, so that forward mode over reverse mode (Hessian products) works.
def _take_forward(x: Array, partners: Array) -> tuple[Array, Array]:
  return _gather(x, partners), partners


def _take_backward(partners: Array, cotangent: Array) -> tuple[Array, None]:
  return _gather(cotangent, jnp.argsort(partners, axis=1)), None


_take.defvjp(_take_forward, _take_backward)


def mix(x: Array, partners: Array, lam: Array) -> Array:
  """Computes lam x + (1 - lam) x[sigma].

  Args:
    x: [B, ...] images, features, labels or weights.
    partners: [G, B / G] from `sample_partners`.
    lam: scalar in [0, 1], in the precision of x or a wider one.

  Returns:
    [B, ...], like x.

  Source: Zhang et al. (2018), eq. (1).

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import augment
    >>> augment.mix(jnp.array([0.0, 4.0]), jnp.array([[1, 0]]), 0.75).tolist()
    [1.0, 3.0]
  """
  lam = jnp.asarray(lam, x.dtype)
  return lam * x + (1 - lam) * take_partners(x, partners)


def sample_levels(rng: PRNGKey, views: int) -> Array:
  """Draws the Beta(2, 5) noise levels: one for each kind of noise and each view.

  The second smallest of six uniform numbers has exactly this distribution.

  Args:
    rng: key.
    views: V.

  Returns:
    [2, V]: additive, then multiplicative; in (0, 1) with mean 2/7.

  Source: the authors' code of NoisyMix, which draws from Beta(2, 5).

  Example:
    >>> import jax
    >>> from jaxnoise import augment
    >>> augment.sample_levels(jax.random.key(0), 3).shape
    (2, 3)
  """
  return jnp.sort(jax.random.uniform(rng, (2, views, 6)), axis=-1)[..., 1]


def sample_coefficient(rng: PRNGKey, alpha: float) -> Array:
  """Draws the mixing coefficient lam ~ Beta(alpha, alpha); 1 for alpha = 0.

  Args:
    rng: key.
    alpha: >= 0; 1 is the uniform distribution.

  Returns:
    A scalar in [0, 1], not folded to its larger half.

  Source: Zhang et al. (2018), section 2.

  Example:
    >>> import jax
    >>> from jaxnoise import augment
    >>> float(augment.sample_coefficient(jax.random.key(0), 0.0))
    1.0
  """
  if alpha == 0:
    return jnp.ones(())
  return jax.random.uniform(rng) if alpha == 1 else jax.random.beta(rng, alpha, alpha)


def sparse_noise(
  rng: PRNGKey, shape: Sequence[int], sparsity: float, dtype=jnp.float32
) -> tuple[Array, Array]:
  """Draws n * b and u * b' with n ~ N(0, 1), u ~ U(-1, 1), b, b' ~ Bernoulli(1 - sparsity).

  All elementwise and independent. One uniform number serves a mask and its noise: below `sparsity`
  it is the zero of b, above, rescaled to (0, 1), it is the quantile of n. Half the random bits of
  separate draws, the same distribution.

  Args:
    rng: key.
    shape: of each result, the batch leading.
    sparsity: probability of a zero, in [0, 1).
    dtype: of the results; drawn in at least float32, since half-precision uniforms have too few
      values to be split into a mask and a quantile.

  Returns:
    (normal, uniform), each of `shape`.

  Example:
    >>> import jax
    >>> from jaxnoise import augment
    >>> normal, _ = augment.sparse_noise(jax.random.key(0), (1000, 10), 0.65)
    >>> round(float((normal == 0).mean()), 1)
    0.7
  """
  rows, rest = shape[0], tuple(shape[1:])
  # Two axes: the generator takes 4 seconds to compile for CPU at rank 6, 0.3 at rank 2.
  flat = jax.random.uniform(
    rng, (rows, 2 * math.prod(rest)), jnp.promote_types(dtype, jnp.float32)
  )
  both = flat.reshape(rows, 2, *rest)
  edge = jnp.finfo(both.dtype).eps / 2
  quantile = jnp.clip((both - sparsity) / (1.0 - sparsity), edge, 1 - edge)
  normal = math.sqrt(2.0) * jax.lax.erf_inv(2.0 * quantile[:, 0] - 1.0)
  uniform = 2.0 * quantile[:, 1] - 1.0
  kept = both >= sparsity
  return (
    jnp.where(kept[:, 0], normal, 0.0).astype(dtype),
    jnp.where(kept[:, 1], uniform, 0.0).astype(dtype),
  )


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

  Returns:
    [B, V, ...].

  Source: Noisy feature mixup, eq. (3); the authors' code for the order.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise import augment
    >>> one = jnp.ones((1, 1))
    >>> augment.inject_noise(2 * one, jnp.array([0.5]), one, jnp.array([0.1]), one).tolist()
    [[2.7]]
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
  levels: Array | None = None,
) -> Array:
  """Mixes activations with their partners' and injects noise: one layer of noisy feature mixup.

  For view v: (1 + L_m s_m u b_m) * (lam h + (1 - lam) h[sigma]) + f_v L_a s_a n b_a, with n normal,
  u uniform on (-1, 1), b Bernoulli(1 - sparsity), all elementwise, and s the `levels`, one per kind
  of noise and view.

  Args:
    rng: key.
    h: [B, V, ...].
    partners: [G, B / G].
    lam: scalar in [0, 1].
    add_noise: L_a, in the units of h.
    mult_noise: L_m.
    sparsity: probability that an element gets no noise, in [0, 1).
    view_factors: V numbers f_v; the authors' code has 1, 2, 3, the paper 1 throughout.
    levels: [2, V] s_a and s_m from `sample_levels`; None for 1, as the noise levels are given.

  Returns:
    [B, V, ...], like h.

  Source: NoisyMix, section 3 and the authors' code.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import augment
    >>> h = jnp.arange(4.0).reshape(4, 1)
    >>> partners = jnp.array([[3, 2, 1, 0]])
    >>> augment.noisy_mix(
    ...   jax.random.key(0), h, partners, 0.5, add_noise=0.0, mult_noise=0.0, sparsity=0.0,
    ...   view_factors=(1.0,),
    ... )[:, 0].tolist()
    [1.5, 1.5, 1.5, 1.5]
  """
  mixed = mix(h, partners, lam)
  if levels is None:
    levels = jnp.ones((2, len(view_factors)))
  if not (add_noise or mult_noise):
    return mixed
  normal, uniform = sparse_noise(rng, h.shape, sparsity, h.dtype)
  add_scale = add_noise * jnp.asarray(view_factors) * levels[0]
  return inject_noise(mixed, add_scale, normal, mult_noise * levels[1], uniform)
