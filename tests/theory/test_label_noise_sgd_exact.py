"""SGD on least squares: the exact covariance against enumeration of all batches, its special cases,
the bound of stability, and the simulator against them.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import theory
from jaxnoise.core import InputError

SAMPLINGS = ("with_replacement", "without_replacement")
# Fixed designs of the paper's Figure 1, and predicted variances (normal inputs; additive noise).
FIGURE_1 = {
  "20I": ([20.0, 20.0], [5.952e-4] * 2, [5.556e-4] * 2),
  "10I": ([10.0, 10.0], [5.435e-4] * 2, [5.263e-4] * 2),
  "100I": ([100.0, 100.0], [2.5e-3] * 2, [1.0e-3] * 2),
  "ver": ([10.0, 100.0], [7.194e-4, 1.6906e-3], [5.263e-4, 1.0e-3]),
}


def small():
  """Four examples whose S_N and V do not commute, with labels that no beta fits."""
  x = np.array([[1.0, 0.5], [-0.5, 2.0], [0.3, -1.0], [2.0, 1.0]])
  return x, np.array([1.0, 3.0, -2.0, 0.5])


def batches(count, size, sampling):
  if sampling == "with_replacement":
    return list(itertools.product(range(count), repeat=size))
  return list(itertools.combinations(range(count), size))


def enumerated(x, labels, eta, size, variance, sampling):
  """Mean and covariance of beta after 2^14 steps, averaged over every batch of every step."""
  step = np.zeros((7, 7))  # of (1, E beta, E vec beta beta^T)
  every = batches(len(x), size, sampling)
  for batch in every:
    rows, y = x[list(batch)], labels[list(batch)]
    keep = np.eye(2) - eta * rows.T @ rows / size
    push = eta * rows.T @ y / size
    fresh = eta**2 * variance * rows.T @ rows / size**2
    column = push[:, None]
    step[0, 0] += 1
    step[1:3] += np.hstack([column, keep, np.zeros((2, 4))])
    step[3:, :1] += (np.outer(push, push) + fresh).reshape(4, 1)
    step[3:, 1:3] += np.kron(column, keep) + np.kron(keep, column)
    step[3:, 3:] += np.kron(keep, keep)
  settled = np.linalg.matrix_power(step / len(every), 2**14)[:, 0]
  mean = settled[1:3]
  return mean, settled[3:].reshape(2, 2) - np.outer(mean, mean)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("variance", [0.0, 0.3])
@pytest.mark.parametrize("fixed", [True, False])
def test_exact_covariance_is_that_of_all_batches(sampling, variance, fixed):
  x, labels = small()
  labels = labels if fixed else x @ np.array([1.0, -2.0])
  found = theory.least_squares_sgd_stationary(
    x, labels, learning_rate=0.3, batch_size=2, noise_variance=variance, sampling=sampling
  )
  mean, covariance = enumerated(x, labels, 0.3, 2, variance, sampling)
  np.testing.assert_allclose(found.centre, mean, rtol=1e-9)
  np.testing.assert_allclose(found.covariance, covariance, rtol=1e-8, atol=1e-15)
  if not fixed:
    np.testing.assert_allclose(found.centre, [1.0, -2.0])
    assert variance or not np.any(np.abs(found.covariance) > 1e-20)  # nothing drives it


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_exact_covariance_solves_its_equation_for_more_columns(sampling):
  # The pairs of off-diagonal entries of three columns act on each other; two columns have one.
  rng = np.random.default_rng(1)
  x, labels = rng.normal(size=(7, 3)) * [1.0, 2.0, 0.5], rng.normal(size=7)
  options = {"learning_rate": 0.1, "batch_size": 3, "sampling": sampling}
  found = theory.least_squares_sgd_stationary(x, labels, noise_variance=0.4, **options)
  share = 1 / 3 if sampling == "with_replacement" else 1 / 3 * (7 - 3) / (7 - 1)
  second, residual = x.T @ x / 7, labels - x @ found.centre
  s = found.covariance
  squares = share * sum((row @ s @ row) * np.outer(row, row) for row in x) / 7
  left = second @ s + s @ second - 0.1 * ((1 - share) * second @ s @ second + squares)
  right = 0.1 * share * (x.T * residual**2) @ x / 7 + 0.1 * 0.4 / 3 * second
  np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_radius_and_limit_are_those_of_the_whole_operator(sampling):
  x, _ = small()

  def radius(eta):
    total = 0
    every = batches(4, 2, sampling)
    for batch in every:
      keep = np.eye(2) - eta * x[list(batch)].T @ x[list(batch)] / 2
      total = total + np.kron(keep, keep)
    return np.abs(np.linalg.eigvals(total / len(every))).max()

  options = {"batch_size": 2, "sampling": sampling}
  for eta in (0.01, 0.3, 0.9):
    found = theory.least_squares_sgd_radius(x, learning_rate=eta, **options)
    np.testing.assert_allclose(found, radius(eta), rtol=1e-10)
  limit = theory.least_squares_sgd_limit(x, **options)
  assert radius(limit * 0.999) < 1 < radius(limit * 1.001)
  np.testing.assert_allclose(radius(limit), 1, rtol=1e-9)
  full = theory.least_squares_sgd_limit(x, loss="full", **options)
  np.testing.assert_allclose(full, limit / 2)


def test_full_loss_is_twice_the_learning_rate():
  x, labels = small()
  options = {"batch_size": 2, "noise_variance": 0.4}
  full = theory.least_squares_sgd_stationary(x, labels, learning_rate=0.1, loss="full", **options)
  half = theory.least_squares_sgd_stationary(x, labels, learning_rate=0.2, **options)
  np.testing.assert_allclose(full.covariance, half.covariance)
  assert full.radius == half.radius
  other = theory.least_squares_sgd_stationary(x, labels, learning_rate=0.1, **options)
  assert np.all(full.covariance.diagonal() > 1.5 * other.covariance.diagonal())


def test_fixed_and_fresh_noise_of_a_large_design_are_alike_about_other_centres():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(20000, 2)) * [1.0, 2.0]
  clean, noise = x @ [1.0, 1.0], rng.normal(size=20000) * 0.7
  options = {"learning_rate": 0.1, "batch_size": 5}
  fixed = theory.least_squares_sgd_stationary(x, clean + noise, **options)
  fresh = theory.least_squares_sgd_stationary(x, clean, noise_variance=0.49, **options)
  np.testing.assert_allclose(fresh.centre, [1.0, 1.0], rtol=1e-12)
  np.testing.assert_allclose(fixed.centre, np.linalg.solve(x.T @ x, x.T @ (clean + noise)))
  assert np.abs(fixed.centre - 1).max() > 1e-4
  # sqrt(2 / N) = 1 %, for the noise and for x x^T.
  np.testing.assert_allclose(fixed.covariance.diagonal(), fresh.covariance.diagonal(), rtol=0.05)
  endless = theory.gaussian_design_variances([1.0, 4.0], 0.49, **options)
  np.testing.assert_allclose(fresh.covariance.diagonal(), endless, rtol=0.05)


def test_small_steps_make_a_round_cloud():
  x, _ = small()
  options = {"learning_rate": 1e-5, "batch_size": 5}
  found = theory.least_squares_sgd_stationary(x, x @ [1.0, 1.0], noise_variance=0.4, **options)
  limit = theory.uln_diffusion_variance(0.4, **options)
  assert limit == pytest.approx(1e-5 * 0.4 / 10)
  np.testing.assert_allclose(found.covariance, limit * np.eye(2), rtol=1e-4, atol=1e-4 * limit)
  # At a rate a third of the limit it is not.
  large = theory.least_squares_sgd_stationary(
    x, x @ [1.0, 1.0], noise_variance=0.4, learning_rate=0.3, batch_size=5
  )
  assert np.ptp(np.linalg.eigvalsh(large.covariance)) > 0.1 * large.covariance[0, 0]


def design(eigenvalues, count, seed):
  """Rows whose second moments are close to diag(eigenvalues), labels of beta* = (1, 1), noise."""
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(count, 2)) * np.sqrt(eigenvalues)
  return x, x.sum(1), rng.normal(size=count) * 0.5**0.5


def simulated(key, x, labels, *, chains, kept, start=None, **options):
  """Mean and covariance over chains and time after burn-in, each with its standard error."""
  lowest = np.linalg.eigvalsh(x.T @ x / len(x))[0]
  rate = options["learning_rate"] * (2 if options.get("loss") == "full" else 1)
  burn = int(np.ceil(10 / (rate * lowest)))
  path = theory.least_squares_sgd(
    jax.random.key(key), x, labels, steps=burn + kept, chains=chains, start=start, **options
  )
  assert path.shape == (burn + kept, chains, 2)
  tail = np.asarray(path[burn:], np.float64)
  means = tail.mean(0)  # of every chain; chains are independent
  off = tail - means.mean(0)
  entries = np.einsum("tci,tcj->cij", off, off) / kept
  root = chains**0.5
  return (means.mean(0), means.std(0) / root), (entries.mean(0), entries.std(0) / root)


# What each catches is said beside it; the standard error is asserted to be small enough for it.
CASES = {
  "fixed": {},  # centre beta*; noise of the whole gradient
  "fixed_subsets": {"sampling": "without_replacement"},  # c: 15/19 of it
  "fresh": {"fresh": True},
  "full": {"loss": "full"},  # twice the rate
}


@pytest.mark.parametrize("name", CASES)
def test_simulation_settles_where_theory_says(name):
  case = dict(CASES[name])
  x, clean, noise = design([20.0, 60.0], 20, seed=3)
  fresh = case.pop("fresh", False)
  labels = clean if fresh else clean + noise
  options = {"learning_rate": 0.005, "batch_size": 5, **case}
  if fresh:
    options["noise_variance"] = 0.5
  exact = theory.least_squares_sgd_stationary(x, labels, **options)
  (mean, mean_error), (covariance, error) = simulated(5, x, labels, chains=300, kept=300, **options)
  np.testing.assert_array_less(np.abs(mean - exact.centre), 4.5 * mean_error)
  np.testing.assert_array_less(np.abs(covariance - exact.covariance), 4.5 * error)
  spread = exact.covariance.diagonal()
  assert np.all(error.diagonal() < 0.025 * spread), "15/19 is 8 errors away"
  if fresh:
    assert np.abs(exact.centre - 1).max() < 1e-12
  else:
    assert np.all(np.abs(exact.centre - 1).max() > 20 * mean_error), "beta* would be seen"


def test_epochs_see_every_example_once():
  # One example a batch, orthogonal examples, a step that solves each: an epoch solves all of them.
  x, labels = jnp.eye(6), jnp.arange(1.0, 7.0)
  options = {"learning_rate": 1.0, "batch_size": 1, "chains": 3, "sampling": "epoch"}
  path = theory.least_squares_sgd(
    jax.random.key(0), x, labels, steps=12, start=jnp.full(6, -1.0), **options
  )
  solved = np.asarray(path[:6]) == np.asarray(labels)
  np.testing.assert_array_equal(solved.sum(-1), np.arange(1, 7)[:, None] * np.ones(3))
  assert len({tuple(map(tuple, chain)) for chain in solved.swapaxes(0, 1)}) > 1, "own orders"


def test_one_step_by_hand():
  x, labels = jnp.array([[1.0, 2.0], [1.0, 2.0]]), jnp.array([3.0, 3.0])
  options = {"steps": 1, "learning_rate": 0.1, "batch_size": 2, "start": jnp.array([1.0, 0.0])}
  found = theory.least_squares_sgd(jax.random.key(0), x, labels, **options)
  np.testing.assert_allclose(found, [[1.2, 0.4]], rtol=1e-6)  # residual -2: 1 + 0.1 * 2 * (1, 2)
  found = theory.least_squares_sgd(jax.random.key(0), x, labels, loss="full", **options)
  np.testing.assert_allclose(found, [[1.4, 0.8]], rtol=1e-6)


@pytest.mark.parametrize("every", [1, 4, 30, 60])
def test_every_stores_the_same_run(monkeypatch, every):
  from jaxnoise.theory import _label_noise_sgd_run as module

  monkeypatch.setattr(module, "_NUMBERS_PER_BLOCK", 2 * 2 * 4 * 12)  # 12 steps a block
  module._run.clear_cache()
  x, labels = small()
  # Batches of all four examples: the run does not depend on how its draws are cut into blocks.
  options = {"steps": 60, "learning_rate": 0.1, "batch_size": 4, "chains": 2,
             "sampling": "without_replacement"}  # fmt: skip
  path = theory.least_squares_sgd(jax.random.key(0), x, labels, every=every, **options)
  module._run.clear_cache()
  beta, expected = np.zeros(2), []
  for _ in range(60):
    beta = beta - 0.1 * x.T @ (x @ beta - labels) / 4
    expected.append(beta)
  expected = np.array(expected)[every - 1 :: every]
  assert path.shape == (60 // every, 2, 2)
  np.testing.assert_allclose(path[:, 0], expected, rtol=1e-5)
  np.testing.assert_array_equal(path[:, 0], path[:, 1])


def test_divergence_is_refused_with_the_bound():
  x, clean, _ = design([100.0, 100.0], 100, seed=0)
  options = {"batch_size": 5, "loss": "full"}
  with pytest.raises(InputError) as caught:
    theory.least_squares_sgd(jax.random.key(0), x, clean, steps=10, learning_rate=0.01, **options)
  message = str(caught.value)
  limit = theory.least_squares_sgd_limit(x, **options)
  radius = theory.least_squares_sgd_radius(x, learning_rate=0.01, **options)
  assert limit < 0.01 and radius > 1
  for words in ("learning_rate is 0.01", "[100, 2]", f"{radius:.4g}", f"learning_rate={limit:.4g}",
                "take a smaller one"):  # fmt: skip
    assert words in message
  with pytest.raises(InputError, match="diverges"):
    theory.least_squares_sgd_stationary(x, clean, learning_rate=0.01, **options)
  # The half loss at the same rate is the paper's own case, and stable.
  theory.least_squares_sgd_stationary(x, clean, learning_rate=0.01, batch_size=5)
  start = jnp.array([0.0, 0.0])
  path = theory.least_squares_sgd(
    jax.random.key(0), x, clean, steps=20, learning_rate=2.5 * limit, start=start, chains=4,
    allow_divergence=True, **options,
  )  # fmt: skip
  away = np.square(np.asarray(path, np.float64) - 1).sum(-1).mean(1)
  assert away[-1] > 100 * away[0]


def test_wide_designs_are_refused_where_they_diverge_for_certain(monkeypatch):
  from jaxnoise.theory import _label_noise_sgd_exact as module

  # All rows along one direction: as one column, for which the bound is the limit.
  lengths = np.array([[1.0], [3.0], [2.0]])
  limit = theory.least_squares_sgd_limit(lengths, batch_size=2) / 70
  wide = np.repeat(lengths, 70, axis=1)
  options = {"steps": 2, "batch_size": 2}
  key = jax.random.key(0)
  with pytest.raises(InputError, match=rf"\[3, 70\].* learning_rate={limit:.4g} on"):
    theory.least_squares_sgd(key, wide, lengths[:, 0], learning_rate=1.001 * limit, **options)
  theory.least_squares_sgd(key, wide, lengths[:, 0], learning_rate=0.999 * limit, **options)
  full = {"learning_rate": 0.501 * limit, "loss": "full"}
  with pytest.raises(InputError, match="full squared loss"):
    theory.least_squares_sgd(key, wide, lengths[:, 0], **full, **options)
  # In general it is above the limit, and near it: nothing that settles is refused.
  rng = np.random.default_rng(0)
  x = rng.normal(size=(30, 8)) * np.linspace(1, 3, 8)
  for sampling in SAMPLINGS:
    exact = theory.least_squares_sgd_limit(x, batch_size=3, sampling=sampling)
    assert exact <= module._bound(x, 3, sampling) < 1.5 * exact


X, Y = small()
STATIONARY = {"learning_rate": 0.1, "batch_size": 2}


@pytest.mark.parametrize(
  "change, words",
  [
    ({"sampling": "epoch"}, "sampling is 'epoch'"),
    ({"sampling": "without_replacment"}, "'without_replacement'"),
    ({"batch_size": 5, "sampling": "without_replacement"}, "at most 4"),
    ({"batch_size": 2.5}, "batch_size is 2.5"),
    ({"loss": "halv"}, "'half'"),
    ({"learning_rate": 0.0}, "learning_rate is 0.0"),
    ({"noise_variance": -0.1}, "noise_variance"),
    ({"x": X[:, :1] * [[1.0, 2.0]]}, "rank 1"),
    ({"x": X * 0}, "never moves"),
    ({"x": X * np.nan}, "finite"),
    ({"labels": Y[:2]}, r"\[N\]"),
    ({"x": np.ones((4, 70))}, "70 columns"),
  ],
)
def test_bad_input_of_the_exact_solution(change, words):
  arguments = {"x": X, "labels": Y, **STATIONARY, **change}
  with pytest.raises(InputError, match=words):
    theory.least_squares_sgd_stationary(arguments.pop("x"), arguments.pop("labels"), **arguments)


@pytest.mark.parametrize(
  "change, words",
  [
    ({"every": 3}, "does not divide"),
    ({"every": 0}, "every is 0"),
    ({"chains": 0}, "chains is 0"),
    ({"chains": 2.0}, "chains is 2.0"),
    ({"every": 2.0}, "every is 2.0"),
    ({"learning_rate": np.array([0.1, 0.2])}, r"learning_rate has shape \[2\]"),
    ({"noise_variance": np.ones(2)}, r"noise_variance has shape \[2\]"),
    ({"x": np.full((4, 70), np.nan)}, "finite"),
    ({"steps": 0}, "steps is 0"),
    ({"start": np.zeros(3)}, r"start is \[3\]"),
    ({"labels": Y[:2]}, r"\[N\]"),
    ({"loss": "ful"}, "'full'"),
    ({"sampling": "epochs"}, "'epoch'"),
  ],
)
def test_bad_input_of_the_simulator(change, words):
  arguments = {"x": X, "labels": Y, "steps": 10, **STATIONARY, **change}
  x, labels = arguments.pop("x"), arguments.pop("labels")
  with pytest.raises(InputError, match=words):
    theory.least_squares_sgd(jax.random.key(0), x, labels, **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [False, True], ids=["fixed", "fresh"])
@pytest.mark.parametrize("name", FIGURE_1)
def test_figure_1_in_full(name, fresh):
  """2,000 chains and more, eta = 0.01 and B = 5: within 5 % of the exact variances."""
  x, clean, noise = design(FIGURE_1[name][0], 100, seed=7)
  labels = clean if fresh else clean + noise
  options = {"learning_rate": 0.01, "batch_size": 5}
  if fresh:
    options["noise_variance"] = 0.5
  exact = theory.least_squares_sgd_stationary(x, labels, **options)
  (mean, mean_error), (covariance, error) = simulated(
    11, x, labels, chains=2000, kept=1000, start=exact.centre, **options
  )
  np.testing.assert_array_less(np.abs(mean - exact.centre), 4.5 * mean_error)
  np.testing.assert_allclose(covariance.diagonal(), exact.covariance.diagonal(), rtol=0.05)
  assert np.all(error.diagonal() < 0.02 * exact.covariance.diagonal())
