"""Flip probability and ranking distance on perturbation sequences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import metrics
from jaxnoise.core import InputError, reduce

flip = jax.jit(metrics.flip_probability, static_argnames=("noise", "difficulty"))
distance = jax.jit(metrics.ranking_distance, static_argnames=("kind", "noise", "difficulty"))

PREDICTIONS = np.array([[1, 1, 2, 2, 1], [4, 4, 4, 4, 4], [0, 1, 2, 3, 0]], np.int32)


def both_precisions(value, expected):
  """`value()` in float32 and in float64, at the tolerances of the stored numbers."""
  assert float(value().mean()) == pytest.approx(float(expected), rel=1e-5, abs=1e-6)
  with jax.enable_x64(True):
    assert float(value().mean()) == pytest.approx(float(expected), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("case", range(4))
def test_flip_probability_equals_the_official_value(case, golden):
  stored = golden("metrics")
  predictions = stored[f"flip/c{case}/predictions"]
  for step in (1, 2, 3):
    both_precisions(
      lambda step=step: flip(predictions, difficulty=step),
      stored[f"flip/c{case}/normal_step{step}"],
    )
  both_precisions(
    lambda: flip(predictions, noise=True), stored[f"flip/c{case}/noise"]
  )


@pytest.mark.parametrize("kind", ["zipf", "top5"])
@pytest.mark.parametrize("case", range(4))
def test_ranking_distance_equals_the_official_value(case, kind, golden):
  stored = golden("metrics")
  logits = stored[f"ranks/c{case}/logits"]
  found = [key for key in ("normal", "noise") if f"ranks/c{case}/{kind}_{key}" in stored]
  assert found or (kind == "top5" and logits.shape[-1] < 10)
  for key in found:
    both_precisions(
      lambda key=key: distance(logits, kind=kind, noise=key == "noise"),
      stored[f"ranks/c{case}/{kind}_{key}"],
    )


def test_flips_are_counted_sequence_by_sequence():
  assert flip(PREDICTIONS).tolist() == [0.5, 0.0, 1.0]
  assert flip(PREDICTIONS, difficulty=2).tolist() == [1.0, 0.0, 1.0]
  assert flip(PREDICTIONS, difficulty=3).tolist() == [0.5, 0.0, 1.0]
  assert flip(PREDICTIONS, difficulty=4).tolist() == [0.0, 0.0, 0.0]
  assert flip(PREDICTIONS, noise=True).tolist() == [0.5, 0.0, 0.75]


def test_difficulty_has_no_effect_on_noise():
  for measure, x in (
    (flip, PREDICTIONS),
    (distance, jax.nn.one_hot(PREDICTIONS, 6)),
  ):
    strided, plain = (measure(x, noise=True, difficulty=d) for d in (3, 1))
    assert strided.tolist() == plain.tolist()


@pytest.mark.parametrize("kind", ["zipf", "top5"])
def test_difficulty_strides_rankings_too(kind):
  logits = np.random.default_rng(3).normal(size=(2, 5, 8))
  parts = [distance(logits[:, first::2], kind=kind) for first in (0, 1)]  # 2 pairs and 1
  expected = (2 * parts[0] + parts[1]) / 3
  np.testing.assert_allclose(distance(logits, kind=kind, difficulty=2), expected, rtol=1e-5)


def test_no_prediction_is_never_stable():
  diverged = np.full((1, 4), -1)
  assert flip(diverged).tolist() == [1.0]
  assert flip(diverged, noise=True).tolist() == [1.0]
  assert flip(np.array([[2, 2, -1]])).tolist() == [0.5]
  assert flip(np.array([[-1, 2, 2]])).tolist() == [0.5]


def test_padded_batches_of_sequences_add_up():
  total = {}
  for rows in (PREDICTIONS[:2], PREDICTIONS[2:]):
    padded = np.concatenate([rows, np.arange(5)[None]])
    mask = jnp.asarray([1.0] * len(rows) + [0.0])
    values = flip(padded)
    total = reduce.merge(total, {"flip": reduce.mean_count(values, mask)})
  assert reduce.divide(total)["flip"] == pytest.approx(0.5)


def swapped(classes, first, second):
  """Two frames whose rankings differ by the exchange of two ranks (from 0)."""
  before = np.arange(classes, 0, -1.0)
  after = before.copy()
  after[[first, second]] = before[[second, first]]
  return np.stack([before, after])[None]


@pytest.mark.parametrize(
  ("first", "second", "top5", "zipf"),
  [
    (0, 1, 2.0, 0.5 + 0.5 / 2),
    (3, 4, 2.0, (1 / 4 - 1 / 5) * (1 / 4 + 1 / 5)),
    (0, 9, 5.0, 0.9 + 0.9 / 10),  # whatever falls out of the top 5 falls to rank 6
    (4, 5, 1.0, (1 / 5 - 1 / 6) * (1 / 5 + 1 / 6)),
    (5, 9, 0.0, (1 / 6 - 1 / 10) * (1 / 6 + 1 / 10)),  # below the top 5: zipf alone sees it
  ],
)
def test_distance_of_two_exchanged_ranks(first, second, top5, zipf):
  logits = swapped(10, first, second)
  assert float(distance(logits, kind="top5")[0]) == pytest.approx(top5)
  assert float(distance(logits, kind="zipf")[0]) == pytest.approx(zipf, rel=1e-5)


def test_the_earlier_frame_s_best_classes_count():
  """Not symmetric: rank 1 falls to 3 while 2 and 3 rise, and the other way round."""
  frames = np.array([[[3.0, 2.0, 1.0], [1.0, 3.0, 2.0]]])
  zipf = 2 / 3 + 0.5 / 2 + (1 / 2 - 1 / 3) / 3
  back = 0.5 + (1 / 2 - 1 / 3) / 2 + (2 / 3) / 3
  assert float(distance(frames, kind="zipf")[0]) == pytest.approx(zipf, rel=1e-5)
  assert float(distance(frames[:, ::-1], kind="zipf")[0]) == pytest.approx(back, rel=1e-5)


@pytest.mark.parametrize("kind", ["zipf", "top5"])
def test_only_the_ranking_counts_and_not_the_names_of_the_classes(kind):
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(3, 6, 12)).astype(np.float32)
  value = distance(logits, kind=kind)
  assert (value > 0).all()
  same = [np.exp(logits), 5 * logits - 3, logits[..., rng.permutation(12)]]
  for other in same:
    np.testing.assert_allclose(distance(other, kind=kind), value, rtol=1e-5)
  still = np.repeat(logits[:, :1], 4, axis=1)
  assert distance(still, kind=kind).tolist() == [0.0] * 3


@pytest.mark.parametrize("kind", ["zipf", "top5"])
@pytest.mark.parametrize("classes", [1, 2, 4, 5])
def test_few_classes_and_ties_are_finite(kind, classes):
  logits = np.random.default_rng(1).normal(size=(2, 3, classes))
  assert np.isfinite(distance(logits, kind=kind)).all()
  tied = np.zeros((1, 3, classes))  # ranked by class: nothing moves
  assert distance(tied, kind=kind).tolist() == [0.0]
  assert distance(-tied, kind=kind).tolist() == [0.0]


def test_of_equal_logits_the_lower_class_ranks_first():
  frames = np.array([[[1.0, 1.0, 0.0], [2.0, 1.0, 0.0]]])
  assert distance(frames).tolist() == [0.0]
  assert distance(frames[..., [1, 0, 2]]).tolist() == [2.0]


def test_the_largest_top5_distance_is_15_and_half_precision_is_promoted():
  frames = np.stack([np.arange(12), np.arange(12)[::-1]])[None]
  value = distance(jnp.asarray(frames, jnp.bfloat16))
  assert value.tolist() == [15.0] and value.dtype == jnp.float32


def test_a_nan_spoils_its_own_sequence_only():
  logits = np.random.default_rng(2).normal(size=(3, 4, 10))
  expected = distance(logits)
  logits[1, 2, 3] = np.nan
  value = distance(logits)
  assert np.isnan(value).tolist() == [False, True, False]
  assert value[0] == expected[0] and value[2] == expected[2]


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: metrics.flip_probability(np.zeros((2, 3))), "one integer class per frame"),
    (lambda: metrics.flip_probability(np.zeros(3, int)), "one integer class per frame"),
    (lambda: metrics.flip_probability(PREDICTIONS, difficulty=5), "sequences of 5 frames"),
    (lambda: metrics.flip_probability(PREDICTIONS, difficulty=0), "difficulty is 0"),
    (lambda: metrics.flip_probability(PREDICTIONS[:, :1], noise=True), "sequences of 1 frames"),
    (lambda: metrics.ranking_distance(np.zeros((2, 3))), "logits of every frame"),
    (lambda: metrics.ranking_distance(np.zeros((2, 3, 4)), kind="top"), "did you mean 'top5'"),
  ],
)
def test_bad_input_is_one_clear_sentence(call, message):
  with pytest.raises(InputError, match=message):
    call()
