"""Class-balanced epochs on the device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import data

KEY = jax.random.key(0)


@functools.partial(jax.jit, static_argnums=(3, 4))
def draw(key, epoch, labels, num_classes, count):
  return data.balanced_order(key, epoch, labels, num_classes, count)


def labels_of(sizes, seed=0):
  return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))


@pytest.mark.parametrize(("sizes", "count"), [
  ((5, 5, 5), 15), ((1, 40, 7), 48), ((1, 40, 7), 200), ((30, 30), 7), ((0, 9, 0, 2), 21),
  ((6,), 4), ((0, 0, 3), 10), ((2, 3, 4, 5, 6), 3), ((1, 1, 1), 1),
])
@pytest.mark.parametrize("epoch", [0, 7])
def test_visits_of_classes_and_examples(sizes, count, epoch):
  labels = labels_of(sizes)
  order = np.asarray(draw(KEY, epoch, jnp.asarray(labels), len(sizes), count))
  assert order.shape == (count,) and order.dtype == np.int32
  assert order.min() >= 0 and order.max() < len(labels)
  of_class = np.bincount(labels[order], minlength=len(sizes))
  present = np.asarray(sizes) > 0
  assert (of_class[~present] == 0).all()
  assert set(of_class[present]) <= {count // present.sum(), -(-count // present.sum())}
  visits = np.bincount(order, minlength=len(labels))
  for k, size in enumerate(sizes):
    if size:
      of_examples = visits[labels == k]
      assert of_examples.max() - of_examples.min() <= 1, "none twice before each was visited once"


def test_classes_of_one_size_make_an_ordinary_epoch():
  labels = labels_of((8, 8, 8, 8))
  order = draw(KEY, 0, jnp.asarray(labels), 4, 32)
  np.testing.assert_array_equal(np.sort(order), np.arange(32))


def test_depends_on_key_and_epoch_only():
  labels = jnp.asarray(labels_of((3, 20, 9)))
  orders = {tuple(draw(jax.random.key(k), e, labels, 3, 40).tolist())
            for k in range(3) for e in range(3)}
  assert len(orders) == 9
  first = np.asarray(draw(KEY, 2, labels, 3, 40))
  np.testing.assert_array_equal(first, draw(KEY, jnp.int32(2), labels, 3, 40))
  with jax.enable_x64(True):
    wide = draw(KEY, 2, labels, 3, 40)
    assert wide.dtype == jnp.int32
    np.testing.assert_array_equal(wide, first)


def test_examples_and_classes_are_drawn_uniformly():
  """Of 6 examples 3 are visited in an epoch, and one of 3 classes gets the odd visit."""
  labels = jnp.asarray([0, 1, 2, 0, 1, 2, 0, 1, 0, 1, 0, 1, 0])  # 6, 5 and 2 examples
  epochs = 3000
  orders = jax.jit(jax.vmap(lambda e: data.balanced_order(KEY, e, labels, 3, 10)))(
    jnp.arange(epochs))
  visits = np.bincount(np.asarray(orders).ravel(), minlength=13)
  # 10 / 3 visits of each class and epoch, shared by its examples; the spread of one example's count
  # is below that of a coin toss per epoch, sqrt(3000 / 4) = 27; 5 of them.
  expected = epochs * 10 / 3 / np.array([6, 5, 2])[np.asarray(labels)]
  assert abs(visits - expected).max() < 5 * 27
  odd = np.stack([np.bincount(np.asarray(labels)[o], minlength=3) for o in np.asarray(orders)]) - 3
  assert (odd.sum(axis=1) == 1).all()
  assert abs(odd.sum(axis=0) - epochs / 3).max() < 5 * np.sqrt(epochs * 2 / 9)


def test_visits_are_shuffled():
  """Each place of the epoch sees each class as often, and neighbours are no likelier of one class.

  4 classes, 40 visits: the share of equal neighbours is 9 / 39 = 0.231.
  """
  labels = jnp.asarray(labels_of((1, 2, 10, 50)))
  orders = jax.jit(jax.vmap(lambda e: data.balanced_order(KEY, e, labels, 4, 40)))(
    jnp.arange(1000))
  classes = np.asarray(labels)[np.asarray(orders)]
  places = np.stack([(classes == k).mean(axis=0) for k in range(4)])
  assert abs(places - 0.25).max() < 4.7 * np.sqrt(0.25 * 0.75 / 1000)
  equal = (classes[:, 1:] == classes[:, :-1]).mean()
  assert abs(equal - 9 / 39) < 0.01


def test_labels_of_several_seeds():
  labels = jnp.stack([jnp.asarray(labels_of((3, 20, 9), seed)) for seed in range(3)])
  keys = jax.random.split(KEY, 3)
  orders = jax.jit(jax.vmap(lambda k, y: data.balanced_order(k, 1, y, 3, 40)))(keys, labels)
  for s in range(3):
    np.testing.assert_array_equal(orders[s], draw(keys[s], 1, labels[s], 3, 40))


def test_labels_are_an_argument_and_nothing_leaves_the_device():
  text = draw.lower(KEY, 0, jnp.zeros(500, jnp.int32), 10, 500).as_text()
  assert "tensor<500xi32>" in text and "dense_resource" not in text
  assert "callback" not in text
