"""What a run starts from: another run, a stage, a file of PyTorch weights; a new head; freezing."""

import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import data, models
from jaxnoise.core import InputError, Network, Output
from jaxnoise.training import (
  build,
  experiment,
  loop,
  networks,
  restore,
  rundir,
  schema,
  seeds,
  sharding,
)
from tests.conftest import load_golden
from tests.models.torch_files import numbered, safetensors, torch_zip, with_statistics
from tests.models.torch_names import section
from tests.training.common import assert_same, tiny_run, tiny_source

RESNET = {
  "batch_size": 16,
  "total": "2 steps",
  "data": {"name": "generated", "options": {"num_train": 32, "num_test": 8}},
  "model": {"name": "cifar_resnet", "depth": 8},
}
TEN = {"data": {"options": {"num_classes": 10}}}
FIVE = {"data": {"options": {"num_classes": 5}}, "new_head": True, "seed": 3}


def assembled(**changes):
  return build.assemble(schema.merge(RESNET, changes))


class Staged(nn.Module):
  """A few layers by the names of this package's networks."""

  classes: int = 3

  @nn.compact
  def __call__(self, image, train):
    h = nn.Dense(4, name="stem")(image.reshape(len(image), -1))
    for s in (1, 2):
      h = nn.tanh(nn.Dense(5, name=f"stage{s}_block1")(h))
      h = nn.BatchNorm(not train, name=f"stage{s}_block2")(h)
    return nn.Dense(self.classes, name="head")(h)


def staged(classes=3, **changes):
  """A run of four steps on one device."""
  config = schema.merge({"batch_size": 16, "total": "4 steps", "checkpoint": {"every": "2 steps"}},
                        changes)
  mesh = sharding.make_mesh(jax.devices()[:1])
  source = tiny_source(num_classes=classes)
  return build.assemble(config, source=source, network=Staged(classes), mesh=mesh)


def first_state(run):
  return jax.device_get(loop.Programs(run).init())


@pytest.fixture(scope="module")
def torch_weights():
  """RepDistiller's ResNet-8 for ten classes as its state dict, a number for each entry."""
  theirs = section(load_golden("architectures"), "resnet8_repdistiller_c10/")
  pairs = zip(theirs["param_names"], theirs["param_shapes"], strict=True)
  shapes = {str(name): tuple(int(d) for d in shape if d) for name, shape in pairs}
  return {k: np.array(v) / 100 for k, v in numbered(with_statistics(shapes)).items()}


@pytest.fixture(scope="module")
def file(torch_weights, tmp_path_factory):
  """Those weights as an .npz."""
  path = tmp_path_factory.mktemp("weights") / "weights.npz"
  np.savez(path, **torch_weights)
  return str(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A finished run of the small network."""
  folder = tmp_path_factory.mktemp("trained") / "run"
  return loop.train(staged(), folder, quiet=True)


# --- files ---------------------------------------------------------------------------------------


def test_a_run_starts_at_the_weights_of_a_file(file, torch_weights):
  state = first_state(assembled(**TEN, init_from=file))
  wanted = models.import_torch(torch_weights)
  assert_same((state.params, state.batch_stats), (wanted["params"], wanted["batch_stats"]))
  assert {x.dtype for x in jax.tree.leaves(state.params)} == {np.dtype("float32")}


def written(folder, arrays, suffix):
  path = folder / f"weights{suffix}"
  if suffix == ".npz":
    np.savez(path, **arrays)
  else:
    arrays = {k: np.ascontiguousarray(v, np.float32) for k, v in arrays.items()}
    path.write_bytes(safetensors(arrays) if suffix == ".safetensors" else torch_zip(arrays))
  return str(path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".weights"])
def test_every_form_of_file_is_read_the_same(file, torch_weights, tmp_path, suffix):
  """A file of any other ending is one of torch.save's."""
  arrays = {k: v for k, v in torch_weights.items() if not k.endswith("tracked")}
  path = written(tmp_path, arrays, suffix)
  start, wanted = (assembled(**TEN, init_from=p).start_from for p in (path, file))
  assert_same(start, wanted)


def test_a_new_head_for_the_weights_of_a_file(file):
  run = assembled(**FIVE, init_from=file)
  start = run.start_from
  assert "head" not in start["params"] and start["params"]["stem"]["kernel"].shape[-1] == 16
  state = loop.Programs(run).init_shapes()
  assert state.params["head"]["kernel"].shape == (64, 5)
  momentum = {x.shape for x in jax.tree.leaves(state.opt_state)}
  assert (64, 5) in momentum and (64, 10) not in momentum


# --- runs ----------------------------------------------------------------------------------------


def test_a_run_starts_at_the_end_of_another(trained):
  state = first_state(staged(init_from=str(trained.directory)))
  assert_same((state.params, state.batch_stats), (trained.state.params, trained.state.batch_stats))
  assert int(state.step) == 0 and not any(np.any(x) for x in jax.tree.leaves(state.opt_state))


def test_a_run_without_steps_measures_and_keeps_what_it_starts_from(trained, tmp_path):
  run = staged(total="0 steps", init_from=str(trained.directory))
  result = loop.train(run, tmp_path / "run", quiet=True)
  assert result.finished and result.step == 0
  assert_same(result.state.params, trained.state.params)
  assert result.metrics["test/student/accuracy"] == trained.metrics["test/student/accuracy"]
  opened = restore.open_run(tmp_path / "run", source=run.source, network=Staged(3))
  assert_same(jax.device_get(opened.state.params), jax.device_get(trained.state.params))
  again = loop.train(run, tmp_path / "run", quiet=True)
  assert again.finished and again.step == 0


def test_a_new_head_starts_afresh_and_all_else_is_loaded(trained, tmp_path):
  """Whatever the directory is called; each of several seeds with a head of its own."""
  shutil.copytree(trained.directory, tmp_path / "run.pt")
  changes = {"classes": 5, "seed": 3, "init_from": str(tmp_path / "run.pt"), "new_head": True}
  both = loop.Programs(staged(**changes, seeds=2)).init()
  fresh = loop.Programs(staged(classes=5, seed=3, seeds=2)).init()
  rest = lambda params: {name: params[name] for name in params if name != "head"}
  for s in range(2):
    one = seeds.take(both, s)
    assert_same(one.params["head"], seeds.take(fresh, s).params["head"])
    assert_same(rest(one.params), rest(trained.state.params))
    assert_same(one.batch_stats, trained.state.batch_stats)
  head = np.asarray(both.params["head"]["kernel"])
  assert head.shape == (2, 5, 5) and np.all(head[0] != head[1])


def test_frozen_stages_stay_through_a_break(trained, tmp_path):
  """Bitwise, at weight decay and momentum; all else moves, the running statistics too."""
  tuning = {"init_from": str(trained.directory), "new_head": True, "classes": 5}
  run = staged(**tuning, optim={"freeze_level": 1})
  done = []
  stop = lambda: len(done) == 3
  half = loop.train(run, tmp_path / "run", quiet=True, on_step=done.append, stop=stop)
  assert half.step == 3 and not half.finished
  tuned = loop.train(run, tmp_path / "run", quiet=True, on_step=done.append)
  assert tuned.finished and done == [1, 2, 3, 4]
  old, new = trained.state, tuned.state
  for name in ("stem", "stage1_block1", "stage1_block2"):
    assert_same(new.params[name], old.params[name])
  for name in ("stage2_block1", "stage2_block2"):
    for a, b in zip(*(jax.tree.leaves(s.params[name]) for s in (new, old)), strict=True):
      assert np.any(np.asarray(a) != b), name
  assert new.params["head"]["kernel"].shape == (5, 5)
  for a, b in zip(*(jax.tree.leaves(s.batch_stats) for s in (new, old)), strict=True):
    assert np.any(np.asarray(a) != b), "the statistics of frozen stages follow the data"
  momentum = {x.shape for x in jax.tree.leaves(new.opt_state)}
  assert (192, 4) not in momentum and (5, 5) in momentum
  whole = loop.train(run, tmp_path / "whole", quiet=True)
  assert_same(new, whole.state)


def test_a_stage_starts_at_an_earlier_one(tmp_path):
  """Before it is trained, zeros of its shapes stand in for it; then its directory is read."""
  config = schema.merge(RESNET, {
    "stages": ("first", "tuned"),
    "stage": {"tuned": {**FIVE, "init_from": "first", "optim": {"freeze_level": 1}}},
  })  # fmt: skip
  (_, first), (tuned, _) = experiment.assemble_all(config, tmp_path / "run")
  assert tuned.config["init_from"] == str(first) and not first.exists()
  assert loop.Programs(tuned).init_shapes().params["head"]["kernel"].shape == (64, 5)
  kept = schema.merge(config, {"stage": {"tuned": {"new_head": False}}})
  with pytest.raises(InputError, match=r"\(4,\) at params/head/bias where this run has .* \(5,\)"):
    experiment.assemble_all(kept, tmp_path / "run")


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"init_from": "nowhere.npz"}, r"config\.init_from is nowhere\.npz, which does not exist"),
    ({"init_from": "nowhere"}, "nowhere/config.json does not exist; is nowhere a run directory"),
    ({"total": "0 steps"}, "needs at least one step, unless config.init_from names weights"),
    ({"new_head": True}, r"config\.new_head is True, but config\.init_from is empty"),
    ({"init_from": "FILE"}, r"has shape \(10,\) at params/head/bias .*\(4,\).*new_head"),
    ({"init_from": "RUN"}, "has nothing at .* where this run has .*config.new_head starts"),
    (
      {**TEN, "init_from": "FILE", "model": {"depth": 14}},
      "has nothing at batch_stats/stage1_block2/norm1/mean",
    ),
    ({"optim": {"freeze_level": 4}}, r"config\.optim\.freeze_level: the freeze level is 4"),
    ({"optim": {"freeze_level": 0}}, "1 to 3 for the stem and that many stages"),
  ],
)
def test_bad_input_is_named(file, trained, changes, message):
  paths = {"FILE": file, "RUN": str(trained.directory)}
  if "init_from" in changes:
    changes = {**changes, "init_from": paths.get(changes["init_from"], changes["init_from"])}
  with pytest.raises(InputError, match=message):
    assembled(**changes)


def test_a_text_file_is_not_weights(tmp_path):
  (tmp_path / "notes.txt").write_text("mine")
  with pytest.raises(InputError, match="cannot be read as PyTorch weights"):
    assembled(init_from=str(tmp_path / "notes.txt"))


def test_a_run_of_several_seeds_is_not_one_network(tmp_path):
  rundir.claim(tiny_run(seeds=2), tmp_path / "run")
  with pytest.raises(InputError, match=r"config\.init_from is a run of 2 seeds"):
    tiny_run(init_from=str(tmp_path / "run"))


def linear_network(make):
  """Logits from the mean colour; `make` lays kernel and bias out."""

  def init(rng, image):
    del image
    return make(jax.random.normal(rng, (3, 3)), jnp.zeros(3)), {}

  def apply(params, batch_stats, image, **options):
    del options
    kernel, bias = jax.tree.leaves(params)
    return Output(image.mean((1, 2)) @ kernel + bias.reshape(1, 3), batch_stats, {})

  return Network(init, apply, 0)


SINGLE = {"batch_size": 16, "total": "1 steps"}


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda w, b: (w, b), "are a tuple, not a dictionary of layers"),
    (lambda w, b: {"net0": w, "net1": b}, "this network has net0, net1"),
  ],
  ids=["tuple", "two_networks"],
)
def test_what_needs_layers_by_name_says_so(make, message):
  given = {"source": tiny_source(), "network": linear_network(make)}
  with pytest.raises(InputError, match="no layer called 'head'"):
    build.assemble({**SINGLE, "init_from": "nowhere", "new_head": True}, **given)
  with pytest.raises(InputError, match=message):
    build.assemble({**SINGLE, "optim": {"freeze_level": 1}}, **given)


def test_parameters_of_any_form_are_saved_and_started_from(tmp_path):
  given = {"source": tiny_source(), "network": linear_network(lambda w, b: (w, b))}
  result = loop.train(build.assemble(SINGLE, **given), tmp_path / "run", quiet=True)
  start = build.assemble({**SINGLE, "init_from": str(tmp_path / "run")}, **given).start_from
  assert_same(start["params"], result.state.params)
  assert jax.tree.structure(start["params"]) == jax.tree.structure(result.state.params)


def test_names_that_fit_two_networks_are_told_apart_by_the_run_s(tmp_path):
  """A lone bn1 of the stem's width and the head's: the network says which it is."""
  source = data.generated(num_classes=3)
  shapes = {
    "conv1.weight": (4, 3, 3, 3), "bn1.weight": (4,), "bn1.bias": (4,),
    "layer1.0.conv1.weight": (4, 4, 3, 3), "fc.weight": (3, 4), "fc.bias": (3,),
  }  # fmt: skip
  np.savez(tmp_path / "w.npz", **numbered(with_statistics(shapes)))
  norm = {"scale": jnp.zeros(4), "bias": jnp.zeros(4)}

  def init(rng, image):
    del rng, image
    params = {
      "stem": {"kernel": jnp.zeros((3, 3, 3, 4))},
      "stage1_block1": {"conv1": {"kernel": jnp.zeros((3, 3, 4, 4))}},
      "final_norm": norm,
      "head": {"kernel": jnp.zeros((4, 3)), "bias": jnp.zeros(3)},
    }
    return params, {"final_norm": {"mean": jnp.zeros(4), "var": jnp.ones(4)}}

  config = schema.check({"init_from": str(tmp_path / "w.npz")})
  start = networks.load_start(config, Network(init, None, 0), source.image_shape)
  np.testing.assert_array_equal(start["params"]["final_norm"]["scale"], np.ones(4))
