"""One row per loss; the common battery in test_losses.py runs on each.

A row: (id, function of one array of logits [..., K] (or of views [..., V, K]) whose other arguments
are bound, the shape of the logits, the value at a hand-checkable point or None).
"""

import jax.numpy as jnp

from jaxnoise import losses

K = 5
TARGETS = jnp.eye(K)[jnp.array([0, 3, 4, 1])]
SOFT = jnp.full((4, K), 0.2)
# P(given label | true class): every class is kept with 0.7, most of the rest goes to the next one.
FLIPS = 0.7 * jnp.eye(K) + 0.2 * jnp.roll(jnp.eye(K), 1, axis=1) + 0.02
HISTORY = jnp.eye(K)[jnp.array([1, 3, 0, 1])] * 0.6 + 0.05
TEACHER = jnp.array([[2.0, -1.0, 0.0, 0.5, 1.0]]) * jnp.array([[1.0], [-1.0], [3.0], [0.0]])

CASES = [
  ("cross_entropy", lambda z: losses.cross_entropy(z, TARGETS), (4, K)),
  ("cross_entropy_soft", lambda z: losses.cross_entropy(z, SOFT), (4, K)),
  ("binary_cross_entropy", lambda z: losses.binary_cross_entropy(z, SOFT), (4, K)),
  ("hinton", lambda z: losses.hinton(z, TEACHER), (4, K)),
  ("hinton_reverse", lambda z: losses.hinton(z, TEACHER, reverse=True), (4, K)),
  ("half_squared_error", lambda z: losses.half_squared_error(z, TEACHER), (4, K)),
  ("jensen_shannon", losses.jensen_shannon, (4, 3, K)),
  (
    "jensen_shannon_weighted",
    lambda z: losses.jensen_shannon(z, weights=(0.5, 0.2, 0.3)),
    (4, 3, K),
  ),
  ("label_smoothing", lambda z: losses.label_smoothing(z, TARGETS), (4, K)),
  (
    "label_smoothing_off_target",
    lambda z: losses.label_smoothing(z, TARGETS, variant="off_target"),
    (4, K),
  ),
  ("mean_absolute_error", lambda z: losses.mean_absolute_error(z, TARGETS), (4, K)),
  (
    "soft_bootstrap",
    lambda z: losses.soft_bootstrap(z, TARGETS, prediction_weight=0.3, floor=0.0),
    (4, K),
  ),
  ("hard_bootstrap", lambda z: losses.hard_bootstrap(z, TARGETS), (4, K)),
  ("generalized_cross_entropy", lambda z: losses.generalized_cross_entropy(z, TARGETS), (4, K)),
  ("reverse_cross_entropy", lambda z: losses.reverse_cross_entropy(z, TARGETS), (4, K)),
  ("symmetric_cross_entropy", lambda z: losses.symmetric_cross_entropy(z, TARGETS), (4, K)),
  ("normalized_cross_entropy", lambda z: losses.normalized_cross_entropy(z, TARGETS), (4, K)),
  ("nce_rce", lambda z: losses.nce_rce(z, TARGETS), (4, K)),
  (
    "forward_correction",
    lambda z: losses.forward_correction(z, TARGETS, matrix=FLIPS),
    (4, K),
  ),
  (
    "backward_correction",
    lambda z: losses.backward_correction(z, TARGETS, matrix=FLIPS),
    (4, K),
  ),
  ("elr", lambda z: losses.elr(z, HISTORY), (4, K)),
  ("js", lambda z: losses.js(z, TARGETS), (4, K)),
  ("gjs", lambda z: losses.gjs(z, TARGETS, weights=(0.3, 0.5, 0.2)), (4, 2, K)),
  ("gjs_no_consistency", lambda z: losses.gjs_no_consistency(z, TARGETS), (4, 2, K)),
  ("nrd", lambda z: losses.nrd(z, TEACHER, TARGETS), (4, K)),
  ("nrd_two_views", lambda z: losses.nrd(z, TEACHER, TARGETS, scaled=False), (4, 2, K)),
  ("squared_error", lambda z: losses.squared_error(z, SOFT), (4, K)),
  ("negative_entropy", losses.negative_entropy, (4, K)),
]
