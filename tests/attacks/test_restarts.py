"""Restarts: the table of runs, its two counts, and the survivors' shortcut to one of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import attacks, metrics
from jaxnoise.core import InputError, reduce

COUNT, BATCH, RESTARTS = 23, 8, 5
KEY = jax.random.key(11)
IMAGE = np.asarray(jax.random.randint(jax.random.key(1), (COUNT, 4, 4, 3), 0, 256), np.uint8)
WEIGHT = np.asarray(jax.random.normal(jax.random.key(2), (3, 3)))


def predict(x):
  """Ragged on purpose: which examples fall depends on where the ascent begins."""
  return jnp.mean(jnp.sin(30.0 * x), axis=(1, 2)) @ WEIGHT


LABEL = np.asarray(jnp.argmax(predict(IMAGE / 255.0), axis=-1), np.int32)


@jax.jit
def attack(rng, image, label, index):
  return attacks.pgd(
    attacks.cross_entropy_ascent(predict, label),
    image,
    epsilon=0.02,
    step_size=0.002,
    num_steps=2,
    rng=rng,
    index=index,
  )


def make_check():
  """The compiled check, and the restarts' keys and rows that it was called with."""
  calls = []

  @jax.jit
  def compiled(rng, image, label, index):
    found = attack(rng, image / 255.0, label, index)
    return metrics.correct(predict(found), label)

  def check(rng, image, label, index):
    calls.append((image.shape, label.shape, tuple(index)))
    return compiled(rng, image, label, index)

  return check, calls, compiled


@pytest.fixture(scope="module")
def whole():
  """Every restart on every example, in one batch."""
  return attacks.worst_case(
    lambda rng, x: attack(rng, x, LABEL, np.arange(COUNT)),
    lambda x: metrics.correct(predict(x), LABEL),
    jnp.asarray(IMAGE / 255.0, jnp.float32),
    KEY,
    RESTARTS,
  )


def test_the_table_is_that_of_a_loop_and_the_images_are_what_it_says(whole):
  image = jnp.asarray(IMAGE / 255.0, jnp.float32)
  kept, beaten = np.array(image), np.zeros(COUNT, bool)
  for restart in range(RESTARTS):
    found = attack(jax.random.fold_in(KEY, restart), image, LABEL, np.arange(COUNT))
    correct = np.asarray(metrics.correct(predict(found), LABEL)) > 0
    np.testing.assert_array_equal(whole.correct[restart], correct)
    kept[~beaten] = np.asarray(found)[~beaten]
    beaten |= ~correct
  np.testing.assert_allclose(whole.image, kept, rtol=0, atol=1e-6)
  np.testing.assert_array_equal(metrics.correct(predict(whole.image), LABEL) == 0, beaten)


def test_the_runs_differ_so_that_the_two_counts_do(whole):
  accuracies = attacks.restart_accuracies(attacks.restart_counts(whole.correct))
  table = np.asarray(whole.correct)
  assert accuracies["worst_run"] == pytest.approx(table.mean(1).min())
  assert accuracies["per_example"] == pytest.approx(table.all(0).mean())
  assert 0 < accuracies["per_example"] < accuracies["worst_run"] < 1


def test_counts_add_over_padded_batches_and_the_worst_run_is_that_of_the_whole_set():
  """The worst run of a batch is another one than that of the set: minima must not be averaged."""
  table = np.array([[1, 1, 1, 0, 0], [0, 1, 1, 1, 0]])
  total = {}
  for rows in (slice(0, 3), slice(3, 6)):
    part = table[:, rows]
    fill = 3 - part.shape[1]
    counts = attacks.restart_counts(
      np.pad(part, ((0, 0), (0, fill)), constant_values=1),
      np.pad(np.ones(part.shape[1]), (0, fill)),
    )
    total = reduce.merge(total, counts)
  assert attacks.restart_accuracies(total) == {"worst_run": 0.6, "per_example": 0.4}


def test_an_empty_set_has_no_accuracy():
  empty = attacks.restart_counts(jnp.ones((2, 3)), jnp.zeros(3))
  assert all(np.isnan(value) for value in attacks.restart_accuracies(empty).values())


@pytest.mark.parametrize("on_device", [False, True])
def test_survivors_are_those_of_the_whole_table_for_less_work(whole, on_device):
  check, calls, compiled = make_check()
  image, label = (jnp.asarray(IMAGE), jnp.asarray(LABEL)) if on_device else (IMAGE, LABEL)
  alive = attacks.survivors(
    check, image, label, KEY, restarts=RESTARTS, batch_size=BATCH
  )
  table = np.asarray(whole.correct)
  np.testing.assert_array_equal(alive, table.all(axis=0))
  left = [COUNT, *np.cumprod(table, axis=0).sum(1)[:-1]]
  assert len(calls) == sum(-(-int(n) // BATCH) for n in left) < RESTARTS * -(-COUNT // BATCH)
  assert compiled._cache_size() == 1
  assert {shapes[:2] for shapes in calls} == {((BATCH, 4, 4, 3), (BATCH,))}


def test_a_set_smaller_than_the_batch_and_a_set_beaten_early():
  check, calls, _ = make_check()
  alive = attacks.survivors(check, IMAGE[:2], LABEL[:2], KEY, restarts=1, batch_size=BATCH)
  assert alive.shape == (2,) and len(calls) == 1
  never = lambda rng, image, label, index: calls.append(index) or np.zeros(len(index))
  calls.clear()
  assert not attacks.survivors(never, IMAGE, LABEL, KEY, restarts=9, batch_size=BATCH).any()
  assert len(calls) == 3  # the first restart's batches alone


def test_attacks_chained_through_alive():
  even = lambda rng, image, label, index: index % 2 == 0
  third = lambda rng, image, label, index: index % 3 == 0
  settings = {"restarts": 2, "batch_size": 4}
  alive = attacks.survivors(even, IMAGE, LABEL, KEY, **settings)
  before = alive.copy()
  both = attacks.survivors(third, IMAGE, LABEL, KEY, **settings, alive=alive)
  np.testing.assert_array_equal(both, np.arange(COUNT) % 6 == 0)
  np.testing.assert_array_equal(alive, before)  # what was handed in is not written to


@pytest.mark.parametrize(
  "change, words",
  [
    ({"restarts": 0}, "restarts is 0"),
    ({"batch_size": 0}, "batch_size is 0"),
    ({"label": LABEL[:3]}, "23 images, 3 labels"),
    ({"alive": np.ones(2)}, r"shape \(2,\)"),
  ],
)
def test_bad_input_is_refused(change, words):
  arguments = {"image": IMAGE, "label": LABEL, "rng": KEY, "restarts": 1, "batch_size": 4, **change}
  with pytest.raises(InputError, match=words):
    attacks.survivors(lambda *a: None, **arguments)


def test_tables_and_restarts_that_make_no_sense_are_refused():
  with pytest.raises(InputError, match=r"\[R, B\]"):
    attacks.restart_counts(jnp.ones(3))
  with pytest.raises(InputError, match="mask"):
    attacks.restart_counts(jnp.ones((2, 3)), jnp.ones(2))
  with pytest.raises(InputError, match="restarts is 0"):
    attacks.worst_case(lambda rng, x: x, lambda x: x, jnp.ones((1, 2)), KEY, 0)
