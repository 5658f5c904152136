"""State dicts that do not fit, and the sentences that they are answered with."""

from __future__ import annotations

import re

import jax
import numpy as np
import pytest
from flax.core import freeze

from jaxnoise import models
from jaxnoise.core import InputError
from jaxnoise.models._preact_resnet import PreActBlock, PreActResNet
from tests.models.torch_files import numbered, shapes, with_statistics


def small(**changed):
  """A wide ResNet's state dict in AugMix's names, one block a stage: widths 4, then 4, 8, 16."""
  shape_of = {"conv1.weight": (4, 3, 3, 3)}
  before = 4
  for stage, width in enumerate((4, 8, 16), start=1):
    block = f"block{stage}.layer.0."
    for i, kernel in enumerate(((width, before, 3, 3), (width, width, 3, 3)), start=1):
      norm = f"{block}bn{i}."
      shape_of |= {f"{norm}weight": kernel[1:2], f"{norm}bias": kernel[1:2]}
      shape_of[f"{block}conv{i}.weight"] = kernel
    if before != width:
      shape_of[f"{block}conv_shortcut.weight"] = (width, before, 1, 1)
    before = width
  shape_of |= {"bn1.weight": (16,), "bn1.bias": (16,), "fc.weight": (5, 16), "fc.bias": (5,)}
  arrays = numbered(with_statistics(shape_of)) | changed
  return {name: array for name, array in arrays.items() if array is not None}


def small_like(num_classes=5, blocks=1):
  module = lambda k: PreActResNet(
    k, (blocks, 1, 1), (4, 8, 16), stem_width=4, block=PreActBlock, final_norm=True
  )
  return shapes(module, num_classes, 8)


def test_layouts_and_types():
  rng = np.random.default_rng(0)
  kernel, head = rng.normal(size=(8, 4, 3, 3)), rng.normal(size=(5, 16)).astype(np.float16)
  weights = small(**{"block2.layer.0.conv1.weight": kernel, "fc.weight": head})
  wrapped = {"net": {f"module.{n}": v for n, v in weights.items()}, "epoch": 200}
  for source in (weights, wrapped):
    tree = models.import_torch(source)
    found = tree["params"]["stage2_block1"]["conv1"]["kernel"]
    np.testing.assert_array_equal(found[2, 1, 3, 5], np.float32(kernel[5, 3, 2, 1]))
    np.testing.assert_array_equal(tree["params"]["head"]["kernel"], head.T)
    assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {np.dtype("float32")}


def test_the_structure_of_like():
  params, stats = small_like()
  as_pair = models.import_torch(small(), (params, stats))
  as_mapping = models.import_torch(small(), {"params": freeze(params), "batch_stats": stats})
  assert jax.tree.structure(as_mapping["params"]) == jax.tree.structure(freeze(params))
  for pair, mapping in zip(jax.tree.leaves(as_pair), jax.tree.leaves(as_mapping)):
    np.testing.assert_array_equal(pair, mapping)


BAD = {
  "other classes": (
    lambda: (small(), small_like(7)),
    r"fc\.weight is params/head/kernel \[16, 5\] here, and the network has \[16, 7\] there "
    r"\(1 more differ\); for other classes, import without `like` and keep the network's own head",
  ),
  "fewer blocks": (
    lambda: (small(), small_like(blocks=2)),
    r"has no block1\.layer\.1\.conv1\.weight, which the network needs as "
    r"params/stage1_block2/conv1/kernel \[3, 3, 4, 4\] \(9 more differ\); give the network the de",
  ),
  "more blocks": (
    lambda: (small(**numbered(with_statistics({
      "block2.layer.1.bn1.weight": (8,), "block2.layer.1.bn1.bias": (8,),
    }))), small_like()),
    r"block2\.layer\.1\.bn1\.weight is .*/stage2_block2/norm1/scale \[8\] here, and the network "
    r"has no such entry \(3 more differ\)",
  ),
  "no head": (
    lambda: (small(**{"fc.weight": None, "fc.bias": None, "bn1.weight": None, "bn1.bias": None,
                      "bn1.running_mean": None, "bn1.running_var": None}), small_like()),
    r"has no weight of bn1 or bn, which the network needs as params/final_norm/scale",
  ),
  "parameters alone": (
    lambda: ({n: v for n, v in small().items() if "running" not in n}, None),
    r"has block1\.layer\.0\.bn1\.weight but no block1\.layer\.0\.bn1\.running_mean; save the whole",
  ),
  "vision transformer": (
    lambda: (numbered({"cls_token": (1, 1, 8), "blocks.0.norm1.weight": (8,),
                       "blocks.0.attn.qkv.weight": (24, 8), "head.weight": (5, 8)}), None),
    r"^state_dict: cls_token, blocks\.0\.norm1\.weight, blocks\.0\.attn\.qkv\.weight and 1 more "
    r"belong to no family of networks known here, which are: ResNets of torchvision, .*timm",
  ),
  "a layer more": (
    lambda: (small(**{"block1.layer.0.se.weight": np.zeros((4, 4))}), None),
    r"state_dict: block1\.layer\.0\.se\.weight belong to no family",
  ),
  "norms that are something else": (
    lambda: (small(**{"bn1.weight": np.zeros(9)}), None),
    r"bn1 has 9 channels, the stem 4 and the head 16 inputs, so it may be the norm of neither",
  ),
  "axes": (
    lambda: (small(**{"fc.weight": np.zeros((5, 16, 1, 1))}), None),
    r"fc\.weight is float64 \[5, 16, 1, 1\], expected floats of 2 axes",
  ),
  "integers": (
    lambda: (small(**{"fc.bias": np.zeros(5, np.int64)}), None),
    r"fc\.bias is int64 \[5\], expected floats of 1 axes",
  ),
  "leaf": (
    lambda: (small(**{"conv1.weight_g": np.zeros(4)}), None),
    r"conv1\.weight_g is unknown; the layer stem has weight, bias",
  ),
  "one place twice": (
    lambda: (small(**{"linear.weight": np.zeros((5, 16))}), None),
    r"fc\.weight and linear\.weight are both params/head/kernel here",
  ),
  "like": (lambda: (small(), {"weights": 1}), r"like: found \['weights'\], expected params and"),
  "no mapping": (lambda: (np.zeros(3), None), r"state_dict: holds a ndarray, expected arrays by"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
  make, message = BAD[case]
  with pytest.raises(InputError, match=message) as raised:
    models.import_torch(*make())
  assert "\n" not in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
  path = tmp_path / "weights.pt"
  with pytest.raises(InputError, match=re.escape(f"{path}: there is no such file")):
    models.import_torch(str(path))


def constant_width(shortcut_norm):
  """Stem and last stage of the same width: a lone bn1 may be either's."""
  shape_of = {"conv1.weight": (8, 3, 3, 3), "bn1.weight": (8,), "bn1.bias": (8,)}
  shape_of["layer1.0.conv1.weight"] = shape_of["layer1.0.conv2.weight"] = (8, 8, 3, 3)
  for i in (1, 2):
    shape_of |= {f"layer1.0.bn{i}.weight": (8,), f"layer1.0.bn{i}.bias": (8,)}
  if shortcut_norm:
    shape_of |= {f"layer1.0.shortcut.1.{leaf}": (8,) for leaf in ("weight", "bias")}
    shape_of["layer1.0.shortcut.0.weight"] = (8, 8, 1, 1)
  return numbered(with_statistics(shape_of | {"linear.weight": (5, 8), "linear.bias": (5,)}))


def test_a_lone_norm_is_never_guessed():
  with pytest.raises(InputError, match=r"so it may be the norm of stem_norm or final_norm; give"):
    models.import_torch(constant_width(False))
  assert "stem_norm" in models.import_torch(constant_width(True))["params"]
  for which in ("stem_norm", "final_norm"):
    module = lambda k, which=which: PreActResNet(
      k, (1,), (8,), stem_width=8, block=PreActBlock, **{which: True}
    )
    tree = models.import_torch(constant_width(False), shapes(module, 5, 8))
    np.testing.assert_array_equal(tree["params"][which]["scale"], 1)  # the second entry


@pytest.mark.parametrize("missing", ["conv1.weight", "block2.layer.0.conv2.weight"])
def test_one_layer_missing_is_named_as_the_file_would(missing):
  weights = small(**{missing: None})
  with pytest.raises(InputError, match=re.escape(missing) if "." in missing[6:] else "conv1"):
    models.import_torch(weights, small_like())
