"""Residual networks: values of the authors' blocks, and the contract on a small one of each."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import models
from jaxnoise.core import InputError
from jaxnoise.models._inception_resnet import InceptionResNet
from jaxnoise.models._layers import he_fan_out, torch_default
from jaxnoise.models._preact_resnet import PreActBlock, PreActResNet
from jaxnoise.models._resnet import BasicBlock, Bottleneck, ResNet, subsampled
from tests.models.tiny import STATISTICS, close
from tests.models.torch_names import channels_last, from_torch, ours, ours_in_block, section


def test_mr_block(golden):
  g = section(golden("blocks_forward"), "mr_basic_block_16_32_stride2/")
  variables = from_torch(section(g, "weights/"), ours_in_block)
  run = jax.jit(functools.partial(BasicBlock(32, 2).apply, train=False))
  out = run(variables, channels_last(g["x_nchw"]))
  np.testing.assert_allclose(out, channels_last(g["out"]), rtol=1e-4, atol=1e-4)


def test_repdistiller_resnet8(golden):
  g = section(golden("blocks_forward"), "repdistiller_resnet8/")
  tree = from_torch(section(g, "weights/"), ours, bn1="stem_norm")
  net = models.network(models.cifar_resnet(10, depth=8))
  out = jax.jit(net.apply)(tree["params"], tree["batch_stats"], channels_last(g["x_nchw"]))
  np.testing.assert_allclose(out.logits, g["out"], rtol=1e-4, atol=1e-4)


def drawn(module, image, seed=0):
  """Variables away from their first values."""
  shapes = jax.eval_shape(functools.partial(module.init, train=False), jax.random.key(0), image)
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    value = rng.normal(size=leaf.shape) / np.sqrt(max(np.prod(leaf.shape[:-1]), 4))
    shift = 1.0 if path[-1].key in ("scale", "var") else 0.0
    return jnp.asarray(np.abs(shift + 0.3 * value) if shift else value, jnp.float32)

  return jax.tree_util.tree_map_with_path(draw, shapes)


def pictures(count, size, channels=3, seed=0):
  shape = (count, size, size, channels)
  return jnp.asarray(np.random.default_rng(seed).uniform(size=shape), jnp.float32)


def by_hand(variables):
  """(x, convolution's name, norm's name, stride) -> BN(conv(x)), in evaluation mode."""
  params, stats = variables["params"], variables["batch_stats"]

  def run(x, conv, norm, stride=1):
    kernel = params[conv]["kernel"]
    k = kernel.shape[0] // 2
    h = jax.lax.conv_general_dilated(
      x, kernel, (stride, stride), [(k, k)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    scale, shift = (params[norm][name].reshape(1, 1, 1, -1) for name in ("scale", "bias"))
    mean, var = (stats[norm][name].reshape(1, 1, 1, -1) for name in ("mean", "var"))
    return (h - mean) / jnp.sqrt(var + 1e-5) * scale + shift

  return run


@pytest.mark.parametrize(("channels", "stride"), [(8, 2), (16, 1)])
def test_bottleneck_has_the_stride_on_its_middle_convolution(channels, stride):
  x = pictures(2, 6, channels) - 0.5
  block = Bottleneck(4, stride)
  variables = drawn(block, x)

  @jax.jit
  def both(variables, x):
    run = by_hand(variables)
    h = nn.relu(run(x, "conv1", "norm1"))
    h = nn.relu(run(h, "conv2", "norm2", stride))
    h = run(h, "conv3", "norm3")
    shortcut = x if channels == 16 else run(x, "shortcut", "shortcut_norm", stride)
    return block.apply(variables, x, train=False), nn.relu(h + shortcut)

  close(*both(variables, x))
  assert ("shortcut" in variables["params"]) == (channels != 16)


def test_stem_for_large_images():
  """7x7 of stride 2, BN, ReLU, 3x3 max pool of stride 2 and padding 1, as torchvision has it."""
  module = ResNet(3, (1,), (2,), stem_width=4, block=Bottleneck, downsampling_stem=True)
  x = pictures(2, 15)
  variables = drawn(module, x)

  @jax.jit
  def both(variables, x):
    _, features = module.apply(variables, x, features=("stem",))
    h = nn.relu(by_hand(variables)(x, "stem", "stem_norm", 2))
    h = jnp.pad(h, ((0, 0), (1, 1), (1, 1), (0, 0)))  # after a ReLU 0 is as good as -inf
    windows = [h[:, i : i + 7 : 2, j : j + 7 : 2] for i in range(3) for j in range(3)]
    return features["stem"], jnp.max(jnp.stack(windows), axis=0)

  mine, want = both(variables, x)
  assert mine.shape == (2, 4, 4, 4)
  close(mine, want)


def test_shortcut_a_takes_every_second_pixel_and_pads_the_channels():
  x = pictures(1, 4, 3)
  padded = subsampled(x, 8, 2)
  np.testing.assert_array_equal(padded[..., 2:5], x[:, ::2, ::2])
  assert padded.shape == (1, 2, 2, 8)
  assert float(jnp.sum(padded)) == pytest.approx(float(jnp.sum(x[:, ::2, ::2])), rel=1e-6)

  block = BasicBlock(8, 2, shortcut="A")
  variables = drawn(block, x)
  assert set(variables["params"]) == {"conv1", "norm1", "conv2", "norm2"}

  @jax.jit
  def both(variables, x):
    run = by_hand(variables)
    h = run(nn.relu(run(x, "conv1", "norm1", 2)), "conv2", "norm2")
    return block.apply(variables, x, train=False), nn.relu(h + subsampled(x, 8, 2))

  close(*both(variables, x))


def test_initialisation():
  params, _ = models.network(models.cifar_resnet(10, depth=8, width=2)).init(
    jax.random.key(0), pictures(1, 8)
  )
  kernel = params["stage3_block1"]["conv2"]["kernel"]
  assert float(jnp.std(kernel)) == pytest.approx(np.sqrt(2 / (9 * 128)), rel=0.02)
  assert np.abs(kernel).max() > 2.5 * np.std(kernel)  # a normal draw
  for name in ("norm1", "norm2", "shortcut_norm"):
    np.testing.assert_array_equal(params["stage2_block1"][name]["scale"], 1)
    np.testing.assert_array_equal(params["stage2_block1"][name]["bias"], 0)
  for values in params["head"].values():
    assert 0.9 / np.sqrt(128) < np.abs(values).max() <= 1 / np.sqrt(128) or values.size == 10
  assert models.resnet50(10).kernel_init is he_fan_out
  assert models.resnet18(10).kernel_init is models.resnet34(10).kernel_init is torch_default


FAMILIES = {
  "basic": (
    ResNet(
      4,
      (1, 1),
      (8, 12),
      stem_width=6,
      block=functools.partial(BasicBlock, shortcut="A"),
      dropout=0.4,
      **STATISTICS,
    ),
    8,
    [8, 8, 4],
  ),
  "bottleneck": (
    ResNet(
      4,
      (1, 1),
      (4, 6),
      stem_width=4,
      block=Bottleneck,
      downsampling_stem=True,
      dropout=0.4,
      **STATISTICS,
    ),
    16,
    [4, 4, 2],
  ),
  "preact": (
    PreActResNet(
      4,
      (1, 1),
      (8, 12),
      stem_width=8,
      block=PreActBlock,
      final_norm=True,
      head_dropout=True,
      dropout=0.4,
      **STATISTICS,
    ),
    8,
    [8, 8, 4],
  ),
  "inception": (
    InceptionResNet(4, (1, 1, 1), divisor=32, dropout=0.4, **STATISTICS),
    75,
    [7, 7, 3, 1],
  ),
}


@functools.cache
def small(name):
  module, size, sides = FAMILIES[name]
  image = pictures(2, size)
  variables = drawn(module, image)
  return models.network(module), variables["params"], variables["batch_stats"], image, sides


@pytest.mark.parametrize("name", FAMILIES)
def test_training_pass_with_taps_and_features(name):
  net, params, stats, image, sides = small(name)
  names = ("stem", *(f"stage{k + 1}" for k in range(net.num_stages)), "pooled")
  called = []

  @jax.jit
  def run(params, stats, image):
    seen = {}

    def tap(stage, h):
      called.append(stage)
      seen[stage] = h
      return 1.5 * h if stage else h

    return net.apply(params, stats, image, train=True, tap=tap, features=names), seen

  out, seen = run(params, stats, image)
  assert called == list(range(net.num_stages + 1))
  mean, std = (np.asarray(STATISTICS[k]).reshape(1, 1, 1, 3) for k in ("mean", "std"))
  close(seen[0], (image - mean) / std)
  assert [out.features[n].shape[1] for n in names[:-1]] == sides
  for stage in range(1, net.num_stages + 1):
    close(out.features[f"stage{stage}"], 1.5 * seen[stage])
  head = params["head"]
  close(out.logits, out.features["pooled"] @ head["kernel"] + head["bias"].reshape(1, -1))
  moved = jax.tree.map(lambda new, old: np.abs(new - old).max() > 0, out.batch_stats, stats)
  assert all(jax.tree.leaves(moved))


@pytest.mark.parametrize("name", ["basic", "bottleneck"])
def test_gradients_reach_the_image_and_every_parameter(name):
  net, params, stats, image, _ = small(name)

  def value(params, image):
    return jnp.sum(net.apply(params, stats, image).logits ** 2)

  grads, dx = jax.jit(jax.grad(value, argnums=(0, 1)))(params, image)
  assert np.abs(dx).max() > 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
    assert np.abs(leaf).max() > 0, path


@pytest.mark.parametrize("name", FAMILIES)
def test_dropout_acts_on_the_pooled_features_when_a_key_is_given(name):
  net, params, stats, image, _ = small(name)
  # A head that shows the first four features as they are.
  shown = {"kernel": jnp.eye(*params["head"]["kernel"].shape), "bias": jnp.zeros(4)}
  params = {**params, "head": shown}

  @jax.jit
  def run(key):
    given = net.apply(params, stats, image, rng=key, features=("pooled",))
    plain = net.apply(params, stats, image, features=("pooled",))
    off = net.apply(params, stats, image, rng=key, dropout=0.0)
    return given, plain, off

  given, plain, off = run(jax.random.key(1))
  close(off.logits, plain.logits)
  pooled = plain.features["pooled"]
  close(plain.logits, pooled[:, :4])
  close(given.features["pooled"], pooled)
  dropped = np.abs(given.logits) < 1e-6
  close(given.logits, np.where(dropped, 0, pooled[:, :4] / 0.6))
  assert 0 < np.sum(dropped & (np.abs(pooled[:, :4]) > 1e-3)) < dropped.size


BAD = {
  "depth: 18": lambda: models.cifar_resnet(10, depth=18),
  "depth: 2,": lambda: models.cifar_resnet(10, depth=2),
  "width: 0": lambda: models.cifar_resnet(10, depth=8, width=0),
  "shortcut: unknown kind 'C'": lambda: models.cifar_resnet(10, depth=8, shortcut="C"),
  "did you mean 'four_stage'": lambda: models.preact_resnet34(10, variant="fourstage"),
  "dropout: 1.0": lambda: models.resnet18(10, dropout=1.0),
  "dropout: -0.1": lambda: models.inception_resnet_v2(10, dropout=-0.1),
  "std: (0.0,)": lambda: models.resnet50(10, std=(0.0,)),
  "multiples of 8": lambda: shapes(models.resnet34(10), 28),
  "multiples of 4": lambda: shapes(models.cifar_resnet(10, depth=8), 30),
  "74x74 pixels, but Inception-ResNet-v2 needs at least 75": lambda: shapes(
    models.inception_resnet_v2(10), 74
  ),
  "mean: 1 values for images of 3 channels": lambda: shapes(models.resnet50(10, mean=(0.5,)), 32),
}


def shapes(module, size):
  return jax.eval_shape(
    models.network(module).init, jax.random.key(0), jnp.zeros((1, size, size, 3))
  )


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_named(words):
  with pytest.raises(InputError) as error:
    BAD[words]()
  assert words in str(error.value)
