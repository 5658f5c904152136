"""Multiplicative reweighting: both algorithms by hand, and every statement on random problems."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import theory
from jaxnoise.core import InputError

SIGMA = 1 / 3
# (noise, MR's step size, learning rate) of the runs on the logistic toy.
TOYS = {
  "clean": (0.0, 0.0, 1.0),
  "noisy": (SIGMA, 0.0, 1.0),
  "mr": (SIGMA, 1.0, 1.0),
  "slow": (SIGMA, 0.3, 0.7),
  "little": (0.1, 1.0, 1.0),
  "much": (0.45, 1.0, 1.0),
  "clean_fast": (0.0, 0.0, 2.5),
}
HORIZON = 3000


@pytest.fixture(autouse=True)
def double():
  with jax.enable_x64(True):
    yield


def softmax(z):
  e = np.exp(z - z.max(axis=-1, keepdims=True))
  return e / e.sum(axis=-1, keepdims=True)


@functools.cache
def quadratics():
  """200 problems of 5 quadratics in 3 dimensions, 100 steps each; in the first all are one bowl."""
  rng = np.random.default_rng(0)
  factors = rng.normal(size=(200, 5, 3, 3))
  hessians = factors @ factors.swapaxes(2, 3) * rng.uniform(0.1, 1, size=(200, 5, 1, 1))
  centres = rng.normal(size=(200, 5, 3))
  hessians[0], centres[0] = np.eye(3) * 2, centres[0, 0]
  beta = np.linalg.eigvalsh(hessians).max(axis=(1, 2))
  eta = 10 ** rng.uniform(-2, 1, size=200)

  @jax.jit
  @jax.vmap
  def run(hessians, centres, beta, eta):
    def losses(theta):
      off = theta[None] - centres
      return jnp.einsum("nd,nde,ne->n", off, hessians, off) / 2

    descent = theory.reweighted_gradient_descent(
      losses, jnp.zeros(3), steps=100, learning_rate=1 / beta, step_size=eta
    )
    steps = jnp.arange(1, 101)
    return (
      descent,
      theory.mr_lemma1_gap(descent, beta),
      theory.reweighting_drop(descent),
      theory.mean_gradient_square(descent),
      theory.mr_theorem2_bound(descent.losses[0], beta, steps),
      theory.mr_corollary3_steps(descent.losses[0], beta, 1.0),
    )

  with jax.enable_x64(True):
    return hessians, centres, beta, eta, jax.device_get(run(hessians, centres, beta, eta))


def test_descent_is_algorithm_2():
  hessians, centres, beta, eta, (run, *_) = quadratics()
  off = run.params[:, :, None] - centres[:, None]
  pulls = np.einsum("pnde,ptne->ptnd", hessians, off)
  losses = np.sum(pulls * off, axis=-1) / 2
  np.testing.assert_allclose(run.losses, losses, rtol=1e-12, atol=1e-14)
  # The losses at theta_0 are not counted.
  total = np.cumsum(losses[:, 1:], axis=1)
  weights = softmax(-eta[:, None, None] * np.pad(total, ((0, 0), (1, 0), (0, 0))))
  np.testing.assert_allclose(run.weights, weights, rtol=1e-9, atol=1e-14)
  np.testing.assert_allclose(run.weights[:, 0], 0.2, rtol=1e-14)
  gradient = np.sum(weights[..., None] * pulls, axis=2)
  moved = run.params[:, :-1] - gradient[:, :-1] / beta[:, None, None]
  np.testing.assert_allclose(run.params[:, 1:], moved, rtol=1e-9, atol=1e-12)
  np.testing.assert_allclose(run.gradient_square, np.sum(gradient**2, -1), rtol=1e-7, atol=1e-14)
  np.testing.assert_allclose(run.objective, np.sum(weights * losses, -1), rtol=1e-9)


def test_lemma_1_and_theorem_2_hold_and_are_reached():
  *_, (run, gap, drop, left, right, steps) = quadratics()
  assert gap.shape == drop.shape == left.shape == (200, 100)
  assert gap.min() > -1e-9 and drop.min() > -1e-9
  assert np.all(left <= right + 1e-9)
  assert np.median(gap[1:, 0]) > 1e-3 and np.median(drop[1:, 0]) > 1e-3
  # One bowl of curvature beta: the first step ends in the minimum, and nothing is given away.
  np.testing.assert_allclose(gap[0], 0, atol=1e-13)
  np.testing.assert_allclose(drop[0], 0, atol=1e-13)
  np.testing.assert_allclose(left[0], right[0], rtol=1e-12)
  # Corollary 3: some t < T, where T lies within the run.
  inside = steps <= 100
  assert inside.sum() > 20
  for square, last in zip(run.gradient_square[inside], steps[inside]):
    assert square[: int(np.ceil(last))].min() <= 1


def test_theorem_4_with_sampled_examples():
  """l_i = s (1 + sin(theta_i + b_i)): G = beta = s, B = 2 s, and a step shows which i was drawn."""
  scale, steps, keys = 0.7, 60, 64
  phase = np.array([0.0, 1.0, 2.0, 3.0])
  alpha = theory.mr_theorem4_learning_rate(scale, scale, 2 * scale, steps)

  def run(key):
    return theory.reweighted_gradient_descent(
      lambda v: scale * (1 + jnp.sin(v["a"] + phase)),
      {"a": np.zeros(4)},
      steps=steps,
      learning_rate=alpha,
      step_size=0.5,
      rng=key,
    )

  out = jax.device_get(jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(1), keys)))
  theta = out.params["a"]
  moved = np.diff(theta, axis=1)
  drawn = np.argmax(np.abs(moved), axis=-1)
  own = np.take_along_axis(scale * np.cos(theta + phase)[:, :-1], drawn[..., None], -1)
  np.testing.assert_allclose(moved, -float(alpha) * own * np.eye(4)[drawn], atol=1e-12)
  excess = np.sum(np.eye(4)[drawn] - out.weights[:, :-1], axis=(0, 1))  # a martingale
  spread = np.sqrt(np.sum(out.weights[:, :-1] * (1 - out.weights[:, :-1]), axis=(0, 1)))
  assert np.all(np.abs(excess) < 4 * spread) and np.ptp(out.weights[:, -1]) > 0.3

  bound = float(theory.mr_theorem4_bound(scale, scale, 2 * scale, steps))
  assert 0.05 * bound < np.mean(out.gradient_square[:, :-1]) <= bound
  np.testing.assert_allclose(bound, scale * np.sqrt(2 * scale * 2 * scale / steps))

  def before(rate):
    return 2 * scale / (rate * steps) + scale / 2 * rate * scale**2

  np.testing.assert_allclose(before(float(alpha)), bound)
  assert min(before(0.9 * alpha), before(1.1 * alpha)) > bound


@functools.cache
def toys():
  with jax.enable_x64(True):
    noise, eta, alpha = np.array(list(TOYS.values())).T
    run = theory.logistic_trajectory(noise, steps=HORIZON, learning_rate=alpha, step_size=eta)
    return {
      name: theory.LogisticTrajectory(*columns)
      for name, *columns in zip(TOYS, *(np.asarray(v).T for v in run))
    }


# The reference prints 2.26325 for the 2.2632434 (in 40 digits) of the clean run; all else agrees.
GOLDEN = {
  "clean": {1: 0.5, 10: 2.26324, 100: 4.58925, 1000: 6.90501},
  "noisy": {1: 0.166667, 2: 0.291763, 3: 0.386002, 4: 0.457349},
  "mr": {
    0: 0.0, 1: 0.16666667, 2: 0.32771794, 3: 0.51281327, 5: 0.97680955, 10: 1.93339246,
    20: 2.80043618, 50: 3.82702274, 100: 4.55970721, 1000: 6.90212057,
  },
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_logistic_toy_golden(name):
  theta, decimals = toys()[name].theta, {"clean": 5, "noisy": 6, "mr": 8}[name]
  for t, value in GOLDEN[name].items():
    assert abs(theta[t] - value) <= 0.51 * 10.0**-decimals, t


def test_recursion_is_algorithm_2_on_fifteen_examples():
  x = np.where(np.random.default_rng(1).random(15) < 0.5, -1.0, 1.0)
  labels = np.where(np.arange(15) % 3 == 0, -x, x)  # 5 flipped

  def run(alpha, eta):
    losses = functools.partial(theory.logistic_losses, x=x, labels=labels)
    return theory.reweighted_gradient_descent(
      losses, 0.0, steps=60, learning_rate=alpha, step_size=eta
    )

  out = jax.jit(jax.vmap(run))(jnp.array([1.0, 0.7, 1.0]), jnp.array([1.0, 0.3, 0.0]))
  for i, name in enumerate(("mr", "slow", "noisy")):
    np.testing.assert_allclose(out.params[i], toys()[name].theta[:61], rtol=1e-12)
    noisy = np.sum(out.weights[i][:, ::3], axis=1)
    np.testing.assert_allclose(noisy, toys()[name].noisy_weight[:61], rtol=1e-11)


HITS = {0.5: (1, 1.10), 0.1: (10, 23.7), 0.05: (21, 60.9), 0.01: (102, 462.3)}
REWEIGHTED_HITS = {0.5: (3, 99.0), 0.1: (13, 2130), 0.05: (24, 5482), 0.01: (104, 41609)}


def test_lemma_5():
  loss = {name: np.logaddexp(0, -run.theta) for name, run in toys().items()}
  for epsilon, (first, bound) in HITS.items():
    assert np.argmax(loss["clean"] < epsilon) == first
    steps = float(theory.mr_lemma5_steps(epsilon))
    assert abs(steps - bound) < (0.0051 if bound < 2 else 0.051)
    assert np.all(loss["clean"][int(steps) + 1 :] < epsilon)
    fast = float(theory.mr_lemma5_steps(epsilon, 2.5))
    assert fast == pytest.approx(steps / 2.5)
    assert np.all(loss["clean_fast"][int(fast) + 1 :] < epsilon)
  assert float(theory.mr_lemma5_steps(0.7)) < 0


def test_lemma_6():
  limit = jax.device_get(theory.mr_lemma6_limit(SIGMA))
  np.testing.assert_allclose(limit, (0.693147, 0.405465, 0.7778), atol=5.1e-5)
  theta = toys()["noisy"].theta
  error = limit.theta - theta
  np.testing.assert_allclose(error[[10, 20, 30]], (5.03e-2, 4.04e-3, 3.27e-4), rtol=2e-3)
  np.testing.assert_allclose(np.logaddexp(0, -theta[-1]), limit.clean_loss, rtol=1e-12)
  np.testing.assert_allclose(error[41:60] / error[40:59], limit.rate, rtol=1e-4)
  assert np.all(np.abs(error) <= theory.mr_lemma6_bound(SIGMA, jnp.arange(HORIZON + 1)) + 1e-15)


@pytest.mark.parametrize("name", ["mr", "little", "much"])
def test_lemma_7_and_theorem_8(name):
  noise = TOYS[name][0]
  run = toys()[name]
  assert np.all(theory.mr_lemma7_gap(run.theta) > 0)
  np.testing.assert_allclose(run.theta[1], 0.5 - noise, rtol=1e-13)  # Delta, not Delta / N
  np.testing.assert_allclose(run.noisy_weight[0], noise, rtol=1e-13)
  loss = np.logaddexp(0, -run.theta)
  for epsilon, (first, printed) in REWEIGHTED_HITS.items():
    tight = int(np.ceil(float(theory.mr_theorem8_steps(epsilon, noise))))
    assert (epsilon, tight > HORIZON) in ((epsilon, False), (0.01, True))
    assert np.all(loss[tight:] <= epsilon)
    bound = float(theory.mr_theorem8_steps(epsilon, noise, 15))
    assert bound >= tight
    if name == "mr":
      assert np.argmax(loss <= epsilon) == first
      assert abs(bound - printed) < (0.051 if printed < 100 else 0.51)


@functools.cache
def least_squares():
  """720 runs of Algorithm 3 with 15 examples, 60 updates; every third has x_j e_j of one sign."""
  rng = np.random.default_rng(2)
  runs = 720
  x = rng.choice([-1.0, 1.0], size=(runs, 15))
  count = rng.integers(1, 8, size=runs)
  epsilon, eta = rng.uniform(0.1, 2, size=runs), 10 ** rng.uniform(-1.5, 1, size=runs)
  signs = rng.choice([-1.0, 1.0], size=(runs, 15))
  signs[::3] = signs[::3, :1]
  corruption = np.where(np.arange(15) < count[:, None], epsilon[:, None] * signs, 0.0)

  @jax.jit
  @jax.vmap
  def run(x, labels, eta):
    return theory.reweighted_least_squares(x, labels, steps=60, step_size=eta)

  with jax.enable_x64(True):
    out = jax.device_get(run(x, x + x * corruption, eta))
  return out, x, corruption, count / 15, epsilon, eta


def test_least_squares_is_algorithm_3():
  out, x, corruption, _, _, eta = least_squares()
  residual = out.theta[..., None] * x[:, None] - (x + x * corruption)[:, None]
  np.testing.assert_allclose(out.losses, residual**2 / 2, rtol=1e-12, atol=1e-15)
  before = np.cumsum(out.losses, axis=1) - out.losses  # t losses before p_t
  weights = softmax(-eta[:, None, None] * before)
  np.testing.assert_allclose(out.weights, weights, rtol=1e-10, atol=1e-300)
  np.testing.assert_allclose(out.theta, 1 + np.sum(weights * corruption[:, None], -1), rtol=1e-12)


def test_lemmas_10_and_11_and_theorem_9():
  out, _, corruption, noise, epsilon, eta = least_squares()
  c = 0.3 * epsilon

  @jax.jit
  def statements(noise, epsilon, eta):
    columns = [v[:, None] for v in (noise, epsilon, eta)]
    t = jnp.arange(61)[None]
    steps = theory.mr_theorem9_steps(c, noise, epsilon, eta)
    return (
      theory.mr_lemma10_bound(t, *columns, 15),
      theory.mr_theorem9_bound(t, *columns),
      theory.mr_theorem9_bound(t, *columns, tight=True),
      theory.mr_lemma11_bound(noise, epsilon, eta, 15),
      theory.mr_lemma11_bound(noise, epsilon, eta, 15, printed=True),
      jax.vmap(theory.mr_lemma11_gap)(corruption),
      steps,
      theory.mr_theorem9_bound(steps, noise, epsilon, eta),
    )

  bound, loose, tight, corrected, printed, gap, steps, there = jax.device_get(
    statements(noise, epsilon, eta)
  )
  clean = out.weights[:, :, -1]  # the last example is never corrupted
  error = np.abs(out.theta - 1)
  assert np.all(clean >= bound * (1 - 1e-12))
  assert np.all(error <= tight * (1 + 1e-9) + 1e-15) and np.all(tight <= loose)

  one_sign = slice(None, None, 3)
  np.testing.assert_allclose(clean[:, 0], bound[:, 0], rtol=1e-12)
  np.testing.assert_allclose(clean[one_sign, 1], bound[one_sign, 1], rtol=1e-12)
  np.testing.assert_allclose(error[one_sign, :2], tight[one_sign, :2], rtol=1e-9)

  np.testing.assert_allclose(corrected, bound[:, 1], rtol=1e-15)
  assert np.all(clean[one_sign, 1] < printed[one_sign])
  assert 0.1 < np.mean(clean[:, 1] < printed) < 1

  np.testing.assert_allclose(gap, out.losses[:, 0] - out.losses[:, 0, -1:], atol=1e-12)
  least = (epsilon**2 * (0.5 - noise))[:, None] * (corruption != 0)
  assert np.all(gap >= least - 1e-12)

  np.testing.assert_allclose(there, c, rtol=1e-9)
  held = [np.all(e[max(0, int(np.ceil(s))) :] <= v) for e, s, v in zip(error, steps, c)]
  assert all(held) and np.mean(steps < 60) > 0.3


def test_figure_1():
  figure = theory.figure1_simulation(jax.random.key(3), steps=100)
  x, corruption = np.asarray(figure.x), np.asarray(figure.corruption)
  assert set(x) == {-1, 1} and set(corruption[:5]) == {-1, 1} and not corruption[5:].any()
  logistic, linear = jax.device_get((figure.logistic, figure.linear))
  assert {v.shape for v in (*logistic.values(), *linear.values())} == {(101,)}
  for name, toy in (("clean_gd", "clean"), ("noisy_gd", "noisy"), ("mr_gd", "mr")):
    np.testing.assert_allclose(logistic[name], np.logaddexp(0, -toys()[toy].theta[:101]))
  assert abs(logistic["noisy_gd"][-1] - 0.405465) < 1e-6
  assert logistic["mr_gd"][-1] < 1.1 * logistic["clean_gd"][-1] < 0.02
  np.testing.assert_allclose(linear["ls"], (corruption.sum() / 15) ** 2 / 2)
  assert linear["mr_ls"][-1] < 1e-6 < linear["mr_ls"][0]
  # With alpha = 1 / beta one step of gradient descent solves the least squares.
  assert linear["mr_gd"][0] == 0.5
  error = {name: np.sqrt(2 * curve) for name, curve in linear.items()}
  np.testing.assert_allclose(error["mr_gd"][1:], error["mr_ls"][:-1], atol=1e-14)


BAD = {
  "step_size is -1.0": lambda: theory.logistic_trajectory(0.1, steps=3, step_size=-1.0),
  "learning_rate is 0": lambda: theory.logistic_trajectory(0.1, steps=3, learning_rate=0),
  "steps is 0": lambda: theory.logistic_trajectory(0.1, steps=0),
  "noise is 0.5": lambda: theory.logistic_trajectory(0.5, steps=3),
  "above 0": lambda: theory.mr_theorem8_steps(0.1, 0.0),
  "epsilon is -1": lambda: theory.mr_lemma5_steps(-1),
  "smoothness is 0": lambda: theory.mr_theorem2_bound(jnp.ones(2), 0, 5),
  "lipschitz is -1": lambda: theory.mr_theorem4_bound(-1, 1, 1, 5),
  "error is 0": lambda: theory.mr_theorem9_steps(0, 0.1, 1.0, 1.0),
  "both must be": lambda: theory.reweighted_least_squares(
    jnp.ones(3), jnp.ones(2), steps=2, step_size=1.0
  ),
  "num_corrupted is 8": lambda: theory.figure1_simulation(jax.random.key(0), num_corrupted=8),
  "one per example": lambda: theory.reweighted_gradient_descent(
    lambda v: v**2, 1.0, steps=2, learning_rate=1.0, step_size=1.0
  ),
}


@pytest.mark.parametrize("found", BAD)
def test_bad_input(found):
  with pytest.raises(InputError, match=found):
    BAD[found]()
