"""What the compiled step does on 8 devices: an eighth of the work each, and how they talk."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import methods
from jaxnoise.training import build, schema, sharding
from jaxnoise.training.programs import Programs
from tests.training.common import CONFIG, assert_same, tiny_run, tiny_source

MR = {"wrappers": ("multiplicative_reweighting",)}
AUGMIX = {"policy": {"name": "augmix"}}
STAGES = {"stages": (0, 1, 2)}

# name -> (factory, changes of the config, gathers that it needs beside all-reduces)
CASES = {
  "erm": (methods.erm, {}, ()),
  "mr": (methods.erm, MR, ()),
  "mixup": (functools.partial(methods.mixup, mix_groups=8), {}, ()),
  "elr": (methods.elr, {}, ("table rows",)),
  "free_at": (methods.free_at, {}, ()),
  "mixup over the whole batch": (methods.mixup, {}, ("images",)),
}
SLOW = {
  "cutmix": (functools.partial(methods.cutmix, mix_groups=8), {}, ()),
  "nfm": (functools.partial(methods.nfm, mix_groups=8, **STAGES), {}, ()),
  "noisymix": (functools.partial(methods.noisymix, mix_groups=8, **STAGES), AUGMIX, ()),
  "nrd": (methods.nrd, {}, ()),
  "gjs": (methods.gjs, {}, ()),
  "pgd_at": (methods.pgd_at, {}, ()),
  "trades": (methods.trades, {}, ()),
  "augmax": (methods.augmax, {}, ()),
  "co_teaching": (functools.partial(methods.co_teaching, noise_rate=0.2), {}, None),
  "elr_plus": (functools.partial(methods.elr_plus, mix_groups=8), {}, None),
  "dynamic_bootstrap": (methods.dynamic_bootstrap, {}, None),
  "dividemix": (methods.dividemix, {}, None),
}


def compiled_step(run):
  """The step of a run as the compiler leaves it; nothing is run."""
  programs = Programs(run)
  everywhere = sharding.replicated(run.mesh)

  def on_devices(tree, where=everywhere):
    shape = lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s)
    return jax.tree.map(lambda x: shape(x, x.sharding or where), tree)

  state = on_devices(programs.init_shapes())
  data = on_devices(jax.eval_shape(lambda: jax.tree.map(jnp.asarray, run.host_data())))
  epoch = jax.ShapeDtypeStruct((1,), jnp.int32)
  labels = {"labels": data["labels"]}
  orders = on_devices(jax.eval_shape(programs.orders, state.rng, labels, epoch))
  totals = on_devices(programs.total_shapes(state, data, orders))
  return programs.step.lower(state, data, orders, totals).compile()


def talk(text):
  """(kind, shapes) of every exchange between devices in a compiled program."""
  kinds = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
  return re.findall(rf"= (\(?[^=]*?) ({kinds})(?:-start)?\(", text)


def steps_of(factory, changes):
  source = tiny_source(128)
  return [
    compiled_step(tiny_run(factory, devices=devices, source=source, batch_size=64, **changes))
    for devices in (1, 8)
  ]


@pytest.mark.parametrize("name", [*CASES, *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW)])
def test_each_of_eight_devices_does_an_eighth_and_only_sums_are_exchanged(name):
  factory, changes, gathers = {**CASES, **SLOW}[name]
  one, eight = steps_of(factory, changes)
  share = eight.cost_analysis()["flops"] / one.cost_analysis()["flops"]
  if gathers != ("images",):  # the price of partners from the whole batch, which grows with it
    assert share <= 1.05 / 8, share * 8
  exchanged = talk(eight.as_text())
  assert exchanged, "eight devices that do not talk do not train one network"
  others = [(shapes, kind) for shapes, kind in exchanged if kind != "all-reduce"]
  if gathers == ():
    assert not others
  elif gathers == ("table rows",):
    # A batch's rows of a table [N, K], and their indices.
    assert all(re.search(r"\[64,[13]\]", shapes) for shapes, _ in others), others
  elif gathers == ("images",):
    assert any("[1,64,8,8,3]" in shapes or "[64,8,8,3]" in shapes for shapes, _ in others)


def test_a_table_of_examples_by_classes_lies_in_eighths_and_images_rows_too():
  source = tiny_source(128)
  for factory, leaf, rows in (
    (methods.elr, lambda state: state.method_state["elr"]["targets"], 16),
    (methods.free_at, lambda state: state.method_state["free_at"]["delta"], 8),
  ):
    run = tiny_run(factory, devices=8, source=source, batch_size=64)
    table = leaf(Programs(run).init())
    assert {shard.data.shape[0] for shard in table.addressable_shards} == {rows}


class Wide(nn.Module):
  """Large enough for its parameters to be split."""

  @nn.compact
  def __call__(self, image):
    h = nn.relu(nn.Dense(96)(image.reshape(image.shape[0], -1)))
    h = nn.relu(nn.Dense(512, name="wide")(h))
    return nn.Dense(3, name="head")(h)


def trained(steps=3, **changes):
  config = schema.merge(CONFIG, {"total": "6 steps", "wrappers": ("with_ema",), **changes})
  mesh = sharding.make_mesh(jax.devices()[:8])
  run = build.assemble(config, source=tiny_source(), network=Wide(), mesh=mesh)
  programs = Programs(run)
  state = programs.init()
  arrays = jax.device_put(run.host_data(), sharding.replicated(mesh))
  orders = programs.epoch_orders(state, arrays, 0)
  totals = programs.zero_totals(state, arrays, orders)
  for _ in range(steps):
    state, totals = programs.step(state, arrays, orders, totals)
  return state


def test_split_parameters_give_the_same_numbers_in_an_eighth_of_the_memory():
  whole, split = trained(), trained(shard_parameters=True)
  assert_same(
    jax.tree.map(np.asarray, (split.params, split.opt_state, split.ema_params)),
    jax.tree.map(np.asarray, (whole.params, whole.opt_state, whole.ema_params)),
    rtol=1e-5,
    atol=1e-6,
  )
  for tree in (split.params, split.ema_params):
    kernel = tree["wide"]["kernel"]  # [96, 512]
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(96, 64)}
  assert whole.params["wide"]["kernel"].addressable_shards[0].data.shape == (96, 512)
  small = split.params["head"]["kernel"]
  assert small.addressable_shards[0].data.shape == (512, 3)
