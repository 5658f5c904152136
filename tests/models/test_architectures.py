"""Every network against the counts, shapes and names of the authors' own, without compiling one."""

from __future__ import annotations

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax.traverse_util import flatten_dict

from jaxnoise import models
from jaxnoise.models._inception_resnet import InceptionResNet
from tests.models.torch_names import ours, section, torch_shape

wrn, preact18, cifar = models.wide_resnet, models.preact_resnet18, models.cifar_resnet
NETWORKS = {
  "preact_resnet18_noisymix": (preact18, {}),
  "preact_resnet18_wide2_noisymix": (preact18, {"widen_factor": 2}),
  "preact_resnet18_dividemix": (preact18, {"variant": "dividemix"}),
  "preact_resnet18_labelnoisecorrection": (preact18, {"variant": "dividemix"}),
  "preact_resnet18_puzzlemix": (preact18, {"variant": "puzzlemix"}),
  "preact_resnet34_gjs": (models.preact_resnet34, {}),
  "wrn28_4_noisymix": (wrn, {"depth": 28, "widen_factor": 4, "variant": "conv_bias"}),
  "wrn28_2_noisymix_style": (wrn, {"depth": 28, "widen_factor": 2, "variant": "conv_bias"}),
  "wrn28_2_puzzlemix_style": (wrn, {"depth": 28, "widen_factor": 2, "variant": "conv_bias"}),
  "wrn28_2_mr_style": (wrn, {"depth": 28, "widen_factor": 2, "variant": "conv_bias"}),
  "wrn28_10_mr": (wrn, {"depth": 28, "widen_factor": 10, "variant": "conv_bias"}),
  "wrn16_1_repdistiller": (wrn, {"depth": 16, "widen_factor": 1}),
  "wrn16_2_repdistiller": (wrn, {"depth": 16, "widen_factor": 2}),
  "wrn28_2_repdistiller": (wrn, {"depth": 28, "widen_factor": 2}),
  "wrn40_1_repdistiller": (wrn, {"depth": 40, "widen_factor": 1}),
  "wrn40_2_repdistiller": (wrn, {"depth": 40, "widen_factor": 2}),
  "wrn28_2_augmix": (wrn, {"depth": 28, "widen_factor": 2}),
  "wrn40_2_augmix": (wrn, {"depth": 40, "widen_factor": 2}),
  "wrn34_10_trades": (wrn, {"depth": 34, "widen_factor": 10}),
  "resnet18_mr": (models.resnet18, {}),
  "resnet18_trades": (models.resnet18, {}),
  "resnet34_mr": (models.resnet34, {}),
  "resnet34_elr": (models.resnet34, {}),
  "resnet8_repdistiller": (cifar, {"depth": 8}),
  "resnet20_repdistiller": (cifar, {"depth": 20}),
  "resnet56_repdistiller": (cifar, {"depth": 56}),
  "resnet8x4_repdistiller": (cifar, {"depth": 8, "width": 4}),
  "resnet32x4_repdistiller": (cifar, {"depth": 32, "width": 4}),
}
ONLY_TEN_CLASSES = ("wrn34_10_trades", "resnet18_trades", "resnet34_elr")
CASES = [
  (name, classes)
  for name in NETWORKS
  for classes in (10, 100)
  if classes == 10 or name not in ONLY_TEN_CLASSES
]


def inspect(factory, options, num_classes, pixels=32):
  """The variables' shapes, the number of convolutions and the norms' momenta, as applied."""
  return _inspect(factory, tuple(sorted(options.items())), num_classes, pixels)


@functools.cache
def _inspect(factory, options, num_classes, pixels):
  module = factory(num_classes, **dict(options))
  layers = {}

  def record(call, args, kwargs, context):
    layers[context.module.path] = context.module
    return call(*args, **kwargs)

  def init(key):
    return module.init(key, jnp.zeros((1, pixels, pixels, 3)), train=False)

  with nn.intercept_methods(record):
    variables = jax.eval_shape(init, jax.random.key(0))
  convolutions = [layer for layer in layers.values() if isinstance(layer, models.Conv)]
  momenta = [layer.momentum for layer in layers.values() if isinstance(layer, nn.BatchNorm)]
  return variables, len(convolutions), momenta


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_the_golden_file_holds_no_other_network(golden):
  names = {str(name) for name in golden("architectures")["names"]}
  assert names == {f"{name}_c{classes}" for name, classes in CASES}


@pytest.mark.parametrize(("name", "classes"), CASES)
def test_layers_are_the_authors(golden, name, classes):
  """Each parameter's name and shape, the sizes in all, convolutions, norms and their momenta."""
  theirs = section(golden("architectures"), f"{name}_c{classes}/")
  variables, convolutions, momenta = inspect(*NETWORKS[name], classes)
  params = flatten_dict({"params": variables["params"]})

  names = [str(n) for n in theirs["param_names"]]
  shapes = [tuple(int(d) for d in shape if d) for shape in theirs["param_shapes"]]
  # TRADES holds a block that no pass goes through.
  unused = [shape for n, shape in zip(names, shapes) if n.startswith("sub_block1")]
  unused_convolutions = sum(len(shape) == 4 for shape in unused)
  unused_norms = sum(len(shape) == 1 for shape in unused) // 2
  used = {n: shape for n, shape in zip(names, shapes) if not n.startswith("sub_block1")}

  after_stem = "dividemix" in name or "correction" in name or name.startswith("resnet")
  bn1 = "stem_norm" if after_stem else "final_norm"
  mine = {path: torch_shape(path, leaf.shape) for path, leaf in params.items()}
  assert mine == {ours(n, bn1): shape for n, shape in used.items()}
  assert count(variables["params"]) == theirs["num_params"] - (2_102_112 if unused else 0)
  assert convolutions == theirs["num_conv_layers"] - unused_convolutions
  assert len(momenta) == theirs["num_batchnorm_layers"] - unused_norms
  kept = sorted(1 - theirs["bn_momentum"])[unused_norms:]  # all alike where some are unused
  assert sorted(momenta) == pytest.approx(kept)
  if not unused:
    assert count(variables["batch_stats"]) == theirs["num_buffers_elements"]


# PreActResNet-34 of four stages: ResNet-34's 21,282,122 less the BN of the shortcuts (1792), less
# that of the stem (128), plus the last one (1024), less what norms before the strided convolutions
# save (896).
COUNTS = [
  (cifar, {"depth": 20, "shortcut": "A"}, 10, 269_722),
  (cifar, {"depth": 32, "shortcut": "A"}, 10, 464_154),
  (cifar, {"depth": 56, "shortcut": "A"}, 10, 853_018),
  (cifar, {"depth": 56, "shortcut": "A"}, 100, 858_868),
  (cifar, {"depth": 56}, 100, 861_620),
  (cifar, {"depth": 110, "shortcut": "A"}, 10, 1_727_962),
  (models.resnet34, {}, 100, 21_328_292),
  (models.resnet50, {}, 1000, 25_557_032),
  (models.preact_resnet34, {"variant": "gjs"}, 100, 1_871_748),
  (models.preact_resnet34, {"variant": "four_stage"}, 10, 21_282_122 - 1792 - 128 + 1024 - 896),
  (wrn, {"depth": 28, "widen_factor": 10}, 10, 36_479_194),
  (wrn, {"depth": 34, "widen_factor": 10}, 10, 46_160_474),
  (wrn, {"depth": 34, "widen_factor": 10}, 100, 46_218_164),
  (wrn, {"depth": 40, "widen_factor": 2}, 100, 2_255_156),
  (models.inception_resnet_v2, {}, 1000, 55_843_464),
]


@pytest.mark.parametrize(("factory", "options", "classes", "size"), COUNTS)
def test_sizes_that_papers_and_releases_state(factory, options, classes, size):
  variables, _, momenta = inspect(factory, options, classes, pixels(factory))
  assert count(variables["params"]) == size
  assert set(momenta) == {0.9}


def pixels(factory):
  return 75 if factory is models.inception_resnet_v2 else 32


TOP = re.compile(r"stem(_norm)?|stage\d_(block\d+|reduction)|final_(conv|norm)|head")
IN_BLOCK = re.compile(r"(conv|norm)[123]|shortcut(_norm)?")
IN_INCEPTION = re.compile(r"(branch\d_)?(conv|norm)\d|expansion")
FAMILIES = [
  (models.resnet18, {}),
  (cifar, {"depth": 8}),
  (models.resnet50, {}),
  (models.preact_resnet34, {}),
  (preact18, {"variant": "dividemix"}),
  (wrn, {"depth": 16, "widen_factor": 2}),
  (models.inception_resnet_v2, {}),
]


@pytest.mark.parametrize(("factory", "options"), FAMILIES)
def test_names_tell_the_stage(factory, options):
  """Fine-tuning and weights from files go by these names."""
  inception = factory is models.inception_resnet_v2
  variables, *_ = inspect(factory, options, 1000 if inception else 10, pixels(factory))
  inside = IN_INCEPTION if inception else IN_BLOCK
  for name, part in variables["params"].items():
    assert TOP.fullmatch(name), name
    if name.startswith("stage") or (name == "stem" and "kernel" not in part):
      assert all(inside.fullmatch(layer) for layer in part), name
  found = {int(name[5]) for name in variables["params"] if name.startswith("stage")}
  assert found == set(range(1, factory(10, **options).num_stages + 1))


def inception(num_classes, dtype):
  """The published network with one block a stage."""
  return InceptionResNet(num_classes, (1, 1, 1), dtype=dtype)


@pytest.mark.parametrize(
  ("factory", "options", "size", "widths"),
  [
    (models.resnet18, {}, 32, [(32, 64), (32, 64), (16, 128), (8, 256), (4, 512)]),
    (cifar, {"depth": 8, "shortcut": "A"}, 32, [(32, 16), (32, 16), (16, 32), (8, 64)]),
    (cifar, {"depth": 8, "width": 4}, 32, [(32, 32), (32, 64), (16, 128), (8, 256)]),
    (models.resnet50, {}, 224, [(56, 64), (56, 256), (28, 512), (14, 1024), (7, 2048)]),
    (models.resnet50, {}, 227, [(57, 64), (57, 256), (29, 512), (15, 1024), (8, 2048)]),
    (models.preact_resnet34, {}, 32, [(32, 32), (32, 32), (16, 64), (8, 128)]),
    (
      models.preact_resnet34,
      {"variant": "four_stage"},
      32,
      [(32, 64), (32, 64), (16, 128), (8, 256), (4, 512)],
    ),
    (inception, {}, 299, [(35, 320), (35, 320), (17, 1088), (8, 2080)]),
    (inception, {}, 224, [(25, 320), (25, 320), (12, 1088), (5, 2080)]),
  ],
)
def test_features_in_half_precision(factory, options, size, widths):
  """Their sizes; what is pooled, and after it, is float32."""
  net = models.network(factory(7, dtype=jnp.bfloat16, **options))
  image = jnp.zeros((1, size, size, 3))
  names = ("stem", *(f"stage{k + 1}" for k in range(net.num_stages)), "pooled")
  variables = jax.eval_shape(net.init, jax.random.key(0), image)
  out = jax.eval_shape(functools.partial(net.apply, train=True, features=names), *variables, image)
  maps = [out.features[name] for name in names[:-1]]
  assert [leaf.shape for leaf in maps] == [(1, side, side, width) for side, width in widths]
  assert {leaf.dtype for leaf in maps} == {jnp.dtype("bfloat16")}
  assert out.features["pooled"].dtype == out.logits.dtype == jnp.float32
  pooled = 1536 if factory is inception else widths[-1][1]
  assert out.features["pooled"].shape == (1, pooled)
  assert {leaf.dtype for leaf in jax.tree.leaves(out.batch_stats)} == {jnp.dtype("float32")}
  assert out.logits.shape == (1, 7)
