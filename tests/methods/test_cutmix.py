"""CutMix: the labels' coefficient is the share of pixels, and a step redone by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment, methods
from jaxnoise.core import InputError, Network, Output, Spec, TrainState, fold
from tests.toy import toy_batch, toy_network

SPEC = Spec(num_train=6, num_classes=3, image_shape=(4, 4, 3), batch_size=6)


def make_state(network, batch):
  params, stats = network.init(jax.random.key(1), batch["image"])
  return TrainState.create(jax.random.key(2), params, stats)


@pytest.mark.parametrize("continuous", [False, True], ids=["pixel", "continuous"])
def test_label_coefficient_is_the_pasted_area(continuous):
  """Images that are their one-hot label at every pixel: their mean is the label they deserve."""
  network = Network(
    lambda rng, image: ({}, {}),
    lambda params, stats, image, **_: Output(jnp.mean(image, (1, 2)), stats, {}),
    0,
  )
  label = jnp.array([0, 1, 2, 2, 1, 0], jnp.int32)
  image = jnp.broadcast_to(jnp.eye(3)[label][:, None, None], (6, 8, 16, 3))
  price, row = jnp.array([0.3, -2.0, 5.0]), jnp.arange(1.0, 7.0)
  # A factor of its own for each row: over a permutation, plain sums forget the coefficient.
  names_pixels = lambda logits, targets: row * ((logits - targets) @ price)
  names_labels = lambda logits, targets: targets @ price
  weight = jnp.array([0.2, 1.0, 0.0, 3.0, 0.5, 1.3])
  keys = jax.random.split(jax.random.key(0), 200)

  def values(loss, batch):
    method = methods.cutmix(network, spec=SPEC, loss=loss, continuous=continuous)
    loss_fn = method.loss_fn(TrainState.create(jax.random.key(1), {}, {}))
    return np.asarray(jax.jit(jax.vmap(lambda key: loss_fn({}, batch, key)[0]))(keys))

  batch = {"image": image, "label": label}
  assert np.abs(values(names_pixels, batch)).max() < 1e-5
  assert np.ptp(values(lambda logits, targets: row * (targets @ price), batch)) > 1
  # Mixing permutes label mass within the batch, so the mean of the labels alone is constant ...
  np.testing.assert_allclose(values(names_labels, batch), jnp.mean(price[label]), atol=1e-6)
  # ... and so is their weighted mean, the weights travelling with the labels.
  expected = jnp.sum(weight * price[label]) / jnp.sum(weight)
  weighted = values(names_labels, {**batch, "weight": weight})
  np.testing.assert_allclose(weighted, expected, atol=1e-5)


@pytest.mark.parametrize(("seed", "weighted"), [(5, False), (1, True)])
def test_method_equals_a_hand_written_step(seed, weighted):
  with jax.enable_x64(True):
    network, batch = toy_network(), toy_batch(side=8)
    w = np.array([0.2, 1.0, 0.0, 3.0, 0.5, 1.3]) if weighted else np.ones(6)
    if weighted:
      batch["weight"] = jnp.asarray(w)
    state, key = make_state(network, batch), jax.random.key(seed)
    loss_fn = methods.cutmix(network, spec=SPEC).loss_fn(state)
    gradient = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
    (value, aux), grads = gradient(state.params, batch, key)

    perm = np.asarray(augment.sample_partners(fold(key, "partners"), 6))[0]
    lam = augment.sample_coefficient(fold(key, "lam"), 1.0)
    top, left, bottom, right = np.asarray(augment.sample_box(fold(key, "box"), lam, 8, 8))
    area = (bottom - top) * (right - left)
    assert 0 < area < 64, "the case would show nothing"
    image = np.array(batch["image"])
    image[:, top:bottom, left:right] = image[perm, top:bottom, left:right]
    kept, y, rows = 1 - area / 64, np.asarray(batch["label"]), np.arange(6)

    def by_hand(params):
      out = network.apply(params, state.batch_stats, jnp.asarray(image), train=True)
      ce = -jax.nn.log_softmax(out.logits)
      terms = kept * w * ce[rows, y] + (1 - kept) * w[perm] * ce[rows, y[perm]]
      return jnp.sum(terms) / w.sum(), ce[rows, y]

    by_hand = jax.jit(jax.value_and_grad(by_hand, has_aux=True))
    (expected, own), expected_grads = by_hand(state.params)
    np.testing.assert_allclose(value, expected, rtol=1e-9)
    np.testing.assert_allclose(aux.per_example, own, rtol=1e-9)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(expected_grads), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-12)


def test_probability_is_the_share_of_mixed_batches():
  network, batch = toy_network(), toy_batch(side=8)
  state = make_state(network, batch)
  keys = jax.random.split(jax.random.key(0), 500)

  def values(**arguments):
    loss_fn = methods.cutmix(network, spec=SPEC, **arguments).loss_fn(state)
    return np.asarray(jax.jit(jax.vmap(lambda k: loss_fn(state.params, batch, k)[0]))(keys))

  plain, always, half = values(alpha=0.0), values(), values(probability=0.5)
  assert np.ptp(plain) == 0
  mixed = half != plain
  np.testing.assert_array_equal(half[mixed], always[mixed])
  share = mixed.sum() / (always != plain).sum()
  assert abs(share - 0.5) < 0.08
  np.testing.assert_array_equal(values(probability=0.0), plain)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"alpha": -1.0}, "config.method.alpha is -1.0"),
    ({"probability": 1.5}, "config.method.probability is 1.5"),
    ({"mix_groups": 4}, "config.method.mix_groups is 4, which does not divide a batch of 6"),
    ({"loss": "cross_entropi"}, "did you mean 'cross_entropy'"),
  ],
)
def test_bad_arguments(arguments, message):
  with pytest.raises(InputError, match=message):
    methods.cutmix(toy_network(), spec=SPEC, **arguments)
