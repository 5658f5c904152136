"""DivideMix: two networks that sort each other's examples and learn from both heaps."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jaxnoise import augment, losses
from jaxnoise.core import reduce
from jaxnoise.core.errors import InputError
from jaxnoise.core.rng import Streams
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import (
  Array,
  Aux,
  Batch,
  BatchStats,
  GradFn,
  LossFn,
  Method,
  Network,
  Params,
  PassFn,
  PRNGKey,
  SideBatch,
  Spec,
)
from jaxnoise.methods import _base, _two
from jaxnoise.methods import _dividemix_terms as terms_lib

_NAME = "dividemix"


def dividemix(
  network: Network,
  *,
  spec: Spec,
  warm_up: int = 10,
  entropy_penalty: bool = False,
  clean_threshold: float = 0.5,
  average_epochs: int = 1,
  lambda_u: float = 25.0,
  ramp_epochs: float = 16,
  temperature: float = 0.5,
  alpha: float = 4.0,
  side_size: int | None = None,
  first: _base.Transform = augment.identity,
  mix_groups: int = 1,
) -> Method:
  """Trains two networks; each takes from the other which labels to believe.

  1. Warm-up: `warm_up` epochs of CE for each network, plus mean sum_c p log p where
     `entropy_penalty` is set.
  2. From its end on, after every epoch, for each network: CE on each un-augmented training example
     in evaluation mode, rescaled to [0, 1] over the set (its mean over the last `average_epochs`
     times), then a mixture of two normals; w_i is the posterior of the lower mean.
  3. Network a trains with the w of network b and the other way round. Labelled are the examples
     with w > `clean_threshold`, the others are unlabelled.
  4. In a step, two views of each labelled and each unlabelled example; without gradient, a in train
     mode (its running statistics move, one pass for each view), b in evaluation mode:
     unlabelled t = sharpen(mean softmax of a and b over both views, T),
     labelled t = sharpen(w y + (1 - w) mean softmax of a over both views, T).
  5. One lam ~ Beta(alpha, alpha), folded to max(lam, 1 - lam), mixes all 4 x `side_size` images and
     their t with those of one permutation of them all, for one pass of a.
  6. L_a = CE(labelled rows) + ramp lambda_u mean (p - t)^2 (unlabelled rows, over classes too)
     + KL(uniform || mean p of all rows), ramp = clip((epoch - warm_up) / ramp_epochs, 0, 1) with
     the epoch as a fraction. The loss is L_a + L_b.

  How it differs from the authors' program, whose split changes size with every epoch. There, an
  epoch of a visits each labelled example once, in |labelled| / size steps, beside batches of the
  unlabelled in random order; then an epoch of b follows, with a newer a to guess. Here:

  * Every batch is drawn with replacement from its heap, in shapes that are fixed, so that one
    compiled program serves all epochs.
  * An epoch is N / `batch_size` steps however the split falls. With side batches of half the batch
    this is the authors' number where half of the examples are labelled.
  * Both networks step together, from the same old weights, under one optimizer.
  * With `lambda_u` 0 the unlabelled rows still take part in the pass and in the last term of L_a;
    the authors' program for WebVision leaves them out.
  * An empty heap is replaced by the whole training set (the authors' program stops). Examples with
    labels that are not believed keep their small w.

  `benchmarks/dividemix.py` measures the difference. In warm-up, batches are the run's own; the side
  batches are drawn but not used. Afterwards the run's own batch is not looked at;
  its `per_example` is what CE was, both networks' mean, when the set was last sorted.

  Args:
    network: the architecture of both networks.
    spec: the run's static facts; `num_train`, `num_classes`, `batch_size` and `steps_per_epoch`.
    warm_up: epochs, at least 1. 10 for CIFAR-10, 30 for CIFAR-100, 1 for mini-WebVision and
      Clothing1M.
    entropy_penalty: for asymmetric noise and Clothing1M.
    clean_threshold: in [0, 1). The code's default is 0.5; the paper has 0.6 at 90 % noise.
    average_epochs: 1; 5 at 90 % noise.
    lambda_u: >= 0. CIFAR-10: 0 at 20 %, 25 at 50 and 80 %, 50 at 90 %, 0 with asymmetric noise;
      CIFAR-100: 25 at 20 %, else 150; 0 for mini-WebVision and Clothing1M.
    ramp_epochs: >= 0, epochs until lambda_u is reached; 0 for at once.
    temperature: T > 0.
    alpha: of the Beta distribution, >= 0; 0 is no mixing. 0.5 for mini-WebVision and Clothing1M.
    side_size: of a labelled and of an unlabelled batch; None for half of `batch_size`. The authors
      warm up with 128 and then have 64.
    first: (rng, image) -> image, drawn afresh for every view (crop and flip).
    mix_groups: partners are drawn within so many groups of the 4 x `side_size` images; 1 is the
      paper's.

  Returns:
    A Method with the predictors "sum", "net0" and "net1": the sum of the two networks' logits,
    which is what the authors test, and each alone. `state.method_state["dividemix"]` has
    "clean": w [N] from the losses of "net0" and of "net1", 1 before the first sorting, and "loss":
    the mean CE [N] of both.

  Raises:
    InputError: for a number out of its range.

  Source: J. Li, R. Socher, S. C. H. Hoi, "DivideMix: Learning with Noisy Labels as Semi-supervised
    Learning" (2020), Algorithm 1, and the authors' code.

  Example:
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> spec = core.Spec(num_train=8, num_classes=3, image_shape=(8, 8, 3), batch_size=4)
    >>> method = methods.dividemix(network, spec=spec, warm_up=2)
    >>> [(side.name, side.size) for side in method.side_batches][:2]
    [('labelled_net0', 2), ('unlabelled_net0', 2)]
  """
  size = spec.batch_size // 2 if side_size is None else side_size
  _check(warm_up, clean_threshold, average_epochs, temperature, size)
  if mix_groups < 1 or 4 * size % mix_groups:
    raise InputError(
      f"config.method.mix_groups is {mix_groups}, which does not divide the {4 * size} images of "
      "a step (4 times config.method.side_size); choose a divisor of that"
    )
  for field, value in (("lambda_u", lambda_u), ("ramp_epochs", ramp_epochs), ("alpha", alpha)):
    if value < 0:
      raise InputError(f"config.method.{field} is {value}; it must be 0 or larger")
  warm_steps = warm_up * spec.steps_per_epoch
  make_two = _two.init_two(network, spec)
  # Which network's w each one trains with.
  others = dict(zip(_two.NETS, reversed(_two.NETS), strict=True))
  hot = lambda label: _base.one_hot(label, spec.num_classes)

  def init_state(state: TrainState) -> TrainState:
    mine = {
      "clean": {net: jnp.ones(spec.num_train) for net in _two.NETS},
      "loss": jnp.zeros(spec.num_train),
    }
    if average_epochs > 1:
      shape = (average_epochs, spec.num_train)
      mine["history"] = {net: jnp.zeros(shape) for net in _two.NETS}
    return make_two(state).with_method_state(_NAME, mine)

  def believed(state: TrainState, net: str) -> Array:
    """[N], whether network `net` is to believe a label: the other one says so."""
    return state.method_state[_NAME]["clean"][others[net]] > clean_threshold

  def side(net: str, labelled: bool) -> SideBatch:
    def weights(state: TrainState) -> Array:
      heap = believed(state, net) if labelled else ~believed(state, net)
      return jnp.where(jnp.any(heap), heap, True).astype(jnp.float32)

    return SideBatch(f"{'' if labelled else 'un'}labelled_{net}", "train", size, weights)

  # --- one network's loss ------------------------------------------------------------------------

  def warm(state: TrainState, net: str, params: Params, batch: Batch, streams: Streams):
    image = augment.batched(first)(streams("augment"), batch["image"])
    out = network.apply(
      params[net], state.batch_stats[net], image, train=True, rng=streams("dropout")
    )
    ce = losses.cross_entropy(out.logits, hot(batch["label"]))
    loss = jnp.mean(ce)
    terms = {"label_loss": loss}
    if entropy_penalty:
      loss = loss + jnp.mean(losses.negative_entropy(out.logits))
    return loss, out.batch_stats, ce, terms

  def main(state: TrainState, net: str, params: Params, batch: Batch, streams: Streams):
    known, unknown = (batch["side"][f"{kind}labelled_{net}"] for kind in ("", "un"))
    views = augment.views(first, 2)
    image = jnp.concatenate(
      [views(streams("labelled"), known["image"]), views(streams("unlabelled"), unknown["image"])],
      axis=1,
    )  # [B, 4, H, W, C]: the batch stays the leading axis, split over devices as it is

    frozen = jax.lax.stop_gradient((params[net], params[others[net]]))

    def look(batch_stats: BatchStats, item: tuple[Array, PRNGKey]):
      view, key = item
      out = network.apply(frozen[0], batch_stats, view, train=True, rng=key)
      return out.batch_stats, out.logits

    # The unlabelled views first, as the authors have it: each pass moves the running statistics.
    order = jnp.array([2, 3, 0, 1])
    keys = jax.random.split(streams("look"), 4)
    batch_stats, said = jax.lax.scan(
      look, state.batch_stats[net], (jnp.moveaxis(image, 1, 0)[order], keys)
    )
    said = jnp.moveaxis(said, 0, 1)
    other = network.apply(frozen[1], state.batch_stats[others[net]], image[:, 2:]).logits
    w = state.method_state[_NAME]["clean"][others[net]][known["index"]]
    labelled = terms_lib.co_refine(said[:, 2:], hot(known["label"]), w, temperature=temperature)
    guessed = terms_lib.co_guess(said[:, :2], other, temperature=temperature)
    targets = jnp.stack([labelled, labelled, guessed, guessed], axis=1)

    partners = augment.sample_partners(streams("partners"), 4 * size, mix_groups)
    lam = augment.sample_coefficient(streams("lam"), alpha)
    lam = jnp.maximum(lam, 1 - lam)
    # Rows are mixed across views and examples alike: [4 B, ...] and back.
    mixed, targets = (
      augment.mix(x.reshape(-1, *x.shape[2:]), partners, lam).reshape(x.shape)
      for x in (image, targets)
    )
    out = network.apply(params[net], batch_stats, mixed, train=True, rng=streams("dropout"))
    epoch = state.step / spec.steps_per_epoch
    loss, terms = terms_lib.dividemix_objective(
      out.logits[:, :2],
      targets[:, :2],
      out.logits[:, 2:],
      targets[:, 2:],
      lambda_u=lambda_u * terms_lib.linear_ramp(epoch, warm_up, ramp_epochs),
    )
    terms["labelled_share"] = jnp.mean(believed(state, net))
    return loss, out.batch_stats, state.method_state[_NAME]["loss"][batch["index"]], terms

  # --- both networks -----------------------------------------------------------------------------

  def both(one, state: TrainState) -> LossFn:
    def fn(params: Params, batch: Batch, rng: PRNGKey) -> tuple[Array, Aux]:
      streams = Streams(rng)
      results = [one(state, net, params, batch, Streams(streams(net))) for net in _two.NETS]
      values, stats, per_example, terms = zip(*results, strict=True)
      loss = values[0] + values[1]
      metrics = {"loss": reduce.mean_count(loss[None])}
      for name in ("label_loss", "unlabelled_loss", "prior", "labelled_share"):
        # Both phases have the same names; what one does not have counts nothing.
        found = [t[name] for t in terms if name in t]
        metrics[name] = reduce.mean_count(jnp.stack(found)) if found else (0 * loss, 0 * loss)
      stats = dict(zip(_two.NETS, stats, strict=True))
      return loss, Aux(stats, (per_example[0] + per_example[1]) / 2, metrics)

    return fn

  def loss_fn(state: TrainState) -> LossFn:
    phases = both(warm, state), both(main, state)
    return lambda *arguments: jax.lax.cond(state.step < warm_steps, *phases, *arguments)

  def value_and_grad(state: TrainState) -> GradFn:
    # The branch outside the gradient: inside, both would leave what their backward pass needs.
    phases = (jax.value_and_grad(both(phase, state), has_aux=True) for phase in (warm, main))
    return lambda *arguments: jax.lax.cond(state.step < warm_steps, *phases, *arguments)

  # --- between epochs ----------------------------------------------------------------------------

  def example_pass(state: TrainState) -> PassFn:
    def collect(batch_stats: BatchStats, batch: Batch, rng: PRNGKey):
      del rng

      def measure(image: Array) -> dict[str, Array]:
        return {
          net: losses.cross_entropy(
            network.apply(state.params[net], batch_stats[net], image).logits, hot(batch["label"])
          )
          for net in _two.NETS
        }

      shapes = jax.eval_shape(measure, batch["image"])
      skip = lambda image: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
      return jax.lax.cond(state.step < warm_steps, skip, measure, batch["image"]), batch_stats

    return collect

  def after_pass(state: TrainState, tables: dict[str, Array], rng: PRNGKey) -> TrainState:
    del rng
    before = state.method_state[_NAME]

    def sort(tables: dict[str, Array]):
      values = {net: terms_lib.min_max(tables[net]) for net in _two.NETS}
      mean = (tables["net0"] + tables["net1"]) / 2
      after = {"loss": mean.astype(jnp.float32)}
      if average_epochs > 1:
        times = state.step // spec.steps_per_epoch - warm_up + 1
        used = (jnp.arange(average_epochs) < times).astype(jnp.float32)[:, None]
        after["history"] = {
          net: jnp.concatenate([values[net][None], rows[:-1]])
          for net, rows in before["history"].items()
        }
        values = {
          net: jnp.sum(used * rows, axis=0) / jnp.sum(used)
          for net, rows in after["history"].items()
        }
      clean = jax.vmap(terms_lib.clean_probability)(jnp.stack([values[n] for n in _two.NETS]))
      after["clean"] = dict(zip(_two.NETS, clean.astype(jnp.float32), strict=True))
      return after

    after = jax.lax.cond(state.step < warm_steps, lambda _: dict(before), sort, tables)
    return state.with_method_state(_NAME, after)

  return Method(
    _NAME,
    loss_fn,
    _two.two_predictors(network, "sum"),
    init_state=init_state,
    example_pass=example_pass,
    after_pass=after_pass,
    value_and_grad=value_and_grad,
    side_batches=tuple(side(net, labelled) for net in _two.NETS for labelled in (True, False)),
    labelled=False,
  )


def _check(
  warm_up: int, clean_threshold: float, average_epochs: int, temperature: float, size: int
) -> None:
  for field, value in (("warm_up", warm_up), ("average_epochs", average_epochs)):
    if value < 1 or value != int(value):
      raise InputError(
        f"config.method.{field} is {value}; it must be a whole number of epochs, 1 or more"
      )
  if not 0 <= clean_threshold < 1:
    raise InputError(f"config.method.clean_threshold is {clean_threshold}; it must lie in [0, 1)")
  if not (temperature > 0 and math.isfinite(temperature)):
    raise InputError(f"config.method.temperature is {temperature}; it must be larger than 0")
  if size < 1:
    raise InputError(
      f"config.method.side_size is {size}; it must be 1 or more (None is half of "
      "config.batch_size)"
    )
