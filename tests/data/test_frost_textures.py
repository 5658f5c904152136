"""The benchmark's photographs of ice: which files, which pixels, what is said of missing ones."""

import numpy as np
import pytest
from PIL import Image

from jaxnoise import data
from jaxnoise.core import InputError


@pytest.fixture
def folder(tmp_path):
  rng = np.random.default_rng(0)
  for k, name in enumerate(data.FROST_FILES):
    pixels = rng.integers(0, 256, (42 + k, 63, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / name)
  return tmp_path


def test_the_first_five_in_order_full_size_or_every_fifth_pixel(folder):
  full = data.frost_textures(folder, "imagenet")
  assert [texture.shape for texture in full] == [(42 + k, 63, 3) for k in range(5)]
  for name, texture in zip(data.FROST_FILES, full):
    np.testing.assert_array_equal(texture, np.asarray(Image.open(folder / name)))
  small = data.frost_textures(str(folder))
  # round(0.2 h): 42 -> 8, 43 and more -> 9; 63 -> 13.
  assert [texture.shape[:2] for texture in small] == [(8, 13)] + 4 * [(9, 13)]
  for whole, fifth in zip(full, small):
    assert fifth.dtype == np.uint8
    np.testing.assert_array_equal(fifth[3, 4], whole[17, 22])


def test_missing_and_damaged_files_are_named(folder):
  (folder / "frost6.jpg").unlink()  # which the authors' code names and never draws
  data.frost_textures(folder)
  (folder / "frost2.png").write_bytes(b"no image")
  with pytest.raises(InputError, match=r"frost2\.png: cannot be read as an image"):
    data.frost_textures(folder)
  (folder / "frost2.png").unlink()
  (folder / "frost4.jpg").unlink()
  with pytest.raises(InputError, match=r"frost2\.png, frost4\.jpg not found at .* give the folder"):
    data.frost_textures(folder)
  with pytest.raises(InputError, match="did you mean 'imagenet'"):
    data.frost_textures(folder, "image_net")
