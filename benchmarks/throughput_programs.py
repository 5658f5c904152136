"""What throughput.py times and counts: every method's run and passes, its flops, the peaks."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnoise import data, losses, methods
from jaxnoise.training import build, loop, sharding

ROOT = Path(__file__).resolve().parents[1]


class Passes(NamedTuple):
  """Of the network, for each training example.

  Attributes:
    gradients: images that the parameters' gradient goes through; of two networks, of both.
    ascents: gradients by the image, in evaluation mode, one after the other.
    train_forwards: images through a teacher, or another network, with batch statistics.
    forwards: images through one in evaluation mode, those of a pass over the training set too.
  """

  gradients: int = 1
  ascents: int = 0
  train_forwards: int = 0
  forwards: int = 0

  @property
  def cost(self) -> int:
    """In forward passes."""
    return 3 * self.gradients + 2 * self.ascents + self.train_forwards + self.forwards


CROP = {"first": {"padding": 4, "flip": True}}
AUGMIX = {"policy": {"name": "augmix"}}


def plain(passes: Passes, name: str, **fields: Any) -> tuple[Passes, dict[str, Any]]:
  """A method with the crop; fields are of its section."""
  return passes, {**CROP, "method": {"name": name, **fields}}


def taught(name: str, **fields: Any) -> tuple[Passes, dict[str, Any]]:
  """A method with a teacher, which is asked once for each image."""
  return Passes(forwards=1), {**plain(Passes(), name, **fields)[1], "teacher": "teacher"}


def wrapped(passes: Passes, name: str) -> tuple[Passes, dict[str, Any]]:
  """A wrapper over erm."""
  return passes, {**CROP, "wrappers": (name,)}


# The method's passes, and the sections of its config or (file, argument) in configs/.
METHODS: dict[str, tuple[Passes, Any]] = {
  "erm": plain(Passes(), "erm"),
  "mixup": plain(Passes(), "mixup"),
  "elr": plain(Passes(), "elr"),
  "noisymix": (Passes(gradients=3), ("noisymix", "")),
  "nrd": (Passes(train_forwards=1), ("nrd", "method=nrd")),
  "gjs": (Passes(gradients=2), ("nrd", "method=gjs")),
  "multiplicative_reweighting": wrapped(Passes(forwards=1), "multiplicative_reweighting"),
  "knowledge_distillation": taught("knowledge_distillation"),
  "pgd_at": plain(Passes(ascents=7), "pgd_at", steps=7),
  # Its third pass in train mode, of which only the running averages are new, is not among them.
  "trades": plain(Passes(gradients=2, ascents=10, forwards=1), "trades", steps=10),
  "manifold_mixup": plain(Passes(), "manifold_mixup"),
  "nfm": plain(Passes(), "nfm"),
  "cutmix": plain(Passes(), "cutmix"),
  "puzzlemix": plain(Passes(ascents=1), "puzzlemix"),
  "augmix": (Passes(gradients=3), {**CROP, **AUGMIX, "method": {"name": "augmix"}}),
  "augmax": plain(Passes(gradients=3, ascents=5), "augmax"),
  "js": plain(Passes(), "js"),
  # Two networks: the averages of both look at the images in train mode.
  "elr_plus": plain(Passes(gradients=2, train_forwards=2), "elr_plus"),
  # Two networks; after its warm-up four views of half a batch each, one pass with and one without
  # gradient; the other's word on two of them, and a pass over the training set of both.
  "dividemix": plain(Passes(gradients=4, train_forwards=4, forwards=4), "dividemix", warm_up=1),
  "co_teaching": plain(Passes(gradients=2), "co_teaching", noise_rate=0.4),
  # What it says of an image and of its partner, and the pass over the training set.
  "dynamic_bootstrap": plain(Passes(forwards=3), "dynamic_bootstrap", warmup_epochs=1),
  # The virtual step and the step share a forward pass; the trusted batch has a gradient, which goes
  # through the virtual step's once more.
  "meta_weight_net": (
    Passes(gradients=3, forwards=1),
    {**plain(Passes(), "meta_weight_net")[1], "data": {"trusted": 10}},
  ),
  # As many trusted examples as others.
  "glc": (Passes(gradients=2), {**CROP, "data": {"trusted": 10}}),
  "random_weighting": wrapped(Passes(), "random_weighting"),
  "with_ema": wrapped(Passes(), "with_ema"),
  "free_at": plain(Passes(), "free_at"),
  "fast_at": plain(Passes(ascents=1), "fast_at"),
  "fickle_teacher": taught("fickle_teacher", teacher_dropout=0.2),
  "soft_randomization": taught("soft_randomization"),
  "messy_collaboration": taught("messy_collaboration"),
  "attention_transfer": taught("attention_transfer"),
  "similarity_preserving": taught("similarity_preserving"),
  "rkd": taught("rkd"),
  "self_distillation": taught("self_distillation"),
}  # fmt: skip



def glc(network: Any, *, spec: Any, first: Any) -> Any:
  """GLC with a matrix in place of the one that an earlier run would have estimated."""
  matrix = np.eye(spec.num_classes)
  return methods.glc(
    network, spec=spec, first=first, label_matrix=matrix, trusted_size=spec.batch_size
  )


FACTORIES = {"glc": glc}

# Sections of the model, pixels, and the batch with --small.
MODELS = {
  "wrn-16-1": ({"name": "wide_resnet", "depth": 16, "widen_factor": 1}, 16, 64),
  "preactresnet-18": ({"name": "preact_resnet18", "variant": "noisymix"}, 32, 16),
  "wrn-28-10": ({"name": "wide_resnet", "depth": 28, "widen_factor": 10}, 32, 4),
}
SMALL, LARGE = ("wrn-16-1", "preactresnet-18"), ("preactresnet-18", "wrn-28-10")

# Dense TFLOP/s of data sheets in bfloat16 and in what XLA multiplies float32 in by default: TF32 on
# NVIDIA's, bfloat16 on TPUs. By part of the device's name, the first that fits.
PEAKS = (
  ("H200 NVL", 836, 418), ("H200", 989, 494), ("H100 PCIe", 756, 378), ("H100 NVL", 836, 418),
  ("H100", 989, 494), ("A100-", 312, 156), ("A100 ", 312, 156), ("TPU v6 lite", 918, 918),
  ("TPU v5 lite", 197, 197), ("TPU v5e", 197, 197), ("TPU v5", 459, 459), ("TPU v4", 275, 275),
)  # fmt: skip


def flops(jaxpr: Any) -> int:
  """2 for each multiply-add of the products and convolutions of a jaxpr.

  Loops are unrolled, and of branches the dearest counts.
  """
  total = 0
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == "dot_general":
      (contracted, _), _ = eqn.params["dimension_numbers"]
      depth = math.prod(eqn.invars[0].aval.shape[i] for i in contracted)
      total += 2 * depth * eqn.outvars[0].aval.size
    elif eqn.primitive.name == "conv_general_dilated":
      kernel = eqn.invars[1].aval.shape
      width = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
      zeros = math.prod(eqn.params["lhs_dilation"])  # between pixels, in gradients of strides
      total += 2 * math.prod(kernel) // width * eqn.outvars[0].aval.size // zeros
    inner = [flops(sub) for sub in jax.tree.leaves(eqn.params) if hasattr(sub, "eqns")]
    choice = eqn.primitive.name == "cond"
    total += eqn.params.get("length", 1) * (max(inner, default=0) if choice else sum(inner))
  return total


def forward_flops(run: build.Run, state: Any) -> int:
  """Flops of one image's forward pass."""
  image = jax.ShapeDtypeStruct((1, *run.spec.image_shape), jnp.float32)
  forward = lambda p, s, x: run.network.apply(p, s, x).logits
  params, stats = one_network(state.params), one_network(state.batch_stats)
  return flops(jax.make_jaxpr(forward)(params, stats, image).jaxpr)


def one_network(tree: Any) -> Any:
  """The first network's part of a state that has two."""
  return tree.get("net0", tree)


def published(name: str, argument: str) -> dict[str, Any]:
  """The sections of a config in configs/ that say what becomes of an image."""
  spec = importlib.util.spec_from_file_location(name, ROOT / "configs" / f"{name}.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config(argument).to_dict()
  return {section: config[section] for section in ("first", "policy", "method")}


def assemble(
  method: str, model: dict[str, Any], precision: str, batch: int, source: data.Source
) -> build.Run:
  """The run of a row; a teacher has the student's network, drawn afresh."""
  sections = METHODS[method][1]
  sections = published(*sections) if isinstance(sections, tuple) else sections
  half = (0.5, 0.5, 0.5)
  config = {
    "batch_size": batch,
    "total": "200 epochs",
    "precision": precision,
    "model": {**model, "mean": half, "std": half},
    **sections,
  }
  if "teacher" not in config:
    return build.assemble(config, source=source, method=FACTORIES.get(method))
  plain = build.assemble({**config, "method": {"name": "erm"}, "teacher": ""}, source=source)
  run = build.assemble(config, source=source, pending={config["teacher"]: plain})
  image = jnp.zeros((1, *run.spec.image_shape))
  params, batch_stats = jax.jit(plain.network.init)(jax.random.key(7), image)
  return dataclasses.replace(run, teacher={"params": params, "batch_stats": batch_stats})


class Repeated:
  """A compiled function that is called again on what it returned, so that no two calls overlap.

  Attributes:
    worked: CPU seconds of one call of the last measurement, summed over threads.
  """

  def __init__(self, fn: Callable[[Any], Any], carry: Any):
    self.fn, self.carry, self.worked = fn, carry, 0.0

  def seconds(self, count: int = 1) -> float:
    """Of one call, as the mean of `count`."""
    jax.block_until_ready(self.carry)
    start, worked = time.perf_counter(), time.process_time()
    for _ in range(count):
      self.carry = self.fn(self.carry)
    jax.block_until_ready(self.carry)
    self.worked = (time.process_time() - worked) / count
    return (time.perf_counter() - start) / count


class Training(Repeated):
  """The compiled step of the loop, and the pass over the training set of a method that has one."""

  def __init__(self, run: build.Run):
    programs = loop.Programs(run)
    arrays = data.device_data(run.source, sharding.replicated(run.mesh))
    # In the third epoch, when warm-ups of one are over.
    state = programs.init()
    begun = jnp.full_like(state.step, 2 * run.spec.steps_per_epoch)
    state = jax.device_put(state.replace(step=begun), jax.tree.map(lambda x: x.sharding, state))
    orders = programs.epoch_orders(state, arrays, 2)
    totals = programs.zero_totals(state, arrays, orders)
    super().__init__(lambda c: programs.step(c[0], arrays, orders, c[1]), (state, totals))
    self.passes = len(programs.pass_steps) / run.spec.steps_per_epoch

    def learn(carry):
      return programs.example_pass(carry[0], arrays), carry[1]

    self.learn = learn

  def pass_seconds(self) -> float:
    """Of one pass over the training set."""
    step, self.fn = self.fn, self.learn
    took = self.seconds()
    self.fn = step
    return took


def bare_programs(run: build.Run, state: Any, passes: Passes) -> dict[str, Repeated]:
  """The supervised step and the method's own passes, which share nothing with the run's state."""
  apply, size, shape = run.network.apply, run.spec.batch_size, run.spec.image_shape
  everywhere, split = sharding.replicated(run.mesh), sharding.batch(run.mesh)

  def drawn(seed: int, count: int) -> jax.Array:
    return jax.device_put(jax.random.uniform(jax.random.key(seed), (count, *shape)), split)

  def loss(params, stats, image, train=True):
    out = apply(params, stats, image, train=train)
    targets = jax.nn.one_hot(jnp.arange(len(image)) % run.spec.num_classes, run.spec.num_classes)
    return jnp.mean(losses.cross_entropy(out.logits, targets)), out.batch_stats

  def supervised(carry, image):
    params, stats, opt_state = carry
    (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(params, stats, image)
    updates, opt_state = run.optimizer.update(grads, opt_state, params, value=value)
    return optax.apply_updates(params, updates), stats, opt_state

  def own(params, stats, teacher, image, other, looked, asked):
    # Another set of parameters and other images: nothing here is computed once for two.
    results = []
    if passes.train_forwards:
      results.append(apply(teacher, stats, looked, train=True).logits)
    if passes.forwards:
      results.append(apply(teacher, stats, asked).logits)
    if passes.ascents:
      slope = jax.grad(lambda x: loss(params, stats, x, train=False)[0])
      results.append(jax.lax.fori_loop(0, passes.ascents, lambda _, x: x + slope(x), other))
    (_, stats), grads = jax.value_and_grad(loss, has_aux=True)(params, stats, image)
    return stats, (grads, results)

  supervised = jax.jit(supervised, donate_argnums=0, out_shardings=everywhere)
  own = jax.jit(own)
  params, stats = one_network(state.params), one_network(state.batch_stats)
  image, other, several = drawn(1, size), drawn(2, size), drawn(3, passes.gradients * size)
  seen = drawn(4, passes.train_forwards * size), drawn(5, passes.forwards * size)
  fresh = jax.tree.map(jnp.copy, (params, stats, run.optimizer.init(params)))
  teacher, stats, params = jax.tree.map(jnp.copy, (params, stats, params))
  return {
    "supervised": Repeated(lambda c: supervised(c, image), jax.device_put(fresh, everywhere)),
    "own": Repeated(lambda c: own(params, c[0], teacher, several, other, *seen), (stats, None)),
  }


class Products(Repeated):
  """Products of two matrices, one after the other; `tflop` is the work of a call."""

  def __init__(self, side: int, count: int, precision: str):
    a, b = jax.random.normal(jax.random.key(0), (2, side, side), precision)
    body = lambda _, x: x @ b * side**-0.5
    super().__init__(jax.jit(lambda x: jax.lax.fori_loop(0, count, body, x)), a)
    self.tflop = 2 * count * side**3 / 1e12


def peak(precision: str) -> tuple[float | None, Products | None]:
  """TFLOP/s of the data sheet, or products of two matrices that stand in for it."""
  kind = jax.devices()[0].device_kind
  for name, *values in PEAKS:
    if name in kind and "MIG" not in kind:  # a slice of a chip has not the chip's
      return values[precision == "float32"], None
  # On an accelerator many in a call: one takes about as long as its dispatch.
  return None, Products(2048, 1 if jax.default_backend() == "cpu" else 64, precision)
