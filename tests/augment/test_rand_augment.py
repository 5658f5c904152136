"""The two forms of RandAugment: parameters, draws, and results against torchvision and PIL."""

import numpy as np
import pytest

from jaxnoise import augment
from jaxnoise.augment import _rand_augment
from tests.augment import pil_policy

MANY = 20_000


def _index(name):
  return augment.POLICY_OPERATIONS.index(name) if name != "identity" else -1


@pytest.mark.parametrize("magnitude", [9, 20])
def test_every_operation_gives_torchvisions_image(golden, magnitude):
  data = golden("augment_torchvision")
  order = [name.lower().replace("_", "") for name in data["rand/ops"]]
  assert order == [name.replace("_", "") for name in _rand_augment.TORCHVISION]
  table = _rand_augment.rand_augment_table((16, 16), magnitude, 31)
  param = (table.base + np.array([1, -1]) * table.signed).reshape(28, 1)
  images = np.broadcast_to(data["images"][1], (28, 16, 16, 3))
  out = pil_policy.run(images, np.repeat(table.index, 2, axis=0), param)
  expected = data["rand/out"][(9, 20).index(magnitude)].reshape(out.shape)
  pil_policy.difference(out, expected, magnitude, exact=0.999, largest=1)


def test_torchvisions_operations_are_mild_at_magnitude_3():
  table = _rand_augment.rand_augment_table((32, 32), 3, 31)
  value = dict(zip(_rand_augment.TORCHVISION, zip(table.base[:, 0], table.signed[:, 0])))
  assert value["translate_x"] == value["translate_y"] == (0, -1)
  assert value["posterize"] == (8, 0) and value["solarize"] == (229.5, 0)
  np.testing.assert_allclose(value["rotate"], (0, 3), rtol=1e-6)
  np.testing.assert_allclose(value["shear_x"], (0, 0.03), rtol=1e-6)
  for name in ("brightness", "color", "contrast", "sharpness"):
    np.testing.assert_allclose(value[name], (1, 0.09), rtol=1e-6)


def test_ildoonets_parameters_at_magnitude_3():
  table = _rand_augment.ildoonet_table(3, "black")
  expected = {
    "autocontrast": (0.1, 0), "equalize": (0.1, 0), "invert": (0.1, 0), "rotate": (0, 3),
    "posterize": (0, 0), "solarize": (25.6, 0), "solarize_add": (11, 0), "color": (0.28, 0),
    "contrast": (0.28, 0), "brightness": (0.28, 0), "sharpness": (0.28, 0), "shear_x": (0, 0.03),
    "shear_y": (0, 0.03), "cutout_abs": (4, 0), "translate_x": (0, 10), "translate_y": (0, 10),
  }  # fmt: skip
  np.testing.assert_array_equal(table.index[:, 0], [_index(name) for name in expected])
  values = np.concatenate([table.base, table.signed], axis=1)
  np.testing.assert_allclose(values, list(expected.values()), rtol=1e-6)


def test_posterizing_to_no_bits_is_a_choice():
  place = list(_rand_augment.ILDOONET).index("posterize")
  images = np.full((3, 16, 16, 3), 200, np.uint8)
  images[:, 0] = 100
  tables = [_rand_augment.ildoonet_table(3, how) for how in ("black", "one", "identity")]
  param = [[table.base[place, 0]] for table in tables]
  black, one, same = pil_policy.run(images, np.full((3, 1), _index("posterize")), param)
  assert np.all(black == 0)
  assert np.all(one[0] == 0) and np.all(one[1:] == 128)
  np.testing.assert_array_equal(same, images[2])
  for how in ("black", "identity"):  # at magnitude 8 one bit is kept in any case
    assert _rand_augment.ildoonet_table(8, how).base[place, 0] == 1


@pytest.mark.parametrize("magnitude", [3, 11.0, 30])
def test_ildoonets_operations_agree_with_pil(magnitude):
  table = _rand_augment.ildoonet_table(magnitude, "one")
  images = np.random.default_rng(6).integers(0, 256, (32, 16, 16, 3), np.uint8)
  images[::2] = images[::2] // 2 + 40
  param = np.zeros((32, 1, 3))
  param[:, 0, 0] = (table.base + np.array([1, -1]) * table.signed).ravel()
  # The rectangle in a corner, and cut off on the other side.
  param[::2, 0, 1:], param[1::2, 0, 1:] = (0.3, 7.9), (15.99, 12.5)
  index = np.repeat(table.index, 2, axis=0)
  expected = np.stack([pil_policy.apply(*work) for work in zip(images, index, param)])
  ours = pil_policy.run(images, index, param)
  pil_policy.difference(ours, expected, magnitude, exact=0.999, largest=1)


def test_operations_are_uniform_and_signs_fair():
  names = tuple(_rand_augment.ILDOONET)
  sample = lambda key: augment.sample_ildoonet_rand_augment(key, (32, 32), num_ops=2)
  index, param = pil_policy.over_uniforms(sample, MANY, 10)
  assert index.shape == (MANY, 2) and param.shape == (MANY, 2, 3)
  for name in names:
    for place in (0, 1):
      chosen = index[:, place] == _index(name)
      assert np.mean(chosen) == pytest.approx(1 / len(names), abs=0.007), name
      if name in _rand_augment.SIGNED:
        assert np.mean(param[chosen, place, 0] > 0) == pytest.approx(0.5, abs=0.06), name
  both = np.mean((index[:, 0] == _index("equalize")) & (index[:, 1] == _index("equalize")))
  assert both == pytest.approx(1 / len(names) ** 2, abs=0.003)  # with replacement, independently
