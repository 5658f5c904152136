"""A linear network, whose nearest misclassified image is known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np

SHAPE, CLASSES = (6, 4, 4, 2), 5
WEIGHT = np.asarray(jax.random.normal(jax.random.key(0), (32, CLASSES))) / 8
IMAGE = np.asarray(jax.random.uniform(jax.random.key(1), SHAPE, minval=0.4, maxval=0.6))


def predict(image):
  return image.reshape(len(image), -1) @ WEIGHT


LABEL = np.asarray(jnp.argmax(predict(IMAGE), -1), np.int32)


def smallest_radius(norm="linf"):
  """[N, K], min over x' of ||x' - x|| with z_k = z_y: (z_y - z_k) / ||w_y - w_k|| in the dual norm.

  The box is not met as long as the radius is below 0.4. The column of the label is inf.
  """
  logits = np.asarray(predict(IMAGE), np.float64)
  out = np.full((len(IMAGE), CLASSES), np.inf)
  for i, y in enumerate(LABEL):
    for k in range(CLASSES):
      if k != y:
        w = WEIGHT[:, y].astype(np.float64) - WEIGHT[:, k]
        dual = np.abs(w).sum() if norm == "linf" else np.sqrt((w**2).sum())
        out[i, k] = (logits[i, y] - logits[i, k]) / dual
  return out
