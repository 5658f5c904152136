"""The vocabulary of jaxnoise: what a batch, a network, a loss and a method are.

Every name here is a plain record. Nothing in this file computes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypedDict

import jax

if TYPE_CHECKING:
  from jaxnoise.core.state import TrainState

Array: TypeAlias = jax.Array
PRNGKey: TypeAlias = jax.Array  # a typed key, as made by jax.random.key
PyTree: TypeAlias = Any
Params: TypeAlias = Any
BatchStats: TypeAlias = Any


class Batch(TypedDict, total=False):
  """What a loss function is given; a plain dict at run time, the batch axis leading.

  Attributes:
    image: [B, H, W, C] float32 in [0, 1]; from a stream that made the first crops on the host,
      [B, V, H, W, C], one for each of the method's `host_crops` = V.
    label: [B] int32, the label training may see.
    index: [B] int32, the position in the training set; always there in training.
    mask: [B] float32, 0 for padding rows; in evaluation and in passes over the training set.
    weight: [B] float32, per-example weights, written by wrappers; absent means 1.
    clean_label: [B] int32, for metrics only; the step strips it before the loss sees the batch.
    side: further batches that the method asked for, by the name of their `SideBatch`.
  """

  image: Array
  label: Array
  index: Array
  mask: Array
  weight: Array
  clean_label: Array
  side: Mapping[str, Batch]


class Spec(NamedTuple):
  """Static facts of a run, known before tracing; a factory with a `spec` argument is given it.

  Attributes:
    num_train: N, the number of training examples.
    num_classes: K.
    image_shape: (H, W, C) of one image.
    image_mean: C numbers in [0, 1], the fill that is zero after normalisation.
    batch_size: B, the global batch.
    pools: number of examples in each pool that side batches can draw from.
    steps_per_epoch: optimizer updates in an epoch (replays x batches).
    num_steps: optimizer updates in the run.
    learning_rate: step -> learning rate, the schedule that the optimizer follows.
  """

  num_train: int
  num_classes: int
  image_shape: tuple[int, ...]
  image_mean: tuple[float, ...] = ()
  batch_size: int = 128
  pools: Mapping[str, int] = {}
  steps_per_epoch: int = 1
  num_steps: int = 1
  learning_rate: Callable[[Array], Array] = lambda step: 0.0 * step

  @property
  def table_rows(self) -> int:
    """Rows of a table of examples by classes: `table_rows` of N."""
    return table_rows(self.num_train)


def table_rows(num_train: int) -> int:
  """Computes how many rows a table of examples by classes has: N, from 2^14 on in whole 512s.

  Such a table is split over devices that divide its rows, and any usual number of them divides 512.
  Its last rows are of no example.

  Args:
    num_train: N.

  Example:
    >>> from jaxnoise import core
    >>> core.table_rows(1_281_167), core.table_rows(45)
    (1281536, 45)
  """
  return num_train if num_train < 2**14 else -(-num_train // 512) * 512


class Output(NamedTuple):
  """What `Network.apply` returns.

  Attributes:
    logits: [..., K], at least float32, the leading axes those of the image.
    batch_stats: the running statistics after this pass (unchanged in evaluation mode).
    features: the named features asked for, leading axes as the image's.
  """

  logits: Array
  batch_stats: BatchStats
  features: Mapping[str, Array]


ApplyFn: TypeAlias = Callable[..., Output]
"""`(params, batch_stats, image, *, train=False, rng=None, dropout=None, norm_branch="main",
tap=identity, features=()) -> Output`.

  image: [..., H, W, C] in [0, 1]; every leading axis is a batch axis, and batch-norm statistics
    are those of all leading axes together.
  train: normalise with the batch's statistics and update the running ones.
  rng: key of the dropout masks; dropout is live exactly when a key is given and the rate is not 0.
  dropout: overrides the module's dropout rate.
  norm_branch: which set of normalisation layers to use.
  tap: (stage, h) -> h, called at stage boundaries 0..num_stages with h of the image's leading axes;
    stage 0 is the normalised image.
  features: names to collect: "stem", "stage1", ..., "pooled".
"""


class Network(NamedTuple):
  """All that a method may know of a model.

  Attributes:
    init: (rng, image [B, H, W, C]) -> (params, batch_stats).
    apply: see `ApplyFn`.
    num_stages: tap positions are 0..num_stages.
  """

  init: Callable[[PRNGKey, Array], tuple[Params, BatchStats]]
  apply: ApplyFn
  num_stages: int


class Aux(NamedTuple):
  """What a loss function returns beside the loss.

  Attributes:
    batch_stats: the network's running statistics after the step.
    per_example: [B], the value of the labelled term for each example, unweighted.
    metrics: name -> (sum, count), merged by addition and divided once.
    extra: anything that the method's own `post_step` needs.
  """

  batch_stats: BatchStats
  per_example: Array
  metrics: Mapping[str, tuple[Array, Array]] = {}
  extra: PyTree = None


LossFn: TypeAlias = Callable[[Params, Batch, PRNGKey], tuple[Array, Aux]]
GradFn: TypeAlias = Callable[[Params, Batch, PRNGKey], tuple[tuple[Array, Aux], Params]]
PassFn: TypeAlias = Callable[
  [BatchStats, Batch, PRNGKey], tuple[Mapping[str, Array], BatchStats]
]
"""Values [B, ...] by table name, to be collected over the whole training set."""
PredictFn: TypeAlias = Callable[[Array], Array]
"""image [B, H, W, C] in [0, 1] -> logits [B, K] in at least float32, evaluation mode."""


class SideBatch(NamedTuple):
  """A further batch that a method wants at every step.

  Attributes:
    name: where it arrives, `batch["side"][name]`.
    pool: which pool of the source it is drawn from ("train", "unlabelled", "trusted").
    size: how many examples.
    weights: state -> unnormalised draw probabilities over the pool, drawn with replacement; None
      visits the pool in a fresh random order, over and over.
  """

  name: str
  pool: str
  size: int
  weights: Callable[[TrainState], Array] | None = None


def keep(state: TrainState, *args: Any) -> TrainState:
  """Returns the state unchanged: the default `init_state` and `post_step`."""
  del args
  return state


@dataclasses.dataclass(frozen=True)
class Method:
  """A training method: a record of pure functions, closed under wrapping.

  What a function reads from `state` is a constant of the loss (EMA teacher, example weights, batch
  statistics); what comes through `params` is differentiated.

  Attributes:
    name: names the method in messages and its piece of `method_state`.
    loss_fn: state -> LossFn.
    predictors: state -> PredictFns by name; all are evaluated, the first is the headline.
    init_state: adds what the method keeps (EMA copies, tables) to a fresh state.
    post_step: (state, batch, aux, rng) -> state, inside the compiled step, once per update.
    example_pass: state -> PassFn, what to collect over the training set.
    after_pass: (state, tables [N, ...], rng) -> state.
    passes_per_epoch: how often the pass runs.
    shuffled_pass: visit the examples of a pass in random order, which matters to one whose batches
      share statistics: data are often stored class by class.
    value_and_grad: state -> GradFn; None means jax.value_and_grad(loss_fn(state), has_aux=True).
    side_batches: further batches to draw at every step.
    replays: optimizer updates on each batch.
    host_crops: independent first crops that a stream must deliver per image; 0 for a method that
      does something else first, and is given the uncropped image to crop on the device.
    labelled: whether example weights have a meaning for this method: it has one labelled term per
      example and one network. Wrappers that weigh examples refuse a method that says False.
    wrappers: names of the wrappers already applied, innermost first.
  """

  name: str
  loss_fn: Callable[[TrainState], LossFn]
  predictors: Callable[[TrainState], Mapping[str, PredictFn]]
  init_state: Callable[[TrainState], TrainState] = keep
  post_step: Callable[[TrainState, Batch, Aux, PRNGKey], TrainState] = keep
  example_pass: Callable[[TrainState], PassFn] | None = None
  after_pass: Callable[[TrainState, Mapping[str, Array], PRNGKey], TrainState] | None = None
  passes_per_epoch: int = 1
  shuffled_pass: bool = False
  value_and_grad: Callable[[TrainState], GradFn] | None = None
  side_batches: tuple[SideBatch, ...] = ()
  replays: int = 1
  host_crops: int = 1
  labelled: bool = True
  wrappers: tuple[str, ...] = ()

  def grad_fn(self, state: TrainState) -> GradFn:
    """The function the step calls: the method's own, or the gradient of its loss."""
    if self.value_and_grad is not None:
      return self.value_and_grad(state)
    return jax.value_and_grad(self.loss_fn(state), has_aux=True)
