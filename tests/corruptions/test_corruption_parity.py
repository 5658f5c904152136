"""The authors' generator, value by value, on the draws stored beside its outputs."""

import functools
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import corruptions
from jaxnoise.corruptions import _noise, _weather

KEY = jax.random.key(0)
NUM_IMAGES = 4


class Case(NamedTuple):
  name: str
  file: str
  core: Callable | None = None  # the arithmetic on given draws; None where nothing is random
  draws: tuple[str, ...] = ()
  has_parameters: bool = True

  def apply(self, images, golden, severity):
    """[4, H, W, C] from the stored draws of one severity, or through the public entry."""
    if self.core is None:
      return corruptions.corrupt(KEY, images, self.name, severity, quantize=False)
    row = jnp.asarray(corruptions.parameters(self.name)[severity - 1], jnp.float32)
    parameters = tuple(row) if self.has_parameters else ()
    draws = tuple(jnp.asarray(golden[f"{self.name}/{draw}"][severity - 1]) for draw in self.draws)
    return batched(self.core)(images, draws, parameters)


@functools.cache
def batched(core):
  def one(image, draws, parameters):
    return core(image, *draws, *parameters)

  return jax.jit(jax.vmap(one, in_axes=(0, 0, None)))


def shot_noise_from(image, counts, photons):
  return _noise.shot_noise_from(counts, photons, image.dtype)


CASES = [
  Case("gaussian_noise", "noise", _noise.gaussian_noise_from, ("normal",)),
  Case("shot_noise", "noise", shot_noise_from, ("poisson_counts",)),
  Case("impulse_noise", "noise", _noise.impulse_noise_from, ("flipped", "salted"), False),
  Case("speckle_noise", "noise", _noise.speckle_noise_from, ("normal",)),
  Case("defocus_blur", "blur"),
  Case("zoom_blur", "blur"),
  Case("gaussian_blur", "blur"),
  Case("fog", "weather", _weather.fog_from, ("unit_uniform",)),
  Case("brightness", "weather"),
  Case("contrast", "digital"),
  Case("saturate", "digital"),
  Case("pixelate", "digital"),
  Case("jpeg_compression", "digital"),
]

# Compared in a file of their own, draw by draw and step by step.
ELSEWHERE = {
  "glass_blur": "test_motion.py",
  "motion_blur": "test_motion.py",
  "snow": "test_snow.py",
  "frost": "test_snow.py",
  "elastic_transform": "test_elastic.py",
  "spatter": "test_spatter.py",
}


def test_every_implemented_corruption_has_a_case():
  assert sorted([case.name for case in CASES] + list(ELSEWHERE)) == sorted(corruptions.NAMES)
  for name, file in ELSEWHERE.items():
    text = pathlib.Path(__file__).with_name(file).read_text("utf-8")
    assert f'"{name}/out_' in text, f"{file} does not compare {name} with the official output"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equals_the_official_output(case, golden):
  stored = golden(f"corruptions_cifar_{case.file}")
  images = jnp.asarray(stored["images"] / 255.0, jnp.float32)
  for severity in corruptions.SEVERITIES:
    out = case.apply(images, stored, severity)
    official = stored[f"{case.name}/out_uint8"][severity - 1].astype(int)
    cast = np.rint(np.asarray(corruptions.truncate_to_8_bits(out)) * 255).astype(int)
    if f"{case.name}/out_float" not in stored:  # impulse noise, pixelate, JPEG: whole levels
      np.testing.assert_array_equal(cast, official)
      continue
    exact = stored[f"{case.name}/out_float"][severity - 1]
    # Float32 against float64: measured below 3e-4 of a level, the bound allows 1e-3 (README 0.01).
    np.testing.assert_allclose(np.asarray(out) * 255, exact, rtol=0, atol=1e-3)
    # The authors' float64 falls on either side of a whole level; no other pixel may differ.
    near_whole = np.abs(exact - np.rint(exact)) < 1e-3
    np.testing.assert_array_equal(cast[~near_whole], official[~near_whole])
    assert np.abs(cast - official).max() <= 1


def test_plasma_equals_the_official_height_map(golden):
  stored = golden("corruptions_cifar_weather")
  plasma = jax.jit(_weather.plasma)
  for severity in corruptions.SEVERITIES:
    decay = jnp.float32(corruptions.parameters("fog")[severity - 1, 1])
    for number in range(NUM_IMAGES):
      draws = jnp.asarray(stored["fog/unit_uniform"][severity - 1, number])
      np.testing.assert_allclose(
        plasma(draws, decay), stored["fog/plasma"][severity - 1, number], rtol=0, atol=1e-4
      )


def test_the_cast_keeps_whole_levels_and_truncates_the_rest():
  levels = np.arange(256, dtype=np.float32)
  kept = corruptions.truncate_to_8_bits(jnp.asarray(levels / np.float32(255)))
  np.testing.assert_array_equal(np.rint(np.asarray(kept) * 255), levels)
  below = corruptions.truncate_to_8_bits(jnp.asarray((levels[1:] - 0.01) / 255))
  np.testing.assert_array_equal(np.rint(np.asarray(below) * 255), levels[:-1])
