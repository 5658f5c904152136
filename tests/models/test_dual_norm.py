"""Dual batch norm and DuBIN: who is normalised by what, and whose statistics move."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import models
from jaxnoise.core import InputError
from jaxnoise.models._dual_norm import DualNorm
from jaxnoise.models._resnet import ResNet


def shapes(**options):
  net = models.network(models.resnet18(10, **options))
  return jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


def test_half_by_instance_and_half_by_batch():
  rng = np.random.default_rng(0)
  x = (rng.normal(size=(4, 3, 3, 5)) * 3 + 100).astype(np.float32)
  layer = DualNorm("aux", train=True, instance=True)
  variables = layer.init(jax.random.key(0), jnp.asarray(x))
  variables["params"] = jax.tree.map(
    lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), variables["params"]
  )
  out, changed = layer.apply(variables, jnp.asarray(x), mutable=["batch_stats"])
  x, params = x.astype(np.float64), variables["params"]
  expected = np.zeros_like(x)
  for part, name, axes in ((slice(0, 2), "instance", (1, 2)), (slice(2, 5), "aux", (0, 1, 2))):
    h = x[..., part]
    h = (h - h.mean(axes, keepdims=True)) / np.sqrt(h.var(axes, keepdims=True) + 1e-5)
    expected[..., part] = h * np.asarray(params[name]["scale"]) + np.asarray(params[name]["bias"])
  np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-3)
  stats = changed["batch_stats"]
  np.testing.assert_allclose(stats["aux"]["mean"], 0.1 * x[..., 2:].mean((0, 1, 2)), rtol=1e-5)
  np.testing.assert_array_equal(stats["main"]["mean"], 0.0)
  np.testing.assert_array_equal(stats["main"]["var"], 1.0)

  variables["batch_stats"] = stats
  test = DualNorm("aux", train=False, instance=True).apply(variables, jnp.asarray(x, jnp.float32))
  np.testing.assert_allclose(test[..., :2], out[..., :2], rtol=1e-6)
  h = (x[..., 2:] - np.asarray(stats["aux"]["mean"])) / np.sqrt(stats["aux"]["var"] + 1e-5)
  h = h * np.asarray(params["aux"]["scale"]) + np.asarray(params["aux"]["bias"])
  np.testing.assert_allclose(test[..., 2:], h, rtol=1e-4, atol=1e-3)


def test_branches_differ_and_each_keeps_its_statistics():
  net = models.network(ResNet(3, (1,), (6,), stem_width=4, norm="dubin"))
  image = jnp.asarray(np.random.default_rng(0).uniform(size=(4, 6, 6, 3)), jnp.float32)
  params, stats = net.init(jax.random.key(0), image)
  run = jax.jit(functools.partial(net.apply, train=True), static_argnames="norm_branch")
  main = run(params, stats, image)
  both = run(params, main.batch_stats, 1 - image, norm_branch="aux")
  alone = run(params, stats, 1 - image, norm_branch="aux")
  assert jax.tree.structure(both.batch_stats) == jax.tree.structure(stats)

  def of(tree, branch):
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(p): x for p, x in paths if branch in jax.tree_util.keystr(p)}

  for branch, before, after in (
    ("main", main.batch_stats, both.batch_stats),
    ("aux", stats, main.batch_stats),
    ("aux", alone.batch_stats, both.batch_stats),
  ):
    for name, value in of(before, branch).items():
      np.testing.assert_array_equal(value, of(after, branch)[name], err_msg=name)
  moved = of(both.batch_stats, "aux")
  assert len(moved) == 8 and all(np.any(x != of(stats, "aux")[n]) for n, x in moved.items())


def test_where_each_kind_has_which_norm():
  def kinds(norm):
    params, _ = shapes(norm=norm)
    found = {("stem_norm", ""): tuple(params["stem_norm"])}
    for block, layers in params.items():
      if block.startswith("stage"):
        found |= {(block, n): tuple(layer) for n, layer in layers.items() if "norm" in n}
    return found

  everywhere, first = kinds("dubin"), kinds("dubin_a")
  assert len(everywhere) == 20
  assert set(everywhere.values()) == {("aux", "instance", "main")}
  for (block, name), layer in first.items():
    halves = name == "norm1" and not block.startswith("stage4")
    assert layer == (("aux", "instance", "main") if halves else ("aux", "main")), (block, name)
  assert set(kinds("dubn").values()) == {("aux", "main")}
  assert set(kinds("bn").values()) == {("bias", "scale")}


def test_an_unknown_norm_is_refused():
  with pytest.raises(InputError, match="norm: unknown kind 'dubim'; did you mean 'dubin'"):
    models.resnet18(10, norm="dubim")
