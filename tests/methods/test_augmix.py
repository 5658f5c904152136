"""AugMix is NoisyMix without mixing and noise; its loss redone by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment, methods
from jaxnoise.core import InputError, Spec, TrainState, fold
from tests.methods.cases import shift
from tests.toy import toy_batch, toy_network

SPEC = Spec(num_train=6, num_classes=3, image_shape=(4, 4, 3), batch_size=6)


def darker(rng, image):
  return image * jax.random.uniform(rng)


def make(**arguments):
  network, batch = toy_network(), toy_batch()
  params, stats = network.init(jax.random.key(1), batch["image"])
  state = TrainState.create(jax.random.key(2), params, stats)
  return network, state, methods.augmix(network, spec=SPEC, **arguments), batch


def plain_noisymix(network, **arguments):
  return methods.noisymix(
    network, spec=SPEC, alpha=0.0, add_noise=0.0, mult_noise=0.0, random_level=False, stages=(0,),
    **arguments,
  )  # fmt: skip


def test_equals_noisymix_without_mixing_and_noise_bit_for_bit_and_its_formula():
  network, state, method, batch = make(first=shift, policy=darker)
  other = methods.noisymix(
    network, spec=SPEC, alpha=0.0, add_noise=0.0, mult_noise=0.0, stages=(0, 1), first=shift,
    policy=darker,
  )  # fmt: skip
  key = jax.random.key(5)
  value, aux = jax.jit(method.loss_fn(state))(state.params, batch, key)
  same = jax.jit(other.loss_fn(state))(state.params, batch, key)
  for a, b in zip(jax.tree.leaves((value, aux)), jax.tree.leaves(same), strict=True):
    np.testing.assert_array_equal(a, b)
  assert method.name == "augmix" and list(method.predictors(state)) == ["student"]

  clean = augment.batched(shift)(fold(fold(key, "augment"), "first"), batch["image"])
  drawn = augment.views(darker, 2)(fold(fold(key, "augment"), "policy"), clean)
  views = jnp.concatenate([clean[:, None], drawn], axis=1)
  out = network.apply(state.params, state.batch_stats, views, train=True)
  log_p = np.asarray(jax.nn.log_softmax(out.logits), np.float64)
  p = np.exp(log_p)
  ce = -log_p[np.arange(6), 0, np.asarray(batch["label"])]
  jsd = np.sum(p * (log_p - np.log(p.mean(1, keepdims=True))), axis=(1, 2)) / 3
  assert jsd.mean() > 1e-3
  np.testing.assert_allclose(value, np.mean(ce + 12 * jsd), rtol=1e-5)
  np.testing.assert_allclose(aux.per_example, ce, rtol=1e-5)


def test_the_program_without_the_stability_term_is_that_of_one_view():
  network, state, method, batch = make(jsd=False, policy=darker)
  other = plain_noisymix(network, jsd_weight=0.0, policy=darker)
  programs = [
    str(jax.make_jaxpr(m.grad_fn(state))(state.params, batch, jax.random.key(0)))
    for m in (method, other)
  ]
  assert programs[0] == programs[1]


def test_no_policy_is_augmix():
  """A config without a policy hands in None, which must not mean three equal views."""
  programs = []
  for policy in (None, augment.augmix):
    _, state, method, batch = make(policy=policy)
    traced = jax.make_jaxpr(method.loss_fn(state))(state.params, batch, jax.random.key(0))
    programs.append(str(traced))
  assert programs[0] == programs[1] and "custom_vmap" in programs[0]


def test_bad_arguments():
  with pytest.raises(InputError, match=r"config\.method\.jsd_weight is -1.0"):
    make(jsd_weight=-1.0)
