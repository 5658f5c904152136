"""What corruptions and perturbations make of an image, and which of them it can have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise import corruptions as library
from jaxnoise import evaluation
from jaxnoise.core import rng
from jaxnoise.core.errors import InputError

_FRAMES = 8
"""Of a sequence, that are shown."""


def draws(name: str) -> jax.Array:
  """The key of what is drawn for a table, the same for every run: it compares networks alone."""
  return rng.fold(jax.random.key(0), name)


def check_applicable(
  names: Sequence[str], severities: Sequence[int], image_shape: Sequence[int]
) -> None:
  """Refuses corruptions that such images cannot have, before anything is measured.

  Raises:
    InputError: naming the first that does not fit, and those that do.
  """
  for severity in severities:
    if severity not in library.SEVERITIES:
      raise InputError(f"severities has {severity!r}; severities are {library.SEVERITIES}")
  if not names or not severities:
    raise InputError("corruptions or severities is empty; name some, or leave the part out")
  image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  refused: dict[str, str] = {}
  for name in names:
    try:
      jax.eval_shape(
        lambda x, name=name: library.corrupt(jax.random.key(0), x, name, 1), image
      )
    except InputError as error:
      refused[name] = str(error)
  if refused:
    name, why = next(iter(refused.items()))
    fit = ",".join(n for n in names if n not in refused)
    raise InputError(f"corruptions has {name}: {why}; those that fit are {fit or 'none'}")


def contact_sheets(
  image: np.ndarray, textures: Any, *, corruptions: Sequence[str], sequences: Sequence[str]
) -> dict[str, Any]:
  """What corruptions and perturbations make of one image, for a page.

  Args:
    image: [H, W, C] uint8.
    textures: of frost, from `data.frost_textures`; None for generated ice.
    corruptions: names; those that such an image cannot have are left out.
    sequences: names of perturbations.

  Returns:
    {"corruptions", "sequences"}, each from `evaluation.contact_sheet`.
  """
  batch = jnp.asarray(image, jnp.float32)[None] / 255
  variant = evaluation.corruption_variant(image.shape)

  def corrupted(name: str) -> Callable[[], list[np.ndarray]]:
    options = {} if textures is None or name != "frost" else {"textures": textures}

    def make() -> list[np.ndarray]:
      found = [
        library.corrupt(draws("corruptions"), batch, name, severity, variant=variant, **options)
        for severity in library.SEVERITIES
      ]
      return [image, *(np.asarray(corrupted[0]) for corrupted in found)]

    return make

  def perturbed(name: str) -> Callable[[], list[np.ndarray]]:
    def make() -> list[np.ndarray]:
      frames = np.asarray(library.perturb(draws("sequences"), batch, name, variant=variant)[0])
      return list(frames[np.linspace(0, len(frames) - 1, _FRAMES).round().astype(int)])

    return make

  fit = [name for name in corruptions if _fits(name, image.shape)]
  headings = ["clean", *(f"severity {s}" for s in library.SEVERITIES)]
  return {
    "corruptions": evaluation.contact_sheet([(n, corrupted(n)) for n in fit], headings),
    "sequences": evaluation.contact_sheet([(n, perturbed(n)) for n in sequences], []),
  }


def _fits(name: str, image_shape: Sequence[int]) -> bool:
  try:
    check_applicable([name], library.SEVERITIES, image_shape)
  except InputError:
    return False
  return True
