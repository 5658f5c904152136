"""Distillation from a teacher's logits: plain, from a fickle teacher, and with noisy students."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp

from jaxnoise import augment
from jaxnoise.core.errors import InputError
from jaxnoise.core.types import Array, Method, Network, PRNGKey, Spec
from jaxnoise.methods import _base, _distill


def knowledge_distillation(
  network: Network,
  *,
  spec: Spec,
  teacher_network: Network,
  temperature: float = 4.0,
  alpha: float = 0.9,
  reverse: bool = False,
  first: _base.Transform = augment.identity,
) -> Method:
  """Minimises (1 - alpha) CE(z_s, y) + alpha tau^2 KL(p_t || p_s) at temperature tau.

  The teacher is `state.teacher = {"params", "batch_stats"}`, run in evaluation mode on the same
  view as the student. It is an input of the compiled step: never trained, never saved.

  Args:
    network: the student.
    spec: `num_classes` is used.
    teacher_network: the model that the teacher's parameters belong to.
    temperature: tau > 0.
    alpha: in [0, 1].
    reverse: the divergence in the order that the paper prints, KL(p_s || p_t).
    first: (rng, image) -> image, the crop and flip.

  Returns:
    A Method with one predictor, "student"; its metrics are "loss", "label_loss" (CE) and
    "distillation" (tau^2 KL).

  Raises:
    InputError: for tau or alpha out of range, and, at initialisation, when there is no teacher.

  Source: Hinton et al. (2015); "Noise as a Resource for Learning in Knowledge Distillation",
    eqs. (1)-(2).

  Example:
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> spec = core.Spec(num_train=4, num_classes=3, image_shape=(8, 8, 3))
    >>> methods.knowledge_distillation(network, spec=spec, teacher_network=network).name
    'knowledge_distillation'
  """
  return _distill.distillation(
    "knowledge_distillation",
    network,
    spec=spec,
    teacher_network=teacher_network,
    hinton=_distill.Hinton(temperature, alpha, reverse),
    first=first,
  )


def fickle_teacher(
  network: Network,
  *,
  spec: Spec,
  teacher_network: Network,
  teacher_dropout: float | None = None,
  temperature: float = 4.0,
  alpha: float = 0.9,
  reverse: bool = False,
  first: _base.Transform = augment.identity,
) -> Method:
  """Minimises the loss of `knowledge_distillation` with z_t from a teacher whose dropout is live.

  The teacher is one that was trained with dropout. It runs once in each step, with a fresh mask
  and no average over several, in evaluation mode otherwise: with its running statistics, which do
  not move. The student's dropout is its network's own affair; the paper's has none.

  Args:
    network: the student.
    spec: `num_classes` and `image_shape` are used.
    teacher_network: the model that the teacher's parameters belong to.
    teacher_dropout: in [0, 1), in place of the rate that the teacher was trained with, which is the
      paper's and what None means; 0 is `knowledge_distillation`. Paper: 0.1 to 0.5.
    temperature: tau > 0.
    alpha: in [0, 1].
    reverse: KL(p_s || p_t), the order that the paper prints.
    first: (rng, image) -> image, the crop and flip.

  Returns:
    A Method with one predictor, "student", and the metrics of `knowledge_distillation`.

  Raises:
    InputError: for a number out of range, a teacher without dropout, and, at initialisation, when
      there is no teacher.

  Source: "Noise as a Resource for Learning in Knowledge Distillation", section 4.1; the paper does
    not say what the teacher's batch norm does.

  Example:
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> teacher = models.network(models.wide_resnet(3, depth=10, widen_factor=1, dropout=0.4))
    >>> spec = core.Spec(num_train=4, num_classes=3, image_shape=(8, 8, 3))
    >>> methods.fickle_teacher(network, spec=spec, teacher_network=teacher).name
    'fickle_teacher'
  """
  return _distill.distillation(
    "fickle_teacher",
    network,
    spec=spec,
    teacher_network=teacher_network,
    hinton=_distill.Hinton(temperature, alpha, reverse),
    first=first,
    live=_distill.live_teacher(True, teacher_dropout),
  )


def soft_randomization(
  network: Network,
  *,
  spec: Spec,
  teacher_network: Network,
  sigma: float = 0.1,
  clip: bool = False,
  temperature: float = 4.0,
  alpha: float = 0.9,
  reverse: bool = False,
  first: _base.Transform = augment.identity,
) -> Method:
  """Minimises (1 - alpha) CE(S(x + d), y) + alpha tau^2 KL(T(x) || S(x + d)), d ~ N(0, sigma^2).

  The student sees noise in every number of every image, one draw for both terms; the teacher sees
  the same crop without. Both divide their logits by tau in the second term. With alpha = 0 it is
  Gaussian augmentation, which is `erm` with the policy `augment.gaussian_augment(std=sigma,
  clip=False)`: with one seed the two see the same noise. With sigma = 0 it is
  `knowledge_distillation`.

  Args:
    network: the student.
    spec: `num_classes` is used.
    teacher_network: the model that the teacher's parameters belong to.
    sigma: standard deviation, >= 0, in units of pixels in [0, 1]. Paper: 0.01 to 0.5.
    clip: cuts x + d to [0, 1]; the paper does not mention it.
    temperature: tau > 0.
    alpha: in [0, 1].
    reverse: KL(p_s || p_t), the order that the paper prints.
    first: (rng, image) -> image, the crop and flip, before the noise.

  Returns:
    A Method with one predictor, "student", and the metrics of `knowledge_distillation`.

  Raises:
    InputError: for a number out of range, and, at initialisation, when there is no teacher.

  Source: "Noise as a Resource for Learning in Knowledge Distillation", section 4.2.

  Example:
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> spec = core.Spec(num_train=4, num_classes=3, image_shape=(8, 8, 3))
    >>> methods.soft_randomization(network, spec=spec, teacher_network=network, sigma=0.05).name
    'soft_randomization'
  """
  if not 0 <= sigma < math.inf:
    raise InputError(
      f"config.method.sigma is {sigma}; it must be a finite number, 0 or larger, in units of "
      "pixels in [0, 1]"
    )
  noise = functools.partial(augment.gaussian_augment, std=sigma, clip=clip)
  return _distill.distillation(
    "soft_randomization",
    network,
    spec=spec,
    teacher_network=teacher_network,
    hinton=_distill.Hinton(temperature, alpha, reverse),
    first=first,
    perturb=noise if sigma else None,
  )


def messy_collaboration(
  network: Network,
  *,
  spec: Spec,
  teacher_network: Network,
  rate: float = 0.1,
  temperature: float = 4.0,
  alpha: float = 0.9,
  reverse: bool = False,
  first: _base.Transform = augment.identity,
) -> Method:
  """Minimises (1 - alpha) CE(z_s, y') + alpha tau^2 KL(p_t || p_s) with y' redrawn at a rate.

  The labels y' are `redraw_labels` of the batch's, afresh in every step; the second term has none.
  On average CE(z_s, y') is (1 - rate) CE(z_s, y) + rate mean_c CE(z_s, c). It is not the data's
  label noise, which is drawn once (`config.data.noise`) and which teacher and student train on.

  Args:
    network: the student.
    spec: `num_classes` is used.
    teacher_network: the model that the teacher's parameters belong to.
    rate: r in [0, 1]; 0 is `knowledge_distillation`. Paper: 0.05 to 0.5.
    temperature: tau > 0.
    alpha: in [0, 1].
    reverse: KL(p_s || p_t), the order that the paper prints.
    first: (rng, image) -> image, the crop and flip.

  Returns:
    A Method with one predictor, "student", and the metrics of `knowledge_distillation`;
    "label_loss" and `per_example` are those of the labels drawn.

  Raises:
    InputError: for a number out of range, and, at initialisation, when there is no teacher.

  Source: "Noise as a Resource for Learning in Knowledge Distillation", section 4.3.

  Example:
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> spec = core.Spec(num_train=4, num_classes=3, image_shape=(8, 8, 3))
    >>> methods.messy_collaboration(network, spec=spec, teacher_network=network, rate=0.25).name
    'messy_collaboration'
  """
  if not 0 <= rate <= 1:
    raise InputError(
      f"config.method.rate is {rate}; it must lie in [0, 1], the share of labels that are redrawn"
    )
  messy = functools.partial(redraw_labels, rate=rate, num_classes=spec.num_classes)
  return _distill.distillation(
    "messy_collaboration",
    network,
    spec=spec,
    teacher_network=teacher_network,
    hinton=_distill.Hinton(temperature, alpha, reverse),
    first=first,
    relabel=messy if rate else None,
  )


def redraw_labels(rng: PRNGKey, labels: Array, *, rate: float, num_classes: int) -> Array:
  """Replaces each label, with probability r, by one drawn uniformly from all K classes.

  The label may be drawn again, so that a share of r (K - 1) / K changes.

  Args:
    rng: key.
    labels: [B] integers.
    rate: r in [0, 1].
    num_classes: K.

  Returns:
    [B] of the labels' dtype.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import methods
    >>> labels = jnp.array([0, 2, 1])
    >>> methods.redraw_labels(jax.random.key(0), labels, rate=0.0, num_classes=3).tolist()
    [0, 2, 1]
  """
  chance, place = jax.random.uniform(rng, (2, labels.shape[0]))
  drawn = jnp.floor(place * num_classes).astype(labels.dtype)
  return jnp.where(chance < rate, drawn, labels)
