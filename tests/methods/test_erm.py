"""Plain training with a policy: after `first`, whose draws stay what they were."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise import augment, methods
from jaxnoise.core import Spec, TrainState, fold
from tests.methods.cases import shift
from tests.toy import toy_batch, toy_network

SPEC = Spec(num_train=6, num_classes=3, image_shape=(4, 4, 3), batch_size=6)


def darker(rng, image):
  return image * jax.random.uniform(rng)


def test_policy_comes_after_first_with_draws_of_its_own():
  network, batch, key = toy_network(), toy_batch(), jax.random.key(3)
  params, stats = network.init(jax.random.key(1), batch["image"])
  state = TrainState.create(jax.random.key(2), params, stats)

  def values(**arguments):
    method = methods.erm(network, spec=SPEC, first=shift, **arguments)
    return np.asarray(jax.jit(method.loss_fn(state))(params, batch, key)[1].per_example)

  def by_hand(image):
    log_p = jax.nn.log_softmax(network.apply(params, stats, image, train=True).logits)
    return np.asarray(-log_p[jnp.arange(6), batch["label"]])

  cropped = augment.batched(shift)(fold(key, "augment"), batch["image"])
  np.testing.assert_allclose(values(), by_hand(cropped), rtol=1e-6)
  policed = augment.batched(darker)(fold(key, "policy"), cropped)
  np.testing.assert_allclose(values(policy=darker), by_hand(policed), rtol=1e-5)
