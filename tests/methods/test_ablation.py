"""The ten rows of NoisyMix's Table 4: the recipe's arguments against losses worked out by hand."""

import functools
import importlib.util
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment, methods
from jaxnoise.core import Spec, TrainState, fold
from tests.toy import toy_batch, toy_network

CONFIG_FILE = Path(__file__).parents[2] / "configs" / "noisymix.py"
# A = AugMix data, M = mixing, N = noise, J = Jensen-Shannon stability; - where it is off.
ROWS = ("----", "--N-", "-M--", "-MN-", "A---", "A-NJ", "A--J", "AMN-", "AM-J", "AMNJ")
SPEC = Spec(num_train=6, num_classes=3, image_shape=(4, 4, 3), batch_size=6)
STAGES = 3  # the toy network's tap positions, the input among them
SEEDS = (0, 1, 3)  # between them, every stage is drawn


@functools.cache
def recipe():
  found = importlib.util.spec_from_file_location("noisymix_recipe", CONFIG_FILE)
  module = importlib.util.module_from_spec(found)
  found.loader.exec_module(module)
  return module


def dim(rng, image):
  """The first transform, shared by the views."""
  return image * (0.5 + 0.5 * jax.random.uniform(rng))


def jitter(rng, image):
  """The policy, in AugMix's place."""
  return image + 0.3 * jax.random.normal(rng, image.shape)


def of_recipe(row, network):
  config = recipe().get_config(f"row={row}")
  arguments = config.method.to_dict()
  assert arguments.pop("name") == "noisymix"
  arguments["stages"] = [k for k in arguments["stages"] if k < STAGES]
  policy = jitter if config.policy.name else None
  return methods.noisymix(network, spec=SPEC, first=dim, policy=policy, **arguments)


def make_state(network, batch):
  params, stats = network.init(jax.random.key(1), batch["image"])
  return TrainState.create(jax.random.key(2), params, stats)


def images_by_hand(row, image, key):
  """A: two further views from the policy with J, the policy's alone without J."""
  def draw(transform, key, x):
    keys = [jax.random.fold_in(key, i) for i in range(len(x))]
    return lambda *at: jnp.stack([
      transform(functools.reduce(jax.random.fold_in, at, k), one)
      for k, one in zip(keys, x, strict=True)
    ])  # fmt: skip

  clean = draw(dim, fold(key, "first"), image)()
  if "A" not in row:
    return clean[:, None]
  policy = draw(jitter, fold(key, "policy"), clean)
  return jnp.stack([clean, policy(0), policy(1)] if "J" in row else [policy(0)], axis=1)


def loss_by_hand(row, network, state, batch, key):
  """(loss, CE of each example's own label), following the letters of the row."""
  image = images_by_hand(row, batch["image"], fold(key, "augment"))
  views = image.shape[1]
  lam, stage = 1.0, 0
  perm = np.asarray(augment.sample_partners(fold(key, "partners"), 6))[0]
  if "M" in row:
    lam = float(jax.random.uniform(fold(key, "lam")))
    stage = int(jax.random.randint(fold(key, "stage"), (), 0, STAGES))
  levels = np.asarray(augment.sample_levels(fold(key, "levels"), views))

  def tap(k, h):
    if k != stage:
      return h
    out = lam * h + (1 - lam) * h[perm]
    if "N" in row:
      normal, uniform = augment.sparse_noise(fold(key, "noise"), h.shape, 0.65, h.dtype)
      seen = []
      for v, factor in enumerate((1.0, 2.0, 3.0)[:views]):
        scaled = (1 + 0.5 * levels[1, v] * uniform[:, v]) * out[:, v]
        seen.append(scaled + 0.5 * factor * levels[0, v] * normal[:, v])
      out = jnp.stack(seen, axis=1)
    return out

  logits = network.apply(state.params, state.batch_stats, image, train=True, tap=tap).logits
  odds = np.exp(np.asarray(logits, np.float64))
  p = odds / odds.sum(-1, keepdims=True)
  rows, y = np.arange(6), np.asarray(batch["label"])
  own, other = -np.log(p[rows, 0, y]), -np.log(p[rows, 0, y[perm]])
  loss = np.mean(lam * own + (1 - lam) * other)
  if "J" in row:
    entropy = lambda q: -np.sum(q * np.log(q), axis=-1)
    loss += 12 * np.mean(entropy(p.mean(1)) - entropy(p).mean(1))
  return loss, own


def test_the_recipe_has_the_ten_rows():
  assert sorted(recipe().CHOICES["row"]) == sorted(ROWS)


FAST = ("----", "-MN-", "AMNJ")  # between them every letter, on and off


@pytest.mark.parametrize(
  "row", [row if row in FAST else pytest.param(row, marks=pytest.mark.slow) for row in ROWS]
)
def test_row_equals_its_letters(row):
  with jax.enable_x64(True):
    network, batch = toy_network(), toy_batch()
    state = make_state(network, batch)
    fn = of_recipe(row, network).loss_fn(state)
    for seed in SEEDS:
      key = jax.random.key(seed)
      value, aux = fn(state.params, batch, key)
      loss, own = loss_by_hand(row, network, state, batch, key)
      np.testing.assert_allclose(value, loss, rtol=1e-9)
      np.testing.assert_allclose(aux.per_example, own, rtol=1e-9)
      assert ("jsd" in aux.metrics) == ("J" in row)


def test_the_rows_can_be_told_apart():
  """What the comparison above is worth: no two rows have the same loss, and every stage is met."""
  with jax.enable_x64(True):
    network, batch = toy_network(), toy_batch()
    state = make_state(network, batch)
    key = jax.random.key(0)
    values = [loss_by_hand(row, network, state, batch, key)[0] for row in ROWS]
    for (a, x), (b, y) in itertools.combinations(zip(ROWS, values, strict=True), 2):
      assert abs(x - y) > 1e-5, (a, b)
    drawn = {
      int(jax.random.randint(fold(jax.random.key(s), "stage"), (), 0, STAGES)) for s in SEEDS
    }
    assert drawn == set(range(STAGES))
