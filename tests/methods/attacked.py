"""The golden attacks' network as a `Network`, and what tests of adversarial training share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise import methods
from jaxnoise.core import Network, Output, Spec, TrainState
from tests.attacks.tiny import nhwc, tiny_logits, tiny_params
from tests.toy import toy_batch, toy_network

SPEC = Spec(num_train=5, num_classes=10, image_shape=(16, 16, 3), batch_size=5)
TOY = Spec(num_train=6, num_classes=3, image_shape=(4, 4, 3), batch_size=6)
WEIGHT = np.array([0.2, 1.0, 0.0, 3.0, 0.5, 1.3], np.float32)


def recording_network():
  """Its "running statistics" are the last three batches that it saw in train mode."""

  def apply(params, batch_stats, image, *, train=False, rng=None, **unused):
    del rng, unused
    if train:
      batch_stats = jnp.concatenate([batch_stats[1:], image[None]])
    return Output(tiny_logits(params, image), batch_stats, {})

  return Network(lambda rng, image: None, apply, 0)


def stored(golden):
  """Returns (data, state, batch, radii) of the golden attacks, in float64."""
  data = golden("attacks")
  image = nhwc(data["x_nchw"])
  params = jax.tree.map(jnp.asarray, tiny_params(data))
  state = TrainState.create(jax.random.key(0), params, jnp.zeros((3, *image.shape)))
  batch = {"image": jnp.asarray(image), "label": jnp.asarray(data["labels"])}
  radii = {"epsilon": float(data["epsilon"]), "step_size": float(data["step_size"])}
  return data, state, batch, radii


def toy_state():
  """A toy run whose running mean is far from the batch's, so that the two modes differ."""
  network, batch = toy_network(), toy_batch()
  params, _ = network.init(jax.random.key(1), batch["image"])
  state = TrainState.create(jax.random.key(2), params, {"mean": jnp.full(4, 3.0)})
  return network, state, batch


KEY = jax.random.key(5)


def run(factory, weight=None, **arguments):
  """One loss and gradient of a method on the toy run: ((value, aux), gradient)."""
  network, state, batch = toy_state()
  batch = batch if weight is None else {**batch, "weight": jnp.asarray(weight)}
  method = factory(network, spec=TOY, **arguments)
  state = method.init_state(state)
  return jax.jit(method.grad_fn(state))(state.params, batch, KEY)


@functools.cache
def weighted_mixup():
  """What every method here is once nothing is attacked: loss, per-example values, gradient."""
  (value, aux), grads = run(methods.mixup, WEIGHT, alpha=0.7)
  return value, aux.per_example, grads


def uniform_share(rng, alpha):
  """In the place of a Beta draw, which takes a second to compile."""
  del alpha
  return jax.random.uniform(rng)


def cross_entropy(z, label):
  return -jnp.take_along_axis(jax.nn.log_softmax(z), label[:, None], axis=1)[:, 0]


def climb(loss, image, x, *, epsilon, step_size, steps):
  """Projected signed ascent, written out."""

  def step(_, x):
    x = x + step_size * jnp.sign(jax.grad(lambda x: jnp.sum(loss(x)))(x))
    return jnp.clip(jnp.clip(x, image - epsilon, image + epsilon), 0, 1)

  return jax.lax.stop_gradient(jax.lax.fori_loop(0, steps, step, x))


def same(found, expected, rtol=1e-5, atol=1e-6):
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)
