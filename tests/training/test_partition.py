"""What the compiled step does on 8 devices: an eighth of the work each, and how they talk."""

import dataclasses
import functools
import inspect
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import core, data, methods
from jaxnoise.training import build, schema, sharding
from jaxnoise.training.programs import Programs
from tests.methods import teachers
from tests.training.common import CONFIG, assert_same, tiny_run, tiny_source

MR = {"wrappers": ("multiplicative_reweighting",)}
AUGMIX = {"policy": {"name": "augmix"}}
STAGES = {"stages": (0, 1, 2)}
TRUSTED = {"data": {"trusted": 64}}
BATCH = 64

# What may be exchanged beside sums, as shapes of batches of 64: rows of a table [N, 3] and their
# indices; a number for each example, where they are sorted; features [B, D], as they are or
# transposed, where every pair of the batch counts.
ROWS, LOSSES, FEATURES = r"\[64,[13]\]", r"\[64\]", r"\[64,4\]|\[4096,64\]"


def grouped(factory, **options):
  return functools.partial(factory, mix_groups=8, **options)


def taught(factory, **options):
  return functools.partial(factory, teacher_network=teachers.featured(0.2), **options)


# name -> (factory, changes of the config, a pattern of what may be exchanged beside sums)
CASES = {
  "erm": (methods.erm, {}, None),
  "mr": (methods.erm, MR, None),
  "mixup": (grouped(methods.mixup), {}, None),
  "elr": (methods.elr, {}, ROWS),
  "free_at": (methods.free_at, {}, None),
  "similarity_preserving": (taught(methods.similarity_preserving, layer="stage2"), {}, FEATURES),
  "rkd": (taught(methods.rkd), {}, FEATURES),
}
SLOW = {
  "random_weighting": (methods.erm, {"wrappers": ("random_weighting",)}, None),
  "with_ema": (methods.erm, {"wrappers": ("with_ema",)}, None),
  "track_losses": (methods.erm, {"wrappers": ("track_losses",)}, None),
  "manifold_mixup": (grouped(methods.manifold_mixup, **STAGES), {}, None),
  "cutmix": (grouped(methods.cutmix), {}, None),
  "puzzlemix": (grouped(methods.puzzlemix, blocks=(2, 4)), {}, None),
  "nfm": (grouped(methods.nfm, **STAGES), {}, None),
  "augmix": (methods.augmix, AUGMIX, None),
  "noisymix": (grouped(methods.noisymix, **STAGES), AUGMIX, None),
  "augmax": (methods.augmax, {}, None),
  "nrd": (methods.nrd, {}, None),
  "js": (methods.js, {}, None),
  "gjs": (methods.gjs, {}, None),
  "glc": (functools.partial(methods.glc, label_matrix=np.eye(3), trusted_size=16), TRUSTED, None),
  "meta_weight_net": (methods.meta_weight_net, TRUSTED, None),
  "co_teaching": (functools.partial(methods.co_teaching, noise_rate=0.2), {}, LOSSES),
  "elr_plus": (grouped(methods.elr_plus), {}, ROWS),
  "dynamic_bootstrap": (grouped(methods.dynamic_bootstrap), {}, None),
  "dividemix": (grouped(methods.dividemix), {}, None),
  "pgd_at": (methods.pgd_at, {}, None),
  "fast_at": (methods.fast_at, {}, None),
  "trades": (methods.trades, {}, None),
  "knowledge_distillation": (taught(methods.knowledge_distillation), {}, None),
  "fickle_teacher": (taught(methods.fickle_teacher, teacher_dropout=0.2), {}, None),
  "soft_randomization": (taught(methods.soft_randomization), {}, None),
  "messy_collaboration": (taught(methods.messy_collaboration), {}, None),
  "attention_transfer": (
    taught(methods.attention_transfer, layers=("stage1", "stage2")), {}, None
  ),
  "self_distillation": (taught(methods.self_distillation), {}, None),
}  # fmt: skip


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
  # Types of many arrays have comments that count them, with signs of equality.
  return re.findall(rf"^\s*(?:ROOT )?\S+ = (.*?) ({kinds})(?:-start)?\(", text, flags=re.M)


def steps_of(factory, changes):
  """The steps of one run on one device and on eight; images are large beside what is not split."""
  source = data.generated(num_train=192, num_test=24, num_classes=3, size=32)
  for devices in (1, 8):
    # What a config would name is given to the factory: a teacher, a matrix of label noise.
    given = getattr(factory, "keywords", {}).keys() & {"teacher_network", "label_matrix"}
    built = methods.erm if given else factory
    run = tiny_run(built, devices=devices, source=source, batch_size=BATCH, **changes)
    if given:
      network = teachers.featured()
      made = factory(network, spec=run.spec)
      run = dataclasses.replace(run, network=network, method=made, teacher=teachers.variables(99))
    yield compiled_step(run)


@pytest.mark.parametrize("name", [*CASES, *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW)])
def test_each_of_eight_devices_does_an_eighth_and_only_sums_are_exchanged(name):
  factory, changes, allowed = {**CASES, **SLOW}[name]
  one, eight = steps_of(factory, changes)
  share = eight.cost_analysis()["flops"] / one.cost_analysis()["flops"]
  assert 0.95 <= 8 * share <= 1.05
  exchanged = talk(eight.as_text())
  assert exchanged, "eight devices that do not talk do not train one network"
  others = [(shapes, kind) for shapes, kind in exchanged if kind != "all-reduce"]
  if allowed is None:
    assert not others
  else:
    arrays = [array for shapes, _ in others for array in re.findall(r"\w+\[[\d,]*\]", shapes)]
    assert arrays and all(re.fullmatch(rf"\w+(?:{allowed})", array) for array in arrays), others


def test_every_method_is_tested():
  made = {
    value
    for _, value in inspect.getmembers(methods, inspect.isfunction)
    if next(iter(inspect.signature(value).parameters)) == "network"
  }
  tested = {getattr(f, "func", f) for f, _, _ in (*CASES.values(), *SLOW.values())}
  assert made == tested


def test_partners_from_the_whole_batch_are_gathered_images():
  """The price of `mix_groups` = 1, which grows with the batch."""
  _, eight = steps_of(methods.mixup, {})
  shapes = [shapes for shapes, kind in talk(eight.as_text()) if kind != "all-reduce"]
  assert any("[1,64,32,32,3]" in s or "[64,32,32,3]" in s for s in shapes), shapes


def test_a_table_of_examples_by_classes_lies_in_eighths_and_images_rows_too():
  source = tiny_source(128)
  for factory, leaf, rows in (
    (methods.elr, lambda state: state.method_state["elr"]["targets"], 16),
    (methods.free_at, lambda state: state.method_state["free_at"]["delta"], 8),
  ):
    run = tiny_run(factory, devices=8, source=source, batch_size=64)
    table = leaf(Programs(run).init())
    assert {shard.data.shape[0] for shard in table.addressable_shards} == {rows}


def test_a_large_table_has_rows_for_any_usual_number_of_devices():
  imagenet = 1_281_167
  assert [core.Spec(n, 3, (8, 8, 3)).table_rows for n in (48, 16_383, 16_385, imagenet)] == [
    48, 16_383, 16_896, 1_281_536
  ]  # fmt: skip
  for factory, tables in ((methods.elr, 1), (methods.elr_plus, 2)):
    run = tiny_run(factory, devices=8, batch_size=16)
    spec = run.spec._replace(num_train=imagenet, steps_per_epoch=imagenet // 16)
    run = dataclasses.replace(run, spec=spec, method=factory(run.network, spec=spec))
    shapes = jax.tree.leaves(Programs(run).init_shapes().method_state)
    large = [x.sharding.shard_shape(x.shape) for x in shapes if len(x.shape) > 1]
    assert large == [(1_281_536 // 8, 3)] * tables


@pytest.mark.slow
def test_statistics_of_a_devices_own_part_are_not_exchanged():
  """Norm layers of the whole batch exchange their sums, one after the other; of groups, nothing."""
  counts = {}
  for groups in (1, 8):
    config = schema.merge(CONFIG, {"batch_size": BATCH, "norm_groups": groups})
    config["model"] = {"name": "wide_resnet", "depth": 10, "widen_factor": 1}
    steps = [
      compiled_step(build.assemble(
        config, source=tiny_source(192), mesh=sharding.make_mesh(jax.devices()[:devices])
      ))
      for devices in (1, 8)
    ]
    one, eight = (step.cost_analysis()["flops"] for step in steps)
    assert 0.95 <= 8 * eight / one <= 1.05, groups
    exchanged = talk(steps[1].as_text())
    assert {kind for _, kind in exchanged} == {"all-reduce"}
    counts[groups] = len(exchanged)
  layers = 7  # two of each of three blocks, and the last one
  assert counts[8] < layers <= counts[1], counts


class Wide(nn.Module):
  """Large enough for its parameters to be split."""

  @nn.compact
  def __call__(self, image):
    h = nn.relu(nn.Dense(96)(image.reshape(image.shape[0], -1)))
    h = nn.relu(nn.Dense(512, name="wide")(h))
    return nn.Dense(3, name="head")(h)


def trained(steps=3, **changes):
  config = schema.merge(CONFIG, {"total": "6 steps", "wrappers": ("with_ema",), **changes})
  mesh = sharding.make_mesh(jax.devices()[:8], seeds=config.get("seeds", 1))
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


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_split_parameters_of_several_seeds_are_the_same_numbers(count):
  whole = trained(seeds=count)
  split = trained(seeds=count, shard_parameters=True)
  assert_same(split.params, whole.params, rtol=1e-5, atol=1e-6)
  kernel = split.params["wide"]["kernel"]  # [seeds, 96, 512], a group of devices for each seed
  shapes = {shard.data.shape for shard in kernel.addressable_shards}
  assert shapes == {(1, 96, 512 * count // 8)}
