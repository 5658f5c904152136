"""One row per method: what the common battery in test_battery.py runs on, over the toy network."""

import jax
import jax.numpy as jnp

from jaxnoise import methods
from jaxnoise.core import Spec

SPEC = Spec(
  num_train=12, num_classes=3, image_shape=(4, 4, 3), batch_size=6, steps_per_epoch=2, num_steps=8
)


def jitter(rng, image):
  return image + 0.05 * jax.random.normal(rng, image.shape)


def shift(rng, image):
  """A transform whose draw compiles in a fraction of the time of `jitter`'s."""
  return image + 0.05 * jax.random.uniform(rng)


def teacher_of(network):
  params, stats = network.init(jax.random.key(99), jnp.zeros((1, 4, 4, 3)))
  return {"params": params, "batch_stats": stats}


# name -> network -> (method, teacher or None)
CASES = {
  "erm": lambda n: (methods.erm(n, spec=SPEC, first=jitter), None),
  "noisymix": lambda n: (
    methods.noisymix(n, spec=SPEC, first=jitter, policy=jitter, stages=(0, 1, 2)),
    None,
  ),
  "mixup": lambda n: (methods.mixup(n, spec=SPEC, first=jitter), None),
  "manifold_mixup": lambda n: (methods.manifold_mixup(n, spec=SPEC, alpha=1.0, first=jitter), None),
  "nfm": lambda n: (methods.nfm(n, spec=SPEC, first=jitter, stages=(0, 1, 2)), None),
  "cutmix": lambda n: (methods.cutmix(n, spec=SPEC, first=jitter), None),
  "puzzlemix": lambda n: (methods.puzzlemix(n, spec=SPEC, blocks=(2,), first=shift), None),
  "augmax": lambda n: (methods.augmax(n, spec=SPEC, steps=2, first=shift, chain=shift), None),
  "free_at": lambda n: (methods.free_at(n, spec=SPEC, first=jitter, replays=2), None),
  "knowledge_distillation": lambda n: (
    methods.knowledge_distillation(n, spec=SPEC, teacher_network=n, first=jitter),
    teacher_of(n),
  ),
  "random_weighting(erm)": lambda n: (
    methods.random_weighting(methods.erm(n, spec=SPEC, first=jitter)),
    None,
  ),
  "with_ema(noisymix)": lambda n: (
    methods.with_ema(
      methods.noisymix(n, spec=SPEC, policy=jitter, stages=(0, 1)), n, decay=0.9
    ),
    None,
  ),
}
