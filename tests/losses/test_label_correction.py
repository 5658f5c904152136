"""Label correction: which way the matrix goes, the mean over given labels, bad matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import losses
from jaxnoise.core.errors import InputError

# P(given | true), not symmetric: transposed, or read the wrong way round, it gives other numbers.
FLIPS = ((0.7, 0.2, 0.1), (0.0, 0.9, 0.1), (0.3, 0.0, 0.7))
IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
T = np.array(FLIPS)
Z = np.random.default_rng(2).normal(size=(2, 3))
P = np.exp(Z) / np.exp(Z).sum(1, keepdims=True)
EXTREME = np.array([[200.0, 0.0, 0.0], [0.0, 1e4, -1e4]])


@pytest.fixture(scope="module")
def found():
  """Everything that the tests below compare, from one program in float64."""

  def run(z, extreme, matrix):
    labels = jnp.eye(3, dtype=z.dtype)
    every = lambda fn, z, m: jnp.stack(
      [fn(z, jnp.stack([labels[j]] * 2), matrix=m) for j in range(3)], axis=1
    )
    # Class 2 is given no label of its own, and no class is given label 2.
    merged = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.5, 0.5, 0.0))
    never = lambda x: jnp.sum(every(losses.forward_correction, x, merged))
    return {
      "forward": every(losses.forward_correction, z, FLIPS),
      "backward": every(losses.backward_correction, z, FLIPS),
      "forward_traced": every(losses.forward_correction, z, matrix),
      "forward_identity": every(losses.forward_correction, extreme, IDENTITY),
      "backward_identity": every(losses.backward_correction, extreme, IDENTITY),
      "never": (never(extreme), jax.grad(never)(extreme)),
    }

  with jax.enable_x64(True):
    return jax.tree.map(np.asarray, jax.jit(run)(*(jnp.asarray(x) for x in (Z, EXTREME, T))))


def test_forward_is_cross_entropy_of_the_given_label(found):
  np.testing.assert_allclose(found["forward"], -np.log(P @ T), rtol=1e-9)
  np.testing.assert_allclose(found["forward_traced"], found["forward"], rtol=1e-9)


def test_backward_has_the_cross_entropy_as_its_mean(found):
  # Row i of T: how likely each label is for an example of class i.
  np.testing.assert_allclose(found["backward"] @ T.T, -np.log(P), rtol=1e-9)


@pytest.mark.slow  # compiles a matrix inverse
def test_backward_takes_a_traced_matrix(found):
  with jax.enable_x64(True):
    label = jnp.asarray(np.eye(3)[[1, 1]])
    run = jax.jit(lambda z, m: losses.backward_correction(z, label, matrix=m))
    np.testing.assert_allclose(run(Z, T), found["backward"][:, 1], rtol=1e-9)


def test_the_identity_is_cross_entropy_at_any_logits(found):
  log_p = EXTREME - EXTREME.max(1, keepdims=True)  # to all digits for these
  np.testing.assert_allclose(found["forward_identity"], -log_p, rtol=1e-9, atol=1e-9)
  np.testing.assert_allclose(found["backward_identity"], -log_p, rtol=1e-9, atol=1e-9)


def test_an_impossible_label_stays_finite(found):
  value, grad = found["never"]
  assert np.isfinite(value) and np.all(np.isfinite(grad))


@pytest.mark.parametrize("loss", [losses.forward_correction, losses.backward_correction])
@pytest.mark.parametrize(
  ("matrix", "says"),
  [
    (((0.9, 0.1), (0.1, 0.9)), r"shape \[2, 2\]; it must be \[3, 3\]"),
    (((1.0, 0.0), (0.0,), (0.1, 0.9)), "not a table of numbers"),
    (((0.9, 0.2, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), "row 0 sums to 1.1"),
    (T.T, "row 2 sums to 0.9; .*transpose it|row 1 sums to 1.1; .*transpose it"),
    (((1.1, -0.1, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), r"matrix\[0\]\[0\] is 1.1"),
    (((np.nan, 0.0, 1.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), r"matrix\[0\]\[0\] is nan"),
  ],
)
def test_bad_matrices(loss, matrix, says):
  with pytest.raises(InputError, match=says):
    jax.eval_shape(lambda z: loss(z, z, matrix=matrix), jnp.zeros((2, 3)))


def test_backward_refuses_a_singular_matrix_that_forward_takes():
  uniform = np.full((3, 3), 1 / 3)
  jax.eval_shape(lambda z: losses.forward_correction(z, z, matrix=uniform), jnp.zeros((2, 3)))
  with pytest.raises(InputError, match="smallest singular value"):
    jax.eval_shape(lambda z: losses.backward_correction(z, z, matrix=uniform), jnp.zeros((2, 3)))
