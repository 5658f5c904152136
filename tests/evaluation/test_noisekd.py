"""The suite of the noise-in-distillation paper: its threats, its parts, what they refuse."""

import dataclasses
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxnoise import data, evaluation, methods
from jaxnoise.core import InputError, Network, Output, Spec, TrainState
from jaxnoise.training import sharding, suites_distillation

SPEC = Spec(num_train=4, num_classes=3, image_shape=(8, 8, 3))
OPTIONS = types.SimpleNamespace(restarts=2, every_run=True, step_size=0.003, images="")


def brightest(gain=10.0):
  """The class is the brightest channel; its loss has a gradient everywhere."""

  def init(rng, image):
    raise NotImplementedError

  def apply(params, stats, image, *, train=False, rng=None, dropout=None, norm_branch="main",
            tap=None, features=()):
    del train, rng, dropout, norm_branch, tap, features
    return Output(gain * params[None] * image.mean(axis=(1, 2)), stats, {})

  return Network(init, apply, 0)


def subject_of(images, labels):
  mesh = sharding.make_mesh(jax.devices()[:1])
  state = TrainState.create(jax.random.key(0), jnp.ones(3), {})
  state = jax.device_put(state, sharding.replicated(mesh))
  method = methods.erm(brightest(), spec=SPEC)
  test = data.Pool(images, np.asarray(labels))
  return evaluation.Subject(method, [state], mesh, test, None, 4)


def opened_of(names, shape=(8, 8, 3)):
  run = types.SimpleNamespace(
    source=types.SimpleNamespace(class_names=names), spec=types.SimpleNamespace(image_shape=shape)
  )
  return types.SimpleNamespace(run=run, directory=Path("run"))


def grey(lead):
  """[1, 8, 8, 3] whose red is `lead` grey levels above green and blue."""
  image = np.full((1, 8, 8, 3), 100, np.uint8)
  image[..., 0] += lead
  return image


def test_the_grids_of_tables_4_and_5():
  steps, radii = evaluation.noisekd_by_steps(), evaluation.noisekd_by_epsilon()
  clean = steps.pop("clean")
  assert clean == radii.pop("clean") and clean.num_steps == 0
  assert [t.num_steps for t in steps.values()] == [1, 5, 10, 15, 20, 100, 200, 1000]
  assert {(t.norm, t.epsilon, t.step_size) for t in steps.values()} == {("linf", 8 / 255, 0.003)}
  assert [round(255 * t.epsilon) for t in radii.values()] == [1, 2, 10, 20, 25, 50, 100, 200]
  assert {(t.num_steps, t.step_size) for t in radii.values()} == {(20, 0.003)}
  assert all(t.random_start for t in (*steps.values(), *radii.values()))
  assert list(radii)[2] == "linf 10/255" and list(steps)[4] == "linf 8/255, 20 steps"
  printed = evaluation.noisekd_by_epsilon(0.03)
  assert {t.step_size for t in printed.values() if t.num_steps} == {0.03}


@pytest.mark.parametrize("step_size", [0.0, -0.003, 1.5, float("nan")])
def test_a_step_size_out_of_range(step_size):
  for make in (evaluation.noisekd_by_steps, evaluation.noisekd_by_epsilon):
    with pytest.raises(InputError, match=r"step_size is .* must lie in \(0, 1\]"):
      make(step_size)


@pytest.fixture(scope="module")
def measured():
  """Leads of 1 to 40 grey levels; a random start moves a channel's mean by less than one."""
  images = np.concatenate([grey(lead) for lead in (1, 5, 12, 40)])
  subject = subject_of(images, [0, 0, 0, 0])
  cells = {
    "pgd_steps": ("clean", *(f"linf 8/255, {n}" for n in ("1 step", "5 steps", "20 steps"))),
    "pgd_epsilon": ("clean", *(f"linf {k}/255" for k in (1, 10, 25))),
  }
  out = {}
  for name, wanted in cells.items():
    part = suites_distillation.MAKERS[name](None, subject, None, OPTIONS)
    assert part.name == name and len(part.cells) == 9
    out[name] = part, {cell: part.measure(cell)["student"][0] for cell in wanted}
  return out


def test_steps_of_one_size_reach_farther_the_more_there_are(measured):
  """N steps move a channel by 0.765 N grey levels, by 8 at most: a lead shrinks by twice that."""
  part, rows = measured["pgd_steps"]
  found = {cell: row["accuracy"] for cell, row in rows.items()}
  assert found["clean"] == 1.0
  assert found["linf 8/255, 1 step"] == 0.75  # the lead of 1 is lost
  assert found["linf 8/255, 5 steps"] == 0.5  # 7.65 off, or less, where a pixel began at the edge
  assert found["linf 8/255, 20 steps"] == 0.25  # 16 off
  assert part.settings["restarts"] == 2 and part.settings["every_run"] is True
  assert all(row["accuracy"] <= row["worst_run"] for row in rows.values())


def test_a_larger_ball_is_of_no_use_to_short_steps(measured):
  _, rows = measured["pgd_epsilon"]
  assert rows["linf 1/255"]["accuracy"] == 0.75 and rows["linf 10/255"]["accuracy"] == 0.25
  # 20 steps move a channel by 15.3 levels: 30.6 of the lead of 40, in whatever ball.
  assert rows["linf 25/255"]["accuracy"] == 0.25


def write_images(folder, names):
  for name, level in names.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey(level)[0]).save(path)


def test_of_cinic_10_s_images_those_from_imagenet_count(tmp_path):
  subject = subject_of(grey(20), [0])
  opened = opened_of(("red", "green", "blue"))
  write_images(tmp_path, {
    "red/n01_1.png": 20, "red/n01_2.png": 20, "green/n02_1.png": 20, "blue/n03_1.png": 20,
    "red/cifar10-train-1.png": 20, "green/cifar10-train-2.png": 20,
  })  # fmt: skip
  options = types.SimpleNamespace(images=str(tmp_path))
  part = suites_distillation.MAKERS["ood"](opened, subject, None, options)
  assert (part.name, part.settings["images"], part.settings["classes"]) == ("ood", 4, 3)
  assert part.summarise({"images": part.measure("images")})["student"]["accuracy"] == [0.5]
  for name in ("red/n01_1", "red/n01_2", "green/n02_1", "blue/n03_1"):
    (tmp_path / f"{name}.png").unlink()
  part = suites_distillation.MAKERS["ood"](opened, subject, None, options)
  assert part.settings["images"] == 2  # another set's names are its own affair


def test_images_that_do_not_fit(tmp_path):
  make = lambda opened, images: suites_distillation.MAKERS["ood"](
    opened, None, None, types.SimpleNamespace(images=str(images))
  )
  with pytest.raises(InputError, match="images is empty; the part ood needs a folder"):
    make(opened_of(("red",)), "")
  with pytest.raises(InputError, match="the classes of run have no names"):
    make(opened_of(()), tmp_path)
  write_images(tmp_path, {"red/1.png": 20, "teal/1.png": 20})
  with pytest.raises(InputError, match="teal"):
    make(opened_of(("red", "green", "blue")), tmp_path)
  with pytest.raises(InputError, match=r"the run was trained on \(8, 4, 3\); resize them"):
    write_images(tmp_path / "own", {"red/1.png": 20})
    make(opened_of(("red", "green", "blue"), (8, 4, 3)), tmp_path / "own")


def test_all_corruptions_unless_some_are_named():
  @dataclasses.dataclass
  class Options:
    corruptions: tuple

  seen = []
  make = suites_distillation.of_all_corruptions(lambda *given: seen.append(given[-1].corruptions))
  for names in (("standard",), ("fog",)):
    make(None, None, None, Options(names))
  assert seen == [("all",), ("fog",)]
