"""What `network` promises to methods: views, taps, features, dropout, statistics, sharding."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import models
from tests.models.tiny import FEATURES, STATISTICS, close, compiled, images, tiny


def test_init_gives_fresh_statistics_and_the_leaves_that_apply_takes():
  net, params, stats = tiny("conv_bias")
  fresh, fresh_stats = net.init(jax.random.key(0), images(2))
  assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, params)
  assert jax.tree.map(jnp.shape, fresh_stats) == jax.tree.map(jnp.shape, stats)
  for path, leaf in jax.tree_util.tree_leaves_with_path(fresh_stats):
    close(leaf, 1.0 if path[-1].key == "var" else 0.0)
  other, _ = net.init(jax.random.key(1), images(2))
  assert not np.allclose(fresh["head"]["bias"], other["head"]["bias"])
  bound = 1 / np.sqrt(fresh["head"]["kernel"].shape[0])
  assert np.abs(fresh["head"]["bias"]).max() <= bound


@pytest.mark.parametrize("train", [False, True])
def test_views_are_flattened_with_the_batch_slowest(train):
  _, params, stats = tiny()
  x = images(2, 2)
  run = compiled(train=train)
  views = run(params, stats, x)
  flat = run(params, stats, x.reshape(4, 8, 8, 3))
  close(views.logits, flat.logits.reshape(2, 2, 4))
  for name in FEATURES:
    close(views.features[name], flat.features[name].reshape(2, 2, *flat.features[name].shape[1:]))
  for a, b in zip(jax.tree.leaves(views.batch_stats), jax.tree.leaves(flat.batch_stats)):
    close(a, b)
  if not train:
    single = run(params, stats, x[1, 0])
    assert single.logits.shape == (4,)
    close(single.logits, views.logits[1, 0])


def test_feature_shapes_and_only_those_asked_for():
  _, params, stats = tiny()
  features = compiled()(params, stats, images(4)).features
  shapes = {name: value.shape[1:] for name, value in features.items()}
  assert shapes == {
    "stem": (8, 8, 16),
    "stage1": (8, 8, 16),
    "stage2": (4, 4, 32),
    "stage3": (2, 2, 64),
    "pooled": (64,),
  }
  for asked in [("stage2",), ()]:
    run = functools.partial(tiny()[0].apply, features=asked)
    assert tuple(jax.eval_shape(run, params, stats, images(4)).features) == asked


def test_head_is_the_pooled_feature_times_the_last_layer():
  _, params, stats = tiny()
  out = compiled()(params, stats, images(4))
  head = params["head"]
  close(out.logits, out.features["pooled"] @ head["kernel"] + head["bias"].reshape(1, -1))


def test_the_first_layer_normalises():
  net, params, stats = tiny()

  @jax.jit
  def taps(x):
    seen = {}
    net.apply(params, stats, x, tap=seen.setdefault)
    return seen

  x = images(4)
  seen = taps(x)
  mean, std = (np.array(STATISTICS[name]).reshape(1, 1, 1, 3) for name in ("mean", "std"))
  close(seen[0], (np.asarray(x) - mean) / std)
  assert sorted(seen) == [0, 1, 2, 3]


def test_taps_see_the_leading_axes_of_the_image():
  net, params, stats = tiny()
  seen = {}

  def tap(stage, h):
    seen[stage] = h.shape
    return h

  jax.eval_shape(functools.partial(net.apply, tap=tap), params, stats, images(3, 2))
  assert seen == {
    0: (3, 2, 8, 8, 3),
    1: (3, 2, 8, 8, 16),
    2: (3, 2, 4, 4, 32),
    3: (3, 2, 2, 2, 64),
  }


def test_identity_tap_changes_nothing():
  _, params, stats = tiny()
  x = images(4)
  tapped = compiled(tap=lambda stage, h: h)(params, stats, x)
  np.testing.assert_array_equal(tapped.logits, compiled()(params, stats, x).logits)


def test_what_a_tap_returns_flows_on():
  """Giving stage k the activations of other images makes the logits those of the other images."""
  net, params, stats = tiny()
  x, other = images(4), images(4, seed=1)
  want = compiled()(params, stats, other)
  given = {k: want.features[f"stage{k}"] for k in (1, 2, 3)}
  given[0] = models.normalise(other, STATISTICS["mean"], STATISTICS["std"])

  @jax.jit
  def run(stage):
    def tap(k, h):
      return jax.lax.cond(k == stage, lambda h: given[k], lambda h: h, h)

    return net.apply(params, stats, x, tap=tap, features=FEATURES)

  for stage in range(4):
    out = run(stage)
    close(out.logits, want.logits)
    for k in range(1, 4):  # features are what flows on, after the tap
      same = np.allclose(out.features[f"stage{k}"], want.features[f"stage{k}"], atol=1e-5)
      assert same == (k >= stage)
  assert not np.allclose(run(-1).logits, want.logits, atol=1e-3)


def test_mixing_in_a_tap_with_cond_under_jit_and_grad():
  net, params, stats = tiny()
  x = images(4)

  def mix(h):
    return 0.7 * h + 0.3 * h[::-1]

  def value(params, stage):
    def tap(k, h):
      return jax.lax.cond(k == stage, mix, lambda h: h, h)

    return jnp.sum(net.apply(params, stats, x, train=True, tap=tap).logits ** 2)

  def value_by_hand(params):
    out = net.apply(params, stats, x, train=True, tap=lambda k, h: mix(h) if k == 2 else h)
    return jnp.sum(out.logits**2)

  chosen = jax.jit(jax.value_and_grad(value))
  got, want = chosen(params, 2), jax.jit(jax.value_and_grad(value_by_hand))(params)
  close(got[0], want[0])
  for g, w in zip(jax.tree.leaves(got[1]), jax.tree.leaves(want[1])):
    close(g, w, rtol=1e-4, atol=1e-4)
  values = [float(chosen(params, stage)[0]) for stage in (-1, 0, 1, 2, 3)]
  assert len({round(v, 3) for v in values}) == 5


@pytest.mark.parametrize("variant", ["biasless", "conv_bias"])
def test_dropout_is_live_exactly_when_a_key_is_given(variant):
  _, params, stats = tiny(variant, 0.4)
  x = images(4)
  run = compiled(variant, 0.4)
  bare = compiled(variant)(params, stats, x).logits
  keys = jax.random.split(jax.random.key(3), 2)
  np.testing.assert_array_equal(run(params, stats, x).logits, bare)
  first = run(params, stats, x, rng=keys[0]).logits
  assert not np.allclose(first, bare, atol=1e-3)
  np.testing.assert_array_equal(run(params, stats, x, rng=keys[0]).logits, first)
  assert not np.allclose(run(params, stats, x, rng=keys[1]).logits, first, atol=1e-3)


def test_a_call_overrides_the_dropout_rate():
  _, params, stats = tiny("biasless", 0.4)
  x, key = images(4), jax.random.key(3)
  bare = compiled()(params, stats, x).logits
  off = compiled("biasless", 0.4, dropout=0.0)(params, stats, x, rng=key).logits
  np.testing.assert_array_equal(off, bare)
  own = compiled("biasless", 0.4)(params, stats, x, rng=key).logits
  given = compiled("biasless", dropout=0.4)(params, stats, x, rng=key).logits
  np.testing.assert_array_equal(given, own)


@pytest.mark.parametrize(("variant", "norm_after"), [("biasless", False), ("conv_bias", True)])
def test_place_of_dropout(variant, norm_after):
  """The statistics of a block's second norm depend on the mask only if dropout comes before."""
  _, params, stats = tiny(variant)
  run = compiled(variant, train=True, dropout=0.5)
  a, b = (
    run(params, stats, images(4), rng=rng).batch_stats["stage1_block1"]["norm2"]["var"]
    for rng in jax.random.split(jax.random.key(0))
  )
  assert np.allclose(a, b) != norm_after


def test_dropout_keeps_the_mean():
  x = jnp.ones(20000)
  y = models._layers.dropout(jax.random.key(0), x, 0.3)
  assert float(jnp.mean(y == 0)) == pytest.approx(0.3, abs=0.015)
  assert float(jnp.mean(y)) == pytest.approx(1.0, abs=0.02)


def test_statistics_move_in_training_only():
  _, params, stats = tiny()
  x = images(4)
  for leaf, same in zip(
    jax.tree.leaves(compiled()(params, stats, x).batch_stats), jax.tree.leaves(stats)
  ):
    np.testing.assert_array_equal(leaf, same)
  out = compiled(train=True)(params, stats, x)
  stem = np.asarray(out.features["stem"])
  for name, batch in (("mean", stem.mean((0, 1, 2))), ("var", stem.var((0, 1, 2)))):
    before = stats["stage1_block1"]["norm1"][name]
    close(out.batch_stats["stage1_block1"]["norm1"][name], 0.9 * before + 0.1 * batch)
  assert not np.allclose(out.logits, compiled()(params, stats, x).logits, atol=1e-3)


def test_bfloat16_computes_near_float32_and_keeps_float32_outside():
  net, params, stats = tiny(dtype=jnp.bfloat16)
  dtypes = {}

  def tap(stage, h):
    dtypes[stage] = h.dtype
    return h

  run = functools.partial(net.apply, train=True, tap=tap, features=("pooled",))
  out = jax.jit(run)(params, stats, images(4))
  full = compiled(train=True)(params, stats, images(4))
  assert dtypes == {0: jnp.float32, 1: jnp.bfloat16, 2: jnp.bfloat16, 3: jnp.bfloat16}
  assert out.logits.dtype == out.features["pooled"].dtype == jnp.float32
  assert {leaf.dtype for leaf in jax.tree.leaves(out.batch_stats)} == {jnp.dtype("float32")}
  np.testing.assert_allclose(out.logits, full.logits, rtol=0.1, atol=0.1)
  assert not np.array_equal(out.logits, full.logits)


def test_float64_stays_float64():
  net, params, stats = tiny()
  x = images(4)
  single = compiled(train=True)(params, stats, x)
  with jax.enable_x64(True):
    wide = jax.tree.map(lambda a: a.astype(jnp.float64), (params, stats, x))
    out = jax.jit(functools.partial(net.apply, train=True))(*wide)
    assert {leaf.dtype for leaf in jax.tree.leaves(out)} == {jnp.dtype("float64")}
    np.testing.assert_allclose(out.logits, single.logits, rtol=1e-4, atol=1e-4)


def test_gradients_reach_the_image_and_every_parameter():
  net, params, stats = tiny("conv_bias")

  def value(params, x):
    return jnp.sum(net.apply(params, stats, x).logits ** 2)

  grads, dx = jax.jit(jax.grad(value, argnums=(0, 1)))(params, images(4))
  assert np.abs(dx).max() > 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
    assert np.abs(leaf).max() > 0, path


def test_a_sharded_batch_of_views_stays_sharded():
  """Eight devices: each does an eighth of the work, nothing is gathered, the numbers are those of
  one device (batch statistics are the global batch's)."""
  net, params, stats = tiny()
  x = images(8, 2)

  def step(params, x):
    def value(params):
      out = net.apply(params, stats, x, train=True)
      return jnp.mean(out.logits**2), out.batch_stats

    return jax.value_and_grad(value, has_aux=True)(params)

  mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
  over, everywhere = (
    jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes)) for axes in (["data"], [])
  )
  one = jax.jit(step).lower(params, x).compile()
  many = jax.jit(step, in_shardings=(everywhere, over)).lower(params, x)
  many = many.compile()
  assert " all-gather" not in many.as_text()
  assert many.cost_analysis()["flops"] < 1.1 / 8 * one.cost_analysis()["flops"]
  got = many(*jax.device_put((params, x), (everywhere, over)))
  for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(one(params, x))):
    close(np.asarray(g), np.asarray(w))


@pytest.mark.parametrize(
  ("variant", "channels"), [("noisymix", 3), ("puzzlemix", 1), ("dividemix", 3)]
)
def test_preact_resnet18_stages(variant, channels):
  net = models.network(models.preact_resnet18(7, variant=variant))
  x = jnp.zeros((2, 16, 16, channels))
  variables = jax.eval_shape(net.init, jax.random.key(0), x)
  names = ("stem", "stage1", "stage2", "stage3", "stage4", "pooled")
  out = jax.eval_shape(functools.partial(net.apply, features=names), *variables, x)
  assert net.num_stages == 4
  assert out.logits.shape == (2, 7)
  assert [out.features[name].shape[1:] for name in names] == [
    (16, 16, 64),
    (16, 16, 64),
    (8, 8, 128),
    (4, 4, 256),
    (2, 2, 512),
    (512,),
  ]
