"""Rankings of suspicious labels against scikit-learn, and memorisation against counting by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from jaxnoise import metrics
from jaxnoise.core import InputError, reduce


def cases():
  rng = np.random.default_rng(0)
  for size, levels in ((7, 3), (40, 40), (200, 9), (200, 10**9)):
    positives = rng.uniform(size=size) < 0.4
    scores = np.floor(rng.uniform(size=size) * levels) / levels + 0.2 * positives
    yield np.round(scores, 3) if levels < 10**6 else scores, positives


@pytest.mark.parametrize("scores, positives", list(cases()))
def test_areas_equal_those_of_scikit_learn_with_ties_too(scores, positives):
  found = metrics.auroc(scores, positives), metrics.average_precision(scores, positives)
  wanted = roc_auc_score(positives, scores), average_precision_score(positives, scores)
  np.testing.assert_allclose(found, wanted, rtol=1e-12)
  np.testing.assert_allclose(metrics.auroc(-scores, positives), 1 - found[0], rtol=1e-12)


def test_by_hand():
  scores, wrong = np.array([4.0, 3.0, 2.0, 1.0, 0.0]), np.array([1, 0, 1, 0, 0])
  assert metrics.auroc(scores, wrong) == 5 / 6
  assert metrics.average_precision(scores, wrong) == pytest.approx((1 + 2 / 3) / 2)
  at = [metrics.precision_at(scores, wrong, k) for k in (1, 2, 3, 5)]
  assert at == pytest.approx([1, 1 / 2, 2 / 3, 2 / 5])


def test_equal_scores_count_with_their_mean_in_any_order():
  scores, wrong = np.array([1.0, 1.0, 1.0, 0.5]), np.array([True, False, True, False])
  for order in ([0, 1, 2, 3], [1, 3, 0, 2]):
    assert metrics.precision_at(scores[order], wrong[order], 1) == pytest.approx(2 / 3)
    assert metrics.precision_at(scores[order], wrong[order], 4) == 0.5
  assert metrics.auroc(np.zeros(4), wrong) == 0.5
  assert metrics.average_precision(np.zeros(4), wrong) == 0.5


def test_nan_ranks_below_everything():
  scores, wrong = np.array([np.nan, -np.inf, 1.0]), np.array([True, False, False])
  assert metrics.auroc(scores, wrong) == 0.0
  assert metrics.precision_at(scores, wrong, 2) == 0.0


def test_one_kind_alone_has_no_area():
  assert np.isnan(metrics.auroc(np.arange(3.0), np.zeros(3, bool)))
  assert np.isnan(metrics.auroc(np.arange(3.0), np.ones(3, bool)))
  assert np.isnan(metrics.average_precision(np.arange(3.0), np.zeros(3, bool)))
  assert metrics.average_precision(np.arange(3.0), np.ones(3, bool)) == 1.0


@pytest.mark.parametrize(
  "arguments, words",
  [
    ((np.zeros(3), np.zeros(2, bool)), "[3] and positives [2]"),
    ((np.zeros((3, 1)), np.zeros((3, 1), bool)), "per example [N]"),
    ((np.zeros(3), np.array([0, 1, 4])), "given != true"),
  ],
)
def test_refuses_what_is_no_ranking(arguments, words):
  for metric in (metrics.auroc, metrics.average_precision):
    with pytest.raises(InputError) as error:
      metric(*arguments)
    assert words in str(error.value)
  for k in (0, 4):
    with pytest.raises(InputError, match="1 to 3 examples"):
      metrics.precision_at(np.zeros(3), np.zeros(3, bool), k)


# --- memorisation --------------------------------------------------------------------------------

GIVEN = jnp.array([0, 1, 2, 0, 1, 2, 0, 1])
TRUE = jnp.array([0, 1, 2, 1, 2, 0, 0, 0])
FIRST = jnp.array([0, 2, 2, 0, 2, 2, -1, 1])


def test_memorisation_by_hand():
  found = metrics.memorisation(FIRST, GIVEN, TRUE)
  # Wrong are rows 3, 4, 5, 7: 3, 5 and 7 fitted, 4 seen through. Agreed with are 0, 2, 3, 5, 7.
  counts = {name: (float(s), float(n)) for name, (s, n) in found.items()}
  assert counts == {
    "memorised": (3, 4), "corrected": (1, 4), "label_precision": (2, 5), "label_recall": (2, 4),
  }  # fmt: skip


def test_memorisation_adds_over_batches_and_leaves_padding_out():
  whole = metrics.memorisation(FIRST, GIVEN, TRUE)
  halves = [metrics.memorisation(FIRST[s], GIVEN[s], TRUE[s]) for s in (slice(3), slice(3, 8))]
  assert reduce.divide(reduce.merge(*halves)) == reduce.divide(whole)
  pad = lambda x: jnp.concatenate([x, jnp.zeros(2, x.dtype)])
  mask = pad(jnp.ones(8))
  padded = jax.jit(metrics.memorisation)(pad(FIRST), pad(GIVEN), pad(TRUE), mask)
  assert reduce.divide(padded) == reduce.divide(whole)


def test_memorisation_of_true_labels_is_not_a_number():
  found = reduce.divide(metrics.memorisation(FIRST, GIVEN, GIVEN))
  assert np.isnan(found["memorised"]) and found["label_precision"] == 1.0
  assert found["label_recall"] == 5 / 8


def test_memorisation_refuses_logits():
  with pytest.raises(InputError, match=r"predictions float32\[8, 3\]"):
    metrics.memorisation(jnp.zeros((8, 3)), GIVEN, TRUE)
