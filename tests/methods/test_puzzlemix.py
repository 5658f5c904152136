"""PuzzleMix: a step redone by hand, what is constant in it, and whose saliency it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment, methods
from jaxnoise.core import InputError, Spec, TrainState, fold
from jaxnoise.methods.puzzlemix import _input_gradient
from tests.toy import toy_batch, toy_network

SPEC = Spec(
  num_train=6, num_classes=3, image_shape=(4, 4, 3), image_mean=(0.2, 0.3, 0.4), batch_size=6
)
MIX = jax.jit(augment.puzzle_mix, static_argnames=("blocks", "fill"))
WEIGHT = np.array([0.2, 1.0, 0.0, 3.0, 0.5, 1.3])


def make_state(network, batch):
  params, stats = network.init(jax.random.key(1), batch["image"])
  # Statistics away from zero, so that train and evaluation mode differ.
  return TrainState.create(jax.random.key(2), params, {"mean": stats["mean"] + 0.3})


def cross_entropies(network, params, stats, image, label, train):
  out = network.apply(params, stats, image, train=train)
  log_p = jax.nn.log_softmax(out.logits)
  return -log_p[jnp.arange(len(label)), label], out.batch_stats


@pytest.mark.parametrize(
  ("seed", "blocks", "clean_weight"), [(3, (2, 4), 0.0), (0, (4,), 1.5)]
)
def test_method_equals_a_hand_written_step(seed, blocks, clean_weight):
  """The mixed images, as constants, give the same loss and gradient: saliency passes none."""
  network, batch = toy_network(), toy_batch(side=4)
  batch["weight"] = jnp.asarray(WEIGHT, jnp.float32)
  state, key, y = make_state(network, batch), jax.random.key(seed), batch["label"]
  method = methods.puzzlemix(network, spec=SPEC, blocks=blocks, clean_weight=clean_weight)
  loss_fn = method.loss_fn(state)

  perm = np.asarray(augment.sample_partners(fold(key, "partners"), 6))[0]
  lam = augment.sample_coefficient(fold(key, "lam"), 1.0)
  grid = blocks[int(jax.random.randint(fold(key, "blocks"), (), 0, len(blocks)))]
  assert grid == 4
  x, w, train = batch["image"], WEIGHT, clean_weight > 0

  # Every channel is divided by 1/2 before the network: the gradient of pixels is as good.
  loss_of = lambda x: cross_entropies(network, state.params, state.batch_stats, x, y, train)[0]
  slope = jax.jit(jax.grad(lambda x: jnp.sum(loss_of(x))))(x)
  slope = jnp.sqrt(jnp.mean(jnp.square(slope), axis=-1))
  mixed, ratio = MIX(x, x[perm], slope, slope[perm], lam, blocks=grid, fill=SPEC.image_mean)
  assert np.unique(ratio).size > 1, "the case would not show whose share is whose"

  def by_hand(params):
    clean, stats = cross_entropies(network, params, state.batch_stats, x, y, train)
    first = stats if train else state.batch_stats
    own, stats = cross_entropies(network, params, first, mixed, y, True)
    other, _ = cross_entropies(network, params, first, mixed, y[perm], True)
    terms = ratio * w * own + (1 - ratio) * w[perm] * other
    extra = 2 * clean_weight / 3 * jnp.sum(w * clean)
    return (jnp.sum(terms) + extra) / w.sum(), (own, stats)

  if train:
    with_gradient = lambda fn: jax.jit(jax.value_and_grad(fn, has_aux=True))
    (value, aux), grads = with_gradient(loss_fn)(state.params, batch, key)
    (expected, (own, stats)), expected_grads = with_gradient(by_hand)(state.params)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(expected_grads), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
  else:
    value, aux = jax.jit(loss_fn)(state.params, batch, key)
    expected, (own, stats) = jax.jit(by_hand)(state.params)
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  np.testing.assert_allclose(aux.per_example, own, rtol=1e-5)
  np.testing.assert_allclose(aux.batch_stats["mean"], stats["mean"], rtol=1e-5)
  assert ("clean_loss" in aux.metrics) == (clean_weight > 0)


def test_saliency_is_of_the_normalised_image():
  scale = jnp.array([1.0, 1.0, 0.01]).reshape(1, 1, 1, 3)
  image = jnp.full((2, 8, 8, 3), 0.5)

  def values(image, tap):
    h = tap(0, image * scale)
    return jnp.sum(h[:, :, :4, 0], (1, 2)) + 2 * jnp.sum(h[:, :, 4:, 2], (1, 2)), None

  slope = np.asarray(_input_gradient(values, image))
  np.testing.assert_array_equal(slope[0, 1, [0, 7]], [[1, 0, 0], [0, 0, 2]])
  # A network that changes the size first is asked for the gradient with respect to its pixels.
  slope = np.asarray(_input_gradient(lambda x, tap: (jnp.sum(tap(0, 3 * x[:, ::2])), None), image))
  np.testing.assert_array_equal(slope[:, ::2], 3.0)
  np.testing.assert_array_equal(slope[:, 1::2], 0.0)


def test_per_example_shares_in_the_objective_equal_a_loop():
  rng = np.random.default_rng(0)
  z, w, lam = rng.normal(size=(4, 3)), rng.uniform(size=4), np.array([0.0, 0.3, 1.0, 0.6])
  y, perm = np.array([0, 2, 1, 1]), np.array([2, 0, 3, 1])
  t = np.eye(3)
  with jax.enable_x64(True):
    value, own, metrics = methods.mixup_objective(
      jnp.asarray(z), jnp.asarray(t[y]), jnp.asarray(t[y[perm]]), jnp.asarray(lam),
      weight=jnp.asarray(w), partner_weight=jnp.asarray(w[perm]),
    )  # fmt: skip
  log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
  total = plain = 0.0
  for i, j in enumerate(perm):
    total += lam[i] * w[i] * -log_p[i, y[i]] + (1 - lam[i]) * w[j] * -log_p[i, y[j]]
    plain += lam[i] * -log_p[i, y[i]] + (1 - lam[i]) * -log_p[i, y[j]]
  np.testing.assert_allclose(value, total / w.sum(), rtol=1e-9)
  np.testing.assert_allclose(metrics["loss"][0], plain, rtol=1e-9)
  np.testing.assert_allclose(own, -log_p[np.arange(4), y], rtol=1e-9)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"blocks": (2, 16)}, r"config\.method\.blocks: a grid of 16 x 16.*choose from 2, 4$"),
    ({"blocks": (1,)}, r"config\.method\.blocks: a grid of 1 x 1.*choose from 2, 4$"),
    ({"blocks": ()}, r"config\.method\.blocks is empty"),
    ({"blocks": (2,), "alpha": -1.0}, r"config\.method\.alpha is -1.0"),
    ({"blocks": (2,), "beta": -1.0}, r"config\.method\.beta is -1.0"),
    ({"blocks": (2,), "clean_weight": -1.0}, r"config\.method\.clean_weight is -1.0"),
    ({"blocks": (2,), "num_labels": 1}, r"config\.method\.num_labels is 1"),
    ({"blocks": (2,), "neighbourhood": 0}, r"config\.method\.neighbourhood is 0"),
    ({"blocks": (2,), "mix_groups": 4}, "does not divide a batch of 6"),
    ({"blocks": (2,), "loss": "cross_entropi"}, "did you mean 'cross_entropy'"),
    ({"spec": SPEC._replace(image_shape=(4, 8, 3))}, "square images, but these are 4 x 8"),
  ],
)
def test_bad_arguments(arguments, message):
  with pytest.raises(InputError, match=message):
    methods.puzzlemix(toy_network(), **{"spec": SPEC, **arguments})
