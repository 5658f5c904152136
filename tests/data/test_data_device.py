"""Orders, draws and gathers on the device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnoise import data
from jaxnoise.core import InputError

KEY = jax.random.key(0)


def numbered(num_train=40):
  source = data.generated(num_train=num_train, num_classes=4)
  return source.with_labels((source.labels + 1) % 4).trusted(8, seed=0)


def test_device_data_is_uint8_and_shares_nothing_twice():
  source = numbered().with_pool("unlabelled", np.zeros((5, 8, 8, 3), np.uint8))
  arrays = data.device_data(source)
  assert arrays["images"].dtype == jnp.uint8 and arrays["labels"].dtype == jnp.int32
  np.testing.assert_array_equal(arrays["clean_labels"], source.clean_labels)
  assert sorted(arrays["pools"]) == ["trusted", "unlabelled"]
  assert sorted(arrays["pools"]["unlabelled"]) == ["images"]
  assert data.pool_of(arrays, "train") is arrays
  np.testing.assert_array_equal(
    data.pool_of(arrays, "trusted")["labels"], source.pools["trusted"].labels)
  assert sorted(data.device_data(data.generated())) == ["images", "labels", "pools"]


def test_unknown_pool():
  arrays = data.device_data(data.generated())
  with pytest.raises(InputError, match=r"pool 'trusted'.*data\.trusted = COUNT"):
    data.pool_of(arrays, "trusted")


def test_gather_in_jit():
  source = numbered()
  arrays = data.device_data(source)
  indices = jnp.array([5, 0, 31, 5])
  batch = jax.jit(data.gather)(arrays, indices, jnp.array([1, 1, 1, 0]))
  expected = source.images[np.asarray(indices)].astype(np.float64) / 255
  assert batch["image"].dtype == jnp.float32
  np.testing.assert_allclose(batch["image"], expected, rtol=2e-7)
  np.testing.assert_array_equal(batch["label"], source.labels[np.asarray(indices)])
  np.testing.assert_array_equal(batch["clean_label"], source.clean_labels[np.asarray(indices)])
  np.testing.assert_array_equal(batch["index"], indices)
  assert batch["mask"].dtype == jnp.float32 and batch["index"].dtype == jnp.int32
  assert sorted(data.gather(arrays["pools"]["trusted"], indices[:2])) == ["image", "index", "label"]


def test_every_grey_level():
  """0 and 1 exactly, all others within a rounding, and each comes back from x * 255."""
  levels = jnp.arange(256, dtype=jnp.uint8).reshape(256, 1, 1, 1)
  image = np.asarray(jax.jit(data.gather)({"images": levels}, jnp.arange(256))["image"]).ravel()
  assert image[0] == 0.0 and image[255] == 1.0
  np.testing.assert_allclose(image, np.arange(256) / 255, rtol=2**-23)
  np.testing.assert_array_equal(np.floor(image * np.float32(255)), np.arange(256))


def test_labels_of_several_seeds():
  """Images shared, labels [S, N]: what a run of several seeds does with `gather`."""
  arrays = data.device_data(data.generated(num_train=20))
  labels = jnp.stack([arrays["labels"], 3 - arrays["labels"]])
  orders = jax.vmap(lambda k: data.epoch_order(k, 0, 20))(jax.random.split(KEY, 2))

  def batch(labels, order):
    return data.gather({**arrays, "labels": labels}, order[:6])

  batches = jax.vmap(batch)(labels, orders)
  assert batches["image"].shape == (2, 6, 8, 8, 3)
  for s in range(2):
    np.testing.assert_array_equal(batches["label"][s], np.asarray(labels)[s, orders[s, :6]])


def test_gather_of_sharded_indices():
  """Replicated images, batch split over the mesh: the batch comes out split the same way."""
  mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
  arrays = data.device_data(data.generated(num_train=64), NamedSharding(mesh, P()))
  split = NamedSharding(mesh, P("data"))
  indices = jax.device_put(jnp.arange(16), split)
  batch = jax.jit(data.gather, out_shardings=split)(arrays, indices)
  assert batch["image"].sharding.shard_shape(batch["image"].shape) == (2, 8, 8, 3)
  np.testing.assert_array_equal(batch["label"], data.generated(num_train=64).labels[:16])


def test_images_are_an_argument_and_no_constant():
  arrays = data.device_data(data.generated(num_train=500))
  lowered = jax.jit(data.gather).lower(arrays, jnp.arange(4)).as_text()
  assert "tensor<500x8x8x3xui8>" in lowered
  assert "dense_resource" not in lowered and len(lowered) < 20_000


@pytest.mark.parametrize("num_train", [1, 2, 37, 1437])
def test_epoch_order_is_a_permutation(num_train):
  order = data.epoch_order(KEY, 0, num_train)
  assert order.dtype == jnp.int32
  np.testing.assert_array_equal(np.sort(order), np.arange(num_train))


def test_epoch_order_depends_on_key_and_epoch_only():
  draw = functools.partial(data.epoch_order, num_train=50)
  orders = [tuple(draw(jax.random.key(k), e).tolist()) for k in range(3) for e in range(3)]
  assert len(set(orders)) == 9
  traced = jax.jit(draw)(KEY, jnp.int32(2))
  np.testing.assert_array_equal(traced, draw(KEY, 2))
  with jax.enable_x64(True):
    assert draw(KEY, 2).dtype == jnp.int32
    np.testing.assert_array_equal(draw(KEY, 2), traced)


def test_epoch_order_is_uniform():
  orders = jax.vmap(lambda e: data.epoch_order(KEY, e, 6))(jnp.arange(6000))
  counts = np.stack([np.bincount(orders[:, i], minlength=6) for i in range(6)])
  # Each cell is binomial with mean 1000 and standard deviation 28.9; 4.5 of them for 36 cells.
  assert abs(counts - 1000).max() < 130


@pytest.mark.parametrize(("pool_size", "per_epoch"), [(10, 3), (10, 10), (10, 34), (1, 5), (7, 70)])
def test_side_order(pool_size, per_epoch):
  order = np.asarray(data.side_order(KEY, 1, pool_size, per_epoch, name="trusted"))
  assert order.shape == (per_epoch,) and order.dtype == np.int32
  for start in range(0, per_epoch, pool_size):
    part = order[start : start + pool_size]
    assert len(set(part.tolist())) == len(part), "no repeat before the pool is used up"
    assert part.min() >= 0 and part.max() < pool_size
  counts = np.bincount(order, minlength=pool_size)
  assert counts.max() - counts.min() <= 1


def test_side_orders_are_independent():
  def draw(key=KEY, epoch=0, name="trusted"):
    return tuple(data.side_order(key, epoch, 30, 60, name=name).tolist())

  first = draw()
  assert first == draw()
  assert first[:30] != first[30:], "each round is a fresh permutation"
  others = {draw(epoch=1), draw(name="second"), draw(key=jax.random.key(1)),
            tuple(data.epoch_order(KEY, 0, 30).tolist())}
  assert first not in others and len(others) == 4


WEIGHTS = {
  "equal": np.ones(7),
  "mixed": np.array([1.0, 0.0, 3.0, 0.5, 0.0, 2.0, 0.25, 0.0]),
  "one": np.array([5.0]),
  "unscaled": 1e-30 * np.array([1.0, 2.0, 0.0, 4.0, 1.0]),
  "huge": 1e30 * np.array([1.0, 2.0, 0.0, 4.0, 1.0]),
  "zero rows": np.concatenate([np.zeros(20), [1.0, 2.0], np.zeros(20)]),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weighted_draw(case):
  weights = WEIGHTS[case]
  size = 40_000
  draw = jax.jit(data.weighted_draw, static_argnums=2)
  drawn = np.asarray(draw(KEY, jnp.asarray(weights, jnp.float32), size))
  assert drawn.dtype == np.int32
  counts = np.bincount(drawn, minlength=len(weights))
  assert len(counts) == len(weights)
  assert (counts[weights == 0] == 0).all()
  p = weights / weights.sum()
  assert abs(counts - size * p).max() <= 4.5 * np.sqrt(size * p * (1 - p)).max()


def test_weighted_draw_has_repeats_and_follows_its_key():
  weights = jnp.ones(1000)
  draw = jax.jit(data.weighted_draw, static_argnums=2)
  first, second = (draw(jax.random.key(k), weights, 500) for k in range(2))
  assert len(set(first.tolist())) < 500, "with replacement"
  assert not np.array_equal(first, second)


def test_weighted_draw_within_and_between_rows():
  """Chi-square over 900 cells of unequal weight: mean 899, standard deviation 42."""
  weights = np.random.default_rng(0).uniform(0.2, 1.0, 900)
  draw = jax.jit(data.weighted_draw, static_argnums=2)
  drawn = np.asarray(draw(KEY, jnp.asarray(weights, jnp.float32), 200_000))
  expected = 200_000 * weights / weights.sum()
  chi2 = ((np.bincount(drawn, minlength=900) - expected) ** 2 / expected).sum()
  assert 899 - 4.5 * 42.4 < chi2 < 899 + 4.5 * 42.4


@pytest.mark.parametrize(("count", "batch_size"), [(1, 1), (5, 3), (6, 3), (2, 7), (360, 128)])
def test_padded_batches(count, batch_size):
  indices, mask = data.padded_batches(count, batch_size)
  assert indices.shape == mask.shape == (-(-count // batch_size), batch_size)
  assert indices.dtype == np.int32 and mask.dtype == np.float32
  np.testing.assert_array_equal(indices[mask == 1], np.arange(count))
  np.testing.assert_array_equal(indices.ravel()[:count], np.arange(count))
  assert mask.sum() == count and (indices < count).all()


@pytest.mark.parametrize(("arguments", "message"), [
  ((0, 4), "count: found 0"),
  ((4, 0), "batch_size: found 0"),
  ((4, 2.0), "batch_size: found 2.0"),
])
def test_padded_batches_bad_input(arguments, message):
  with pytest.raises(InputError, match=message):
    data.padded_batches(*arguments)
