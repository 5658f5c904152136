"""The README's code runs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import core, methods
from tests.toy import toy_batch, toy_network

BLOCKS = {
  heading: re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
  for heading, text in re.findall(
    r"^## (.*?)\n(.*?)(?=^## |\Z)", Path("README.md").read_text(), flags=re.DOTALL | re.MULTILINE
  )
}
OWN = "Your own model and data"


def run(code: str, scope: dict) -> dict:
  exec(compile(code, "README.md", "exec"), scope)
  return scope


def test_every_block_is_run_here():
  counts = {heading: len(blocks) for heading, blocks in BLOCKS.items() if blocks}
  assert counts == {OWN: 2, "Take it apart": 1, "Add a loss": 1}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
  """Both blocks as one script with fewer epochs, run alone: its directory, what it printed."""
  directory = tmp_path_factory.mktemp("own")
  for block, epochs in zip(BLOCKS[OWN], (8, 4), strict=True):
    assert '"30 epochs"' in block
    with (directory / "script.py").open("a") as script:
      script.write(block.replace('"30 epochs"', f'"{epochs} epochs"'))
  path = os.pathsep.join(filter(None, (str(Path.cwd()), os.environ.get("PYTHONPATH"))))
  env = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path}
  command = [sys.executable, "script.py"]
  ran = subprocess.run(
    command, cwd=directory, env=env, capture_output=True, text=True, check=False, timeout=300
  )
  assert ran.returncode == 0, ran.stderr
  return directory, ran.stdout


def test_your_own_model_and_data(own):
  directory, printed = own
  assert len(BLOCKS[OWN][0].splitlines()) <= 20
  measured, counted = map(float, re.search(r"^(0\.\d+) (0\.\d+)$", printed, re.MULTILINE).groups())
  assert measured > 0.5, "a tenth is chance"
  # Alone and in batches the same logits are rounded differently.
  assert abs(measured - counted) <= 2 / 397
  record = json.loads((directory / "runs/mine/config.json").read_text())
  config = record["config"]
  assert record["num_steps"] == 8 * (1400 // 128)
  assert config["model"] == {"name": "object:__main__.Small"}
  assert (config["method"]["name"], config["policy"]["name"]) == ("noisymix", "augmix")


@pytest.mark.parametrize("name", ["mine", "brier", "method"])
def test_your_own_runs_leave_what_a_command_s_run_leaves(own, name):
  directory = own[0] / "runs" / name
  rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
  losses = [row["train/student/loss"] for row in rows if "train/student/loss" in row]
  assert losses[-1] < losses[0] and np.all(np.isfinite(losses))
  clean = json.loads((directory / "tables/clean.json").read_text())
  accuracy = clean["predictors"]["student"]["accuracy"][0]
  assert accuracy > 0.3, "a tenth is chance"
  assert f"{100 * accuracy:.2f}" in (directory / "report.html").read_text()
  assert any((directory / "checkpoints").iterdir())


def test_taking_it_apart():
  scope = run(BLOCKS["Take it apart"][0], {})
  assert sorted(scope["aux"].metrics) == ["jsd", "label_loss", "loss"]
  assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(scope["grads"]))


def test_the_loss_to_add_is_a_loss():
  scope = run(BLOCKS["Add a loss"][0], {"jax": jax, "jnp": jnp})
  network, batch = toy_network(), toy_batch()
  spec = core.Spec(num_train=6, num_classes=3, image_shape=(4, 4, 3))
  params, stats = network.init(jax.random.key(0), batch["image"])
  state = core.TrainState.create(jax.random.key(1), params, stats)
  method = methods.erm(network, spec=spec, loss=scope["generalized"], loss_args={"q": 0.5})
  loss, aux = method.loss_fn(state)(params, batch, jax.random.key(2))
  assert np.isfinite(loss) and aux.per_example.shape == (6,)
