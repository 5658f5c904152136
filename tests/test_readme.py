"""The README's code runs."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise import core, methods
from tests.toy import toy_batch, toy_network

BLOCKS = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), flags=re.DOTALL)


def test_taking_it_apart():
  scope = {}
  exec(compile(BLOCKS[0], "README.md", "exec"), scope)
  assert sorted(scope["aux"].metrics) == ["jsd", "label_loss", "loss"]
  assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(scope["grads"]))


def test_the_loss_to_add_is_a_loss():
  scope = {"jax": jax, "jnp": jnp}
  exec(compile(BLOCKS[1], "README.md", "exec"), scope)
  network, batch = toy_network(), toy_batch()
  spec = core.Spec(num_train=6, num_classes=3, image_shape=(4, 4, 3))
  params, stats = network.init(jax.random.key(0), batch["image"])
  state = core.TrainState.create(jax.random.key(1), params, stats)
  method = methods.erm(network, spec=spec, loss=scope["generalized"], loss_args={"q": 0.5})
  loss, aux = method.loss_fn(state)(params, batch, jax.random.key(2))
  assert np.isfinite(loss) and aux.per_example.shape == (6,)
