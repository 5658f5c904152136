"""Which parameters a freeze level means."""

import jax
import jax.numpy as jnp
import pytest

from jaxnoise import models
from jaxnoise.core import InputError


def params_of(module):
  net = models.network(module)
  return jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))[0]


WIDE = params_of(models.wide_resnet(10, depth=10, widen_factor=1))
# A network that normalises after its convolutions, as ResNet-50 does.
LATE = {
  name: {"kernel": 0.0, "bias": 0.0}
  for name in ("stem", "stem_norm", *(f"stage{k // 2}_block{k % 2}" for k in range(2, 10)), "head")
}


@pytest.mark.parametrize("params", [WIDE, LATE], ids=["wide", "late"])
@pytest.mark.parametrize("level", [-1, 1, 2, 3])
def test_levels(params, level):
  frozen = models.frozen_stages(params, level)
  assert jax.tree.structure(frozen) == jax.tree.structure(params)
  for name, part in frozen.items():
    stage = int(name[5]) if name.startswith("stage") else {"stem": 0, "stem_norm": 0}.get(name, 99)
    assert set(jax.tree.leaves(part)) == {stage <= level}


def test_the_last_level_leaves_the_head():
  frozen = models.frozen_stages(LATE, 4)
  assert [name for name in LATE if not frozen[name]["kernel"]] == ["head"]
  frozen = models.frozen_stages(WIDE, 3)
  assert {name for name in WIDE if not all(jax.tree.leaves(frozen[name]))} == {"final_norm", "head"}


def test_two_digits():
  params = {"stem": 0.0, **{f"stage{s}_block1": 0.0 for s in range(1, 12)}, "head": 0.0}
  frozen = models.frozen_stages(params, 10)
  assert [name for name in params if not frozen[name]] == ["stage11_block1", "head"]


@pytest.mark.parametrize("level", [0, 4, -2])
def test_a_level_that_is_none(level):
  with pytest.raises(InputError, match=f"freeze level is {level}; it must be -1 .* or 1 to 3"):
    models.frozen_stages(WIDE, level)


def test_a_module_of_somebody_else():
  params = {"net0": {"stem": 0.0}, "net1": {"stem": 0.0}}
  with pytest.raises(InputError, match=r"freeze level 1 needs .* this network has net0, net1"):
    models.frozen_stages(params, 1)
  assert not any(jax.tree.leaves(models.frozen_stages(params, -1)))
