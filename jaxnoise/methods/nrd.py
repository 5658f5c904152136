"""NRD: noise-robust distillation from a teacher that sees what the student never sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxnoise import augment, losses
from jaxnoise.core import reduce
from jaxnoise.core.errors import InputError, closest
from jaxnoise.core.rng import Streams
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import (
  Array,
  Aux,
  Batch,
  BatchStats,
  LossFn,
  Method,
  Network,
  Params,
  PRNGKey,
  Spec,
  keep,
)
from jaxnoise.methods import _base
from jaxnoise.methods.gjs import check_weights, independent_views

Objective = Callable[[Array, Array, Array], Array]
"""(student logits [B, V, K], teacher logits [B, K], targets [B, K]) -> [B]."""


def nrd(
  network: Network,
  *,
  spec: Spec,
  weights: Sequence[float] = (0.2, 0.6, 0.2),
  scale: str = "gjs",
  teacher: str = "ema",
  teacher_mode: str = "train",
  decay: float = 0.99,
  ema_schedule: str = "constant",
  update_after: int = 100,
  update_every: int = 10,
  student_views: int = 1,
  teacher_views: int = 1,
  first: _base.Transform = augment.identity,
  policy: _base.Transform | None = None,
  teacher_policy: _base.Transform | None = augment.torchvision_augmix,
  teacher_policy_first: bool = True,
  teacher_network: Network | None = None,
  objective: Objective | None = None,
) -> Method:
  """Minimises JSD_pi(e_y, p_s, p_t) = pi_1 KL(e_y, m) + pi_2 KL(p_s, m) + pi_3 KL(p_t, m).

  p_s = softmax(f(T_s(x); theta)), p_t = stop_gradient(softmax(f(T_t(x); theta'))) and
  m = pi_1 e_y + pi_2 p_s + pi_3 p_t. Both views are drawn from the raw image, independently, crop
  and flip included. After each update of theta, theta' <- decay theta' + (1 - decay) theta, from
  theta'_0 = theta_0; the teacher's running statistics are averaged alike.

  What the paper and its authors' code leave open is an argument each:

    scale: "gjs" divides by Z = -(1 - pi_1) log(1 - pi_1), which the authors' code does on CIFAR and
      the learning rates fit; "none", the printed equation, is their choice on WebVision.
    teacher_mode: "train" normalises the teacher's views by their own batch statistics, which move
      the teacher's running ones, with dropout live: what the authors' EMA teacher does. "eval" uses
      the running statistics, as their last self-teacher does.
    ema_schedule: "constant", the paper's rule; "ema_pytorch", the package of the authors' code: of
      the calls k = 0, 1, ... (one an update) only every `update_every`-th acts; it copies up to
      k = `update_after` and once more at the next, and averages from then on with
      min(decay, 1 - (1 + k - update_after)^(-2/3)).
    student_views: 1, the equations'; 2, the authors' last code's, with pi_2 / 2 each, forwarded
      together (one set of batch statistics).
    teacher: "ema"; "self", the student itself, run after its own pass (in train mode it moves the
      student's running statistics a second time; in evaluation mode it uses those just moved), as
      in the authors' code; "frozen", `state.teacher`, never trained: one round of the iterated
      teacher of eq. (23), phi_t = theta_(t-1), whose rounds are stages of a config.

  Args:
    network: the student.
    spec: the run's static facts; `num_classes` is used.
    weights: (pi_1, pi_2, pi_3) of label, student and teacher, a distribution with
      0 < pi_1 < 1 and pi_2 > 0; or one number for each student view between the two others. Table 5
      has pi_1 = pi_3, from 0.1 to 0.4; pi_3 = 0 is JS.
    scale: "gjs" or "none".
    teacher: "ema", "self" or "frozen".
    teacher_mode: "train" or "eval".
    decay: of the average, in [0, 1). Paper: 0.99.
    ema_schedule: "constant" or "ema_pytorch".
    update_after: of "ema_pytorch", in updates.
    update_every: of "ema_pytorch", in updates.
    student_views: at least 1.
    teacher_views: samples of the expectation in eq. (22): p_t is the mean of their probabilities.
      The paper found 1 to be enough.
    first: (rng, image) -> image, the crop and flip, drawn afresh for every view.
    policy: (rng, image) -> image, the student's, applied after `first`; None for `first` alone. A
      policy that comes before the crop is a chain that ends with it.
    teacher_policy: (rng, image) -> image, the teacher's; None for `first` alone.
    teacher_policy_first: whether the teacher's policy comes before `first`, as on CIFAR and in the
      paper's appendix, or after it, as in the authors' code for WebVision.
    teacher_network: the model that `state.teacher` belongs to; for a frozen teacher only.
    objective: (student logits [B, V, K], teacher logits [B, K], targets [B, K]) -> [B], in place of
      the divergence, `weights` and `scale` (the authors' cross-entropy and distillation mixtures).

  Returns:
    A Method with the predictors "student" and, with an averaged teacher, "ema". The metric
    "teacher_agreement" is the share of examples whose teacher prediction is the given label.

  Raises:
    InputError: for weights off the simplex, an unknown choice, a number out of range, or a frozen
      teacher that is missing or not asked for.

  Source: Shon et al., Neural Vicinal Risk Minimization, eqs. (19)-(27) and algorithm 1; the
    defaults that these leave open are those of the first author's code.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> batch = {"image": jnp.ones((2, 8, 8, 3)) / 2, "label": jnp.array([0, 2])}
    >>> spec = core.Spec(num_train=2, num_classes=3, image_shape=(8, 8, 3))
    >>> method = methods.nrd(network, spec=spec)
    >>> def loss(key):
    ...   params, stats = network.init(key, batch["image"])
    ...   state = method.init_state(core.TrainState.create(key, params, stats))
    ...   return method.loss_fn(state)(params, batch, key)
    >>> sorted(jax.eval_shape(loss, jax.random.key(0))[1].metrics)
    ['loss', 'teacher_agreement']
  """
  for field, value, known in (
    ("scale", scale, ("gjs", "none")),
    ("teacher", teacher, ("ema", "frozen", "self")),
    ("teacher_mode", teacher_mode, ("train", "eval")),
    ("ema_schedule", ema_schedule, ("constant", "ema_pytorch")),
  ):
    if value not in known:
      raise InputError(
        f"config.method.{field} is {value!r}, no such choice: {closest(str(value), known)}"
      )
  _check_numbers(decay, update_after, update_every, student_views, teacher_views)
  every = student_views + 2
  weights = check_weights(
    weights, every if len(weights) == every else 3, "the label, the student and the teacher"
  )
  if not min(weights[1:-1]) > 0:
    raise InputError(
      f"config.method.weights is {weights}; the student's must be larger than 0, or no gradient "
      "reaches it"
    )
  _check_frozen(teacher, teacher_network)

  def divergence(student: Array, taught: Array, targets: Array) -> Array:
    return losses.nrd(student, taught, targets, weights=weights, scaled=scale == "gjs")

  value_fn = divergence if objective is None else objective
  student_view = independent_views(first, policy, student_views)
  if teacher_policy is None:
    novel = first
  else:
    novel = augment.compose(*(
      (teacher_policy, first) if teacher_policy_first else (first, teacher_policy)
    ))
  teacher_view = _base.first_views(novel, teacher_views)
  # What comes before the crop has to see all of the image.
  uncropped = teacher_policy is not None and teacher_policy_first

  def init_state(state: TrainState) -> TrainState:
    if teacher == "frozen" and state.teacher is None:
      raise InputError(_NO_TEACHER)
    if teacher != "ema":
      return state
    if state.ema_params is not None:
      raise InputError(
        "nrd keeps its teacher in ema_params, which has an owner already; leave one of the two out"
      )
    # Copies: the step donates its state, and one buffer cannot be donated twice.
    return state.replace(
      ema_params=jax.tree.map(jnp.copy, state.params),
      ema_batch_stats=jax.tree.map(jnp.copy, state.batch_stats),
    )

  def teach(
    state: TrainState, params: Params, batch_stats: BatchStats, image: Array, rng: PRNGKey
  ) -> tuple[Array, BatchStats]:
    """Logits [B, K] of p_t and the teacher's running statistics after its pass, both constant."""
    model = teacher_network if teacher == "frozen" else network
    if teacher == "ema":
      params, batch_stats = state.ema_params, state.ema_batch_stats
    elif teacher == "frozen":
      params, batch_stats = state.teacher["params"], state.teacher["batch_stats"]
    live = {"train": True, "rng": rng} if teacher_mode == "train" else {}
    out = model.apply(jax.lax.stop_gradient(params), batch_stats, image, **live)
    logits = out.logits[:, 0]
    if teacher_views > 1:
      log_p = jax.nn.log_softmax(out.logits)
      logits = jax.nn.logsumexp(log_p, axis=1) - jnp.log(float(teacher_views))
    return jax.lax.stop_gradient((logits, out.batch_stats))

  def loss_fn(state: TrainState) -> LossFn:
    def fn(params: Params, batch: Batch, rng: PRNGKey) -> tuple[Array, Aux]:
      streams = Streams(rng)
      image = student_view(streams, _base.crops_of(batch["image"], 0, student_views))
      out = network.apply(
        params, state.batch_stats, image, train=True, rng=streams("dropout")
      )
      image = _base.crops_of(batch["image"], student_views, teacher_views)
      image = teacher_view(streams("teacher"), image)
      taught, moved = teach(state, params, out.batch_stats, image, streams("teacher_dropout"))
      targets = _base.one_hot(batch["label"], spec.num_classes)
      values = value_fn(out.logits, taught, targets)
      agreement = jnp.argmax(taught, axis=-1) == batch["label"]
      metrics = {
        "loss": reduce.mean_count(values),
        "teacher_agreement": reduce.mean_count(agreement.astype(values.dtype)),
      }
      batch_stats, extra = out.batch_stats, None
      if teacher_mode == "train" and teacher == "self":
        batch_stats = moved
      if teacher_mode == "train" and teacher == "ema":
        extra = moved
      loss = reduce.weighted_mean(values, batch.get("weight"))
      return loss, Aux(batch_stats, values, metrics, extra)

    return fn

  def post_step(state: TrainState, batch: Batch, aux: Aux, rng: PRNGKey) -> TrainState:
    del batch, rng
    averages = (state.ema_params, state.ema_batch_stats if aux.extra is None else aux.extra)
    share = 1 - decay
    if ema_schedule == "ema_pytorch":
      share = _share_of_new(state.step - 1, share, update_after, update_every)
    params, batch_stats = _average(averages, (state.params, state.batch_stats), share)
    return state.replace(ema_params=params, ema_batch_stats=batch_stats)

  def predictors(state: TrainState):
    named = _base.student(network)(state)
    if teacher != "ema":
      return named
    return {**named, "ema": _base.predictor(network, state.ema_params, state.ema_batch_stats)}

  return Method(
    "nrd",
    loss_fn,
    predictors,
    init_state=init_state,
    post_step=post_step if teacher == "ema" else keep,
    host_crops=0 if uncropped else student_views + teacher_views,
  )


def _share_of_new(call: Array, share: float, after: int, every: int) -> Array:
  """What the k-th call gives the new parameters: 1 where it copies, 0 where it does not act."""
  last_copy = (after // every + 1) * every
  age = jnp.maximum(call - after, 0).astype(jnp.result_type(float))
  ramp = jnp.maximum(share, (1 + age) ** (-2 / 3))
  acting = jnp.where(call <= last_copy, 1.0, ramp)
  return jnp.where(call % every == 0, acting, 0.0)


def _average(old, new, share: float | Array):
  """(1 - share) * old + share * new, leaf by leaf; a share of 0 or 1 is exact."""

  def leaf(a: Array, b: Array) -> Array:
    s = jnp.asarray(share, a.dtype)
    return (1 - s) * a + s * b

  return jax.tree.map(leaf, old, new)


_NO_TEACHER = (
  "config.teacher is empty, but config.method.teacher is 'frozen'; name the run directory of a "
  "trained network (or an earlier stage)"
)


def _check_frozen(teacher: str, network: Network | None) -> None:
  if teacher == "frozen" and network is None:
    raise InputError(_NO_TEACHER)
  if teacher != "frozen" and network is not None:
    raise InputError(
      f"config.teacher is set, but config.method.teacher is {teacher!r}; make that 'frozen', or "
      "leave config.teacher empty"
    )


def _check_numbers(
  decay: float, update_after: int, update_every: int, student_views: int, teacher_views: int
) -> None:
  if not 0 <= decay < 1:
    raise InputError(f"config.method.decay is {decay}; it must lie in [0, 1)")
  for field, value, least in (
    ("update_after", update_after, 0),
    ("update_every", update_every, 1),
    ("student_views", student_views, 1),
    ("teacher_views", teacher_views, 1),
  ):
    if value < least:
      raise InputError(f"config.method.{field} is {value}; it must be at least {least}")
