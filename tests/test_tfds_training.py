"""A set as TFDS leaves it on disk trains like the same images from a `.npz`: same order, same run.

With JAXNOISE_CIFAR10 naming a .npz of CIFAR-10 in the project's form, the images are real ones of
CIFAR-10; otherwise scikit-learn's digits stand in.
"""

import json
import os

import jax
import numpy as np
import pytest

from jaxnoise import data
from jaxnoise.training import build, loop, sharding
from tests.data.tfds_writer import write_set

TRAIN, TEST = 192, 64


@pytest.fixture(scope="module")
def images():
  path = os.environ.get("JAXNOISE_CIFAR10")
  source = data.npz(path, num_classes=10) if path else data.digits()
  return {
    "train": (source.images[:TRAIN], source.labels[:TRAIN]),
    "test": (source.test_images[:TEST], source.test_labels[:TEST]),
  }


def config(name, path):
  return {
    "total": "4 steps",
    "batch_size": 64,
    "first": {"padding": 1, "flip": False},
    "data": {"name": name, "path": str(path)},
    "model": {"name": "wide_resnet", "depth": 10, "widen_factor": 1},
    "evaluate": {"batch_size": 64},
    "log": {"every": "1 steps"},
  }


def trained(workdir, name, path):
  result = loop.train(assembled(name, path), workdir, quiet=True)
  rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  name = "train/student/loss"
  return jax.device_get(result.state.params), [row[name] for row in rows if name in row]


def assembled(name, path):
  return build.assemble(config(name, path), mesh=sharding.make_mesh(jax.devices()[:1]))


@pytest.fixture(scope="module")
def twin(images, tmp_path_factory):
  """What the same images give from a .npz."""
  folder = tmp_path_factory.mktemp("twin")
  np.savez(
    folder / "plain.npz",
    **{f"{split}_images": x for split, (x, _) in images.items()},
    **{f"{split}_labels": y for split, (_, y) in images.items()},
  )
  return trained(folder / "run", "npz", folder / "plain.npz")


@pytest.mark.parametrize("form", ["tfrecord", "array_record"])
def test_a_tfds_copy_trains_as_the_images_themselves(form, images, twin, tmp_path):
  if form == "array_record":
    pytest.importorskip("array_record")
  shape = images["train"][0].shape[1:]
  write_set(tmp_path / "tfds", "cifar10", images, form, shape=shape)
  stored = assembled("cifar10", tmp_path / "tfds").source
  np.testing.assert_array_equal(stored.images, images["train"][0])  # order restored by id
  params, losses = trained(tmp_path / "run", "cifar10", tmp_path / "tfds")
  assert len(losses) == 4 and losses == twin[1]
  for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(twin[0]), strict=True):
    np.testing.assert_array_equal(a, b)
