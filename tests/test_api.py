"""`jaxnoise.train` with objects: what it returns a second time, and what it refuses, in words."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

import jaxnoise
from jaxnoise import core, data, methods
from jaxnoise.training import schema
from tests.toy import toy_network

CONFIG = {"total": "2 steps", "batch_size": 16, "evaluate": {"batch_size": 16}}


def source():
  return data.generated(num_train=32, num_test=16, num_classes=3)


def squared(logits, targets):
  return jnp.sum((logits - targets) ** 2, axis=-1)


def test_a_run_that_has_ended_returns_its_result_again(tmp_path):
  config = schema.merge(CONFIG, {"data": {"holdout": 6}, "seeds": 2})

  def train():
    parts = {"source": source(), "network": toy_network(), "loss": squared}
    return jaxnoise.train(config, tmp_path / "run", quiet=True, **parts)

  first, again = train(), train()
  assert first.finished and again.finished and again.metrics == first.metrics
  assert sorted({name.partition("/")[0] for name in first.metrics}) == ["holdout", "test"]
  image = jnp.asarray(source().test_images[:3] / 255.0)
  for one, other in zip(first.predictors(1).values(), again.predictors(1).values(), strict=True):
    np.testing.assert_array_equal(one(image), other(image))


def test_the_config_of_a_config_file_is_taken(tmp_path):
  config = ConfigDict(schema.default())
  config.update(CONFIG)
  result = jaxnoise.train(
    config, tmp_path / "run", source=source(), network=toy_network(), quiet=True
  )
  assert result.step == 2


def finished_method():
  spec = core.Spec(num_train=32, num_classes=3, image_shape=(8, 8, 3))
  return methods.erm(toy_network(), spec=spec)


def scaled(logits, targets, *, scale):
  return scale * squared(logits, targets)


BAD = {
  "source is of type tuple; it must be a jaxnoise.data.Source": {"source": ([], [])},
  "loss returns shape () for 6 examples": {"loss": lambda z, t: jnp.mean(squared(z, t))},
  "loss returns shape (6, 3)": {"loss": lambda z, t: (z - t) ** 2},
  "loss cannot be called with logits and targets": {"loss": lambda z: jnp.sum(z, axis=-1)},
  "missing 1 required keyword-only argument: 'scale'": {"loss": scaled},
  "loss is given, but method is a finished Method": {
    "method": finished_method(), "loss": squared,
  },
  "config.policy.name is given, but method is a finished Method": {
    "method": finished_method(), "config": {"policy": {"name": "augmix"}},
  },
  "give the network that it was made with": {"method": finished_method(), "network": None},
  "must be a flax.linen module": {"network": nn.Dense},
}  # fmt: skip


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_named_and_nothing_written(words, tmp_path):
  parts = {"source": source(), "network": toy_network(), **BAD[words]}
  config = {**CONFIG, **parts.pop("config", {})}
  with pytest.raises(core.InputError) as error:
    jaxnoise.train(config, tmp_path / "run", quiet=True, **parts)
  assert words in str(error.value)
  assert not (tmp_path / "run").exists()


def test_a_loss_takes_its_hyper_parameters_from_the_config(tmp_path):
  config = {**CONFIG, "method": {"name": "erm", "loss_args": {"scale": 0.5}}}
  parts = {"source": source(), "network": toy_network(), "loss": scaled}
  assert jaxnoise.train(config, tmp_path / "run", quiet=True, **parts).finished
