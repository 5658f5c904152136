"""State dicts of PyTorch in, the authors' own outputs out.

tests/golden/torch_resnet50_tiny.* are one narrow network of torchvision's Bottleneck layers, saved
by torch 2.13 and safetensors 0.8 in four forms, with its float64 logits in the .npz.
"""

from __future__ import annotations

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from jaxnoise import models
from jaxnoise.models._preact_resnet import PreActBlock, PreActResNet
from jaxnoise.models._resnet import Bottleneck, ResNet
from tests.conftest import GOLDEN, load_golden
from tests.models.torch_files import numbered, safetensors, shapes, torch_zip, with_statistics
from tests.models.torch_names import channels_last, section

wrn = functools.partial(functools.partial, models.wide_resnet)
conv_bias = functools.partial(wrn, variant="conv_bias")
preact18 = functools.partial(functools.partial, models.preact_resnet18)
resnet = functools.partial(functools.partial, models.cifar_resnet)
FACTORIES = {
  "preact_resnet18_noisymix": preact18(),
  "preact_resnet18_wide2_noisymix": preact18(widen_factor=2),
  "preact_resnet18_puzzlemix": preact18(variant="puzzlemix"),
  "preact_resnet18_dividemix": preact18(variant="dividemix"),
  "preact_resnet18_labelnoisecorrection": preact18(variant="dividemix"),
  "preact_resnet34_gjs": models.preact_resnet34,
  "resnet18_mr": models.resnet18,
  "resnet18_trades": models.resnet18,
  "resnet34_mr": models.resnet34,
  "resnet34_elr": models.resnet34,
  "wrn28_4_noisymix": conv_bias(depth=28, widen_factor=4),
  "wrn28_10_mr": conv_bias(depth=28, widen_factor=10),
  **{
    f"wrn28_2_{code}_style": conv_bias(depth=28, widen_factor=2)
    for code in ("noisymix", "puzzlemix", "mr")
  },
  **{
    f"wrn{depth}_{factor}_repdistiller": wrn(depth=depth, widen_factor=factor)
    for depth, factor in ((16, 1), (16, 2), (28, 2), (40, 1), (40, 2))
  },
  "wrn28_2_augmix": wrn(depth=28, widen_factor=2),
  "wrn40_2_augmix": wrn(depth=40, widen_factor=2),
  "wrn34_10_trades": wrn(depth=34, widen_factor=10),
  **{f"resnet{depth}_repdistiller": resnet(depth=depth) for depth in (8, 20, 56)},
  "resnet8x4_repdistiller": resnet(depth=8, width=4),
  "resnet32x4_repdistiller": resnet(depth=32, width=4),
}


def test_all_networks_of_the_papers_are_here():
  names = {str(name).rpartition("_c")[0] for name in load_golden("architectures")["names"]}
  assert names == FACTORIES.keys()


@pytest.mark.parametrize("name", [str(name) for name in load_golden("architectures")["names"]])
def test_every_network_of_the_papers(golden, name):
  theirs = section(golden("architectures"), f"{name}/")
  code, _, num_classes = name.rpartition("_c")
  like = shapes(FACTORIES[code], int(num_classes))
  pairs = zip(theirs["param_names"], theirs["param_shapes"])
  state_dict = numbered(
    with_statistics({str(n): tuple(int(d) for d in shape if d) for n, shape in pairs})
  )
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    tree = models.import_torch(state_dict, like)
  assert jax.tree.map(jnp.shape, tree) == jax.tree.map(
    jnp.shape, {"params": like[0], "batch_stats": like[1]}
  )
  filled = [float(leaf.flat[0]) for leaf in jax.tree.leaves(tree)]
  unused = [n for n in state_dict if n.startswith("sub_block1")]
  counters = [n for n in state_dict if n.endswith("num_batches_tracked")]
  kept = [float(v.flat[0]) for n, v in state_dict.items() if n not in {*unused, *counters}]
  assert sorted(filled) == sorted(kept)  # each entry once
  assert [str(w.message) for w in caught] == (
    [f"state_dict: {len([n for n in unused if n not in counters])} entries of sub_block1 are left "
     "out; the forward pass of TRADES never uses them"] if unused else []
  )


def bottleneck_names(num_classes: int) -> dict[str, tuple[int, ...]]:
  """The names and shapes of torchvision's ResNet-50."""
  out = {"conv1.weight": (64, 3, 7, 7), "bn1.weight": (64,), "bn1.bias": (64,)}
  before = 64
  for stage, size in enumerate((3, 4, 6, 3), start=1):
    width = 32 * 2**stage
    wide = 4 * width
    for b in range(size):
      block = f"layer{stage}.{b}."
      kernels = [(width, before, 1, 1), (width, width, 3, 3), (wide, width, 1, 1)]
      layers = [(f"conv{i}", f"bn{i}", kernel) for i, kernel in enumerate(kernels, start=1)]
      if b == 0:
        layers.append(("downsample.0", "downsample.1", (wide, before, 1, 1)))
      for conv, norm, kernel in layers:
        out[f"{block}{conv}.weight"] = kernel
        out[f"{block}{norm}.weight"] = out[f"{block}{norm}.bias"] = kernel[:1]
      before = wide
  return out | {"fc.weight": (num_classes, 2048), "fc.bias": (num_classes,)}


def test_torchvision_resnet50():
  names = bottleneck_names(1000)
  assert len(names) == 161  # as many as resnet50().named_parameters() of torchvision 0.28
  assert len(with_statistics(names)) == 320  # and entries of its state_dict()
  tree = models.import_torch(numbered(with_statistics(names)), shapes(models.resnet50, 1000))
  assert sum(leaf.size for leaf in jax.tree.leaves(tree["params"])) == 25_557_032
  block = tree["params"]["stage4_block1"]
  assert block["shortcut"]["kernel"].shape == (1, 1, 1024, 2048)
  assert block["conv2"]["kernel"].shape == (3, 3, 512, 512)


def inception_names(num_classes: int, head: str) -> dict[str, tuple[int, ...]]:
  """The names and shapes of Inception-ResNet-v2 in timm (1.0) and pretrainedmodels."""
  out = {}

  def unit(name, width, before, kernel=(1, 1)):
    out[f"{name}.conv.weight"] = (width, before, *kernel)
    out[f"{name}.bn.weight"] = out[f"{name}.bn.bias"] = (width,)
    return width

  def branches(name, before, *chains):
    for b, chain in enumerate(chains):
      width = before
      for c, (after, kernel) in enumerate(chain):
        position = f".{c}" if len(chain) > 1 else ""
        width = unit(f"{name}.branch{b}{position}", after, width, kernel)

  def blocks(name, count, width, *chains):
    for i in range(count):
      block = f"{name}.{i}" if name.startswith("repeat") else name
      branches(block, width, *chains)
      ends = sum(chain[-1][0] for chain in chains)
      out[f"{block}.conv2d.weight"] = (width, ends, 1, 1)
      out[f"{block}.conv2d.bias"] = (width,)

  one, three, five = (1, 1), (3, 3), (5, 5)
  unit("conv2d_1a", 32, 3, three)
  unit("conv2d_2a", 32, 32, three)
  unit("conv2d_2b", 64, 32, three)
  unit("conv2d_3b", 80, 64)
  unit("conv2d_4a", 192, 80, three)
  branches("mixed_5b", 192, [(96, one)], [(48, one), (64, five)],
           [(64, one), (96, three), (96, three)])
  unit("mixed_5b.branch3.1", 64, 192)
  blocks("repeat", 10, 320, [(32, one)], [(32, one), (32, three)],
         [(32, one), (48, three), (64, three)])
  branches("mixed_6a", 320, [(384, three)], [(256, one), (256, three), (384, three)])
  blocks("repeat_1", 20, 1088, [(192, one)], [(128, one), (160, (1, 7)), (192, (7, 1))])
  branches("mixed_7a", 1088, [(256, one), (384, three)], [(256, one), (288, three)],
           [(256, one), (288, three), (320, three)])
  last = [(192, one)], [(192, one), (224, (1, 3)), (256, (3, 1))]
  blocks("repeat_2", 9, 2080, *last)
  blocks("block8", 1, 2080, *last)
  unit("conv2d_7b", 1536, 2080)
  return out | {f"{head}.weight": (num_classes, 1536), f"{head}.bias": (num_classes,)}


@pytest.mark.parametrize("head", ["classif", "last_linear"])
def test_inception_resnet_v2(head):
  names = with_statistics(inception_names(1000, head))
  assert len(names) == 1306  # entries of the state_dict() of timm's
  tree = models.import_torch(numbered(names), shapes(models.inception_resnet_v2, 1000, 75))
  assert sum(leaf.size for leaf in jax.tree.leaves(tree["params"])) == 55_843_464
  number = {name: float(i) for i, name in enumerate(names)}
  at = flatten_dict(tree["params"], sep="/")
  for ours, theirs in {
    "stem/branch4_conv1/kernel": "mixed_5b.branch3.1.conv.weight",
    "stem/norm5/scale": "conv2d_4a.bn.weight",
    "stage2_reduction/branch1_conv1/kernel": "mixed_6a.branch0.conv.weight",
    "stage2_block20/branch2_conv3/kernel": "repeat_1.19.branch1.2.conv.weight",
    "stage3_block10/branch2_conv2/kernel": "block8.branch1.1.conv.weight",
    "stage3_block10/expansion/bias": "block8.conv2d.bias",
    "final_norm/bias": "conv2d_7b.bn.bias",
  }.items():
    assert at[ours].flat[0] == number[theirs], ours


close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)


def logits(module, tree, x_nchw):
  net = models.network(module)
  image = channels_last(x_nchw).astype(np.float32)
  return jax.jit(net.apply)(tree["params"], tree["batch_stats"], image).logits


@pytest.fixture(scope="module")
def wrn16_2():
  net = models.network(models.wide_resnet(10, depth=16, widen_factor=2))
  return jax.jit(lambda tree, image: net.apply(tree["params"], tree["batch_stats"], image).logits)


@pytest.mark.parametrize("ending", ["npz", "pt", "safetensors"])
def test_wrn16_2_through_a_file(tmp_path, golden, wrn16_2, ending):
  g = golden("wrn16_2_forward")
  weights, path = section(g, "weights/"), tmp_path / f"wrn16_2.{ending}"
  if ending == "npz":
    np.savez(path, **weights)
  else:
    path.write_bytes({"pt": torch_zip, "safetensors": safetensors}[ending](weights))
  like = shapes(FACTORIES["wrn16_2_repdistiller"])
  close(wrn16_2(models.import_torch(path, like), channels_last(g["x_nchw"])), g["logits"])


@pytest.fixture(scope="module")
def tiny_resnet50():
  module = ResNet(
    5, (2, 1, 1, 1), (4, 5, 6, 7), stem_width=6, block=Bottleneck, downsampling_stem=True
  )
  net = models.network(module)
  return jax.jit(lambda tree, image: net.apply(tree["params"], tree["batch_stats"], image).logits)


@pytest.mark.parametrize("ending", [".npz", ".pt", "_legacy.pt", ".safetensors"])
def test_torchvision_bottlenecks(golden, tiny_resnet50, ending):
  g = golden("torch_resnet50_tiny")
  source = GOLDEN / f"torch_resnet50_tiny{ending}"
  tree = models.import_torch(section(g, "weights/") if ending == ".npz" else source)
  np.testing.assert_allclose(
    tiny_resnet50(tree, channels_last(g["x_nchw"])), g["logits"], rtol=1e-5, atol=1e-5
  )


def gjs(num_classes):
  return PreActResNet(
    num_classes, (1, 1, 1), (32, 64, 128), stem_width=32, block=PreActBlock, final_norm=True
  )


@pytest.mark.parametrize(
  ("name", "module"),
  [
    ("gjs_preact_block_net", gjs(10)),
    ("repdistiller_resnet8", models.cifar_resnet(10, depth=8)),
  ],
)
def test_small_networks_of_the_authors(golden, name, module):
  g = section(golden("blocks_forward"), f"{name}/")
  tree = models.import_torch(section(g, "weights/"))
  close(logits(module, tree, g["x_nchw"]), g["out"])
