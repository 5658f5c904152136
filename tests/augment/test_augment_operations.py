"""The 13 operations against PIL's stored results, and against PIL itself on other sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment
from tests.augment import pil

PARAMETER = {
  "posterize": "bits_kept",
  "rotate": "degrees_counterclockwise",
  "solarize": "threshold",
  "shear_x": "shear",
  "shear_y": "shear",
  "translate_x": "pixels",
  "translate_y": "pixels",
  "color": "factor",
  "contrast": "factor",
  "brightness": "factor",
  "sharpness": "factor",
}
SHAPES = [(8, 8, 1), (16, 16, 3), (12, 20, 3)]

on_batch = jax.jit(jax.vmap(augment.apply_operation, in_axes=(0, None, None)))


def _difference(ours, reference):
  return np.abs(np.asarray(ours, np.int32) - np.asarray(reference, np.int32))


def _report(name, difference):
  print(f"{name}: exact {np.mean(difference == 0):.6f}, largest {difference.max()}")


def test_operations_are_those_of_the_reference_in_its_order(golden):
  assert golden("augmix_ops")["op_names"].tolist() == list(augment.ALL_OPERATIONS)
  assert augment.ALL_OPERATIONS[:9] == augment.BASE_OPERATIONS


@pytest.mark.parametrize("name", augment.ALL_OPERATIONS)
def test_stored_results(golden, name):
  data = golden("augmix_ops")
  expected = data[f"{name}/out"]
  parameters = [0.0]
  if name in PARAMETER:
    parameters = data[f"{name}/{PARAMETER[name]}"]
  else:
    expected = expected[None]
  index = augment.ALL_OPERATIONS.index(name)
  ours = np.stack([on_batch(data["images"], index, parameter) for parameter in parameters])
  difference = _difference(ours, expected)
  _report(name, difference)
  assert difference.max() <= 1
  assert np.mean(difference == 0) >= (0.998 if name == "autocontrast" else 0.9999)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_other_sizes_agree_with_pil(shape):
  images = np.random.default_rng(3).integers(0, 256, (4, *shape), np.uint8)
  images[0] = images[0] // 4 + 60
  images[1, ..., 0] = 77
  # Shears are not round numbers: those interpolate to whole grey levels, where float32 and PIL's
  # float64 may truncate to neighbours.
  cases = {"posterize": 3, "rotate": -7, "solarize": 200, "shear_x": 0.0713, "shear_y": -0.0817}
  cases |= {"translate_x": -2, "translate_y": 1, "autocontrast": 0, "equalize": 0}
  cases |= {"color": 0.3, "contrast": 0.64, "brightness": 1.3, "sharpness": 0.118}
  assert set(cases) == set(augment.ALL_OPERATIONS)
  for name, parameter in cases.items():
    ours = on_batch(images, augment.ALL_OPERATIONS.index(name), parameter)
    reference = np.stack([pil.apply(image, name, parameter) for image in images])
    difference = _difference(ours, reference)
    assert difference.max() <= 1, name
    assert np.mean(difference == 0) >= 0.99, name


def test_index_minus_one_is_the_identity(golden):
  images = golden("augmix_ops")["images"]
  np.testing.assert_array_equal(on_batch(images, -1, 3.0), images)


@pytest.mark.parametrize("name", [n for n in augment.ALL_OPERATIONS if n in PARAMETER])
def test_the_operation_by_name_is_the_one_by_index(golden, name):
  data = golden("augmix_ops")
  image, parameter = jnp.asarray(data["images"][2]), data[f"{name}/{PARAMETER[name]}"][1]
  direct = jax.jit(getattr(augment, name))(image, parameter)
  by_index = on_batch(image[None], augment.ALL_OPERATIONS.index(name), parameter)[0]
  np.testing.assert_array_equal(direct, by_index)


def test_a_constant_channel_is_left_alone():
  image = jnp.full((6, 6, 3), 90, jnp.uint8).at[2, 3, 0].set(20)
  for name in ("autocontrast", "equalize"):
    changed = on_batch(image[None], augment.ALL_OPERATIONS.index(name), 0.0)[0]
    np.testing.assert_array_equal(changed[..., 1:], image[..., 1:])
    assert np.any(changed[..., 0] != image[..., 0]) == (name == "autocontrast")


def test_enhancing_needs_one_or_three_channels():
  with pytest.raises(ValueError, match="2 channels"):
    augment.color(jnp.zeros((4, 4, 2), jnp.uint8), 0.5)
