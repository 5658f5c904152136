"""Distillation from a teacher's features: its attention, its similarities, its relations."""

from __future__ import annotations

from collections.abc import Sequence

from jaxnoise import augment, losses
from jaxnoise.core.errors import InputError
from jaxnoise.core.types import Array, Method, Network, Spec
from jaxnoise.methods import _base, _distill


def attention_transfer(
  network: Network,
  *,
  spec: Spec,
  teacher_network: Network,
  beta: float = 1000.0,
  layers: str | Sequence[str] = ("stage1", "stage2", "stage3"),
  teacher_layers: str | Sequence[str] | None = None,
  alpha: float = 0.0,
  temperature: float = 4.0,
  reverse: bool = False,
  balance: str = "convex",
  fickle: bool = False,
  teacher_dropout: float | None = None,
  first: _base.Transform = augment.identity,
) -> Method:
  """Minimises CE(z_s, y) + beta sum_l AT(F_l, F'_l), AT the `losses.attention_transfer` of a layer.

  "+H", alpha > 0, adds the teacher's logits as in `knowledge_distillation`: (1 - alpha) CE + alpha
  tau^2 KL + beta sum_l AT. Which weights the paper's have is not said; `balance="sum"` with alpha =
  1 is RepDistiller's choice. "+FT", `fickle`, takes logits and features from the one pass of a
  teacher whose dropout is live, as in `fickle_teacher`.

  Channels may differ between the networks, and so may height and width (see the loss); no projector
  is needed. F is a stage's sum, before the next norm and ReLU.

  Args:
    network: the student.
    spec: `num_classes` and `image_shape` are used.
    teacher_network: the model that the teacher's parameters belong to.
    beta: weight of the attention, >= 0. Paper: 1000.
    layers: features of the student, maps; the three stages of a WRN in the paper.
    teacher_layers: those of the teacher they are compared with, in this order; None for the same
      names.
    alpha: weight of the teacher's logits, in [0, 1] (with "sum": >= 0). Paper: 0; +H: 0.9.
    temperature: tau > 0.
    reverse: KL(p_s || p_t), the order that the paper prints.
    balance: "convex", CE has the weight 1 - alpha; "sum", 1.
    fickle: the teacher's dropout is live.
    teacher_dropout: with `fickle`, in [0, 1), in place of the teacher's own rate.
    first: (rng, image) -> image, the crop and flip.

  Returns:
    A Method with one predictor, "student"; its metrics are "loss", "label_loss", "attention" (the
    sum, without beta) and, with alpha > 0, "distillation".

  Raises:
    InputError: for a number out of range, features that a network does not have or that are no
      maps, a fickle teacher without dropout, and, at initialisation, when there is no teacher.

  Source: Zagoruyko and Komodakis (2017); "Noise as a Resource for Learning in Knowledge
    Distillation", Tables 1 and 2.

  Example:
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> teacher = models.network(models.wide_resnet(3, depth=10, widen_factor=2, dropout=0.4))
    >>> spec = core.Spec(num_train=4, num_classes=3, image_shape=(8, 8, 3))
    >>> methods.attention_transfer(
    ...   network, spec=spec, teacher_network=teacher, alpha=0.9, fickle=True).name
    'attention_transfer'
  """
  _distill.check_weights(beta=beta)
  names = _distill.layer_names(layers)
  teacher_names = names if teacher_layers is None else _distill.layer_names(teacher_layers)
  if not names or len(names) != len(teacher_names):
    raise InputError(
      f"config.method.layers names {len(names)} layers and config.method.teacher_layers "
      f"{len(teacher_names)}; name at least one of the student's, and one of the teacher's for each"
    )

  def attention(features: Sequence[Array], teacher_features: Sequence[Array]) -> Array:
    return sum(map(losses.attention_transfer, features, teacher_features))

  return _distill.distillation(
    "attention_transfer",
    network,
    spec=spec,
    teacher_network=teacher_network,
    hinton=_distill.Hinton(temperature, alpha, reverse, balance),
    first=first,
    term=_distill.Term(
      "layers", names, teacher_names, [("attention", beta, attention)], maps=True
    ),
    live=_distill.live_teacher(fickle, teacher_dropout),
  )


def similarity_preserving(
  network: Network,
  *,
  spec: Spec,
  teacher_network: Network,
  gamma: float = 3000.0,
  layer: str | None = None,
  teacher_layer: str | None = None,
  alpha: float = 0.0,
  temperature: float = 4.0,
  reverse: bool = False,
  balance: str = "convex",
  fickle: bool = False,
  teacher_dropout: float | None = None,
  first: _base.Transform = augment.identity,
) -> Method:
  """Minimises CE(z_s, y) + gamma SP(F, F'), SP the mean of `losses.similarity_preserving`.

  SP compares which examples of the batch are alike to each network: it is one number of the whole
  batch, of all devices, and example weights do not reach it. "+H" and "+FT" as in
  `attention_transfer`. The features of the two networks may have any shapes.

  Args:
    network: the student.
    spec: `num_classes` and `image_shape` are used.
    teacher_network: the model that the teacher's parameters belong to.
    gamma: weight of the similarities, >= 0. Paper: 3000.
    layer: feature of the student; None for its last stage, before the last norm and ReLU.
    teacher_layer: the teacher's; None for the same name, or its last stage if `layer` is None.
    alpha: weight of the teacher's logits, in [0, 1] (with "sum": >= 0). Paper: 0; +H: 0.9.
    temperature: tau > 0.
    reverse: KL(p_s || p_t), the order that the paper prints.
    balance: "convex", CE has the weight 1 - alpha; "sum", 1.
    fickle: the teacher's dropout is live.
    teacher_dropout: with `fickle`, in [0, 1), in place of the teacher's own rate.
    first: (rng, image) -> image, the crop and flip.

  Returns:
    A Method with one predictor, "student"; its metrics are "loss", "label_loss", "similarity" (SP)
    and, with alpha > 0, "distillation".

  Raises:
    InputError: for a number out of range, features that a network does not have, a fickle teacher
      without dropout, and, at initialisation, when there is no teacher.

  Source: Tung and Mori (2019); "Noise as a Resource for Learning in Knowledge Distillation",
    Tables 1 and 2.

  Example:
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> spec = core.Spec(num_train=4, num_classes=3, image_shape=(8, 8, 3))
    >>> methods.similarity_preserving(network, spec=spec, teacher_network=network).name
    'similarity_preserving'
  """
  _distill.check_weights(gamma=gamma)
  if teacher_layer is None:
    teacher_layer = layer or f"stage{teacher_network.num_stages}"
  if layer is None:
    layer = f"stage{network.num_stages}"

  def similarity(features: Sequence[Array], teacher_features: Sequence[Array]) -> Array:
    return losses.similarity_preserving(features[0], teacher_features[0])

  return _distill.distillation(
    "similarity_preserving",
    network,
    spec=spec,
    teacher_network=teacher_network,
    hinton=_distill.Hinton(temperature, alpha, reverse, balance),
    first=first,
    term=_distill.Term(
      "layer", (layer,), (teacher_layer,), [("similarity", gamma, similarity)], whole_batch=True
    ),
    live=_distill.live_teacher(fickle, teacher_dropout),
  )


def rkd(
  network: Network,
  *,
  spec: Spec,
  teacher_network: Network,
  distance: float = 25.0,
  angle: float = 50.0,
  layer: str = "pooled",
  teacher_layer: str | None = None,
  alpha: float = 0.0,
  temperature: float = 4.0,
  reverse: bool = False,
  balance: str = "convex",
  fickle: bool = False,
  teacher_dropout: float | None = None,
  first: _base.Transform = augment.identity,
) -> Method:
  """Minimises CE(z_s, y) + distance D(e, e') + angle A(e, e'): relational distillation, RKD-DA.

  D and A are the means of `losses.rkd_distance` and `losses.rkd_angle` over the batch: numbers of
  the whole batch, of all devices, that example weights do not reach. RKD-D is angle = 0, RKD-A
  distance = 0; what has no weight is not computed. "+H" and "+FT" as in `attention_transfer`. The
  embeddings of the two networks may have any shapes. A takes B^3 numbers for each network.

  Args:
    network: the student.
    spec: `num_classes` and `image_shape` are used.
    teacher_network: the model that the teacher's parameters belong to.
    distance: weight of the distances, >= 0. Paper: 25.
    angle: weight of the angles, >= 0. Paper: 50.
    layer: feature of the student; its pooled vector, not normalised, in the authors' code.
    teacher_layer: that of the teacher; None for the same name.
    alpha: weight of the teacher's logits, in [0, 1] (with "sum": >= 0). Paper: 0; +H: 0.9.
    temperature: tau > 0.
    reverse: KL(p_s || p_t), the order that the paper prints.
    balance: "convex", CE has the weight 1 - alpha; "sum", 1.
    fickle: the teacher's dropout is live.
    teacher_dropout: with `fickle`, in [0, 1), in place of the teacher's own rate.
    first: (rng, image) -> image, the crop and flip.

  Returns:
    A Method with one predictor, "student"; its metrics are "loss", "label_loss", "distance" and
    "angle" (without weights) and, with alpha > 0, "distillation".

  Raises:
    InputError: for a number out of range, features that a network does not have, a fickle teacher
      without dropout, and, at initialisation, when there is no teacher.

  Source: Park et al. (2019); "Noise as a Resource for Learning in Knowledge Distillation",
    Tables 1 and 2.

  Example:
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> spec = core.Spec(num_train=4, num_classes=3, image_shape=(8, 8, 3))
    >>> methods.rkd(network, spec=spec, teacher_network=network, angle=0.0).name
    'rkd'
  """
  _distill.check_weights(distance=distance, angle=angle)

  def distances(features: Sequence[Array], teacher_features: Sequence[Array]) -> Array:
    return losses.rkd_distance(features[0], teacher_features[0])

  def angles(features: Sequence[Array], teacher_features: Sequence[Array]) -> Array:
    return losses.rkd_angle(features[0], teacher_features[0])

  parts = [("distance", distance, distances), ("angle", angle, angles)]
  return _distill.distillation(
    "rkd",
    network,
    spec=spec,
    teacher_network=teacher_network,
    hinton=_distill.Hinton(temperature, alpha, reverse, balance),
    first=first,
    term=_distill.Term(
      "layer",
      (layer,),
      (teacher_layer or layer,),
      [part for part in parts if part[1] > 0],
      whole_batch=True,
    ),
    live=_distill.live_teacher(fickle, teacher_dropout),
  )
