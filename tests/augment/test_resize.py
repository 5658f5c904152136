"""Resized crops and the resizing of evaluation images, against torchvision and PIL."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment
from tests.augment import pil_policy

# PIL rounds to grey levels after each of its two passes; here nothing is rounded.
ONE_LEVEL = 1.01


@pytest.mark.parametrize("case", range(5))
def test_resized_crops_are_pils(golden, case):
  data = golden("augment_torchvision")
  box, expected = data[f"resize/{case}/box"], data[f"resize/{case}/out"]
  image = jnp.asarray(data["resize/image"], jnp.float32)
  ours = jax.jit(augment.crop_resize, static_argnums=5)(image, *box, expected.shape[:2])
  error = np.abs(np.asarray(ours) - expected)
  print(f"{box.tolist()}: mean error {error.mean():.3f}, largest {error.max():.3f}")
  assert error.max() < ONE_LEVEL
  assert error.mean() < 0.35


@pytest.mark.parametrize("case", range(3))
def test_evaluation_images_are_torchvisions(golden, case):
  data = golden("augment_torchvision")
  resize, size = (int(n) for n in data[f"center/{case}/sizes"])
  image = jnp.asarray(data["resize/image"], jnp.float32)
  transform = jax.jit(functools.partial(augment.resize_center_crop, resize=resize, size=size))
  ours = transform(image)
  assert ours.shape == (size, size, 3)
  assert np.abs(np.asarray(ours) - data[f"center/{case}/out"]).max() < ONE_LEVEL
  turned = transform(image.transpose(1, 0, 2))
  np.testing.assert_allclose(turned.transpose(1, 0, 2), ours, atol=1e-3)


@pytest.mark.parametrize("size", [(32, 32), (40, 150), (400, 60)], ids=str)
def test_rectangles_are_torchvisions(golden, size):
  """With ten tries and, on long images, the central rectangle where none fits."""
  data, key = golden("augment_torchvision"), f"crop/{size[0]}x{size[1]}"
  uniform = np.insert(data[f"{key}/uniform"], 2, 0.7, axis=1)  # the third number mirrors
  with pil_policy.given_uniforms():
    sample = jax.jit(jax.vmap(lambda u: jnp.stack(augment.sample_resized_crop(u, size)[:4])))
    boxes = sample(uniform.astype(np.float32))
  np.testing.assert_array_equal(boxes, data[f"{key}/box"])


def test_the_whole_image_at_its_own_size_is_the_image_or_its_mirror_image():
  image = jnp.asarray(np.random.default_rng(0).random((7, 7, 3), np.float32))
  whole = functools.partial(augment.random_resized_crop, scale=(1.0, 1.0), ratio=(1.0, 1.0))
  both = lambda key: (whole(key, image), whole(key, image, flip=False))
  crops, never = pil_policy.over_uniforms(both, 500, 23)
  image = np.asarray(image)
  kept = np.all(np.abs(crops - image) < 1e-6, axis=(1, 2, 3))
  mirrored = np.all(np.abs(crops - image[:, ::-1]) < 1e-6, axis=(1, 2, 3))
  np.testing.assert_array_equal(kept, ~mirrored)
  assert kept.mean() == pytest.approx(0.5, abs=0.08)
  np.testing.assert_allclose(never, np.broadcast_to(image, never.shape), atol=1e-6)


def test_the_crop_is_the_drawn_rectangle():
  image = jnp.asarray(np.random.default_rng(0).random((12, 20, 3), np.float32))
  key = jax.random.key(4)
  transform = functools.partial(augment.random_resized_crop, size=8)

  @jax.jit
  def run(image):
    *box, mirrored = augment.sample_resized_crop(key, (12, 20))
    back = jax.grad(lambda x: transform(key, x).sum())(image)
    expected = augment.crop_resize(image, *box, (8, 8))
    return transform(key, image), back, expected, box, mirrored

  out, back, expected, box, mirrored = run(image)
  np.testing.assert_allclose(out, expected[:, ::-1] if mirrored else expected, atol=1e-6)
  top, left, rows, columns = (int(side) for side in box)
  assert rows * columns < 240
  inside = np.zeros((12, 20), bool)
  inside[top : top + rows, left : left + columns] = True
  assert np.all((np.asarray(back) == 0).all(-1)[~inside])
  np.testing.assert_allclose(back.sum(), 8 * 8 * 3, rtol=1e-5)  # weights sum to 1
