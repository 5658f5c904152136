"""One row per method: what the common battery in test_battery.py runs on, over the toy network."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxnoise import methods
from jaxnoise.core import Spec
from jaxnoise.methods import _base
from tests.methods.teachers import featured
from tests.toy import toy_batch

SPEC = Spec(
  num_train=12, num_classes=3, image_shape=(4, 4, 3), batch_size=6, steps_per_epoch=2, num_steps=8
)
LABEL_MATRIX = ((0.8, 0.2, 0.0), (0.1, 0.8, 0.1), (0.3, 0.1, 0.6))


def jitter(rng, image):
  return image + 0.05 * jax.random.normal(rng, image.shape)


def shift(rng, image):
  """A transform whose draw compiles in a fraction of the time of `jitter`'s."""
  return image + 0.05 * jax.random.uniform(rng)


def teacher_of(network):
  params, stats = network.init(jax.random.key(99), jnp.zeros((1, 4, 4, 3)))
  return {"params": params, "batch_stats": stats}


def with_trusted(method):
  """The method with a side batch in every batch, as the step would give it."""
  trusted = toy_batch(4, seed=7)
  change = lambda state, batch, rng: {**batch, "side": {"trusted": trusted}}
  return dataclasses.replace(_base.with_batch(method, "side", change), wrappers=())


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
  "dynamic_bootstrap": lambda n: (
    methods.dynamic_bootstrap(n, spec=SPEC, alpha=1.0, warmup_epochs=0, first=shift),
    None,
  ),
  "elr": lambda n: (methods.elr(n, spec=SPEC, first=shift), None),
  "free_at": lambda n: (methods.free_at(n, spec=SPEC, first=jitter, replays=2), None),
  "pgd_at": lambda n: (methods.pgd_at(n, spec=SPEC, steps=2, first=shift), None),
  "trades": lambda n: (methods.trades(n, spec=SPEC, steps=2, first=shift), None),
  "knowledge_distillation": lambda n: (
    methods.knowledge_distillation(n, spec=SPEC, teacher_network=n, first=jitter),
    teacher_of(n),
  ),
  "self_distillation": lambda n: (
    methods.self_distillation(
      n, spec=SPEC, teacher_network=n, noise="gaussian", scale=0.5, first=shift
    ),
    teacher_of(n),
  ),
  "rkd": lambda n: (
    methods.rkd(
      featured(), spec=SPEC, teacher_network=featured(0.5), alpha=0.9, fickle=True, first=shift
    ),
    teacher_of(n),
  ),
  "gjs": lambda n: (methods.gjs(n, spec=SPEC, first=shift), None),
  "nrd": lambda n: (methods.nrd(n, spec=SPEC, first=shift, teacher_policy=None), None),
  "glc": lambda n: (
    with_trusted(methods.glc(
      n, spec=SPEC._replace(pools={"trusted": 8}), label_matrix=LABEL_MATRIX, first=shift
    )),
    None,
  ),
  "meta_weight_net": lambda n: (
    with_trusted(methods.meta_weight_net(n, spec=SPEC, hidden=5, trusted_size=4, first=shift)),
    None,
  ),
  "random_weighting(erm)": lambda n: (
    methods.random_weighting(methods.erm(n, spec=SPEC, first=jitter)),
    None,
  ),
  "with_ema(noisymix)": lambda n: (
    methods.with_ema(methods.noisymix(n, spec=SPEC, policy=jitter, stages=(0, 1)), decay=0.9),
    None,
  ),
}
