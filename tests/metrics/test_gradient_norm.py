"""The gradient norm of a network's outputs: exact, by Hutchinson's estimator, and as eq. (16)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import metrics
from jaxnoise.core import InputError
from tests.toy import toy_network

KEY = jax.random.key(3)


def linear(params, x):
  return x @ params["w"] + params["b"][None]


def small(params, x):
  """Two layers with shared weights: the Gram matrices of the outputs are far from diagonal."""
  return jnp.tanh(x @ params["deep"]["w1"]) @ params["deep"]["w2"] + params["b"][None]


def small_params(outputs=3):
  a, b, c = jax.random.split(KEY, 3)
  w2 = jax.random.normal(b, (5, outputs))
  return {
    "deep": {"w1": jax.random.normal(a, (4, 5)), "w2": w2},
    "b": jax.random.normal(c, (outputs,)),
  }


IMAGES = jax.random.normal(jax.random.key(1), (7, 4))


def exact_norm(predict, **options):
  return jax.jit(functools.partial(metrics.output_gradient_norm, predict, **options))


def jacobians(predict, params, images):
  """[N, K, d] the slow way."""
  whole = jax.jit(jax.jacobian(lambda p: predict(p, images)))(params)
  return np.concatenate(
    [np.asarray(leaf).reshape(*leaf.shape[:2], -1) for leaf in jax.tree.leaves(whole)], axis=-1
  )


def test_a_linear_model_has_outputs_times_square_of_the_image_and_one():
  params = {"w": jnp.zeros((4, 3)), "b": jnp.zeros(3)}
  found = exact_norm(linear)(params, IMAGES)
  expected = 3 * (np.square(np.asarray(IMAGES)).sum(axis=1) + 1)
  np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("chunk", [None, 3, 50])
def test_it_is_the_jacobian_whatever_the_chunk(chunk):
  params = small_params()
  jacobian = jacobians(small, params, IMAGES)
  found = exact_norm(small, chunk=chunk)(params, IMAGES)
  np.testing.assert_allclose(found, np.square(jacobian).sum(axis=(1, 2)), rtol=1e-5)
  # Not the gradient of the sum of the logits, which is what one backward pass gives.
  summed = np.square(jacobian.sum(axis=1)).sum(axis=-1)
  assert np.mean(abs(summed / np.asarray(found) - 1)) > 0.1


def test_draws_are_of_every_example_and_sample_alone_and_do_not_depend_on_batches():
  params = small_params()
  draw = functools.partial(metrics.gradient_norm_draws, small, params, rng=KEY, samples=6)
  in_threes = jax.jit(lambda x: draw(x, chunk=3))
  whole = in_threes(IMAGES)
  last = jax.jit(lambda x, index: draw(x, index=index))(IMAGES[5:], jnp.array([5, 6]))
  np.testing.assert_allclose(whole[5:], last, rtol=1e-5)
  # Signs of their own: on one image seven times, rows differ, and so do columns.
  same = np.asarray(in_threes(jnp.repeat(IMAGES[:1], 7, axis=0)))
  assert len({tuple(np.round(row, 4)) for row in same}) > 1
  assert len({tuple(np.round(column, 4)) for column in same.T}) > 1
  # And signs: every draw is ||J^T v||^2 of some v in {-1, 1}^3.
  jacobian = jacobians(small, params, IMAGES[:1])[0]
  signs = np.array([[1, a, b] for a in (-1, 1) for b in (-1, 1)])
  values = np.square(signs @ jacobian).sum(axis=-1)
  assert np.all(np.abs(same[:, :, None] / values[None, None] - 1).min(axis=-1) < 1e-4)


def test_the_estimate_is_unbiased_and_its_error_covers():
  params = small_params()
  images = jax.random.normal(jax.random.key(2), (60, 4))
  exact = float(exact_norm(small)(params, images).mean())
  estimate = lambda key: metrics.hutchinson_gradient_norm(
    small, params, images, key, samples=4, chunk=60
  )
  keys = jax.random.split(jax.random.key(11), 2000)
  means, errors = (np.asarray(x) for x in jax.jit(jax.vmap(estimate))(keys))
  spread = means.std(ddof=1)
  assert abs(means.mean() - exact) < 4 * spread / np.sqrt(len(keys))
  # The mean square of the errors is the variance of the means, and the closed form.
  gram = np.einsum("nkd,nld->nkl", *[jacobians(small, params, images)] * 2)
  diagonal = np.einsum("nkk->nk", gram)
  variance = 2 * (np.square(gram).sum(axis=(1, 2)) - np.square(diagonal).sum(axis=1))
  closed = np.sqrt(variance.sum() / 4) / len(images)
  assert spread == pytest.approx(closed, rel=0.06)
  assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(closed, rel=0.06)
  covered = np.mean(abs(means - exact) < 2 * errors)
  assert 0.92 < covered < 0.97


def test_one_output_has_no_error():
  params = small_params(1)
  exact = exact_norm(small)(params, IMAGES).mean()
  mean, error = jax.jit(
    lambda x: metrics.hutchinson_gradient_norm(small, params, x, KEY, samples=2)
  )(IMAGES)
  assert float(mean) == pytest.approx(float(exact), rel=1e-6) and float(error) < 1e-5 * float(mean)


def test_the_error_is_that_of_the_draws_not_of_the_images():
  mean, error = metrics.draws_mean(jnp.array([[1.0, 1.0], [100.0, 100.0]]))
  assert float(mean) == 50.5 and float(error) == 0.0
  draws = np.random.default_rng(0).normal(size=(4, 3)) + 1e4
  mean, error = metrics.draws_mean(draws)
  expected = np.sqrt(np.sum(draws.var(axis=1, ddof=1)) / 3) / 4
  assert float(error) == pytest.approx(expected, rel=1e-3)


def test_a_network_in_half_precision_is_summed_in_float32():
  half = lambda params, x: linear(
    jax.tree.map(lambda p: p.astype(jnp.bfloat16), params), x.astype(jnp.bfloat16)
  )
  params = {"w": jnp.zeros((4, 300)), "b": jnp.zeros(300)}
  image = jnp.ones((1, 4))
  found = exact_norm(half)(params, image)
  # 257 and more are no numbers of bfloat16 that ones add up to.
  assert found.dtype == jnp.float32 and found.tolist() == [300 * 5]
  stored = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
  found = exact_norm(linear)(stored, image.astype(jnp.bfloat16))
  assert found.dtype == jnp.float32 and found.tolist() == [300 * 5]
  draws = jax.jit(lambda x: metrics.gradient_norm_draws(half, params, x, KEY, samples=2))(image)
  assert draws.dtype == jnp.float32 and draws.tolist() == [[1500.0, 1500.0]]


def test_running_statistics_are_constants():
  network = toy_network()
  image = jax.random.uniform(KEY, (3, 4, 4, 3))
  params, stats = network.init(KEY, image)
  predict = lambda p, x: network.apply(p, stats, x).logits
  found = exact_norm(predict)(params, image)
  expected = np.square(jacobians(predict, params, image)).sum(axis=(1, 2))
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  other = {"mean": stats["mean"] + 5.0}  # read by the network, so that the norm depends on them
  moved = exact_norm(lambda p, x: network.apply(p, other, x).logits)(params, image)
  assert np.all(abs(np.asarray(moved) - np.asarray(found)) > 1e-3)


def test_equation_16_by_monte_carlo():
  """E B ||xi||^2 / sigma^2 = (1/N) sum_i ||grad f_i||^2, xi = -(1/B) sum_j eps_j grad f_j."""
  params, batch, sigma, rounds = small_params(1), 3, 0.7, 20_000
  gradients = jacobians(small, params, IMAGES)[:, 0]  # [N, d]
  rng = np.random.default_rng(5)
  chosen = rng.integers(len(IMAGES), size=(rounds, batch))
  eps = rng.normal(scale=sigma, size=(rounds, batch))
  xi = -np.einsum("mb,mbd->md", eps, gradients[chosen]) / batch
  drawn = batch * np.square(xi).sum(axis=1) / sigma**2
  expected = float(exact_norm(small)(params, IMAGES).mean())
  assert abs(drawn.mean() - expected) < 4 * drawn.std() / np.sqrt(rounds)


def test_noise_of_several_outputs_has_the_norm_of_all_of_them():
  """The same with eps ~ N(0, I_K), xi = -(1/B) sum_j J_j^T eps_j: Frobenius norms."""
  params, batch, rounds = small_params(3), 2, 20_000
  jacobian = jacobians(small, params, IMAGES)
  rng = np.random.default_rng(6)
  chosen = rng.integers(len(IMAGES), size=(rounds, batch))
  eps = rng.normal(size=(rounds, batch, 3))
  xi = -np.einsum("mbk,mbkd->md", eps, jacobian[chosen]) / batch
  drawn = batch * np.square(xi).sum(axis=1)
  expected = float(exact_norm(small)(params, IMAGES).mean())
  assert abs(drawn.mean() - expected) < 4 * drawn.std() / np.sqrt(rounds)


@pytest.mark.parametrize(
  ("call", "words"),
  [
    (lambda p, x: metrics.output_gradient_norm(small, p, x, chunk=0), "chunk is 0"),
    (lambda p, x: metrics.output_gradient_norm(small, {**p, "step": 3}, x), "of type int32"),
    (lambda p, x: metrics.output_gradient_norm(small, p, x[:0]), "images is empty"),
    (lambda p, x: metrics.output_gradient_norm(lambda p, x: small(p, x)[:, 0], p, x), "gives [1]"),
    (lambda p, x: metrics.gradient_norm_draws(small, p, x, KEY, samples=0), "samples is 0"),
    (lambda p, x: metrics.gradient_norm_draws(small, p, x, KEY, index=jnp.arange(3)), "(3,)"),
    (lambda p, x: metrics.hutchinson_gradient_norm(small, p, x, KEY, samples=1), "2 or larger"),
  ],
)
def test_bad_input_is_one_sentence(call, words):
  with pytest.raises(InputError) as caught:
    call(small_params(), IMAGES)
  assert words in str(caught.value) and "\n" not in str(caught.value)
