"""A run's record says which teacher it learned from, and another teacher makes another run."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import methods
from jaxnoise.core import InputError, TrainState
from jaxnoise.training import build, checkpoint, networks, rundir, taught, writers
from tests.training.common import tiny_run, tiny_source

WRN = {"name": "wide_resnet", "depth": 10, "widen_factor": 1}
NAMES = ("ant", "bee", "cat")


def named(source, names=NAMES):
  return dataclasses.replace(source, class_names=names)


def save(folder, run, step, value):
  """A checkpoint of a teacher whose numbers are all `value`; nothing is computed."""
  shapes = networks.variables(run.network, (8, 8, 3))
  filled = jax.tree.map(lambda x: jnp.full(x.shape, value, x.dtype), shapes)
  record = rundir.claim(run, folder)
  saver = checkpoint.Checkpointer(folder / "checkpoints", keep=9)
  saver.save(TrainState.create(jax.random.key(0), **filled), step, record)
  saver.close()


@pytest.fixture
def teacher(tmp_path):
  """At step 2 of 3, with 0.75 and 0.5 of the test images right after steps 2 and 1."""
  folder = tmp_path / "teacher"
  config = {"model": WRN, "batch_size": 16, "total": "3 steps", "seed": 7}
  run = build.assemble({**config, "data": {"name": "generated"}}, source=named(tiny_source()))
  save(folder, run, 2, 0.01)
  writer = writers.MetricsWriter(folder / "metrics.jsonl", 0)
  for step, accuracy in ((1, 0.5), (2, 0.75)):
    writer.write(step, step / 3, {"test/student/accuracy": accuracy})
  writer.close()
  return folder, run


def student(folder, names=NAMES):
  source = named(tiny_source(), names)
  return tiny_run(methods.knowledge_distillation, source=source, teacher=str(folder))


def test_the_record_says_who_taught(teacher, tmp_path):
  folder, run = teacher
  taught_by = student(folder)
  told = rundir.claim(taught_by, tmp_path / "student")["teacher"]
  assert told == {
    "run": str(folder), "sha256": taught.sha256(taught_by.teacher), "method": "erm", "seed": 7,
    "step": 2, "num_steps": 3, "accuracy": 0.75, "n": None,
  }  # fmt: skip
  # After the last step, what the final table says; after one that was not measured, nothing.
  save(folder, run, 3, 0.01)
  assert taught.record(taught_by)["accuracy"] is None
  table = {"step": 3, "n": 24, "predictors": {"ema": {"accuracy": [0.9]}}}
  table["predictors"]["student"] = {"accuracy": [0.875]}
  writers.write_json(folder / "tables" / "clean.json", table)
  told = taught.record(taught_by)
  assert (told["step"], told["accuracy"], told["n"]) == (3, 0.875, 24)
  assert "teacher" not in rundir.claim(tiny_run(), tmp_path / "alone")


def test_a_student_of_a_teacher_that_changed_is_refused(teacher, tmp_path):
  folder, run = teacher
  workdir = tmp_path / "student"
  began = rundir.claim(student(folder), workdir)["teacher"]["sha256"]
  assert rundir.claim(student(folder), workdir)["teacher"]["sha256"] == began
  save(folder, run, 3, 0.02)
  with pytest.raises(InputError, match=rf"had parameters of SHA-256 {began[:12]}, not .* put that"):
    rundir.claim(student(folder), workdir)
  # One that began before teachers were recorded goes on.
  path = workdir / "config.json"
  record = json.loads(path.read_text())
  del record["teacher"]
  path.write_text(json.dumps(record))
  assert "teacher" not in rundir.claim(student(folder), workdir)


def test_the_hash_is_of_names_types_shapes_and_numbers():
  base = {"a": {"w": np.arange(4, dtype=np.float32)}, "b": np.ones(2, np.float32)}
  same = {"b": jnp.ones(2), "a": {"w": jnp.arange(4.0)}}
  assert taught.sha256(base) == taught.sha256(same)
  others = [
    {**base, "b": np.array([1, 1 + 1e-6], np.float32)},
    {**base, "b": np.ones((2, 1), np.float32)},
    {**base, "b": np.ones(2, np.float16)},
    {"a": base["a"], "c": base["b"]},
  ]
  assert len({taught.sha256(tree) for tree in (base, *others)}) == 5


def test_a_teacher_that_does_not_fit_is_refused_with_what_would(teacher):
  folder, _ = teacher
  fix = "; name a run on the same data, or on other images of these classes and this shape"
  with pytest.raises(InputError, match=rf"of 3 classes .* this run has 4 classes .*{fix}"):
    networks.load_teacher(folder, tiny_source(num_classes=4))
  with pytest.raises(InputError, match=r"other classes: 'bee' where this run has 'cat'; name a"):
    student(folder, ("ant", "cat", "bee"))
  student(folder, ())  # without names there is nothing to compare
