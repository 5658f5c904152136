"""The (corruption, severity) table and its aggregates, against counts made by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import corruptions, metrics
from jaxnoise.core import InputError
from jaxnoise.core.reduce import merge

GROUPS = {"noise": ("shot_noise",), "weather": ("fog", "snow"), "blur": ("zoom_blur",)}
TABLE = {
  ("shot_noise", 1): (8, 10), ("shot_noise", 2): (4, 10),
  ("fog", 1): (10, 10), ("fog", 2): (1, 2),  # fewer examples, the same weight
  ("contrast", 1): (9, 10), ("contrast", 2): (3, 10),
}


def test_cell_counts_equal_those_of_a_loop_and_add_across_padded_batches():
  rng = np.random.default_rng(0)
  clean, corrupted = (rng.integers(0, 2, 50).astype(np.float32) for _ in range(2))
  both = sum(1 for a, b in zip(clean, corrupted) if a and b)
  total = {}
  for start in (0, 20, 40):
    rows = slice(start, start + 20)
    fill = 20 - len(clean[rows])
    plain, conditional = jax.jit(metrics.corruption_counts)(
      np.pad(corrupted[rows], (0, fill), constant_values=1),
      np.pad(clean[rows], (0, fill), constant_values=1),
      np.pad(np.ones(20 - fill), (0, fill)),
    )
    total = merge(total, {"plain": plain, "conditional": conditional})
  assert tuple(map(float, total["plain"])) == (corrupted.sum(), 50)
  assert tuple(map(float, total["conditional"])) == (both, clean.sum())


def test_conditional_accuracy_is_at_least_what_the_clean_accuracy_allows():
  """Nothing lost under corruption gives 1, however low the clean accuracy."""
  clean = jnp.array([1.0, 0.0, 0.0, 0.0])
  _, (right, known) = metrics.corruption_counts(clean, clean)
  assert float(right / known) == 1.0


def test_a_network_that_is_never_right_has_no_conditional_accuracy():
  zeros = jnp.zeros(4)
  plain, conditional = metrics.corruption_counts(zeros, zeros)
  assert metrics.mean_corruption_accuracy({("fog", 1): plain}) == 0.0
  assert np.isnan(metrics.mean_corruption_accuracy({("fog", 1): conditional}))


def test_the_mean_is_unweighted_over_cells():
  assert metrics.mean_corruption_accuracy(TABLE) == pytest.approx(
    (0.8 + 0.4 + 1.0 + 0.5 + 0.9 + 0.3) / 6
  )
  assert metrics.mean_corruption_accuracy(TABLE, ["fog"]) == 0.75


def test_groups_and_what_is_left_without_one():
  assert metrics.accuracy_by_group(TABLE, GROUPS) == pytest.approx({"noise": 0.6, "weather": 0.75})
  assert metrics.accuracy_without(TABLE, GROUPS["noise"]) == pytest.approx((1.5 + 1.2) / 4)


def test_the_benchmark_s_groups_fit_a_table_of_its_names():
  table = {(name, s): (1, 1) for name in corruptions.NAMES for s in corruptions.SEVERITIES}
  assert set(metrics.accuracy_by_group(table, corruptions.GROUPS)) == set(corruptions.GROUPS)
  names, severities, cells = metrics.cell_accuracies(table, corruptions.STANDARD)
  assert names == corruptions.STANDARD and severities == corruptions.SEVERITIES
  assert cells.shape == (len(corruptions.STANDARD), 5) and (cells == 1).all()


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: metrics.mean_corruption_accuracy({}), "no rows"),
    (lambda: metrics.mean_corruption_accuracy(TABLE, ["fogg"]), "did you mean 'fog'"),
    (
      lambda: metrics.mean_corruption_accuracy(TABLE | {("snow", 1): (1, 1)}),
      "no cell for 'snow' at severity 2",
    ),
    (lambda: metrics.accuracy_without(TABLE, ["shot_noise", "fog", "contrast"]), "no rows"),
    (lambda: metrics.corruption_counts(jnp.ones(3), jnp.ones(2)), "same examples"),
  ],
)
def test_bad_input_is_one_clear_sentence(call, message):
  with pytest.raises(InputError, match=message):
    call()
