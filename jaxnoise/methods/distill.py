"""Knowledge distillation: a student taught by a frozen teacher."""

from __future__ import annotations

import jax

from jaxnoise import augment, losses
from jaxnoise.core import reduce
from jaxnoise.core.errors import InputError
from jaxnoise.core.rng import Streams
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, Aux, Batch, LossFn, Method, Network, Params, PRNGKey, Spec
from jaxnoise.methods import _base


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
  if not temperature > 0:
    raise InputError(f"config.method.temperature is {temperature}; it must be larger than 0")
  if not 0 <= alpha <= 1:
    raise InputError(f"config.method.alpha is {alpha}; it must lie in [0, 1]")
  transform = augment.batched(first)

  def init_state(state: TrainState) -> TrainState:
    if state.teacher is None:
      raise InputError(
        "config.teacher is empty, but knowledge_distillation needs a teacher; name the run "
        "directory of a trained network (or an earlier stage)"
      )
    return state

  def loss_fn(state: TrainState) -> LossFn:
    teacher = _base.predictor(
      teacher_network, state.teacher["params"], state.teacher["batch_stats"]
    )

    def fn(params: Params, batch: Batch, rng: PRNGKey) -> tuple[Array, Aux]:
      streams = Streams(rng)
      image = transform(streams("augment"), batch["image"])
      out = network.apply(
        params, state.batch_stats, image, train=True, rng=streams("dropout")
      )
      taught = jax.lax.stop_gradient(teacher(image))
      ce = losses.cross_entropy(out.logits, _base.one_hot(batch["label"], spec.num_classes))
      kd = losses.hinton(out.logits, taught, temperature=temperature, reverse=reverse)
      values = (1 - alpha) * ce + alpha * kd
      metrics = {
        "loss": reduce.mean_count(values),
        "label_loss": reduce.mean_count(ce),
        "distillation": reduce.mean_count(kd),
      }
      loss = reduce.weighted_mean(values, batch.get("weight"))
      return loss, Aux(out.batch_stats, ce, metrics)

    return fn

  return Method("knowledge_distillation", loss_fn, _base.student(network), init_state=init_state)
