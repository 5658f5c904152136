"""Which parameters of a network belong to its first stages: what a fine-tuning freezes."""

from __future__ import annotations

import re

import jax

from jaxnoise.core.errors import InputError
from jaxnoise.core.types import Params, PyTree

_STEM = ("stem", "stem_norm")
_STAGE = re.compile(r"stage(\d+)_.+")


def frozen_stages(params: Params, level: int) -> PyTree:
  """Marks the parameters that a fine-tuning at a freeze level leaves as they are.

  Level L freezes the stem and stages 1 to L, by the names of this package's networks: `stem`,
  `stem_norm` and `stage{s}_...` with s <= L. -1 freezes nothing. For a network of four stages that
  normalises after its convolutions, such as ResNet-50, level 4 leaves only the head; one that
  normalises before them keeps its `final_norm` trained beside it. Batch-norm statistics are no
  parameters and follow the data at every level. Level 0 is refused: it reads as "nothing" to some
  and as "the stem" to others.

  Args:
    params: of one network, arrays or their shapes.
    level: -1, or 1 to the number of stages.

  Returns:
    A pytree of bool of the structure of `params`, True where frozen: what
    `jaxnoise.training.optim.freeze` takes.

  Raises:
    InputError: for a level that the network does not have, and for parameters without such names.

  Source: the freeze levels of Salman et al., 'Do adversarially robust ImageNet models transfer
  better?' (2020), with which NoisyMix measures transfer.

  Example:
    >>> from jaxnoise import models
    >>> params = {"stem": {"kernel": 0.0}, "stage1_block1": 0.0, "stage2_block1": 0.0, "head": 0.0}
    >>> frozen = models.frozen_stages(params, 1)
    >>> [name for name in params if frozen[name] is False]
    ['stage2_block1', 'head']
  """
  if level == -1:
    return jax.tree.map(lambda _: False, params)
  found = {name: _STAGE.fullmatch(name) for name in params}
  stages = {name: int(match[1]) for name, match in found.items() if match}
  if not stages:
    raise InputError(
      f"freeze level {level} needs parameters named 'stem' and 'stage1_...' at the top; this "
      f"network has {', '.join(sorted(params))}: use -1, or give optim.freeze a tree of your own"
    )
  count = max(stages.values())
  if not 1 <= level <= count:
    raise InputError(
      f"the freeze level is {level}; it must be -1 for nothing, or 1 to {count} for the stem and "
      "that many stages"
    )
  frozen = {name: name in _STEM or stages.get(name, level + 1) <= level for name in params}
  return {name: jax.tree.map(lambda _, f=frozen[name]: f, params[name]) for name in params}
