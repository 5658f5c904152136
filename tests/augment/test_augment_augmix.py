"""AugMix with stored draws, its sampler against the published table, and its two forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxnoise import augment
from jaxnoise.augment import _operations
from jaxnoise.core import InputError

MANY = 20_000


@pytest.fixture(params=["batched", "sequential"])
def form(request, monkeypatch):
  """Runs a test once with the chains side by side and once with them one by one."""

  def refuse(*_, **__):
    raise AssertionError("the other form was asked for")

  other = "chains_batched" if request.param == "sequential" else "chains_sequential"
  monkeypatch.setattr(_operations, other, refuse)
  monkeypatch.setattr(_operations, "runs_sequentially", lambda: request.param == "sequential")
  _operations._batch_of_chains.cache_clear()
  yield request.param
  _operations._batch_of_chains.cache_clear()


def _images(count=6, shape=(32, 32, 3)):
  return jnp.asarray(np.random.default_rng(5).random((count, *shape), np.float32))


def test_stored_chains(golden, form):
  data = golden("augmix_ops")
  chains = jax.vmap(jax.vmap(augment.augmix_chain, in_axes=(None, 0, 0)))
  branches = jax.jit(chains)(data["images"], data["mix/op_index"], data["mix/op_param"])
  difference = np.abs(np.asarray(branches, np.int32) - data["mix/branches"].astype(np.int32))
  print(f"{form}: exact {np.mean(difference == 0):.6f}, largest {difference.max()}")
  assert np.mean(difference <= 1) >= 0.99
  assert np.mean(difference == 0) >= 0.99


@pytest.mark.parametrize("normalisation", ["pm1", "cifar_normalised"])
def test_stored_mixture(golden, normalisation):
  data = golden("augmix_ops")
  mean, std, tolerance = 0.5, 0.5, 1e-6
  if normalisation == "cifar_normalised":
    mean, std, tolerance = data["mix/cifar_mean"], data["mix/cifar_std"], 1e-5
  with jax.enable_x64(True):
    mixed = jax.vmap(augment.augmix_combine)(
      jnp.asarray(data["images"] / 255.0),
      jnp.asarray(data["mix/branches"]),
      jnp.asarray(data["mix/weights"]),
      jnp.asarray(data["mix/m"]),
    )
  error = np.abs((np.asarray(mixed) - mean) / std - data[f"mix/out_{normalisation}"])
  print(f"{normalisation}: largest error {error.max():.2e}")
  assert error.max() < tolerance


def test_the_two_forms_give_the_same_grey_levels():
  images = augment.grey_levels(_images(24))
  draw = jax.vmap(lambda key: augment.sample_augmix(key, (32, 32), all_ops=True))(
    jax.random.split(jax.random.key(1), 24)
  )
  work = (images, draw.op_index[:, 0], draw.op_param[:, 0])
  forms = (_operations.chains_batched, _operations.chains_sequential)
  side_by_side, one_by_one = (
    np.asarray(jax.jit(form, static_argnames="all_ops")(*work, all_ops=True), np.int32)
    for form in forms
  )
  difference = np.abs(side_by_side - one_by_one)
  print(f"two forms: exact {np.mean(difference == 0):.6f}, largest {difference.max()}")
  assert np.mean(difference <= 1) >= 0.999
  assert np.mean(difference == 0) >= 0.999


def test_base_operations_alone_give_the_same_chain():
  image = augment.grey_levels(_images(1)[0])
  chain = (jnp.array([1, 3, 8]), jnp.array([0.0, 5.0, 2.0]))
  few, all_of_them = (
    jax.jit(lambda image, all_ops=all_ops: augment.augmix_chain(image, *chain, all_ops=all_ops))(
      image
    )
    for all_ops in (False, True)
  )
  np.testing.assert_array_equal(few, all_of_them)


@pytest.fixture(scope="module")
def draws():
  """MANY draws at severity 3, all 13 operations, as flat arrays of the used places."""
  sample = jax.jit(jax.vmap(lambda key: augment.sample_augmix(key, (32, 32), all_ops=True)))
  return jax.tree.map(np.asarray, sample(jax.random.split(jax.random.key(0), MANY)))


def _of(draw, name):
  return draw.op_param[draw.op_index == augment.ALL_OPERATIONS.index(name)]


def test_sampler_operations_and_depth(draws):
  used = draws.op_index >= 0
  depth = used.sum(-1)
  np.testing.assert_array_equal(used, np.arange(3) < depth[..., None])
  share = np.bincount(depth.ravel(), minlength=4) / depth.size
  np.testing.assert_allclose(share, [0, 1 / 3, 1 / 3, 1 / 3], atol=0.01)
  share = np.bincount(draws.op_index[used], minlength=13) / used.sum()
  np.testing.assert_allclose(share, 1 / 13, atol=0.004)
  assert np.all(draws.op_param[~used] == 0)


def test_sampler_weights(draws):
  np.testing.assert_allclose(draws.weights.sum(-1), 1, atol=1e-6)
  # Moments of Dirichlet(1, 1, 1) and Beta(1, 1).
  np.testing.assert_allclose(draws.weights.mean(0), 1 / 3, atol=0.01)
  np.testing.assert_allclose(draws.weights.var(0), 1 / 18, atol=0.003)
  np.testing.assert_allclose([draws.m.mean(), draws.m.var()], [1 / 2, 1 / 12], atol=0.01)


@pytest.mark.parametrize(
  ("name", "low", "high", "signed", "whole"),
  [
    ("posterize", 3, 4, False, True),
    ("rotate", 0, 8, True, True),
    ("solarize", 180, 254, False, True),
    ("shear_x", 0.003, 0.09, True, False),
    ("shear_y", 0.003, 0.09, True, False),
    ("translate_x", 0, 3, True, True),
    ("translate_y", 0, 3, True, True),
    ("color", 0.118, 0.64, False, False),
    ("contrast", 0.118, 0.64, False, False),
    ("brightness", 0.118, 0.64, False, False),
    ("sharpness", 0.118, 0.64, False, False),
  ],
)
def test_sampler_parameters_follow_the_table(draws, name, low, high, signed, whole):
  values = _of(draws, name)
  size = np.abs(values) if signed else values
  slack = 0 if whole else 0.01 * (high - low)
  assert low - 1e-6 <= size.min() <= low + slack
  assert high - slack <= size.max() <= high + 1e-6
  if whole:
    np.testing.assert_array_equal(values, np.trunc(values))
  else:  # uniform: the deciles are evenly spaced
    deciles = np.quantile(size, np.linspace(0, 1, 11))
    np.testing.assert_allclose(np.diff(deciles), (high - low) / 10, rtol=0.15)
  negative = np.mean(values[values != 0] < 0)
  np.testing.assert_allclose(negative, 0.5 if signed else 0, atol=0.02)


def test_sampler_posterizes_to_three_bits_with_the_published_probability(draws):
  np.testing.assert_allclose(np.mean(_of(draws, "posterize") == 3), 0.172, atol=0.015)


def test_sampler_size_and_severity_enter_the_translation():
  sample = jax.vmap(lambda key: augment.sample_augmix(key, (8, 224), severity=3.0, depth=4))
  draw = jax.jit(sample)(jax.random.split(jax.random.key(2), 500))
  assert draw.op_index.shape == (500, 3, 4) and np.all(draw.op_index >= 0)
  assert np.abs(_of(draw, "translate_x")).max() == 22  # trunc(224 / 3 * 0.3)
  assert np.all(_of(draw, "translate_y") == 0)  # 8 / 3 * 0.3 < 1


def test_torchvision_sampler_follows_its_grid():
  sample = jax.jit(jax.vmap(lambda key: augment.sample_torchvision_augmix(key, (32, 32))))
  draw = jax.tree.map(np.asarray, sample(jax.random.split(jax.random.key(0), MANY)))
  grid = {
    "posterize": [3, 4],
    "rotate": [-20 / 3, -10 / 3, 0, 10 / 3, 20 / 3],
    "solarize": [255 - 170 / 3, 255 - 85 / 3, 255],
    "shear_x": [-1 / 15, -1 / 30, 0, 1 / 30, 1 / 15],
    "translate_y": [-2, -1, 0, 1, 2],
    "brightness": [0.8, 0.9, 1, 1.1, 1.2],
  }
  for name, values in grid.items():
    nearest = np.abs(_of(draw, name)[:, None] - np.array(values)[None, :])
    assert nearest.min(1).max() < 1e-5, name
    assert set(nearest.argmin(1)) == set(range(len(values))), name
  np.testing.assert_allclose(np.mean(_of(draw, "rotate") == 0), 1 / 3, atol=0.02)
  np.testing.assert_allclose(np.mean(_of(draw, "posterize") == 3), 1 / 3, atol=0.02)


def test_view_is_the_mixture_of_the_drawn_chains():
  shape = (8, 8, 1)
  image, key = _images(1, shape)[0], jax.random.key(11)
  view = jax.jit(augment.augmix)(key, image)
  draw = jax.jit(lambda key: augment.sample_augmix(key, shape[:2]))(key)
  chains = jax.jit(jax.vmap(augment.augmix_chain, in_axes=(None, 0, 0)))
  branches = chains(augment.grey_levels(image), draw.op_index, draw.op_param)
  expected = augment.augmix_combine(image, branches, draw.weights, draw.m)
  assert view.shape == shape and view.dtype == image.dtype
  np.testing.assert_allclose(view, expected, atol=1e-6)


def test_gradient_flows_through_the_unquantised_path_only(form):
  images, key = _images(3), jax.random.key(4)
  view = augment.views(augment.augmix, 2)
  grad = jax.jit(jax.grad(lambda images: jnp.sum(view(key, images))))(images)
  m_of = jax.jit(lambda key: augment.sample_augmix(key, (32, 32)).m)
  rows = [jax.random.fold_in(key, i) for i in range(3)]
  m = np.array([[m_of(jax.random.fold_in(row, v)) for v in range(2)] for row in rows])
  expected = np.broadcast_to((1 - m).sum(1)[:, None, None, None], images.shape)
  np.testing.assert_allclose(grad, expected, rtol=1e-6)


def test_torchvision_view_is_quantised():
  key, image = jax.random.key(3), _images(1)[0]
  view = jax.jit(augment.torchvision_augmix)(key, image)
  np.testing.assert_allclose(view * 255, np.round(view * 255), atol=1e-4)
  assert view.min() >= 0 and view.max() <= 1 and np.any(view != image)


def test_a_sharded_batch_is_never_gathered():
  mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
  rows = NamedSharding(mesh, PartitionSpec("data"))
  images = jax.device_put(_images(16, (8, 8, 3)), rows)
  view = jax.jit(augment.views(augment.augmix, 2), out_shardings=rows)
  key = jax.random.key(0)
  program = view.lower(key, images).compile()
  for collective in ("all-gather", "all-to-all", "collective-permute"):
    assert collective not in program.as_text()
  alone = jax.jit(augment.views(augment.augmix, 2))(key, jax.device_put(images, jax.devices()[0]))
  np.testing.assert_allclose(program(key, images), alone, atol=1e-6)


def test_nested_batches_are_the_flat_batch(form):
  """Seeds over views over rows: all axes merge, and every entry keeps its own draw."""
  images = augment.grey_levels(_images(6)).reshape(3, 2, 32, 32, 3)
  index = jnp.array([[4, -1], [3, 1]])
  parameter = jnp.array([[128.0, 0.0], [5.0, 0.0]])
  chain = augment.augmix_chain
  nested = jax.jit(jax.vmap(jax.vmap(chain), in_axes=(0, None, None)))(images, index, parameter)
  alone = jax.jit(functools.partial(chain))
  for seed in range(3):
    for row in range(2):
      expected = alone(images[seed, row], index[row], parameter[row])
      np.testing.assert_array_equal(nested[seed, row], expected)


@pytest.mark.parametrize(
  ("hyper", "words"),
  [({"severity": 0.0}, "severity"), ({"severity": 11.0}, "severity"), ({"depth": 0}, "depth"),
   ({"width": 0}, "width")],
)  # fmt: skip
def test_policies_refuse_bad_hyper_parameters(hyper, words):
  for policy in (augment.augmix_policy, augment.torchvision_augmix_policy):
    with pytest.raises(InputError, match=words):
      policy(**hyper)


def test_policies_refuse_unknown_hyper_parameters():
  with pytest.raises(TypeError, match="strength"):
    augment.augmix_policy(strength=3)
