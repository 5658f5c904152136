"""Several seeds as one program, in every form, against as many runs one after the other.

  python benchmarks/seeds.py [--model=wrn-10-1] [--side=16] [--batch=32] [--seeds=5] [--rounds=5]

A step is the training step of plain supervised training as the loop runs it, gather and metrics
included. Runs in a row are one compiled step called once for each seed; the forms are those of
`training.seeds.FORMS`. With --devices=N, N devices (on a CPU made up, sharing its cores) are used,
and "devices" is the form that gives groups of them seeds of their own. All are timed in turns in
one process, round by round; a ratio is the median over rounds of the form's time over that of runs
in a row in the same round. Seconds to the first step are those of tracing and compiling, nothing
cached. The last line is JSON. `training.seeds.fastest` is decided by these tables.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

MODELS = {
  "wrn-10-1": {"name": "wide_resnet", "depth": 10, "widen_factor": 1},
  "wrn-16-2": {"name": "wide_resnet", "depth": 16, "widen_factor": 2},
  "wrn-28-4": {"name": "wide_resnet", "depth": 28, "widen_factor": 4},
  "preactresnet18": {"name": "preact_resnet18"},
}
IN_A_ROW = "in a row"


def steppers(arguments: argparse.Namespace) -> dict[str, Callable[[], Any]]:
  """Name of a form -> a call that trains every seed for one step."""
  from jaxnoise import data
  from jaxnoise.training import build, loop, seeds, sharding

  half, count = (0.5, 0.5, 0.5), arguments.seeds
  config = {
    "batch_size": arguments.batch,
    "total": "1000 epochs",
    "precision": arguments.precision,
    "model": {**MODELS[arguments.model], "mean": half, "std": half},
  }
  source = data.generated(
    num_train=4 * arguments.batch, num_test=10, num_classes=10, size=arguments.side
  )
  devices = jax.devices()
  flat = sharding.make_mesh(devices)
  arrays = jax.device_put(data.host_data(source), sharding.replicated(flat))

  def stepper(programs: loop.Programs, states: list[Any]) -> Callable[[], Any]:
    orders = [programs.epoch_orders(state, arrays, 0) for state in states]
    zeros = programs.zero_totals(states[0], arrays, orders[0])

    def step() -> Any:
      for i, state in enumerate(states):
        states[i], _ = programs.step(state, arrays, orders[i], zeros)
      return states

    return step

  one = loop.Programs(build.assemble(config, source=source, mesh=flat))
  out = {IN_A_ROW: stepper(one, [one.init() for _ in range(count)])}
  meshes = dict.fromkeys(seeds.FORMS, flat)
  if math.gcd(count, len(devices)) > 1:
    meshes["devices"] = sharding.make_mesh(devices, seeds=count)
  unknown = [name for name in arguments.forms or () if name not in meshes]
  if unknown:
    raise SystemExit(f"--forms: {unknown[0]!r} is none of {', '.join(meshes)} here")
  for name in arguments.forms or meshes:
    run = build.assemble({**config, "seeds": count}, source=source, mesh=meshes[name])
    several = loop.Programs(run, form=name if name in seeds.FORMS else None)
    out[name] = stepper(several, [several.init()])
  return out


def seconds(step: Callable[[], Any], times: int) -> float:
  """Of one step of every seed."""
  begun = time.perf_counter()
  for _ in range(times):
    out = step()
  jax.block_until_ready(out)
  return (time.perf_counter() - begun) / times


def compare(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
  """Name of a form -> seconds to its first step, of a step, and ratios to runs in a row."""
  steps = steppers(arguments)
  first = {name: seconds(step, 1) for name, step in steps.items()}
  for step in steps.values():
    seconds(step, 1)
  times: dict[str, list[float]] = {name: [] for name in steps}
  for _ in range(arguments.rounds):
    for name, step in steps.items():
      times[name].append(seconds(step, arguments.steps))
  out = {}
  for name, of in times.items():
    ratios = np.divide(of, times[IN_A_ROW])
    out[name] = {
      "first_step": first[name],
      "step": statistics.median(of),
      "ratio": float(np.median(ratios)),
      "lowest": float(ratios.min()),
      "highest": float(ratios.max()),
    }
  return out


def table(rows: Mapping[str, Mapping[str, float]], count: int) -> str:
  """Markdown."""
  lines = [
    f"| {count} seeds | ms a step, all seeds | over runs in a row (range) | over one run "
    "| s to the first step |",
    "|---|---|---|---|---|",
  ]
  lines += [
    f"| {name} | {1000 * row['step']:.1f} | {row['ratio']:.2f} ({row['lowest']:.2f} to "
    f"{row['highest']:.2f}) | {count * row['ratio']:.2f} | {row['first_step']:.1f} |"
    for name, row in rows.items()
  ]
  return "\n".join(lines)


def main() -> None:
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  add = parser.add_argument
  add("--model", default="wrn-10-1", choices=MODELS)
  add("--side", type=int, default=16, help="of the images, in pixels")
  add("--batch", type=int, default=32)
  add("--seeds", type=int, default=5)
  add("--forms", type=lambda text: text.split(","), default=None, help="default: all")
  add("--rounds", type=int, default=5)
  add("--steps", type=int, default=1, help="of each form in a round")
  add("--precision", default="float32", choices=("float32", "bfloat16"))
  add("--devices", type=int, default=0, help="of a CPU, made up; default: what there is")
  arguments = parser.parse_args()
  jax.config.update("jax_enable_compilation_cache", False)
  if arguments.devices:
    jax.config.update("jax_num_cpu_devices", arguments.devices)
  rows = compare(arguments)
  what = f"{arguments.model}, {arguments.side} x {arguments.side}, batch {arguments.batch}"
  devices = jax.devices()
  print(f"{what}, {arguments.precision}, {len(devices)} x {devices[0].device_kind}")
  print(table(rows, arguments.seeds))
  print(json.dumps({"settings": vars(arguments), "backend": jax.default_backend(), "rows": rows}))


if __name__ == "__main__":
  main()
