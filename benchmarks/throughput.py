"""Training images per second of every method, and what it costs over the passes of its network.

  python benchmarks/throughput.py [--methods=noisymix,nrd] [--models=wrn-28-10] [--cold]
  python benchmarks/throughput.py --torch     NoisyMix beside PyTorch, of which throughput_torch.py

A row is a process of its own, which times four programs in turns, each ended by a wait:

  step: what the loop runs: gather from uint8, crops, views, loss, gradient, optimizer; of a method
    that learns from a pass over the training set, that pass too, its time spread over the epoch.
  supervised: a plain cross-entropy step with the same network, batch and optimizer on float images
    that already lie on the device.
  own passes: the forward and backward passes that the method cannot do without (METHODS in
    throughput_programs.py), of two networks those of both, on as many such images: the gradient of
    a mean cross-entropy, bare forward passes of a teacher, bare gradients by the image.
  peak: a large matrix product in the row's precision, only where the device is not in PEAKS.

Ratios are medians over rounds of the ratio within a round; on a CPU the ratio of CPU seconds stands
beside, which other work on the machine disturbs less. Utilisation is the flops of the own passes
over seconds, devices and peak. A forward pass has 2 flops for each multiply-add of its convolutions
and matrix products, counted from its jaxpr; a gradient by the parameters has 3 times as many, one
by the image alone twice as many. Normalisation, views and losses count for nothing.

The first step is that of the fresh process, from `assemble` to its end, compiling included. Aims of
the ratio to the own passes: 1.10 on an accelerator, 1.25 on a CPU; of bfloat16 on WRN-28-10: 40 %.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import rows
from throughput_programs import (
  LARGE,
  METHODS,
  MODELS,
  SMALL,
  Training,
  assemble,
  bare_programs,
  forward_flops,
  peak,
)

from jaxnoise import data
from jaxnoise.training import cache

EPOCH = 16  # batches in a training set
LONG_ENOUGH = 0.2  # seconds of one measurement, by repetition
TORCH_AIMS = {"users, 4 workers": 8.0, "tuned": 1.2}


def measure(
  method: str, model: dict[str, Any], side: int, precision: str, batch: int, rounds: int
) -> dict[str, Any]:
  """One row; every program compiled and warm before the first round."""
  source = data.generated(num_train=EPOCH * batch, num_test=10, num_classes=10, size=side)
  passes, cached = METHODS[method][0], []
  jax.monitoring.register_event_listener(lambda name, **_: cached.append(name.split("/")[-1]))
  start = time.perf_counter()
  run = assemble(method, model, precision, batch, source)
  training = Training(run)
  training.seconds()
  row = {
    "first_step_seconds": round(time.perf_counter() - start, 2),
    "programs_from_cache": cached.count("cache_hits"),
    "programs": cached.count("compile_requests_use_cache"),
  }
  state = training.carry[0]
  programs = {"step": training, **bare_programs(run, state, passes)}
  sheet, product = peak(precision)
  if product is not None:
    programs["product"] = product
  for program in programs.values():
    program.seconds()
  if training.passes:
    training.pass_seconds()
  counts = {k: min(max(math.ceil(LONG_ENOUGH / p.seconds()), 1), 64) for k, p in programs.items()}
  times: dict[str, list[float]] = {name: [] for name in programs}
  worked: dict[str, list[float]] = {name: [] for name in programs}
  for _ in range(rounds):
    for name, program in programs.items():
      times[name].append(program.seconds(counts[name]))
      worked[name].append(program.worked)
    if training.passes:
      times["step"][-1] += training.passes * training.pass_seconds()
      worked["step"][-1] += training.passes * training.worked
  devices, forward = jax.device_count(), forward_flops(run, training.carry[0])
  on_cpu = jax.default_backend() == "cpu"
  chips = 1 if on_cpu else devices  # the devices of a CPU share its cores
  per_step = forward * passes.cost * batch
  peaks = [product.tflop / t for t in times["product"]] if product else rounds * [sheet]
  each = zip(times["step"], peaks, strict=True)
  used = [per_step / (t * p * 1e12 * chips) for t, p in each]
  ratios = {
    name: [a / b for a, b in zip(times["step"], times[name], strict=True)]
    for name in ("supervised", "own")
  }
  work = [a / b for a, b in zip(worked["step"], worked["own"], strict=True)]
  return {
    **row,
    "device": f"{devices} x {jax.devices()[0].platform} ({jax.devices()[0].device_kind})",
    "jax": jax.__version__,
    "passes": passes._asdict(),
    "forward_mflops": round(forward / 1e6, 2),
    "images_per_second": round(batch / statistics.median(times["step"]), 1),
    "utilisation": round(statistics.median(used), 4),
    "peak_tflops": round(statistics.median(peaks), 3),
    "peak_from": "matrix product in this run" if product else "data sheet",
    **{f"{name}_ms": round(1e3 * statistics.median(t), 3) for name, t in times.items()},
    **{f"over_{name}": round(statistics.median(r), 4) for name, r in ratios.items()},
    **{f"over_{name}_range": [round(min(r), 4), round(max(r), 4)] for name, r in ratios.items()},
    "over_own_in_cpu_seconds": round(statistics.median(work), 4) if on_cpu else None,
    "aim": 1.25 if on_cpu else 1.1,
  }


HEAD = (
  "| model | B | method | precision | images/s | utilisation | over a supervised step "
  "| over its own passes | aim | first step |"
)


def told(row: rows.Row) -> str:
  """A row of the table."""
  low, high = row["over_own_range"]
  work = row["over_own_in_cpu_seconds"]
  work = f"; {work:.3f} in CPU seconds" if work else ""
  return (
    f"| {row['model']} | {row['batch']} | {row['method']} | {row['precision']} "
    f"| {row['images_per_second']:,.1f} | {100 * row['utilisation']:.1f} % of "
    f"{row['peak_tflops']:.3g} TFLOP/s ({row['peak_from']}) | {row['over_supervised']:.2f} "
    f"| {row['over_own']:.3f} ({low:.3f} to {high:.3f}, n = {row['rounds']}{work}) "
    f"| {row['aim']:.2f} | {row['first_step_seconds']:.1f} s ({row['programs_from_cache']} of "
    f"{row['programs']} programs from the cache) |"
  )


class Torch:
  """A program of throughput_torch.py in its process; `error` says why there is none."""

  def __init__(self, arguments: Sequence[str]):
    script = Path(__file__).with_name("throughput_torch.py")
    self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
    self.process = subprocess.Popen(
      [sys.executable, script, *arguments],
      stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
    )  # fmt: skip
    self.error = ""
    self.about = self.line()

  def line(self) -> dict[str, Any]:
    """The next line that the process prints; {} once it has failed."""
    for text in self.process.stdout:
      found = json.loads(text) if text.startswith("{") else {}
      self.error = found.get("error", "")
      if found:
        return {} if self.error else found
    self.errors.seek(0)
    said = self.errors.read().strip().splitlines()
    self.error = said[-1] if said else f"ended with status {self.process.wait()}"
    return {}

  def seconds(self) -> float:
    """Of one epoch; NaN from a program that has failed."""
    if self.error:
      return math.nan
    with contextlib.suppress(BrokenPipeError):
      print(file=self.process.stdin, flush=True)
    return self.line().get("seconds", math.nan)

  def end(self) -> None:
    """Lets the process come to its end."""
    with contextlib.suppress(BrokenPipeError):
      self.process.stdin.close()
    self.process.wait()


def compare_torch(
  batch: int, images: int, workers: Sequence[int], precisions: Sequence[str], rounds: int
) -> Iterator[dict[str, Any]]:
  """Rows of PyTorch's programs; ours and theirs train epochs of the same length in turns."""
  model, side, _ = MODELS["preactresnet-18"]
  steps = images // batch
  source = data.generated(num_train=steps * batch, num_test=10, num_classes=10, size=side)
  ours = {p: Training(assemble("noisymix", model, p, batch, source)) for p in precisions}
  state = next(iter(ours.values())).carry[0]
  parameters = sum(x.size for x in jax.tree.leaves(state.params))
  common = [f"--images={images}", f"--batch={batch}"]
  calls = {f"users, {n} workers": ["--program=users", f"--workers={n}"] for n in workers}
  calls["tuned"] = ["--program=tuned", *(["--bfloat16"] if precisions[0] == "bfloat16" else [])]
  theirs = {name: Torch([*call, *common]) for name, call in calls.items()}
  times: dict[str, list[float]] = {name: [] for name in (*ours, *theirs)}
  for _ in range(rounds + 1):
    for name, program in theirs.items():
      times[name].append(program.seconds())
    for name, training in ours.items():
      times[name].append(steps * training.seconds(steps))
  rate = {name: steps * batch / statistics.median(t[1:]) for name, t in times.items()}
  for name, program in theirs.items():
    program.end()
    program.error = program.error or unlike(program.about, parameters)
    ratios = {
      p: [b / a for a, b in zip(times[p][1:], times[name][1:], strict=True)] for p in ours
    }
    yield {
      "program": name, "batch": batch, "images": images, **program.about, "error": program.error,
      "jax_device": f"{jax.device_count()} x {jax.devices()[0].device_kind}", "rounds": rounds,
      "jax_parameters": parameters, "jax": jax.__version__,
      "aim": None if jax.default_backend() == "cpu" else TORCH_AIMS.get(name),
    } | ({} if program.error else {
      "images_per_second": round(rate[name], 1),
      "ours": {
        p: {"images_per_second": round(rate[p], 1), "ratio": round(statistics.median(r), 3),
            "range": [round(min(r), 3), round(max(r), 3)]} for p, r in ratios.items()
      },
    })  # fmt: skip


def unlike(about: dict[str, Any], parameters: int) -> str:
  """Why a program is not to be compared with ours; "" where it is."""
  if about["parameters"] != parameters:
    return f"{about['parameters']:,} parameters, ours {parameters:,}"
  backend, count = jax.default_backend(), jax.device_count()
  on = "cuda" if backend == "gpu" else backend
  if about["device"] != on or (on != "cpu" and count > 1):
    return f"it runs on one {about['device']}, ours on {count} x {on}"
  return ""


def told_torch(row: rows.Row) -> str:
  """A line on one of PyTorch's programs."""
  if row["error"]:
    return f"PyTorch, {row['program']}: not measured, {row['error']}"
  ours = "; ".join(
    f"ours in {p} {r['images_per_second']:,.1f}, {r['ratio']:.2f} times that "
    f"({r['range'][0]:.2f} to {r['range'][1]:.2f}, n = {row['rounds']})"
    for p, r in row["ours"].items()
  )
  aim = f"; aim {row['aim']:g} times" if row["aim"] else ""
  return (
    f"PyTorch {row['torch']}, {row['program']}, {row['precision']}, {row['device']}, "
    f"{row['threads']} threads, B = {row['batch']} x 3, {row['parameters']:,} parameters (ours "
    f"{row['jax_parameters']:,}): {row['images_per_second']:,.1f} images/s; {ours}{aim}"
  )


def default_backend() -> str:
  """What JAX runs on, asked in a process that does not keep the device."""
  code = "import jax; print(jax.default_backend())"
  return subprocess.check_output([sys.executable, "-c", code], text=True).split()[-1]


def child(name: str, arguments: argparse.Namespace) -> None:
  """Makes one row, the last line printed."""
  started = time.monotonic()
  cache.use_compilation_cache()
  method, model, precision = name.split(":")
  sections, side, _ = MODELS[model]
  row = measure(method, sections, side, precision, arguments.batch, arguments.rounds)
  named = {"method": method, "model": model, "precision": precision, "batch": arguments.batch}
  row = {"row": name, **named, "rounds": arguments.rounds, "cold": arguments.cold, **row}
  print(json.dumps({**row, **rows.provenance(started)}))


def measured(name: str, batch: int, arguments: argparse.Namespace) -> dict[str, Any]:
  """The row of a fresh process, {"error"} where it failed."""
  given = [f"--row={name}", f"--batch={batch}", f"--rounds={arguments.rounds}"]
  given += ["--cold"] if arguments.cold else []
  with tempfile.TemporaryDirectory() as empty:
    own = {"JAX_COMPILATION_CACHE_DIR": empty} if arguments.cold else {}
    command = [sys.executable, __file__, *given]
    done = subprocess.run(
      command, env={**os.environ, **own}, capture_output=True, text=True, check=False
    )
  lines = (done.stderr if done.returncode else done.stdout).strip().splitlines()
  last = lines[-1] if lines else f"ended with status {done.returncode}"
  return {"error": last} if done.returncode else json.loads(last)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  add = parser.add_argument
  add("--methods", default="", help=f"default: all of {', '.join(METHODS)}")
  add("--models", default="", help=f"of {', '.join(MODELS)}")
  add("--precision", default="", help="default: float32, on an accelerator bfloat16,float32")
  add("--batch", type=int, default=0, help="default: 128, with --small each model's own")
  add("--rounds", type=int, default=5)
  add("--small", action="store_true", help=f"{', '.join(SMALL)}; the default on a CPU")
  add("--cold", action="store_true", help="an empty compilation cache for every row")
  add("--out", type=Path, help="FILE that rows are appended to, JSON")
  add("--torch", action="store_true", help="NoisyMix beside PyTorch, where that is installed")
  add("--torch_images", type=int, default=0, help="default: 50000, with --small 128")
  add("--workers", default="4,16", help="of the DataLoader, one program each")
  add("--row", default="", help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.row:
    child(args.row, args)
    return
  missing = [name for name in ("torch", "torchvision") if importlib.util.find_spec(name) is None]
  if args.torch and missing:
    parser.error(f"--torch needs {' and '.join(missing)}, which this Python does not have")
  on_cpu = default_backend() == "cpu"
  small = args.small or on_cpu
  methods = rows.chosen(parser, "methods", args.methods, METHODS) or tuple(METHODS)
  models = rows.chosen(parser, "models", args.models, MODELS) or (SMALL if small else LARGE)
  precisions = rows.chosen(parser, "precision", args.precision, ("float32", "bfloat16"))
  precisions = precisions or (("float32",) if on_cpu else ("bfloat16", "float32"))

  def keep(row: rows.Row) -> None:
    if args.out:
      args.out.parent.mkdir(parents=True, exist_ok=True)
      with args.out.open("a") as file:
        file.write(json.dumps(row) + "\n")

  print(f"{HEAD}\n{'|---' * (HEAD.count('|') - 1)}|", flush=True)
  failed = False
  for model in models:
    for precision in precisions:
      for method in methods:
        name = f"{method}:{model}:{precision}"
        row = measured(name, args.batch or (MODELS[model][2] if small else 128), args)
        if "error" in row:
          print(f"{name} failed: {row['error']}", flush=True)
          failed = True
          continue
        keep(row)
        print(told(row), flush=True)
  if args.torch:
    # The two share the device: JAX must not take most of its memory in advance.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    started = time.monotonic()
    workers = [int(n) for n in args.workers.split(",")]
    sizes = (args.batch or (16 if small else 128), args.torch_images or (128 if small else 50_000))
    for row in compare_torch(*sizes, workers, precisions, args.rounds):
      keep({**row, **rows.provenance(started)})
      print(told_torch(row), flush=True)
      failed |= bool(row["error"])
  sys.exit(int(failed))


if __name__ == "__main__":
  main()
