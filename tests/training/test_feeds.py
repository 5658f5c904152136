"""Training from images on disk: the run that data in memory gives, fed batch by batch."""

import dataclasses
import importlib.util
import runpy
import threading
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxnoise import augment, data, methods
from jaxnoise import main as main_lib
from jaxnoise.core import InputError
from jaxnoise.data import _stream_crops
from jaxnoise.methods import _base
from jaxnoise.training import build, feeds, loop, schema, sharding, writers
from jaxnoise.training import method as method_lib
from tests.toy import toy_network
from tests.training.common import CONFIG, assert_same, tiny_run, told

needs_array_record = pytest.mark.skipif(
  importlib.util.find_spec("array_record") is None, reason="array_record is not installed"
)
ROOT = Path(__file__).parents[2]
COUNT, STEPS = 60, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """scikit-learn's digits, real images, as PNG files in folders of three classes."""
  root, source = tmp_path_factory.mktemp("digits"), data.digits()
  for split, images, labels, count in (
    ("train", source.images, source.labels, COUNT),
    ("test", source.test_images, source.test_labels, 25),
  ):
    for i, j in enumerate(np.flatnonzero(labels < 3)[:count]):
      (root / split / str(labels[j])).mkdir(parents=True, exist_ok=True)
      Image.fromarray(images[j, ..., 0]).save(root / split / str(labels[j]) / f"{i:03d}.png")
  return root


def source_of(folder, threads=2):
  return data.load("folder", folder, stream=True, threads=threads)


def streamed_run(folder, method=None, threads=2, **changes):
  return tiny_run(method, source=source_of(folder, threads), **changes)


def named_run(folder, changes):
  """The method named by the config, not handed in."""
  mesh = sharding.make_mesh(jax.devices()[:1])
  config = schema.merge(CONFIG, changes)
  return build.assemble(config, source=source_of(folder), network=toy_network(), mesh=mesh)


# --- the same run as from memory -----------------------------------------------------------------

REWEIGHTED = {
  "total": "2 epochs",
  "wrappers": ("multiplicative_reweighting",),
  "wrapper_args": {"multiplicative_reweighting": {"eta": 0.5}},
  "data": {"noise": {"kind": "symmetric", "rate": 0.3}, "holdout": 12},
}


@needs_array_record
def test_a_stream_trains_as_memory_does(folder, tmp_path):
  records = data.write_array_record(source_of(folder), tmp_path / "records", files=2)
  results = []
  for how in ({"stream": True, "threads": 2}, {}):
    source = data.load("array_record", records, **how)
    run = tiny_run(source=source, **REWEIGHTED)
    results.append(loop.train(run, tmp_path / str(len(results)), quiet=True))
  streamed, resident = results
  assert streamed.run.source.streamed and streamed.step == 2 * 3
  assert_same(streamed.state, resident.state, rtol=1e-6, atol=1e-7)
  rows, others = (told(result.directory) for result in results)
  assert {"test/student/accuracy", "holdout/student/nll", "labels/student/memorised"} <= {
    name for row in rows for name in row
  }
  for row, other in zip(rows, others, strict=True):
    assert row.keys() == other.keys()
    np.testing.assert_allclose(list(row.values()), list(other.values()), rtol=1e-5, atol=1e-6)
  # What the pass collected decides the weights: it must not be all zeros.
  assert streamed.state.method_state["multiplicative_reweighting"]["loss_sum"].min() > 0


def of_steps(feed, state, steps):
  return [jax.device_get(feed(state, step)) for step in steps]


def test_batches_are_those_of_the_order_in_memory(folder):
  run = streamed_run(folder, data={"remainder": "keep"})
  programs = loop.Programs(run)
  state, arrays = programs.init(), jax.device_put(run.host_data())
  feed = feeds.make_feed(run, programs, arrays)
  memory = feeds.Resident(run, programs, arrays)
  try:
    for step, orders in enumerate(of_steps(feed, state, range(3 * STEPS))):
      expected = np.asarray(memory(state, step)["train"])[step % STEPS * 16 :][:16]
      np.testing.assert_array_equal(orders["batch"]["index"], expected)
      np.testing.assert_array_equal(orders["batch"]["image"], run.source.images[expected])
    assert feed.waited > 0
    # From any step on, as a run that resumes asks.
    again = feeds.make_feed(run, programs, arrays)
    (orders,) = of_steps(again, state, [3 * STEPS - 2])
    again.close()
    expected = np.asarray(memory(state, 2 * STEPS)["train"])[(STEPS - 2) * 16 :][:16]
    np.testing.assert_array_equal(orders["batch"]["index"], expected)
  finally:
    feed.close()


CROPPED = {"first": {"resized_crop": 8, "flip": True, "scale": (0.3, 1.0)}, "total": "2 epochs"}


def test_batches_are_the_same_for_any_threads_and_from_any_step(folder):
  fed = []
  for threads, steps in ((1, range(5)), (4, range(5)), (4, range(3, 5))):
    run = streamed_run(folder, threads=threads, **CROPPED)
    programs = loop.Programs(run)
    feed = feeds.make_feed(run, programs, jax.device_put(run.host_data()))
    fed.append([orders["batch"] for orders in of_steps(feed, programs.init(), steps)])
    feed.close()
  one, several, late = fed
  assert_same(one, several)
  assert_same(one[3:], late)
  assert one[0]["image"].shape == (16, 1, 8, 8, 3)


def test_crops_are_those_of_the_config_the_seed_and_the_epoch(folder):
  run = streamed_run(folder, seed=7, **CROPPED)
  programs = loop.Programs(run)
  feed = feeds.make_feed(run, programs, jax.device_put(run.host_data()))
  assert feed._decoder.threads == 2
  crop, state = data.Crop(**run.config["first"]), programs.init()
  for step in (1, run.spec.steps_per_epoch + 1):
    batch = jax.device_get(feed(state, step))["batch"]
    numbers = data.crop_numbers(7, step, slice(0, 16), 1)
    for row in (0, 15):
      index = batch["index"][row]
      expected = _stream_crops.first_crops(run.source.images, index, crop, numbers[row])
      np.testing.assert_array_equal(batch["image"][row], expected)
  feed.close()


def test_batches_lie_on_the_devices_before_their_steps(folder):
  run = streamed_run(folder, **CROPPED)
  programs = loop.Programs(run)
  feed = feeds.make_feed(run, programs, jax.device_put(run.host_data()))
  state = programs.init()
  feed(state, 0)
  assert sorted(feed._begun) == [1, 2]
  for begun in feed._begun.values():
    begun._filling.result()
  feed(state, 1)
  assert feed._begun[2]._placed is not None
  feed.close()


def test_an_image_that_cannot_be_read_is_told_at_its_own_step():
  def unreadable(row):
    raise InputError(f"image {row} is damaged")

  with data.Decoder(1) as decoder:
    filling = decoder.fill(2, (8, 8, 3), unreadable)
  mesh = sharding.make_mesh(jax.devices()[:1])
  begun = feeds._Begun(filling, np.arange(2), np.arange(2), mesh)
  assert filling.done()
  begun.place_if_done()
  with pytest.raises(InputError, match="image 0 is damaged"):
    begun.placed()


def test_devices_whose_hosts_alternate_do_not_stream(folder):
  run = streamed_run(folder)
  device = lambda process: types.SimpleNamespace(process_index=process)
  mesh = types.SimpleNamespace(devices=np.array([[device(p) for p in (0, 1, 0, 1)]]))
  with pytest.raises(InputError, match=r"lie on the hosts \[0, 1, 0, 1\].*process_index"):
    feeds.check(dataclasses.replace(run, mesh=mesh))


@pytest.mark.slow
def test_threads_and_interruptions_change_nothing(folder, tmp_path):
  whole = loop.train(streamed_run(folder, threads=1, **CROPPED), tmp_path / "whole", quiet=True)
  asked = iter([False] * 5 + [True])
  stopped = loop.train(
    streamed_run(folder, threads=4, **CROPPED), tmp_path / "parts", quiet=True,
    stop=lambda: next(asked),
  )  # fmt: skip
  assert stopped.step == 5 and not stopped.finished
  rest = loop.train(streamed_run(folder, threads=4, **CROPPED), tmp_path / "parts", quiet=True)
  assert_same(whole.state, rest.state)
  assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


@pytest.mark.slow
def test_the_whole_experiment_and_its_commands(folder, tmp_path):
  """Final tables, suites and predictions read the images that they need from disk."""
  config = tmp_path / "config.py"
  config.write_text(
    "from ml_collections import ConfigDict\n"
    "from jaxnoise.training import schema\n"
    "def get_config():\n"
    "  config = ConfigDict(schema.default(), type_safe=True)\n"
    f"  config.data.name, config.data.path, config.data.stream = 'folder', {str(folder)!r}, True\n"
    "  config.data.noise.kind, config.data.noise.rate = 'symmetric', 0.3\n"
    "  config.model = {'name': 'wide_resnet', 'depth': 10, 'widen_factor': 1}\n"
    "  config.total, config.batch_size, config.first.padding = '2 epochs', 16, 1\n"
    "  config.evaluate.corruptions, config.evaluate.severities = ('brightness',), (1,)\n"
    "  return config\n"
  )
  run = tmp_path / "run"
  command = ["main", f"--config={config}", f"--workdir={run}", "--quiet"]
  assert main_lib.main(command) == 0
  record = writers.read_json(run / "config.json")
  assert record["config"]["data"]["stream"] and record["num_train"] == COUNT
  assert (run / "report.html").is_file() and (run / "tables" / "clean.json").is_file()
  assert main_lib.main([*command, "--dry_run"]) == 0
  # Streamed and from memory are two runs: their first crops differ.
  assert main_lib.main([*command, "--config.data.stream=False"]) == 2


def test_a_damaged_image_ends_the_run_by_its_name(folder, tmp_path):
  run = streamed_run(folder)
  images = run.source.images
  kept = images.content(9).read_bytes()
  images.content(9).write_bytes(b"nothing")
  try:
    with pytest.raises(InputError, match="cannot be read as an image") as error:
      loop.train(run, tmp_path / "run", quiet=True)
  finally:
    images.content(9).write_bytes(kept)
  assert images.where(9) in str(error.value)
  assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


@pytest.mark.slow
def test_a_shuffled_pass_collects_what_memory_does(folder):
  args = {"multiplicative_reweighting": {"eta": 0.5, "mode": "train", "augmented": True}}
  changes = {"wrappers": ("multiplicative_reweighting",), "wrapper_args": args}
  changes["first"] = {"padding": 1, "flip": True}
  tables = []
  for stream in (True, False):
    source = data.load("folder", folder, stream=stream)
    programs = loop.Programs(tiny_run(source=source, **changes))
    state = programs.example_pass(programs.init(), jax.device_put(programs.run.host_data()))
    tables.append((state.method_state, state.batch_stats))
  assert_same(*tables, rtol=1e-5, atol=1e-6)


# --- crops made on the host ----------------------------------------------------------------------


def crops_asked(name, **own):
  config = {"first": {"flip": True}, "method": {"name": name, **own}}
  if name == "meta_weight_net":
    config["data"] = {"trusted": 9}
  return config


CHEAP = {"name": "cutout", "size": 2}
VIEWS = [
  (crops_asked("noisymix", stages=(0, 1, 2)), 1),
  (crops_asked("gjs", views=3), 3),
  (crops_asked("nrd", teacher_policy=CHEAP, teacher_policy_first=False), 2),
  (crops_asked("nrd", teacher_policy=CHEAP), 0),
  (crops_asked("nrd", teacher_policy=None, student_views=2, weights=(0.2, 0.3, 0.3, 0.2)), 3),
  (crops_asked("elr_plus"), 2),
  (crops_asked("meta_weight_net"), 1),
]


@pytest.mark.parametrize("changes, views", VIEWS, ids=str)
def test_every_view_has_a_crop_of_its_own(folder, changes, views):
  """Shapes are traced, nothing is compiled."""
  run = named_run(folder, changes)
  assert run.host_crops == views
  programs = loop.Programs(run)
  state, arrays = programs.init_shapes(), run.host_data()
  epoch = jax.ShapeDtypeStruct((1,), np.int32)
  orders = jax.eval_shape(programs.orders, state.rng, {"labels": arrays["labels"]}, epoch)
  orders = feeds.batch_shapes(run, orders)
  assert orders["batch"]["image"].shape == (16, *((views,) if views else ()), 8, 8, 3)
  totals = programs.total_shapes(state, arrays, orders)
  assert "loss" in jax.eval_shape(programs.step, state, arrays, orders, totals)[1]


def test_views_go_on_from_their_crops():
  config = schema.check({"first": {"flip": True}})
  first = method_lib._unless_cropped(method_lib._first(config["first"]))
  doubled = augment.compose(first, lambda key, image: 2 * image)
  crops = jnp.arange(3.0)[None, :, None, None, None] * jnp.ones((5, 3, 4, 4, 1))
  key = jax.random.key(0)
  np.testing.assert_array_equal(_base.first_views(doubled, 3)(key, crops), 2 * crops)
  # Images that are not cropped yet have the draws that they have without a stream.
  plain = augment.compose(method_lib._first(config["first"]), lambda key, image: 2 * image)
  image = jax.random.uniform(key, (5, 4, 4, 1))
  np.testing.assert_array_equal(
    _base.first_views(doubled, 3)(key, image), augment.views(plain, 3)(key, image)
  )
  with pytest.raises(ValueError, match="came with 3 first crops, but one is asked for"):
    augment.batched(first)(key, crops)
  np.testing.assert_array_equal(_base.crops_of(crops, 1, 2), crops[:, 1:])
  assert _base.crops_of(image, 1, 2) is image


def test_a_method_that_takes_no_first_crops_nothing(folder):
  def own(network, *, spec):
    return methods.erm(network, spec=spec)

  assert streamed_run(folder, own, first={"flip": True}).host_crops == 0
  assert streamed_run(folder).host_crops == 0  # nothing to do


PAPERS = [
  ("imagenet.py", "method=noisymix", 1),
  ("imagenet.py", "method=auto_augment", 0),
  ("webvision.py", "method=nrd,teacher=last", 2),
  ("webvision.py", "method=nrd,teacher=first", 0),
  ("webvision.py", "method=gjs", 2),
  ("webvision.py", "method=elr_plus", 2),
  ("mr_clothing1m.py", "method=mr_mixup_ls", 1),
]


@pytest.mark.parametrize("file, argument, crops", PAPERS)
def test_the_papers_settings_on_large_data_stream(folder, file, argument, crops):
  """The recipe as it is, on 8x8 images and a network that compiles nothing."""
  config = runpy.run_path(str(ROOT / "configs" / file))["get_config"](argument)
  recipe = schema.check(config)
  assert recipe["data"]["stream"] and recipe["data"]["threads"] == 0
  small = {"total": "2 epochs", "batch_size": 16, "init_from": "", "new_head": False,
           "data": {"options": {}}, "checkpoint": {"every": "0 steps"},
           "optim": {"schedule": "constant", "warmup": "0 steps"}}  # fmt: skip
  if "stages" in recipe["method"]:
    small["method"] = {"stages": (0, 1, 2)}  # the toy has no more
  if recipe["evaluate"]["corruptions"]:
    small["evaluate"] = {"corruptions": ()}
  mesh = sharding.make_mesh(jax.devices()[:1])
  recipe = schema.merge(recipe, small)
  run = build.assemble(recipe, source=source_of(folder), network=toy_network(), mesh=mesh)
  assert run.host_crops == crops
  orders = feeds.batch_shapes(run, {})
  assert orders["batch"]["image"].shape[-3] == (224 if recipe["first"]["resized_crop"] and crops
                                                else 8)  # fmt: skip


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"seeds": 2}, "config.data.stream is True with config.seeds 2"),
    ({"method": {"name": "dividemix"}}, "dividemix draws its batches 'labelled_net0' from the"),
  ],
)
def test_what_cannot_stream(folder, changes, message):
  with pytest.raises(InputError, match=message):
    named_run(folder, changes)


def test_a_source_in_memory_does_not_stream():
  with pytest.raises(InputError, match="the source given has its images in memory"):
    tiny_run(data={"stream": True})
