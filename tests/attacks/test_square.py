"""Square: what a proposal looks like, that the best is kept, and the bounds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import attacks
from jaxnoise.core import InputError

KEY = jax.random.key(3)
ALL = np.arange(5)
SHAPE = (5, 8, 8, 2)
WEIGHT = np.asarray(jax.random.normal(jax.random.key(5), SHAPE))
IMAGE = np.clip(1.4 * np.asarray(jax.random.uniform(jax.random.key(6), SHAPE)) - 0.2, 0, 1)


def linear(x):
  return jnp.sum(WEIGHT * x, axis=(1, 2, 3))


@functools.partial(jax.jit, static_argnames="rescale")
def run(weight, index, image, rng, epsilon, queries, goal, rescale):
  return attacks.square(
    lambda x: jnp.sum(weight * x, axis=(1, 2, 3)), image, epsilon=epsilon, rng=rng, index=index,
    num_queries=queries, goal=goal, rescale=rescale,
  )


def search(image, rng, epsilon, queries, goal=np.inf, rows=ALL, rescale=False):
  """One program for all of it but the rescaled schedule."""
  return run(WEIGHT[rows], rows, image[rows], rng, epsilon, queries, goal, rescale)


@pytest.mark.parametrize("epsilon", [0.0, 8 / 255, 0.7])
def test_not_a_bit_is_outside_the_ball_or_the_box(epsilon):
  image = IMAGE.astype(np.float32)
  found = np.asarray(search(image, KEY, epsilon, 60), np.float64)
  assert np.abs(found - image.astype(np.float64)).max() <= np.float32(epsilon)
  assert found.min() >= 0 and found.max() <= 1
  if epsilon == 0:
    np.testing.assert_array_equal(found, image)


def test_it_begins_with_columns_of_either_sign_in_each_channel():
  image = np.full(SHAPE, 0.5, np.float32)
  delta = np.asarray(search(image, KEY, 0.125, 1)) - image
  np.testing.assert_allclose(np.abs(delta), 0.125, rtol=1e-6)
  assert (np.ptp(delta, axis=1) == 0).all()  # one value down each column
  assert len(np.unique(np.sign(delta[:, 0]).reshape(5, -1), axis=0)) == 5
  assert (np.ptp(delta[:, 0], axis=1) > 0).any() and (np.ptp(delta[:, 0], axis=2) > 0).any()


def test_more_queries_never_end_lower_and_reach_the_optimum_of_a_linear_loss():
  image = IMAGE.astype(np.float32)
  values = np.stack([linear(search(image, KEY, 0.1, n)) for n in (1, 2, 5, 60, 1000, 6000)])
  assert (np.diff(values, axis=0) >= -1e-6).all() and (values[-1] > values[0]).all()
  upper, lower = np.minimum(image + 0.1, 1), np.maximum(image - 0.1, 0)
  best = np.sum(WEIGHT * np.where(WEIGHT > 0, upper, lower), axis=(1, 2, 3))
  assert (values <= best + 1e-4).all()
  assert (values[-1] - linear(image) > 0.9 * (best - linear(image))).all()


@pytest.mark.slow
def test_a_proposal_is_one_square_of_the_schedule_s_side_and_every_place_is_reached():
  seen, image = [], np.full(SHAPE, 0.5, np.float32)

  def loss_fn(x):
    jax.debug.callback(lambda value: seen.append(np.array(value)), x, ordered=True)
    return jnp.zeros(5)  # nothing is ever kept: each proposal is the start and one square

  attacks.square(loss_fn, image, epsilon=0.25, rng=KEY, num_queries=80, share=0.25)
  jax.effects_barrier()
  start, proposals = seen[0], seen[1:]
  assert len(proposals) == 79
  tops = set()
  for query, proposal in enumerate(proposals, 1):
    share = 0.25 / 2 ** (int(query > 10) + int(query > 50))
    side = max(1, round(np.sqrt(share * 64)))
    for row, begun in zip(proposal, start):
      changed = np.argwhere((row != begun).any(-1))
      if len(changed):
        low, high = changed.min(0), changed.max(0)
        assert (high - low < side).all()
        for channel in range(2):  # one colour wherever it differs from the stripes
          inside = row[low[0] : high[0] + 1, low[1] : high[1] + 1, channel]
          was = begun[low[0] : high[0] + 1, low[1] : high[1] + 1, channel]
          assert len(np.unique(inside[inside != was])) <= 1
      if 10 < query <= 50 and len(changed) and (high - low == side - 1).all():
        tops.add(int(low[0]))
  assert {0, 5} <= tops <= set(range(6))  # side 3 of 8 rows: the last place too


def test_an_example_rests_at_its_goal_and_its_neighbours_go_on():
  image = IMAGE.astype(np.float32)
  started = np.asarray(search(image, KEY, 0.1, 1))
  np.testing.assert_array_equal(search(image, KEY, 0.1, 500, -1e9), started)
  goal = float(np.median(linear(started)))
  done = np.asarray(linear(started)) > goal
  rested = np.asarray(search(image, KEY, 0.1, 60, goal))
  np.testing.assert_array_equal(rested[done], started[done])
  assert 0 < done.sum() < 5 and not np.array_equal(rested[~done], started[~done])


def test_draws_depend_on_the_index_and_not_on_the_place_in_the_batch():
  rows, image = np.array([3, 1, 4, 1, 0]), IMAGE.astype(np.float32)
  whole = np.asarray(search(image, KEY, 0.1, 20))
  np.testing.assert_array_equal(search(image, KEY, 0.1, 20, rows=rows), whole[rows])


@pytest.mark.slow
def test_another_generator_keeps_an_example_s_draws():
  rows, key = np.array([3, 1]), jax.random.key(0, impl="rbg")
  image = IMAGE.astype(np.float32)
  whole = np.asarray(search(image, key, 0.1, 20))
  np.testing.assert_array_equal(search(image, key, 0.1, 20, rows=rows), whole[rows])


@pytest.mark.slow
def test_the_schedule_is_rescaled_on_request():
  image = IMAGE.astype(np.float32)
  whole, scaled = search(image, KEY, 0.1, 40), search(image, KEY, 0.1, 40, rescale=True)
  assert not np.array_equal(whole, scaled)


@pytest.mark.parametrize(
  "change, words",
  [
    ({"num_queries": 0}, "num_queries is 0"),
    ({"share": 0.0}, "share is 0"),
    ({"epsilon": -1.0}, "epsilon is -1"),
    ({"image": IMAGE[0].astype(np.float32)}, r"\[B, H, W, C\]"),
    ({"index": np.arange(3)}, "one integer per image"),
    ({"loss_fn": jnp.sum}, "one value per example"),
  ],
)
def test_bad_input_is_refused_in_one_sentence(change, words):
  arguments = {"loss_fn": linear, "image": IMAGE.astype(np.float32), "epsilon": 0.1, "rng": KEY}
  with pytest.raises(InputError, match=words) as raised:
    attacks.square(**{**arguments, **change})
  assert "\n" not in str(raised.value)
