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


@pytest.mark.parametrize("jsd", [True, False])
def test_is_noisymix_without_mixing_and_noise_to_the_last_operation(jsd):
  """The same program, hence the same bits; the battery runs on noisymix' row."""
  network, state, method, batch = make(jsd=jsd, jsd_weight=7.0, first=shift, policy=darker)
  other = methods.noisymix(
    network, spec=SPEC, alpha=0.0, add_noise=0.0, mult_noise=0.0, random_level=False, stages=(0,),
    jsd_weight=7.0 if jsd else 0.0, first=shift, policy=darker,
  )  # fmt: skip
  batch["weight"] = jnp.arange(1.0, 7.0)
  programs = [
    str(jax.make_jaxpr(m.grad_fn(state))(state.params, batch, jax.random.key(0)))
    for m in (method, other)
  ]
  assert programs[0] == programs[1]
  assert method.name == "augmix" and list(method.predictors(state)) == ["student"]


def test_equals_its_formula():
  network, state, method, batch = make(policy=darker)
  key = jax.random.key(5)
  value, aux = jax.jit(method.loss_fn(state))(state.params, batch, key)
  drawn = augment.views(darker, 2)(fold(fold(key, "augment"), "policy"), batch["image"])
  views = jnp.concatenate([batch["image"][:, None], drawn], axis=1)
  out = network.apply(state.params, state.batch_stats, views, train=True)
  log_p = np.asarray(jax.nn.log_softmax(out.logits), np.float64)
  p = np.exp(log_p)
  ce = -log_p[np.arange(6), 0, np.asarray(batch["label"])]
  jsd = np.sum(p * (log_p - np.log(p.mean(1, keepdims=True))), axis=(1, 2)) / 3
  assert jsd.mean() > 1e-3
  np.testing.assert_allclose(value, np.mean(ce + 12 * jsd), rtol=1e-5)
  np.testing.assert_allclose(aux.per_example, ce, rtol=1e-5)


def test_no_policy_is_augmix():
  """A config without a policy hands in None, which must not mean three equal views."""
  _, state, method, batch = make(policy=None)
  program = jax.make_jaxpr(method.loss_fn(state))(state.params, batch, jax.random.key(0))
  assert "custom_vmap" in str(program), "no chains of AugMix' operations"


def test_bad_arguments():
  with pytest.raises(InputError, match=r"config\.method\.jsd_weight is -1.0"):
    make(jsd_weight=-1.0)
