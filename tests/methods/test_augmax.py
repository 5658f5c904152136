"""AugMax: the ascent, its budget, the mixture, and whose statistics which images move."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment, methods, models
from jaxnoise.core import InputError, Spec, TrainState, fold
from jaxnoise.methods.augmax import _augmix_chain
from jaxnoise.models._resnet import ResNet
from tests.toy import toy_batch, toy_network

SPEC = Spec(num_train=6, num_classes=3, image_shape=(4, 4, 3), batch_size=6)


def negative(rng, image):
  """A chain that changes an image a great deal, by a draw of its own."""
  return jnp.where(jax.random.uniform(rng) < 0.5, 1 - image, image**3)


def numbers(key, count=6, width=3):
  """The draws of one step: m, q, the AugMix view's share and weights."""
  drawn = np.asarray(jax.random.uniform(fold(key, "mixture"), (count, 2 * width + 2)))
  gaps = -np.log1p(-drawn[:, width + 2 :].astype(np.float64))
  return drawn[:, 0], drawn[:, 1 : width + 1], drawn[:, width + 1], gaps / gaps.sum(1)[:, None]


def mixture(image, chains, weights, m):
  image, chains = np.asarray(image, np.float64), np.asarray(chains, np.float64)
  share = np.asarray(m, np.float64)[:, None, None, None]
  return (1 - share) * image + share * np.einsum("bi,bihwc->bhwc", weights, chains)


def softmax(q):
  e = np.exp(np.asarray(q, np.float64))
  return e / e.sum(-1, keepdims=True)


def make(**arguments):
  network, batch = toy_network(), toy_batch()
  params, stats = network.init(jax.random.key(1), batch["image"])
  state = TrainState.create(jax.random.key(2), params, {"mean": stats["mean"] + 0.2})
  return network, state, methods.augmax(network, spec=SPEC, chain=negative, **arguments), batch


# --- the ascent ----------------------------------------------------------------------------------


def test_signs_steps_and_clipping_by_hand():
  """l = (m - 0.45)^2 - 2 q_0 + q_1: m leaves 0.45 on either side and stops at 0 and 1."""
  objective = lambda m, q: (jnp.square(m - 0.45) - 2 * q[:, 0] + q[:, 1], m < 0)
  m, q = jnp.array([0.3, 0.5, 0.95]), jnp.zeros((3, 3))
  for steps, expected in ((0, [0.3, 0.5, 0.95]), (2, [0.1, 0.7, 1.0]), (6, [0.0, 1.0, 1.0])):
    m_out, q_out = methods.augmax_ascent(objective, m, q, steps=steps, step_size=0.1, tau=None)
    np.testing.assert_allclose(m_out, expected, atol=1e-6)
    np.testing.assert_allclose(q_out, 3 * [[-0.1 * steps, 0.1 * steps, 0.0]], atol=1e-6)


@pytest.mark.parametrize(
  ("tau", "expected"),
  [
    # Wrong from the start, after one step, after three, never; five steps of 0.1 from 0.
    (1, [0.0, 0.1, 0.3, 0.5]),
    (2, [0.1, 0.2, 0.4, 0.5]),
    (5, [0.4, 0.5, 0.5, 0.5]),
    (0, [0.0, 0.0, 0.0, 0.0]),
    (6, [0.5, 0.5, 0.5, 0.5]),
    (None, [0.5, 0.5, 0.5, 0.5]),
  ],
)
def test_budget_by_hand(tau, expected):
  limit = jnp.array([-1.0, 0.05, 0.25, 9.0])
  objective = lambda m, q: (m + q[:, 0], m > limit)
  m, q = methods.augmax_ascent(objective, jnp.zeros(4), jnp.zeros((4, 1)), tau=tau)
  np.testing.assert_allclose(m, expected, atol=1e-6)
  np.testing.assert_allclose(q[:, 0], expected, atol=1e-6)


def test_an_image_that_turns_right_again_goes_on():
  """Misclassified at odd positions only: a budget of 3 is used up by the third, at m = 0.5."""
  objective = lambda m, q: (m, jnp.round(10 * m) % 2 == 1)
  m, _ = methods.augmax_ascent(objective, jnp.zeros(1), jnp.zeros((1, 1)), steps=9, tau=3)
  np.testing.assert_allclose(m, 0.5, atol=1e-6)


def test_ascent_raises_the_loss_of_a_network():
  network, state, _, batch = make()
  chains = augment.views(negative, 3)(jax.random.key(0), batch["image"])
  m, q = jnp.full(6, 0.5), jnp.zeros((6, 3))

  @jax.jit
  def objective(m, q):
    combined = jax.vmap(augment.augmix_combine)(batch["image"], chains, jax.nn.softmax(q), m)
    log_p = jax.nn.log_softmax(network.apply(state.params, state.batch_stats, combined).logits)
    return -log_p[jnp.arange(6), batch["label"]], jnp.argmax(log_p, -1) != batch["label"]

  m_out, q_out = methods.augmax_ascent(objective, m, q, steps=5, tau=None)
  before, after = np.asarray(objective(m, q)[0]), np.asarray(objective(m_out, q_out)[0])
  assert after.mean() > before.mean() + 0.01
  assert np.all((m_out >= 0) & (m_out <= 1)) and np.any(m_out != m)


# --- the method ----------------------------------------------------------------------------------


def test_method_equals_a_hand_written_step():
  """The views are constants of the gradient, and so are m and q."""
  network, state, method, batch = make(steps=3, tau=None)
  batch["weight"] = w = jnp.asarray([0.2, 1.0, 0.0, 3.0, 0.5, 1.3])
  key, image, y = jax.random.key(9), batch["image"], batch["label"]
  chains = augment.views(negative, 6)(fold(key, "policy"), image)
  m, q, other_m, weights = numbers(key)
  mixed = mixture(image, chains[:, 3:], weights, other_m)

  @jax.jit
  def slopes(m, q):
    def total(m, q):
      combined = jax.vmap(augment.augmix_combine)(image, chains[:, :3], jax.nn.softmax(q), m)
      log_p = jax.nn.log_softmax(network.apply(state.params, state.batch_stats, combined).logits)
      return -jnp.sum(log_p[jnp.arange(6), y])

    return jax.grad(total, argnums=(0, 1))(m, q)

  def by_hand(params, views):
    out = network.apply(params, state.batch_stats, views, train=True)
    log_p = jax.nn.log_softmax(out.logits)
    p = jnp.exp(log_p)
    ce = -log_p[jnp.arange(6), 0, y]
    jsd = jnp.sum(p * (log_p - jnp.log(jnp.mean(p, 1, keepdims=True))), axis=(1, 2)) / 3
    return jnp.sum(w * (ce + 10 * jsd)) / jnp.sum(w), (ce, out.batch_stats)

  by_hand = jax.jit(jax.value_and_grad(by_hand, has_aux=True))

  for _ in range(3):
    m_slope, q_slope = slopes(m, q)
    m, q = np.clip(m + 0.1 * np.sign(m_slope), 0, 1), q + 0.1 * np.sign(q_slope)
  hardest = mixture(image, chains[:, :3], softmax(q), m)
  views = jnp.stack([image, jnp.asarray(hardest), jnp.asarray(mixed)], axis=1)
  (climbed, (ce, stats)), expected_grads = by_hand(state.params, views)
  (value, aux), grads = jax.jit(method.grad_fn(state))(state.params, batch, key)
  np.testing.assert_allclose(value, climbed, rtol=1e-4)
  np.testing.assert_allclose(aux.per_example, ce, rtol=1e-5)
  np.testing.assert_allclose(aux.batch_stats["mean"], stats["mean"], rtol=1e-5)
  for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(expected_grads), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_own_chains_are_grey_levels():
  image = jnp.asarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3)) / 255, jnp.float32)
  keys = jax.random.split(jax.random.key(0), 12)
  run = lambda key: _augmix_chain(key, image, depth=1, severity=10.0, all_ops=False)
  out = np.asarray(jax.jit(jax.vmap(run))(keys))
  np.testing.assert_allclose(out * 255, np.round(out * 255), atol=1e-3)
  changed = [not np.allclose(x, image, atol=1e-3) for x in out]
  assert sum(changed) > 6


def test_which_images_take_which_branch():
  network, state, _, batch = make()
  calls = []

  def apply(params, stats, image, *, train=False, norm_branch="main", **options):
    calls.append((norm_branch, train, image.shape[:-3]))
    return network.apply(params, stats, image, train=train, **options)

  for dual_norm in (True, False):
    method = methods.augmax(
      network._replace(apply=apply), spec=SPEC, dual_norm=dual_norm, chain=negative
    )
    jax.eval_shape(method.loss_fn(state), state.params, batch, jax.random.key(0))
  ascent, main, aux = ("aux", False, (6,)), ("main", True, (6, 2)), ("aux", True, (6,))
  count = calls.index(main)
  assert count and calls[: count + 2] == count * [ascent] + [main, aux]
  rest = calls[count + 2 :]
  assert set(rest[:-1]) == {("main", False, (6,))} and rest[-1] == ("main", True, (6, 3))


def test_each_branch_moves_by_its_own_images():
  """And without steps, m and q are as they were drawn."""
  module = ResNet(3, (1,), (4,), stem_width=4, norm="dubin")
  network, batch, key = models.network(module), toy_batch(), jax.random.key(4)
  params, stats = network.init(jax.random.key(1), batch["image"])
  state = TrainState.create(jax.random.key(2), params, stats)
  method = methods.augmax(network, spec=SPEC, steps=0, dual_norm=True, chain=negative)
  _, aux = jax.jit(method.loss_fn(state))(params, batch, key)

  image = batch["image"]
  chains = augment.views(negative, 6)(fold(key, "policy"), image)
  m, q, other_m, weights = numbers(key)
  hardest, mixed = (
    mixture(image, chains[:, :3], softmax(q), m), mixture(image, chains[:, 3:], weights, other_m)
  )  # fmt: skip
  after = aux.batch_stats["stem_norm"]
  for branch, images in (("main", np.concatenate([image, mixed])), ("aux", hardest)):
    h = models.conv(jnp.asarray(images, jnp.float32), params["stem"]["kernel"])
    h = np.asarray(h, np.float64)[..., 2:]  # the half with a batch norm
    mean, var = h.mean((0, 1, 2)), h.var((0, 1, 2))
    np.testing.assert_allclose(after[branch]["mean"], 0.1 * mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(after[branch]["var"], 0.9 + 0.1 * var, rtol=1e-4)
  assert jax.tree.structure(aux.batch_stats) == jax.tree.structure(stats)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"steps": -1}, r"config\.method\.steps is -1"),
    ({"step_size": -0.1}, r"config\.method\.step_size is -0.1"),
    ({"tau": -1}, r"config\.method\.tau is -1"),
    ({"jsd_weight": -1.0}, r"config\.method\.jsd_weight is -1.0"),
    ({"width": 0}, "width is 0"),
    ({"severity": 20.0}, "severity is 20.0"),
  ],
)
def test_bad_arguments(arguments, message):
  with pytest.raises(InputError, match=message):
    make(**arguments)


def test_dual_norm_needs_a_network_that_has_it():
  network = models.network(ResNet(3, (1,), (4,), stem_width=4))
  method = methods.augmax(network, spec=SPEC, dual_norm=True, chain=negative)
  params, stats = network.init(jax.random.key(1), toy_batch()["image"])
  state = TrainState.create(jax.random.key(2), params, stats)
  with pytest.raises(InputError, match="no normalisation layers 'aux'"):
    jax.eval_shape(method.loss_fn(state), params, toy_batch(), jax.random.key(0))
