"""What a run would do, without doing it: `--dry_run`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnoise.training import corrupted, feeds, label_noise_table, sharding, sinks, sweep
from jaxnoise.training.build import Run
from jaxnoise.training.programs import Programs


def preview(run: Run, directory: Path) -> dict[str, Any]:
  """Compiles the training step and reports what the run would take; nothing is trained or written.

  Memory is what the compiler plans for one device: arguments (state, data, orders), results that
  do not take an argument's place, and temporary arrays. The data set is resident on every device.

  Args:
    run: from `build.assemble`.
    directory: the run directory.

  Returns:
    Numbers by name: "steps", "steps_per_epoch", "epochs", "parameters" (of one seed),
    "state_bytes", "data_bytes", "memory" (bytes on one device: "arguments", "results",
    "temporary", "total"), "flops" (about those of a step on one device, None where the compiler
    does not say; of a loop inside a method, such as an attack's, one round counts),
    "learning_rate" (at the first, middle and last step; of a sweep by member), "label_noise" (None
    where no true labels are known), "writes" (path -> what).

  Example:
    >>> import pathlib
    >>> from jaxnoise.training import build, preview
    >>> config = {"total": "3 epochs", "batch_size": 16, "data": {"name": "generated"},
    ...           "model": {"name": "wide_resnet", "depth": 10, "widen_factor": 1}}
    >>> report = preview.preview(build.assemble(config), pathlib.Path("run"))
    >>> report["steps"], report["parameters"], report["memory"]["temporary"] > 0
    (48, 77460, True)
  """
  programs = Programs(run)
  state = programs.init_shapes()
  everywhere = sharding.replicated(run.mesh)
  count = programs.count

  def shape(x: Any) -> jax.ShapeDtypeStruct:
    lies = getattr(x, "sharding", None) or everywhere
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=lies)

  data = jax.tree.map(shape, run.host_data())
  root = jax.eval_shape(programs.root_keys)
  epoch = jax.ShapeDtypeStruct((count, 1) if count > 1 else (1,), np.int32)
  orders = jax.eval_shape(programs.orders, root, {"labels": data["labels"]}, epoch)
  orders, state = jax.tree.map(shape, (orders, state))
  if run.source.streamed:
    orders = feeds.batch_shapes(run, orders)
  totals = jax.tree.map(shape, programs.total_shapes(state, data, orders))
  compiled = programs.step.lower(state, data, orders, totals).compile()
  spec = run.spec
  at = (0, spec.num_steps // 2, max(spec.num_steps - 1, 0))
  rates = {
    label: {step: float(one.spec.learning_rate(step)) for step in at}
    for label, one in zip(sweep.labels(run.config), run.members or (run,), strict=True)
  }
  return {
    "steps": spec.num_steps,
    "steps_per_epoch": spec.steps_per_epoch,
    "epochs": spec.num_steps / spec.steps_per_epoch,
    "parameters": sum(math.prod(x.shape) for x in jax.tree.leaves(state.params)) // count,
    "state_bytes": _bytes(state.replace(teacher=None)),
    "data_bytes": _bytes(data),
    "memory": _memory(compiled),
    "flops": _flops(compiled, rounds=programs.rounds * run.config["accumulate"]),
    "learning_rate": rates if run.members else rates[""],
    "label_noise": label_noise_table.run_table(run),
    "writes": dict(_writes(run, directory, _bytes(state.replace(teacher=None)))),
  }


def _bytes(tree: Any) -> int:
  return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _memory(compiled: jax.stages.Compiled) -> dict[str, int]:
  found = compiled.memory_analysis()
  if found is None:
    return {}
  parts = {
    "arguments": found.argument_size_in_bytes,
    "results": found.output_size_in_bytes - found.alias_size_in_bytes,
    "temporary": found.temp_size_in_bytes,
  }
  return {**parts, "total": sum(parts.values())}


def _flops(compiled: jax.stages.Compiled, rounds: int) -> float | None:
  """The compiler counts the body of a loop once; seeds and micro-batches are rounds of one."""
  found = (compiled.cost_analysis() or {}).get("flops")
  return found and found * rounds


def _writes(run: Run, directory: Path, state_bytes: int) -> Iterator[tuple[str, str]]:
  config, spec = run.config, run.spec
  keep = config["checkpoint"]["keep"] + (run.holdout is not None)
  every = run.steps("checkpoint.every", config["checkpoint"]["every"])
  saves = max(-(-spec.num_steps // every), 1) if every else 1
  rows = run.steps("log.every", config["log"]["every"])
  yield f"{directory}/config.json", "the resolved config, versions, commit"
  yield f"{directory}/metrics.jsonl", f"a row every {rows} steps" if rows else "a row at the end"
  yield (
    f"{directory}/checkpoints/",
    f"{saves} saves of {_human(state_bytes)}, of which {min(keep, saves)} stay",
  )
  if sinks.writes_tensorboard(config["log"]):
    yield f"{directory}/tensorboard/", "the same rows for TensorBoard"
  if config["log"]["wandb"]:
    yield f"wandb:{config['log']['wandb']}", "the same rows for Weights & Biases"
  tables = ["clean", "samples"]
  stored = run.corrupted
  names = stored.names if stored else corrupted.corruption_names(config["evaluate"]["corruptions"])
  if names:
    tables.append(f"corruptions ({len(names)} x {len(config['evaluate']['severities'])})")
  if run.source.clean_labels is not None:
    tables.append("label_noise")
  yield f"{directory}/tables/", ", ".join(tables)
  yield f"{directory}/report.html", "one page of it all"


def _human(count: float) -> str:
  for unit in ("B", "KiB", "MiB"):
    if count < 1024:
      return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
    count /= 1024
  return f"{count:.1f} GiB"


def describe(report: dict[str, Any]) -> str:
  """Lays a preview out as lines of text.

  Example:
    >>> from jaxnoise.training import preview
    >>> print(preview.describe({"steps": 20, "steps_per_epoch": 10, "epochs": 2.0,
    ...   "parameters": 1234, "state_bytes": 2048, "data_bytes": 4096, "memory": {}, "flops": None,
    ...   "learning_rate": {0: 0.1, 10: 0.05, 19: 0.0}, "label_noise": None,
    ...   "writes": {"run/config.json": "the resolved config"}}))
    steps          20 (2 epochs of 10)
    parameters     1,234
    state          2.0 KiB, data 4.0 KiB on every device
    learning rate  0.1 at step 0, 0.05 at step 10, 0 at step 19
    label noise    none known: the data has no true labels beside those given
    writes         run/config.json: the resolved config
  """
  epochs, per_epoch = report["epochs"], report["steps_per_epoch"]
  lines = [
    ("steps", f"{report['steps']:,} ({epochs:g} epochs of {per_epoch:,})"),
    ("parameters", f"{report['parameters']:,}"),
    (
      "state",
      f"{_human(report['state_bytes'])}, data {_human(report['data_bytes'])} on every device",
    ),
  ]
  memory = report["memory"]
  if memory:
    parts = ", ".join(f"{k} {_human(v)}" for k, v in memory.items() if k != "total")
    lines.append(("step memory", f"{_human(memory['total'])} on each device ({parts})"))
  if report["flops"]:
    lines.append(("step work", f"{report['flops'] / 1e9:,.2f} GFLOP on each device"))
  told = report["learning_rate"]
  for label, rates in told.items() if 0 not in told else [("", told)]:
    text = ", ".join(f"{rate:.4g} at step {step:,}" for step, rate in rates.items())
    lines.append(("learning rate", f"{label}: {text}" if label else text))
  lines += _noise_lines(report["label_noise"])
  lines += [("writes", f"{path}: {what}") for path, what in report["writes"].items()]
  return "\n".join(f"{name:<14} {text}" for name, text in lines)


def _noise_lines(noise: dict[str, Any] | None) -> list[tuple[str, str]]:
  if noise is None:
    return [("label noise", "none known: the data has no true labels beside those given")]
  first, *rest = label_noise_table.lines(noise)
  return [("label noise", first), *(("", line) for line in rest)]
