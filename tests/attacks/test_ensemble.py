"""The ensemble: its order, its survivors, and that no attack of its own beats it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import attacks, metrics
from jaxnoise.core import InputError
from tests.attacks import linear

KEY = jax.random.key(7)
SMALL = {"num_steps": 12, "num_queries": 40, "num_targets": 3}
COUNT = 40


def mlp(params, image):
  h = jnp.tanh((image.reshape(len(image), -1) - 0.5) @ params["w1"])
  return h @ params["w2"]


def network():
  keys = jax.random.split(jax.random.key(1), 3)
  params = {
    "w1": 1.5 * jax.random.normal(keys[0], (32, 24)),
    "w2": jax.random.normal(keys[1], (24, 5)),
  }
  image = np.asarray(jax.random.randint(keys[2], (COUNT, 4, 4, 2), 0, 256), np.uint8)
  label = np.array(jnp.argmax(mlp(params, image / np.float32(255)), -1), np.int32)
  label[:3] = (label[:3] + 1) % 5  # wrong from the start
  return params, image, label


PARAMS, PIXELS, LABEL = network()


@pytest.fixture(scope="module")
def run():
  return attacks.ensemble(mlp, batch_size=16, **SMALL)


def test_it_is_never_above_pgd_and_falls_with_the_radius(run):
  before = None
  for epsilon in (0.0, 0.05, 0.5):
    alive = run(PARAMS, PIXELS, LABEL, KEY, epsilon)
    assert list(alive) == ["clean", "apgd-ce", "apgd-t", "fab-t", "square"]
    stages = list(alive.values())
    for earlier, later in itertools.pairwise(stages):
      assert (later <= earlier).all()
    assert not stages[0][:3].any() and stages[0][3:].all()
    if epsilon == 0:
      assert (stages[-1] == stages[0]).all()
    if epsilon == 0.5:
      assert not stages[-1].any()
    if epsilon == 0.05:
      image = jnp.asarray(PIXELS, jnp.float32) / 255
      predict = lambda x: mlp(PARAMS, x)
      found = attacks.pgd(
        attacks.cross_entropy_ascent(predict, LABEL), image,
        epsilon=epsilon, step_size=0.01, num_steps=20, rng=KEY,
      )
      stand = np.asarray(metrics.correct(predict(found), LABEL)) > 0
      assert stages[-1].sum() <= stand.sum() and 0 < stages[-1].sum() < stages[0].sum()
    assert before is None or stages[-1].sum() <= before
    before = stages[-1].sum()


@pytest.mark.slow
def test_the_size_of_the_batch_does_not_matter():
  whole, split = (
    attacks.ensemble(mlp, batch_size=size, attacks=("apgd-ce", "square"), **SMALL)(
      PARAMS, PIXELS, LABEL, KEY, 0.03
    )
    for size in (COUNT, 16)
  )
  for name in ("apgd-ce", "square"):
    np.testing.assert_array_equal(split[name], whole[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["apgd-dlr", "apgd-t", "fab-t"])
def test_each_attack_finds_the_smallest_radius_of_a_linear_network(name):
  least = np.min(linear.smallest_radius(), axis=1)
  run = attacks.ensemble(
    lambda _, image: linear.predict(image), attacks=(name,), num_steps=20, batch_size=6
  )
  for epsilon in np.sort(least)[[1, 3]] * 1.07:  # FAB ends up to 5% behind the boundary
    if np.any(np.abs(least / epsilon - 1) < 0.06):
      epsilon = epsilon * 1.005  # noqa: PLW2901
    alive = run((), linear.IMAGE, linear.LABEL, KEY, epsilon)[name]
    assert not alive[least < epsilon / 1.06].any() and alive[least > epsilon].all()


@pytest.mark.parametrize(
  "change, words",
  [
    ({"attacks": ("apgd",)}, r"'apgd', which is none.*did you mean"),
    ({"attacks": ()}, "at least one"),
    ({"attacks": ("square", "square")}, "each once"),
    ({"norm": "l2"}, "l_inf only"),
    ({"norm": "l_2"}, "did you mean 'l2'"),
    ({"num_targets": 0}, "num_targets is 0"),
    ({"num_queries": 0}, "num_queries is 0"),
    ({"num_steps": 2.5}, "num_steps is 2.5"),
    ({"batch_size": 0}, "batch_size is 0"),
  ],
)
def test_bad_settings_are_refused_in_one_sentence(change, words):
  with pytest.raises(InputError, match=words) as raised:
    attacks.ensemble(mlp, **change)
  assert "\n" not in str(raised.value)


def test_too_few_classes_and_bad_arrays_are_refused_before_any_attack(run):
  three = {**PARAMS, "w2": PARAMS["w2"][:, :3]}
  with pytest.raises(InputError, match=r"'apgd-t', which needs 4 classes or more.*has 3"):
    run(three, PIXELS, LABEL % 3, KEY, 0.1)
  with pytest.raises(InputError, match=r"\[N, H, W, C\]"):
    run(PARAMS, PIXELS[0], LABEL, KEY, 0.1)
  with pytest.raises(InputError, match="epsilon is -1"):
    run(PARAMS, PIXELS, LABEL, KEY, -1)
  with pytest.raises(InputError, match="one label"):
    run(PARAMS, PIXELS, LABEL[:4], KEY, 0.1)
