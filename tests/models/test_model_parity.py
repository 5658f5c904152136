"""The networks against the authors' own: values of forward passes."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from jaxnoise import models
from jaxnoise.models._preact_resnet import PreActBlock, PreActResNet
from jaxnoise.models._wide_resnet import ConvBiasBlock
from tests.models.torch_names import (
  channels_last,
  from_torch,
  ours,
  ours_in_block,
  section,
)

wrn = models.wide_resnet
conv_bias = functools.partial(models.wide_resnet, variant="conv_bias")
preact = models.preact_resnet18


def gjs(num_classes, stage_sizes=(5, 5, 5)):
  return PreActResNet(
    num_classes,
    stage_sizes=stage_sizes,
    widths=(32, 64, 128),
    stem_width=32,
    block=PreActBlock,
    final_norm=True,
  )


@functools.cache
def wrn16_2(train):
  net = models.network(wrn(10, depth=16, widen_factor=2))
  features = ("stem", "stage1", "stage2", "stage3", "pooled")
  return jax.jit(functools.partial(net.apply, train=train, features=features))


def test_wrn16_2_in_evaluation_mode(golden):
  g = golden("wrn16_2_forward")
  tree = from_torch(section(g, "weights/"))
  out = wrn16_2(False)(tree["params"], tree["batch_stats"], channels_last(g["x_nchw"]))
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
  close(out.logits, g["logits"])
  close(np.mean(out.features["stem"], axis=-1), g["feature_f0_mean_over_channels"])
  for k in (1, 2, 3):
    theirs = channels_last(g[f"feature_f{k}_first4channels"])
    close(out.features[f"stage{k}"][..., :4], theirs)
  close(out.features["pooled"], g["feature_f4_pooled"])


def test_wrn16_2_in_training_mode(golden):
  g, weights = golden("wrn16_2_train_mode"), section(golden("wrn16_2_forward"), "weights/")
  tree = from_torch(weights)
  image = channels_last(g["x_nchw"])
  out = wrn16_2(True)(tree["params"], tree["batch_stats"], image)
  np.testing.assert_allclose(out.logits, g["logits_train_mode"], rtol=1e-4, atol=1e-4)

  keep = 1 - float(g["bn_momentum_torch"])
  before = flatten_dict({"batch_stats": tree["batch_stats"]})
  moved = flatten_dict({"batch_stats": out.batch_stats})
  theirs = {ours(name): value for name, value in section(g, "after/").items()}
  assert theirs.keys() == moved.keys()
  for path, value in theirs.items():
    mine = np.asarray(moved[path])
    if path[-1] == "var":  # PyTorch's running variance is that of the unbiased estimate
      # Pixels per channel: the first norm of a strided block still sees the larger image.
      stage = 3 if path[1] == "final_norm" else int(path[1][5])
      side = 32 // 2 ** (stage - 1)
      if stage > 1 and path[1].endswith("block1") and path[2] == "norm1":
        side *= 2
      n = len(image) * side * side
      mine = keep * before[path] + (mine - keep * before[path]) * n / (n - 1)
    np.testing.assert_allclose(mine, value, rtol=1e-4, atol=1e-4, err_msg=str(path))


@pytest.mark.parametrize(
  ("name", "block"),
  [
    ("dividemix_preact_block_32_64_stride2", PreActBlock(64, 2, activated_identity=True)),
    ("noisymix_preact_block_16_16", PreActBlock(16, activated_identity=True)),
    ("noisymix_wide_basic_16_32_stride2", ConvBiasBlock(32, 2)),
  ],
)
def test_blocks(golden, name, block):
  g = section(golden("blocks_forward"), name + "/")
  variables = from_torch(section(g, "weights/"), ours_in_block)
  run = jax.jit(functools.partial(block.apply, train=False, dropout=0.0))
  out = run(variables, channels_last(g["x_nchw"]))
  np.testing.assert_allclose(out, channels_last(g["out"]), rtol=1e-4, atol=1e-4)


def test_gjs_network_of_one_block_a_stage(golden):
  """The raw identity, the final BN and the shortcut convolution of the activated tensor."""
  g = section(golden("blocks_forward"), "gjs_preact_block_net/")
  tree = from_torch(section(g, "weights/"))
  net = models.network(gjs(10, (1, 1, 1)))
  out = jax.jit(net.apply)(tree["params"], tree["batch_stats"], channels_last(g["x_nchw"]))
  np.testing.assert_allclose(out.logits, g["out"], rtol=1e-4, atol=1e-4)


def test_raw_and_activated_identity_differ(golden):
  g = section(golden("blocks_forward"), "noisymix_preact_block_16_16/")
  variables = from_torch(section(g, "weights/"), ours_in_block)
  x = channels_last(g["x_nchw"])
  raw = jax.jit(functools.partial(PreActBlock(16).apply, train=False, dropout=0.0))(variables, x)
  stats, scale = variables["batch_stats"]["norm1"], variables["params"]["norm1"]
  a = (x - stats["mean"][None, None, None]) / np.sqrt(stats["var"] + 1e-5)[None, None, None]
  a = np.maximum(a * scale["scale"][None, None, None] + scale["bias"][None, None, None], 0)
  np.testing.assert_allclose(raw, channels_last(g["out"]) - a + x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("variant", "momentum"), [("biasless", 0.9), ("conv_bias", 0.1)])
def test_momentum_of_the_last_norm(golden, variant, momentum):
  """PyTorch's momentum is one minus ours; the golden file has it per layer, the last one last."""
  name = {"biasless": "wrn28_2_augmix_c10", "conv_bias": "wrn28_4_noisymix_c10"}[variant]
  assert 1 - golden("architectures")[f"{name}/bn_momentum"][-1] == pytest.approx(momentum)
  net = models.network(wrn(3, depth=10, widen_factor=1, variant=variant))
  image = np.random.default_rng(0).uniform(size=(4, 8, 8, 1)).astype(np.float32)
  structure = jax.eval_shape(net.init, jax.random.key(0), image)
  params, stats = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.1), structure)
  out = jax.jit(functools.partial(net.apply, train=True, features=("stage3",)))(
    params, stats, image
  )
  mean = np.mean(out.features["stage3"], axis=(0, 1, 2))
  np.testing.assert_allclose(
    out.batch_stats["final_norm"]["mean"],
    momentum * 0.1 + (1 - momentum) * mean,
    rtol=1e-4,
    atol=1e-6,
  )
