"""One row per loss; the common battery in test_losses.py runs on each.

A row: (id, function of one array of logits [..., K] (or of views [..., V, K]) whose other arguments
are bound, the shape of the logits, the value at a hand-checkable point or None).
"""

import jax.numpy as jnp

from jaxnoise import losses

K = 5
TARGETS = jnp.eye(K)[jnp.array([0, 3, 4, 1])]
SOFT = jnp.full((4, K), 0.2)
TEACHER = jnp.array([[2.0, -1.0, 0.0, 0.5, 1.0]]) * jnp.array([[1.0], [-1.0], [3.0], [0.0]])

CASES = [
  ("cross_entropy", lambda z: losses.cross_entropy(z, TARGETS), (4, K)),
  ("cross_entropy_soft", lambda z: losses.cross_entropy(z, SOFT), (4, K)),
  ("binary_cross_entropy", lambda z: losses.binary_cross_entropy(z, SOFT), (4, K)),
  ("hinton", lambda z: losses.hinton(z, TEACHER), (4, K)),
  ("hinton_reverse", lambda z: losses.hinton(z, TEACHER, reverse=True), (4, K)),
  ("jensen_shannon", losses.jensen_shannon, (4, 3, K)),
  (
    "jensen_shannon_weighted",
    lambda z: losses.jensen_shannon(z, weights=(0.5, 0.2, 0.3)),
    (4, 3, K),
  ),
]
