"""Robust losses against the authors' code: every case and setting of losses.npz.

Cases with as many classes are stacked and settings are mapped over, so that one program serves all.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import losses

TEN, HUNDRED = (0, 1, 2, 5), (3, 4, 6)  # cases by number of classes; 5 and 6 have extreme logits

# Name in the file -> (views, the loss of (logits, targets, hyper-parameters)). One view is [R, K].
LOSSES = {
  "ce": (0, lambda z, t, h: losses.cross_entropy(z, t)),
  "label_smoothing": (0, lambda z, t, h: losses.label_smoothing(z, t, smoothing=h["t"])),
  "label_smoothing_mr": (
    0,
    lambda z, t, h: losses.label_smoothing(z, t, smoothing=h["smoothing"], variant="off_target"),
  ),
  "bootstrap_soft": (0, lambda z, t, h: losses.soft_bootstrap(z, t, prediction_weight=h["t"])),
  "mae": (0, lambda z, t, h: losses.mean_absolute_error(z, t, scale=h["scale"])),
  "gce": (0, lambda z, t, h: losses.generalized_cross_entropy(z, t, q=h["q"])),
  "sce": (0, lambda z, t, h: losses.symmetric_cross_entropy(z, t, **h)),
  "nce_rce": (0, lambda z, t, h: losses.nce_rce(z, t, **h)),
  "js": (0, lambda z, t, h: losses.js(z, t, label_weight=h["weights"][0])),
  "js_unscaled": (
    0,
    lambda z, t, h: losses.js(z, t, label_weight=h["weights"][0], scaled=False),
  ),
  "gjs2": (2, lambda z, t, h: losses.gjs(z, t, **h)),
  "gjs2_unscaled": (2, lambda z, t, h: losses.gjs(z, t, scaled=False, **h)),
  "gjs3": (3, lambda z, t, h: losses.gjs(z, t, **h)),
  "gjs2_noconsistency": (2, lambda z, t, h: losses.gjs_no_consistency(z, t, **h)),
}


def _settings(data, name, dtype):
  """Hyper-parameter -> its values [S, ...]."""
  count = int(data[f"{name}/num_settings"])
  prefix = f"{name}/h0/"
  names = [key.removeprefix(prefix) for key in data if key.startswith(prefix)]
  return {
    n: jnp.asarray(np.stack([data[f"{name}/h{s}/{n}"] for s in range(count)]), dtype)
    for n in names
  }


def _run(views, targets, settings):
  """Name -> (values [S, R], gradients [S, R, (V,) K]) for logits of three views [R, 3, K]."""
  out = {}
  for name, (count, loss) in LOSSES.items():
    z = views[:, :count] if count else views[:, 0]

    def one(h, z=z, loss=loss):
      value, pull = jax.vjp(lambda x: loss(x, targets, h), z)
      return value, pull(jnp.ones_like(value))[0]

    if settings[name]:
      out[name] = jax.vmap(one)(settings[name])
    else:
      out[name] = jax.tree.map(lambda leaf: leaf[None], one({}))
  return out


@pytest.mark.parametrize(
  ("cases", "x64"),
  [
    pytest.param(TEN, True, id="10-float64"),
    pytest.param(HUNDRED, True, id="100-float64", marks=pytest.mark.slow),
    pytest.param(TEN, False, id="10-float32", marks=pytest.mark.slow),
    pytest.param(HUNDRED, False, id="100-float32", marks=pytest.mark.slow),
  ],
)
def test_values_and_gradients(golden, cases, x64):
  data = golden("losses")
  assert set(LOSSES) == set(data["loss_names"]) and int(data["num_cases"]) == 7
  z = np.concatenate(
    [np.stack([data[f"c{n}/logits_v{v}"] for v in range(3)], axis=1) for n in cases]
  )
  targets = np.eye(z.shape[-1])[np.concatenate([data[f"c{n}/labels"] for n in cases])]
  with jax.enable_x64(x64):
    dtype = jnp.float64 if x64 else jnp.float32
    settings = {name: _settings(data, name, dtype) for name in LOSSES}
    found = jax.jit(_run)(jnp.asarray(z, dtype), jnp.asarray(targets, dtype), settings)
    found = jax.tree.map(np.asarray, found)
  tolerance = {"rtol": 1e-7, "atol": 1e-9} if x64 else {"rtol": 1e-5, "atol": 1e-6}
  grad_tolerance = tolerance if x64 else {"rtol": 0.0, "atol": 1e-6}
  checked = 0
  for name, (value, grad) in found.items():
    assert value.dtype == grad.dtype == dtype, name
    start = 0
    for n in cases:
      size = len(data[f"c{n}/labels"])
      rows = slice(start, start + size)
      for s in range(int(data[f"{name}/num_settings"])):
        key = f"c{n}/{name}/h{s}"
        np.testing.assert_allclose(
          value[s, rows].mean(), data[f"{key}/value"], **tolerance, err_msg=key
        )
        expected = data[f"{key}/grad"]
        expected = expected if expected.ndim == 2 else np.swapaxes(expected, 0, 1)
        np.testing.assert_allclose(
          grad[s, rows] / size, expected, **grad_tolerance, err_msg=key
        )
        checked += 1
      start += size
  assert checked == 35 * len(cases)
