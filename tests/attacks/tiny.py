"""The network of the golden attacks: conv 3x3 (3 -> 8), ReLU, mean pool, dense (8 -> 10)."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise import attacks


def nhwc(x):
  return np.moveaxis(x, -3, -1)


def tiny_params(golden, dtype=np.float64):
  return {
    "conv": golden["net/conv_kernel_OIHW"].transpose(2, 3, 1, 0).astype(dtype),
    "conv_bias": golden["net/conv_bias"].astype(dtype),
    "dense": golden["net/dense_kernel_out_in"].T.astype(dtype),
    "dense_bias": golden["net/dense_bias"].astype(dtype),
  }


def tiny_logits(params, image):
  """[B, H, W, 3] -> [B, 10]; the convolution as nine shifts, cheap inside a loop on a CPU."""
  height, width = image.shape[1:3]
  padded = jnp.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
  h = sum(
    padded[:, i : i + height, j : j + width] @ params["conv"][i, j]
    for i in range(3)
    for j in range(3)
  )
  h = jnp.mean(jax.nn.relu(h + params["conv_bias"].reshape(1, 1, 1, -1)), axis=(1, 2))
  return h @ params["dense"] + params["dense_bias"].reshape(1, -1)


def tiny_ascent(params, label, *, mean=0.0, std=1.0):
  """The cross entropy, the input normalised as the model's first layer would."""
  mean, std = (jnp.reshape(jnp.asarray(v), (1, 1, 1, -1)) for v in (mean, std))
  return attacks.cross_entropy_ascent(lambda x: tiny_logits(params, (x - mean) / std), label)
