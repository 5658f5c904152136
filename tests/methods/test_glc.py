"""Gold loss correction: the estimated matrix, the corrected loss, the two parts of the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import methods
from jaxnoise.core import InputError, Spec, TrainState
from tests.toy import toy_batch, toy_network

SPEC = Spec(
  num_train=12, num_classes=3, image_shape=(4, 4, 3), batch_size=6,
  pools={"train": 12, "trusted": 8},
)  # fmt: skip
# Rows are true classes; not symmetric, so that a transposed matrix is seen.
MATRIX = np.array([[0.7, 0.3, 0.0], [0.1, 0.8, 0.1], [0.5, 0.1, 0.4]])
KEY = jax.random.key(0)


def make(**arguments):
  network = toy_network()
  method = methods.glc(network, spec=SPEC, **{"label_matrix": MATRIX, **arguments})
  params, stats = network.init(jax.random.key(1), toy_batch()["image"])
  state = TrainState.create(jax.random.key(2), params, {"mean": stats["mean"] + 0.2})
  return network, method, method.init_state(state)


def batch_of(**more):
  return {**toy_batch(), "side": {"trusted": toy_batch(4, seed=5)}, **more}


# --- the matrix ----------------------------------------------------------------------------------


def test_estimate_by_hand():
  """Rows are true classes; it is the mean probability, not the share of predictions."""
  probabilities = [[0.6, 0.3, 0.1], [0.0, 0.2, 0.8], [0.2, 0.7, 0.1], [0.5, 0.5, 0.0]]
  matrix = methods.estimate_label_matrix(jnp.asarray(probabilities), np.array([2, 0, 2, 1]))
  np.testing.assert_allclose(
    matrix, [[0.0, 0.2, 0.8], [0.5, 0.5, 0.0], [0.4, 0.5, 0.1]], rtol=1e-6, atol=1e-7
  )
  np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-6)


@pytest.mark.parametrize(
  ("probabilities", "labels", "message"),
  [
    (np.eye(3), [0, 1, 1], "no trusted example of class 2"),
    (np.eye(3)[:0], np.zeros(0, int), "no trusted example of class 0"),
    (np.eye(3), [0, 1], r"labels: found shape \(2,\) for probabilities of shape \(3, 3\)"),
    (np.eye(3)[0], [0, 1, 2], r"probabilities of shape \(3,\), expected \[T\] and \[T, K\]"),
    (np.eye(3), [0, 1, 3], r"labels: found 0\.\.3, expected 0\.\.2"),
    (np.eye(3), [0, -1, 2], r"labels: found -1\.\.2"),
  ],
)
def test_estimate_refuses(probabilities, labels, message):
  with pytest.raises(InputError, match=message):
    methods.estimate_label_matrix(probabilities, labels)


# --- the method ----------------------------------------------------------------------------------


def test_value_by_hand():
  """12 untrusted and 8 trusted examples: shares 0.6 and 0.4, whatever the sizes of the batches."""
  network, method, state = make(trusted_size=4)
  batch = batch_of(weight=jnp.array([0.2, 1.0, 0.0, 3.0, 0.5, 1.3]))
  trusted = batch["side"]["trusted"]

  @jax.jit
  def by_hand(params):
    both = jnp.concatenate((batch["image"], trusted["image"]))
    out = network.apply(params, state.batch_stats, both, train=True)
    p = jax.nn.softmax(out.logits)
    observed = p[:6] @ jnp.asarray(MATRIX, jnp.float32)
    values = -jnp.log(observed[jnp.arange(6), batch["label"]])
    gold = -jnp.log(p[6:][jnp.arange(4), trusted["label"]])
    loss = 0.6 * jnp.sum(batch["weight"] * values) / 6 + 0.4 * jnp.mean(gold)
    return loss, (values, gold, out.batch_stats)

  (expected, (values, gold, stats)), slopes = jax.value_and_grad(by_hand, has_aux=True)(
    state.params
  )
  run = jax.jit(lambda state, batch: method.grad_fn(state)(state.params, batch, KEY))
  (value, aux), grads = run(state, batch)
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(slopes), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(aux.per_example, values, rtol=1e-5)
  np.testing.assert_allclose(aux.batch_stats["mean"], stats["mean"], rtol=1e-5)
  # Six and four are as 12 and 8: without weights it is the authors' sum over the batch by its size.
  (value, _), _ = run(state, {**batch, "weight": jnp.ones(6)})
  np.testing.assert_allclose(value, (jnp.sum(values) + jnp.sum(gold)) / 10, rtol=1e-5)
  # The matrix is what the state holds; where a label cannot be, its probability is 1e-12.
  np.testing.assert_allclose(state.method_state["glc"]["label_matrix"], MATRIX, rtol=1e-6)
  never = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
  (_, aux), grads = run(state.with_method_state("glc", {"label_matrix": never}), batch)
  np.testing.assert_allclose(aux.per_example[2::3], -np.log(1e-12), rtol=1e-5)
  assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grads))


def test_separate_passes():
  """The second starts from the first one's statistics, and each sees its own part alone."""
  network, _, _ = make()
  calls = []

  def apply(params, stats, image, **options):
    size = len(image)
    jax.debug.callback(lambda mean: calls.append((size, mean)), stats["mean"])
    assert options["train"]
    return network.apply(params, stats, image, **options)

  _, _, state = make()
  for separate in (True, False):
    method = methods.glc(
      network._replace(apply=apply), spec=SPEC, label_matrix=MATRIX, separate=separate
    )
    jax.jit(method.loss_fn(state))(state.params, batch_of(), KEY)
    jax.effects_barrier()
  calls = dict(calls)
  assert set(calls) == {6, 4, 10}
  batch = batch_of()
  first = network.apply(state.params, state.batch_stats, batch["image"], train=True).batch_stats
  np.testing.assert_allclose(calls[4], first["mean"], rtol=1e-6)


@pytest.mark.parametrize(
  ("batch_size", "num_train", "trusted", "size"),
  [(128, 49000, 1000, 3), (6, 12, 8, 4), (4, 1000, 10, 1), (100, 100, 300, 300)],
)
def test_default_size_meets_all_examples_equally_often(batch_size, num_train, trusted, size):
  spec = SPEC._replace(batch_size=batch_size, num_train=num_train, pools={"trusted": trusted})
  method = methods.glc(toy_network(), spec=spec, label_matrix=MATRIX)
  assert [tuple(side) for side in method.side_batches] == [("trusted", "trusted", size, None)]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"label_matrix": None}, r"config\.label_matrix is empty, but glc needs the probabilities"),
    ({"label_matrix": np.eye(4)}, r"label_matrix: found shape \(4, 4\), expected \(3, 3\)"),
    ({"label_matrix": "matrix"}, r"label_matrix: found shape \(0,\)"),
    ({"label_matrix": MATRIX.T}, r"label_matrix: row 2 sums to 0.5 with"),
    ({"label_matrix": [[2, -1, 0], [0, 1, 0], [0, 0, 1]]}, "row 0 sums to 1 with the least entry"),
    ({"label_matrix": np.full((3, 3), np.nan)}, "label_matrix: row 0 sums to nan"),
    ({"trusted_size": 0}, r"config\.method\.trusted_size is 0"),
  ],
)
def test_bad_arguments(arguments, message):
  with pytest.raises(InputError, match=message):
    make(**arguments)
