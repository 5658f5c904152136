"""GLC's two phases as stages: the matrix is what the first network says of the trusted examples."""

import jax
import numpy as np
import pytest

from jaxnoise import data
from jaxnoise.core import InputError
from jaxnoise.training import experiment, label_matrix, restore

CONFIG = {
  "total": "4 steps", "batch_size": 16, "stages": ("noisy", "corrected"),
  "data": {
    "name": "generated", "trusted": 24, "trusted_in_train": False,
    "noise": {"kind": "symmetric", "rate": 0.4},
  },
  "model": {"name": "wide_resnet", "depth": 10, "widen_factor": 1},
  "stage": {
    "noisy": {},
    "corrected": {"method": {"name": "glc", "trusted_size": 8}, "label_matrix": "noisy"},
  },
}  # fmt: skip


@pytest.mark.slow
def test_the_second_stage_corrects_by_what_the_first_says(tmp_path):
  results = experiment.run(CONFIG, tmp_path, quiet=True)
  used = results[1].state.method_state["glc"]["label_matrix"]
  first = restore.open_run(tmp_path / "noisy")
  pool = first.run.source.pools["trusted"]
  found = np.asarray(jax.nn.softmax(first.predictors["student"](pool.images / np.float32(255))))
  expected = [found[pool.labels == k].mean(axis=0) for k in range(4)]
  np.testing.assert_allclose(used, expected, rtol=1e-4, atol=1e-5)
  assert np.abs(np.asarray(used) - np.eye(4)).max() > 0.05  # not what stood in while it was planned
  opened = restore.open_run(tmp_path / "corrected", with_data=False)
  assert opened.predictors["student"](pool.images[:2] / np.float32(255)).shape == (2, 4)


def test_it_needs_trusted_examples():
  with pytest.raises(InputError, match=r"set config\.data\.trusted to how many there are"):
    label_matrix.load("somewhere", data.generated())
