"""Modules of somebody else, and the sentences that bad input is answered with."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from jaxnoise import models
from jaxnoise.core import InputError
from tests.models.tiny import close, images, tiny


class TwoNorms(nn.Module):
  """A module of somebody else: two sets of normalisation layers, no dropout."""

  num_stages = 1
  norm_branches = ("main", "auxiliary")

  @nn.compact
  def __call__(self, image, *, train, dropout=None, tap=None, features=(), norm_branch="main"):
    h = image if tap is None else tap(0, image)
    norms = {
      name: nn.BatchNorm(use_running_average=not train, name=f"norm_{name}")(h)
      for name in self.norm_branches
    }
    h = norms[norm_branch]
    h = h if tap is None else tap(1, h)
    collected = {"stage1": h, "pooled": h.mean((1, 2))}
    logits = nn.Dense(2)(collected["pooled"]).astype(jnp.bfloat16)
    return logits, {name: collected[name] for name in features}


def test_a_module_of_somebody_else():
  net = models.network(TwoNorms())
  params, stats = net.init(jax.random.key(0), images(2))
  stats = {**stats, "norm_auxiliary": {"mean": jnp.ones(3), "var": jnp.ones(3)}}
  x = images(2, 2)
  main, other = (
    net.apply(params, stats, x, norm_branch=name, features=("pooled",))
    for name in ("main", "auxiliary")
  )
  assert main.logits.dtype == jnp.float32
  close(main.features["pooled"] - other.features["pooled"], 1.0, atol=1e-4)


class Plain(nn.Module):
  """The least that a module can be: image and train in, logits out."""

  @nn.compact
  def __call__(self, image, train):
    h = nn.BatchNorm(use_running_average=not train)(image)
    h = nn.Dropout(0.5, deterministic=not train)(h.mean((1, 2)))
    return nn.Dense(2)(h)


class Pairs(nn.Module):
  def __call__(self, image, other):
    return image + other


def test_a_plain_module():
  net = models.network(Plain())
  assert net.num_stages == 0
  x = images(4, 2)
  params, stats = net.init(jax.random.key(0), x[:, 0])
  out = net.apply(params, stats, x)
  direct = Plain().apply({"params": params, "batch_stats": stats}, x[1], train=False)
  close(out.logits[1], direct)
  assert out.logits.shape == (4, 2, 2) and out.features == {}
  moved = net.apply(params, stats, x, train=True, rng=jax.random.key(1))
  assert any(
    bool(jnp.any(a != b))
    for a, b in zip(jax.tree.leaves(moved.batch_stats), jax.tree.leaves(stats), strict=True)
  )
  seen = []
  halved = net.apply(params, stats, x, tap=lambda stage, h: seen.append(stage) or h / 2)
  assert seen == [0]
  close(halved.logits, net.apply(params, stats, x / 2).logits)


def test_a_plain_module_without_train():
  net = models.network(nn.Sequential([lambda image: image.mean((1, 2)), nn.Dense(3)]))
  params, stats = net.init(jax.random.key(0), images(2))
  assert net.apply(params, stats, images(2), train=True).logits.shape == (2, 3) and stats == {}


def run_plain(**options):
  def call():
    net = models.network(Plain())
    params, stats = net.init(jax.random.key(0), images(2))
    return net.apply(params, stats, images(2), **options)

  return call


def run_tiny(x, **options):
  net, params, stats = tiny()
  return lambda: net.apply(params, stats, x, **options)


BAD = {
  "mean: 3 values for images of 1 channels": run_tiny(jnp.zeros((2, 8, 8, 1))),
  "multiples of 4": run_tiny(jnp.zeros((2, 10, 8, 3))),
  "divide bytes by 255": run_tiny(jnp.zeros((2, 8, 8, 3), jnp.uint8)),
  "[..., height, width, channels]": run_tiny(jnp.zeros((8, 8))),
  "'stage4'": run_tiny(jnp.zeros((2, 8, 8, 3)), features=("stage4",)),
  "did you mean 'pooled'": run_tiny(jnp.zeros((2, 8, 8, 3)), features=("poled",)),
  "normalisation layers 'auxiliary'": run_tiny(jnp.zeros((2, 8, 8, 3)), norm_branch="auxiliary"),
  "depth: 18": lambda: models.wide_resnet(10, depth=18, widen_factor=1),
  "depth: 4": lambda: models.wide_resnet(10, depth=4, widen_factor=1),
  "widen_factor: 0": lambda: models.wide_resnet(10, depth=10, widen_factor=0),
  "did you mean 'conv_bias'": lambda: models.wide_resnet(
    10, depth=10, widen_factor=1, variant="convbias"
  ),
  "dropout: 1.0": lambda: models.wide_resnet(10, depth=10, widen_factor=1, dropout=1.0),
  "dropout: 2": run_tiny(jnp.zeros((2, 8, 8, 3)), dropout=2),
  "std: (0.0,)": lambda: models.wide_resnet(10, depth=10, widen_factor=1, std=(0.0,)),
  "did you mean 'dividemix'": lambda: models.preact_resnet18(10, variant="dividmix"),
  "must be a flax.linen module": lambda: models.network(lambda image: image),
  "Pairs needs other to be called": lambda: models.network(Pairs()),
  "Plain has its own rate": run_plain(dropout=0.1),
  "the module returns logits alone": run_plain(features=("pooled",)),
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_named(words):
  with pytest.raises(InputError) as error:
    BAD[words]()
  assert words in str(error.value)


@pytest.mark.parametrize(("widen_factor", "channels"), [(2, 3), (1, 1)])
def test_images_and_parameters_that_do_not_fit_are_named(widen_factor, channels):
  made = models.network(models.wide_resnet(4, depth=10, widen_factor=widen_factor))
  params, stats = jax.eval_shape(made.init, jax.random.key(0), jnp.zeros((1, 8, 8, channels)))
  net = models.network(models.wide_resnet(4, depth=10, widen_factor=1))
  with pytest.raises(InputError, match="does not fit the parameters") as error:
    jax.eval_shape(net.apply, params, stats, images(1))
  assert "shape (1, 8, 8, 3)" in str(error.value)
