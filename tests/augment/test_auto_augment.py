"""AutoAugment and Fast AutoAugment: tables, draws, and results against torchvision and PIL."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment
from jaxnoise.augment import (
  _auto_augment,
  _fast_auto_augment,
  _operations,
  _policy_tables,
  _rand_augment,
)
from jaxnoise.core import InputError
from jaxnoise.training import resolve
from tests.augment import pil_policy

POLICIES = ("cifar10", "imagenet")
MANY = 20_000


def _ours(name):
  """Our name of torchvision's operation."""
  special = {"AutoContrast": "autocontrast"}
  for kind in ("Shear", "Translate"):
    special |= {f"{kind}{axis}": f"{kind.lower()}_{axis.lower()}" for axis in "XY"}
  return special.get(name, name.lower())


def _index(name):
  return augment.POLICY_OPERATIONS.index(name)


@pytest.mark.parametrize("policy", POLICIES)
def test_policies_are_torchvisions(golden, policy):
  data, table = golden("augment_torchvision"), _auto_augment.auto_augment_table(policy, (32, 32))
  expected = [[_index(_ours(name)) for name in row] for row in data[f"auto/{policy}/ops"]]
  np.testing.assert_array_equal(table.index, expected)
  np.testing.assert_array_equal(table.probability, np.float32(data[f"auto/{policy}/p"]))


def test_magnitudes_are_torchvisions_to_the_last_bit(golden):
  data, compared = golden("augment_torchvision"), 0
  for key in data:
    if not key.startswith("table/"):
      continue
    _, bins, size, name = key.split("/")
    size = tuple(int(side) for side in size.split("x"))
    base, signed = np.transpose(_policy_tables.torchvision_parameters(size, int(bins))[_ours(name)])
    if name in ("Posterize", "Solarize"):
      values, other = base, signed
    elif name.startswith("Translate"):  # a positive one moves to the right: x_in = x - pixels
      values, other = -signed, base
      np.testing.assert_array_equal(values, np.trunc(data[key]), key)
      values = data[key]
    else:
      values, other = signed, base - (name in ("Brightness", "Color", "Contrast", "Sharpness"))
    np.testing.assert_array_equal(values, data[key], key)
    np.testing.assert_array_equal(other, 0, key)
    compared += 1
  assert compared == 88


def _stored_draws(data, policy):
  table = _auto_augment.auto_augment_table(policy, (16, 16))
  sign = 2.0 * data[f"auto/{policy}/signs"] - 1
  param = table.base[:, None] + sign * table.signed[:, None]
  index = np.broadcast_to(table.index[:, None], param.shape)
  return index.reshape(50, 2), param.reshape(50, 2)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_subpolicy_gives_torchvisions_image(golden, policy):
  data = golden("augment_torchvision")
  out = pil_policy.run(np.tile(data["images"], (25, 1, 1, 1)), *_stored_draws(data, policy))
  expected = data[f"auto/{policy}/out"].reshape(out.shape)
  pil_policy.difference(out, expected, policy, exact=0.998, largest=2)


def test_the_two_forms_give_the_same_grey_levels(golden):
  data = golden("augment_torchvision")
  images = np.tile(data["images"], (25, 1, 1, 1))
  index, param = _stored_draws(data, "cifar10")
  kind = {"names": augment.POLICY_OPERATIONS, "nearest": True}
  one_by_one = jax.jit(functools.partial(_operations.chains_sequential, **kind))
  ours = one_by_one(jnp.asarray(images), index, jnp.asarray(param, jnp.float32))
  pil_policy.difference(ours, pil_policy.run(images, index, param), "forms", exact=0.999, largest=2)


def test_fill_is_where_geometry_leaves_the_image(golden):
  data = golden("augment_torchvision")
  table = _auto_augment.auto_augment_table("cifar10", (16, 16))
  param = table.base[3] + np.array([1, -1]) * table.signed[3]
  param = np.pad(param[:, None], ((0, 0), (0, 2))).astype(np.float32)
  draw = augment.PolicyDraw(jnp.asarray(table.index[3]), jnp.asarray(param))
  apply = functools.partial(
    augment.apply_policy, names=("shear_y", "translate_y"), fill=(0.2, 0.4, 0.8)
  )
  out = jax.jit(apply)(jnp.asarray(data["images"][0] / 255, jnp.float32), draw)
  np.testing.assert_allclose(out * 255, data["auto/fill/out"], atol=1e-3)


NEAREST = [("rotate", 7.3), ("rotate", -30.0), ("shear_x", 0.2), ("shear_y", -0.1), ("shear_x", 0),
           ("translate_x", 3.0), ("translate_y", -2.6), ("translate_x", 0.5)]  # fmt: skip


@pytest.mark.parametrize("shape", [(12, 20, 3), (9, 7, 1), (33, 32, 3)], ids=str)
def test_nearest_geometry_is_pils(shape):
  image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)

  @jax.jit
  def move(parameters):
    matrices = jax.vmap(lambda p: _operations._geometric.displacements(p, *shape[:2]))(parameters)
    which = np.array([_operations._geometric.GEOMETRIC.index(name) for name, _ in NEAREST])
    chosen = matrices[np.arange(len(NEAREST)), which]
    return jax.vmap(augment.affine_nearest, in_axes=(None, 0))(jnp.asarray(image), chosen)

  ours = move(jnp.asarray([value for _, value in NEAREST], jnp.float32))
  draws = [([_index(name)], [[value, 0, 0]]) for name, value in NEAREST]
  expected = np.stack([pil_policy.apply(image, *draw) for draw in draws])
  np.testing.assert_array_equal(ours, expected)


TABLE = _policy_tables.make_table(
  [
    [("rotate", 0.0, 0), ("invert", 1.0, 0)],
    [("rotate", 0.3, 1), ("identity", 1.0, 0)],
    [("cutout_abs", 1.0, 0), ("posterize", 0.75, 1)],
  ],
  {"rotate": [(0, 10), (0, 20)], "posterize": [(4, 0), (3, 0)], "cutout_abs": [(5, 0)]},
)


@pytest.fixture(scope="module")
def draws():
  sample = lambda key: _policy_tables.sample_policy(key, (8, 40), TABLE)
  return pil_policy.over_uniforms(sample, MANY, 9)


def test_rows_are_uniform_and_operations_have_their_probability(draws):
  first, second = draws.op_index.T
  share = lambda mask: pytest.approx(np.mean(mask), abs=0.012)
  assert share(second == _index("invert")) == 1 / 3  # probability 1: always
  assert share(first == _index("cutout_abs")) == 1 / 3
  assert share(first == _index("rotate")) == 0.3 / 3  # and never at probability 0
  assert share(second == _index("posterize")) == 0.75 / 3
  assert np.all(first[second == _index("invert")] == -1)
  rotated = first == _index("rotate")
  assert set(np.unique(second[rotated])) == {-1}
  np.testing.assert_array_equal(np.abs(draws.op_param[rotated, 0, 0]), 20)


def test_signs_are_fair_and_only_where_they_belong(draws):
  rotated = draws.op_index[:, 0] == _index("rotate")
  assert np.mean(draws.op_param[rotated, 0, 0] > 0) == pytest.approx(0.5, abs=0.04)
  posterized = draws.op_index[:, 1] == _index("posterize")
  np.testing.assert_array_equal(draws.op_param[posterized, 1, 0], 3)


def test_places_are_uniform_over_the_image(draws):
  places = draws.op_param[:, 0, 1:]
  assert places.min() >= 0 and np.all(places.max(0) < [40, 8])
  deciles = np.quantile(places, np.linspace(0, 1, 11), axis=0)
  np.testing.assert_allclose(np.diff(deciles, axis=0), np.broadcast_to([4, 0.8], (10, 2)), rtol=0.1)
  assert abs(np.corrcoef(places.T)[0, 1]) < 0.03


def test_operations_occur_as_often_as_their_policy_says():
  table = _auto_augment.auto_augment_table("cifar10", (32, 32))
  draw = pil_policy.over_uniforms(lambda u: augment.sample_auto_augment(u, (32, 32)), MANY, 9)
  for place in (0, 1):
    for position in np.unique(table.index):
      expected = np.sum(table.probability[:, place] * (table.index[:, place] == position))
      share = np.mean(draw.op_index[:, place] == position)
      assert share == pytest.approx(expected / 25, abs=0.01), (place, position)


def test_fast_policies_have_the_published_size_and_first_rows():
  table = _fast_auto_augment.fast_auto_augment_table("cifar10", (10, 100))
  assert table.index.shape == (493, 2)
  names = [augment.POLICY_OPERATIONS[i] for i in table.index[0]]
  assert names == ["contrast", "translate_x"]
  np.testing.assert_allclose(table.probability[0], [0.8320659, 0.4184988], atol=1e-6)
  np.testing.assert_allclose(table.base[0], [0.4988431 * 1.8 + 0.1, 0], atol=1e-6)
  np.testing.assert_allclose(table.signed[0], [0, (0.3940231 * 0.9 - 0.45) * 100], atol=1e-4)
  imagenet = _fast_auto_augment.fast_auto_augment_table("imagenet", (32, 32))
  assert imagenet.index.shape == (498, 2)
  np.testing.assert_allclose(imagenet.signed[0, 0], 0.5131248 * 0.6 - 0.3, atol=1e-6)
  bits = imagenet.base[imagenet.index == _index("posterize")]
  assert set(bits) == {4.0, 5.0, 6.0, 7.0}
  assert len(imagenet.names) == len(table.names) == 15


def test_fast_subpolicies_agree_with_pil():
  rng = np.random.default_rng(4)
  images = rng.integers(0, 256, (pil_policy.COUNT, 16, 16, 3), np.uint8)
  images[::2] = images[::2] // 3 + 50
  sample = lambda key: augment.sample_fast_auto_augment(key, (16, 16), policy="cifar10")
  index, param = pil_policy.over_uniforms(sample, pil_policy.COUNT, 9)
  expected = np.stack([pil_policy.apply(*work) for work in zip(images, index, param)])
  ours = pil_policy.run(images, index, param)
  pil_policy.difference(ours, expected, "fast", exact=0.998, largest=3)


@pytest.mark.parametrize(
  ("name", "numbers", "hyper"),
  [
    ("auto_augment", 9, {"policy": "imagenet"}),
    ("fast_auto_augment", 9, {"policy": "imagenet"}),
    ("rand_augment", 15, {"num_ops": 3, "magnitude": 5, "bins": 11}),
    ("ildoonet_rand_augment", 10, {"num_ops": 2, "magnitude": 7, "posterize_zero": "one"}),
  ],
)
def test_the_transform_applies_the_draws_of_its_sampler(monkeypatch, name, numbers, hyper):
  compiled = []

  def return_draw(image, draw, *, names, fill=0.0):
    compiled.append((names, fill))
    return draw

  module = _rand_augment if "rand" in name else globals()[f"_{name}"]
  monkeypatch.setattr(module, "apply_policy", return_draw)

  def both(key):
    expected = getattr(augment, f"sample_{name}")(key, (12, 20), **hyper)
    return getattr(augment, name)(key, jnp.zeros((12, 20, 3)), **hyper), expected

  draw, expected = pil_policy.over_uniforms(both, 500, numbers)
  jax.tree.map(np.testing.assert_array_equal, draw, expected)
  assert draw.op_index.shape == (500, hyper.get("num_ops", 2))
  [(names, fill)] = compiled
  drawn = {augment.POLICY_OPERATIONS[i] for i in np.unique(draw.op_index) if i >= 0}
  assert drawn == set(names) and fill == 0.0


def test_a_view_is_the_operations_on_the_rounded_image():
  image = jnp.asarray(np.random.default_rng(2).random((8, 8, 1), np.float32))
  draw = augment.PolicyDraw(jnp.array([_index("invert"), _index("equalize")]), jnp.zeros((2, 3)))
  view = jax.jit(functools.partial(augment.apply_policy, names=("invert",)))
  expected = (255 - np.round(np.asarray(image) * 255)) / 255  # equalize is not compiled
  np.testing.assert_allclose(view(image, draw), expected, atol=1e-6)
  assert not np.any(jax.grad(lambda image: view(image, draw).sum())(image))
  assert view(image.astype(jnp.bfloat16), draw).dtype == jnp.bfloat16


@pytest.mark.parametrize(
  "name",
  ["auto_augment", "rand_augment", "ildoonet_rand_augment", "fast_auto_augment", "cutout",
   "random_erasing", "color_jitter", "gaussian_augment", "random_resized_crop"],
)  # fmt: skip
def test_a_config_finds_the_transform_and_it_keeps_the_images_type(name):
  transform = resolve.lookup("config.policy.name", augment, name, "rng", "image")
  for shape, dtype in (((12, 20, 3), jnp.float32), ((8, 8, 1), jnp.bfloat16)):
    out = jax.eval_shape(transform, jax.random.key(0), jax.ShapeDtypeStruct(shape, dtype))
    assert (out.shape, out.dtype) == (shape, dtype)


@pytest.mark.parametrize(
  ("transform", "arguments", "words"),
  [
    (augment.auto_augment, {"policy": "cifar"}, "did you mean 'cifar10'"),
    (augment.fast_auto_augment, {"policy": "imagenett"}, "did you mean 'imagenet'"),
    (augment.auto_augment, {"fill": 124}, "fill is 124"),
    (augment.auto_augment, {"fill": (0.1, 0.2)}, "one per channel"),
    (augment.rand_augment, {"magnitude": 31}, "magnitude is 31"),
    (augment.rand_augment, {"magnitude": 0.5}, "magnitude is 0.5"),
    (augment.rand_augment, {"bins": 1}, "bins is 1"),
    (augment.rand_augment, {"num_ops": 0}, "num_ops is 0"),
    (augment.ildoonet_rand_augment, {"magnitude": 31}, "magnitude is 31"),
    (augment.ildoonet_rand_augment, {"posterize_zero": "blak"}, "did you mean 'black'"),
    (augment.ildoonet_rand_augment, {"num_ops": 0}, "num_ops is 0"),
    (augment.cutout, {"size": -1}, "size is -1"),
    (augment.cutout, {"fill": (0.1, 0.2)}, "one per channel"),
    (augment.random_erasing, {"probability": 1.5}, "probability is 1.5"),
    (augment.random_erasing, {"area": (0.3, 0.1)}, "area is"),
    (augment.random_erasing, {"aspect": (0.0, 1.0)}, "aspect is"),
    (augment.random_erasing, {"tries": 0}, "tries is 0"),
    (augment.color_jitter, {"saturation": -0.1}, "saturation is -0.1"),
    (augment.color_jitter, {"hue": 0.6}, "hue is 0.6"),
    (augment.gaussian_augment, {"std": -1.0}, "std is -1"),
    (augment.random_resized_crop, {"scale": (0.0, 1.0)}, "scale is"),
    (augment.random_resized_crop, {"ratio": (2.0, 1.0)}, "ratio is"),
    (augment.random_resized_crop, {"size": 0}, "size is 0"),
  ],
)
def test_bad_input_is_one_sentence(transform, arguments, words):
  image = jax.ShapeDtypeStruct((8, 8, 3), jnp.float32)
  with pytest.raises(InputError, match=words):
    jax.eval_shape(functools.partial(transform, **arguments), jax.random.key(0), image)


def test_other_numbers_of_channels_are_refused():
  image = jax.ShapeDtypeStruct((8, 8, 2), jnp.float32)
  for transform in (augment.auto_augment, augment.ildoonet_rand_augment, augment.color_jitter):
    with pytest.raises(InputError, match="2 channels"):
      jax.eval_shape(transform, jax.random.key(0), image)
