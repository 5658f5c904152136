"""`config.evaluate.corrupted_path`: what is measured is what the files hold."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import data
from jaxnoise.core import InputError
from jaxnoise.training import experiment, writers
from tests.toy import toy_network
from tests.training.common import CONFIG, tiny_run, tiny_source

SEVERITIES = (1, 2, 3, 4, 5)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """Fog, saturate (of the validation ones) and brightness; severity s darkens by s grey levels."""
  folder = tmp_path_factory.mktemp("corrupted")
  source = tiny_source()
  for k, name in enumerate(("fog", "saturate", "brightness")):
    stack = [source.test_images // (1 + s * (k + 1)) for s in SEVERITIES]
    np.save(folder / f"{name}.npy", np.concatenate(stack))
  np.save(folder / "labels.npy", np.tile(source.test_labels, 5))
  return folder


def chosen(files, *names, severities=SEVERITIES):
  return tiny_run(
    evaluate={"corrupted_path": str(files), "corruptions": names, "severities": severities}
  ).corrupted


def test_the_config_chooses(files):
  assert set(chosen(files).names) == {"fog", "saturate", "brightness"}
  assert set(chosen(files, "all").names) == {"fog", "saturate", "brightness"}
  assert set(chosen(files, "standard").names) == {"fog", "brightness"}
  few = chosen(files, "saturate", severities=(2, 5))
  assert (few.names, few.severities) == (("saturate",), (2, 5))


def test_the_table_is_the_accuracy_on_the_files(files, tmp_path):
  source = tiny_source()
  changes = {"corrupted_path": str(files), "corruptions": ("fog", "brightness"), "batch_size": 16}
  config = {**CONFIG, "total": "3 steps", "evaluate": {**changes, "severities": (1, 5)}}
  result = experiment.run(config, tmp_path, quiet=True, source=source, network=toy_network())[0]
  predict = result.predictors()["student"]
  right = lambda images: np.asarray(
    jnp.argmax(predict(jnp.asarray(images) / 255.0), -1) == source.test_labels
  )
  clean = right(source.test_images)
  table = writers.read_json(tmp_path / "tables" / "corruptions.json")
  rows = table["predictors"]["student"][0]
  assert table["images"] == "stored" and rows["severities"] == [1, 5] and rows["n"] == 24
  for i, name in enumerate(rows["names"]):
    stack = np.load(files / f"{name}.npy")
    for j, severity in enumerate((1, 5)):
      is_right = right(stack[24 * (severity - 1) : 24 * severity])
      assert rows["accuracy"][i][j] == pytest.approx(is_right.mean())
      if clean.any():
        assert rows["conditional"][i][j] == pytest.approx(is_right[clean].mean())


@pytest.mark.parametrize(
  ("names", "severities", "words"),
  [
    (("fogg",), SEVERITIES, "did you mean 'fog'"),
    (("contrast",), SEVERITIES, "contrast"),  # one that could be made, but is not among the files
    ((), (6,), "severities has 6"),
    ((), (), "severities is empty"),
  ],
)
def test_what_the_files_do_not_have_is_refused(files, names, severities, words):
  with pytest.raises(InputError, match=words):
    chosen(files, *names, severities=severities)


def test_files_of_another_set_are_refused_before_training(files, tmp_path):
  other = tiny_source()
  labels = (other.test_labels + 1) % 3
  source = data.arrays(other.images, other.labels, other.test_images, labels, num_classes=3)
  config = {**CONFIG, "evaluate": {"corrupted_path": str(files)}}
  with pytest.raises(InputError, match="labels"):
    experiment.run(config, tmp_path / "run", quiet=True, source=source, network=toy_network())
  assert not (tmp_path / "run").exists()
