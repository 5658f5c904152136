"""Noisy self-distillation: a student taught by a teacher's logits with fresh, unbiased noise."""

from __future__ import annotations

from collections.abc import Callable

import jax

from jaxnoise import augment, losses
from jaxnoise.core import reduce
from jaxnoise.core.errors import InputError, closest
from jaxnoise.core.rng import Streams
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Array, Aux, Batch, LossFn, Method, Network, Params, PRNGKey, Spec
from jaxnoise.methods import _base, _distill

_NOISES = ("gaussian", "swap")
_LOSSES = ("squared", "kl")
_SCALES = ("variance", "deviation")


def self_distillation(
  network: Network,
  *,
  spec: Spec,
  teacher_network: Network,
  noise: str = "",
  scale: float = 0.0,
  scale_reading: str = "variance",
  swap_reading: str = "independent",
  loss: str = "squared",
  temperature: float = 1.0,
  first: _base.Transform = augment.identity,
) -> Method:
  """Minimises the distance of the student's logits f(x) to y~, the teacher's with noise in them.

  y = f_T(x), the teacher in evaluation mode on the same view as the student, is
  `state.teacher = {"params", "batch_stats"}`: frozen, an input of the compiled step. y~ is drawn
  afresh in every step, for each example and class:

    gaussian: y~ = y + e, e ~ N(0, sigma^2 I); see `losses.gaussian_logit_noise`.
    swap: every logit is replaced by another one with probability p; see `losses.swap_logits`. Its
      mean is not y but E y~ of `losses.expected_swap`, about which the noise is unbiased.

  The loss of an example is one of

    squared: 0.5 |f(x) - y~|^2, summed over the outputs: the paper's theory. Gaussian noise then
      adds -(1 / B) sum_i J_i^T e_i to the gradient of a batch and nothing to its mean.
    kl: tau^2 KL(softmax(y~ / tau) || softmax(f(x) / tau)), Hinton's distillation without labels.
      Through the softmax the noise is no longer unbiased: it is in the logits only.

  No hard label is used; the metric "label_loss" is the cross-entropy with them, measured and not
  minimised, which the axes of the paper's Figure 3 look like.

  Args:
    network: the student; the paper's has the teacher's architecture and an initialisation that is
      not stated. A run draws its own from `config.seed`: a student with the teacher's seed starts
      where the teacher started.
    spec: `num_classes` is used.
    teacher_network: the model that the teacher's parameters belong to.
    noise: "gaussian", "swap" or "" for none (noiseless self-distillation).
    scale: of "gaussian", sigma^2 >= 0, in squared units of the logits (paper: 0.1, 0.5, 1, 2, ...,
      10); of "swap", p in [0, 1] (0.1, 0.2, ..., 1). 0 is the noiseless student.
    scale_reading: of "gaussian", whether `scale` is the "variance" sigma^2, as the axis of the
      paper's Figure 2 says, or the standard "deviation" sigma, which its text does not rule out.
    swap_reading: "independent", "transposition" or "shift": what a swap is.
    loss: "squared" or "kl"; the paper does not say which it trains with.
    temperature: tau > 0 of "kl".
    first: (rng, image) -> image, the crop and flip.

  Returns:
    A Method with one predictor, "student". Example weights scale the loss of an example, but
    `labelled` is False: wrappers that weigh examples by their labels' losses, such as
    multiplicative reweighting, are refused, as no term has a label.

  Raises:
    InputError: for an unknown choice or a number out of range, at initialisation when there is no
      teacher, and while a step is traced for a teacher of other classes.

  Source: "Implicit Regularization Effects of Unbiased Random Label Noises with SGD", section 5 and
    appendix A.2.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> spec = core.Spec(num_train=4, num_classes=3, image_shape=(8, 8, 3))
    >>> method = methods.self_distillation(
    ...   network, spec=spec, teacher_network=network, noise="gaussian", scale=0.5
    ... )
    >>> batch = {"image": jnp.ones((2, 8, 8, 3)) / 2, "label": jnp.array([0, 2])}
    >>> def loss(key):
    ...   params, stats = network.init(key, batch["image"])
    ...   teacher = {"params": params, "batch_stats": stats}
    ...   state = core.TrainState.create(key, params, stats, teacher=teacher)
    ...   return method.loss_fn(state)(params, batch, key)
    >>> sorted(jax.eval_shape(loss, jax.random.key(0))[1].metrics)
    ['label_loss', 'loss']
  """
  _check_choices(noise, scale_reading, swap_reading, loss)
  _check_numbers(noise, scale, loss, temperature)
  add_noise = _noise(noise, scale, scale_reading, swap_reading)
  transform = augment.batched(first)

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
      clean = teacher(image)
      _distill.check_classes(clean, spec)
      taught = jax.lax.stop_gradient(add_noise(streams("logit_noise"), clean))
      if loss == "squared":
        values = losses.half_squared_error(out.logits, taught)
      else:
        values = losses.hinton(out.logits, taught, temperature=temperature)
      ce = losses.cross_entropy(out.logits, _base.one_hot(batch["label"], spec.num_classes))
      metrics = {"loss": reduce.mean_count(values), "label_loss": reduce.mean_count(ce)}
      value = reduce.weighted_mean(values, batch.get("weight"))
      return value, Aux(out.batch_stats, values, metrics)

    return fn

  return Method(
    "self_distillation",
    loss_fn,
    _base.student(network),
    init_state=_distill.with_teacher("self_distillation"),
    labelled=False,
  )


def _noise(
  noise: str, scale: float, scale_reading: str, swap_reading: str
) -> Callable[[PRNGKey, Array], Array]:
  """(rng, logits [B, K]) -> noisy logits [B, K]."""
  # Nothing is drawn at 0, so that the program is the noiseless student's.
  if not noise or scale == 0:
    return lambda rng, logits: logits
  if noise == "swap":
    return lambda rng, logits: losses.swap_logits(
      rng, logits, probability=scale, reading=swap_reading
    )
  variance = scale if scale_reading == "variance" else scale**2
  return lambda rng, logits: losses.gaussian_logit_noise(rng, logits, variance=variance)


def _check_choices(noise: str, scale_reading: str, swap_reading: str, loss: str) -> None:
  for field, value, known in (
    ("noise", noise, ("", *_NOISES)),
    ("scale_reading", scale_reading, _SCALES),
    ("swap_reading", swap_reading, losses.SWAP_READINGS),
    ("loss", loss, _LOSSES),
  ):
    if value not in known:
      told = closest(str(value), [name for name in known if name])
      raise InputError(f"config.method.{field} is {value!r}, no such choice: {told}")


def _check_numbers(noise: str, scale: float, loss: str, temperature: float) -> None:
  # Written so that a nan is refused.
  if noise == "swap" and not 0 <= scale <= 1:
    raise InputError(
      f"config.method.scale is {scale}; with config.method.noise 'swap' it is a probability, in "
      "[0, 1]"
    )
  if noise == "gaussian" and not 0 <= scale < float("inf"):
    raise InputError(
      f"config.method.scale is {scale}; with config.method.noise 'gaussian' it must be a number of "
      "at least 0"
    )
  if not noise and scale != 0:
    raise InputError(
      f"config.method.scale is {scale}, but config.method.noise is empty; set it to one of "
      f"{', '.join(map(repr, _NOISES))}, or the scale to 0"
    )
  if not 0 < temperature < float("inf"):
    raise InputError(f"config.method.temperature is {temperature}; it must be larger than 0")
  if loss == "squared" and temperature != 1:
    raise InputError(
      f"config.method.temperature is {temperature}, but config.method.loss 'squared' has none; "
      "leave it at 1, or set the loss to 'kl'"
    )
