"""The ensemble of attacks beside an independent implementation, on one small network.

    pip install torch torchattacks        # for its columns alone; nothing else needs it
    python benchmarks/attack_comparison.py

A network of one hidden layer of 32 is trained on digits for 400 steps on FGSM images of radius
0.08. Each attack, in the settings of the standard ensemble, is run by itself on all 200 test
images, at two radii, by `jaxnoise.attacks` and by torchattacks. A row tells how many images
withstand each, on how many the two differ, and how many withstand all four.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from jaxnoise import attacks

RADII = (0.05, 0.1)
NAMES = ("apgd-ce", "apgd-t", "fab-t", "square")


def predict(params: dict[str, jax.Array], image: jax.Array) -> jax.Array:
  """Logits of the network."""
  flat = image.reshape(len(image), -1)
  h = jax.nn.relu(flat @ params["w1"] + params["b1"][None])
  return h @ params["w2"] + params["b2"][None]


def trained() -> tuple[dict[str, jax.Array], np.ndarray, np.ndarray]:
  """The network, the test images [200, 8, 8, 1] in [0, 1] and their labels."""
  digits = load_digits()
  x = (digits.images / 16).astype(np.float32)[..., None]
  y = digits.target.astype(np.int32)
  keys = jax.random.split(jax.random.key(0), 2)
  params = {
    "w1": 0.15 * jax.random.normal(keys[0], (64, 32)),
    "b1": jnp.zeros(32),
    "w2": 0.2 * jax.random.normal(keys[1], (32, 10)),
    "b2": jnp.zeros(10),
  }

  def loss(params, x, y):
    return -jnp.mean(jax.nn.log_softmax(predict(params, x))[jnp.arange(len(y)), y])

  @jax.jit
  def step(params, momentum, x, y):
    attacked = jnp.clip(x + 0.08 * jnp.sign(jax.grad(loss, 1)(params, x, y)), 0, 1)
    grads = jax.grad(loss)(params, attacked, y)
    momentum = jax.tree.map(lambda m, g: 0.9 * m + g, momentum, grads)
    return jax.tree.map(lambda p, m: p - 0.1 * m, params, momentum), momentum

  momentum = jax.tree.map(jnp.zeros_like, params)
  for i in range(400):
    rows = np.random.default_rng(i).integers(0, 1400, 128)
    params, momentum = step(params, momentum, x[rows], y[rows])
  return params, x[1400:1600], y[1400:1600]


def ours(params: Any, image: np.ndarray, label: np.ndarray, epsilon: float) -> dict[str, Any]:
  """Which images withstand each attack of this library."""
  out = {}
  for name in NAMES:
    run = attacks.ensemble(predict, batch_size=200, attacks=(name,))
    out[name] = run(params, image, label, jax.random.key(0), epsilon)[name]
  return out


def theirs(params: Any, image: np.ndarray, label: np.ndarray, epsilon: float) -> dict[str, Any]:
  """The same by torchattacks; empty without it."""
  try:
    import torch
    import torchattacks
  except ImportError:
    return {}
  weights = {name: torch.tensor(np.asarray(value)) for name, value in params.items()}

  class Net(torch.nn.Module):
    def __init__(self):
      super().__init__()
      for name, value in weights.items():
        setattr(self, name, torch.nn.Parameter(value.clone()))

    def forward(self, x):
      flat = x.permute(0, 2, 3, 1).reshape(len(x), -1)
      return torch.relu(flat @ self.w1 + self.b1) @ self.w2 + self.b2

  torch.manual_seed(0)
  net = Net().eval()
  x = torch.tensor(image).permute(0, 3, 1, 2).contiguous()
  y = torch.tensor(label).long()
  made = {
    "apgd-ce": torchattacks.APGD(net, eps=epsilon, steps=100, loss="ce"),
    "apgd-t": torchattacks.APGDT(net, eps=epsilon, steps=100, n_classes=10),
    "fab-t": torchattacks.FAB(
      net, eps=epsilon, steps=100, n_restarts=1, multi_targeted=True, n_classes=10
    ),
    "square": torchattacks.Square(
      net, eps=epsilon, n_queries=5000, p_init=0.8, loss="margin", resc_schedule=False
    ),
  }
  return {name: (net(attack(x, y)).argmax(1) == y).numpy() for name, attack in made.items()}


def main() -> None:
  """Prints the table."""
  params, image, label = trained()
  print(f"clean: {int(np.sum(np.argmax(predict(params, image), -1) == label))} of {len(label)}\n")
  print("| radius | attack | withstand ours | torchattacks' | differ |\n|---|---|---|---|---|")
  for epsilon in RADII:
    own = ours(params, image, label, epsilon)
    other = theirs(params, image, label, epsilon)
    own["all four"] = np.logical_and.reduce(list(own.values()))
    if other:
      other["all four"] = np.logical_and.reduce(list(other.values()))
    for name, alive in own.items():
      beside = "not installed | -"
      if other:
        beside = f"{int(other[name].sum())} | {int(np.sum(other[name] != alive))}"
      print(f"| {epsilon} | {name} | {int(alive.sum())} | {beside} |")


if __name__ == "__main__":
  main()
