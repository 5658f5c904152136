"""One of two processes that train together, for test_several_hosts.py: `hosts_worker.py FOLDER`.

Each has two of the four devices. What a process meets is written to FOLDER/process<number>.json.
With `more` or `damaged` as second argument it does what that function says instead.
"""

import dataclasses
import functools
import json
import os
import signal
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxnoise import augment, data, methods
from jaxnoise.core import InputError
from jaxnoise.training import distributed, experiment, final, loop, rundir, schema
from tests.toy import toy_network
from tests.training.common import CONFIG, tiny_run, told
from tests.training.test_final import noisy_source

DEVICES = 4
NOISY = {"labels": "worse"}


def noisymix(network, *, spec):
  def jitter(rng, image):
    return image + 0.05 * jax.random.normal(rng, image.shape)

  return methods.noisymix(network, spec=spec, policy=jitter, stages=(1,))


def nrd(network, *, spec):
  schedule = {"update_after": 1, "update_every": 1, "decay": 0.5}
  first = augment.crop_flip(1)
  return methods.nrd(network, spec=spec, first=first, teacher_policy=None, **schedule)


def reweighted(network, *, spec):
  inner = methods.erm(network, spec=spec)
  return methods.multiplicative_reweighting(
    inner, network, spec=spec, eta=0.5, updates_per_epoch=3
  )


METHODS = {"noisymix": noisymix, "nrd": nrd, "reweighted": reweighted}


def visited(factory, network, *, spec):
  """The method, keeping which example was in which row of which step's batch."""
  inner = factory(network, spec=spec)

  def init_state(state):
    state = inner.init_state(state)
    return state.with_method_state("visited", jnp.zeros((spec.num_steps, spec.batch_size), int))

  def post_step(state, batch, aux, rng):
    state = inner.post_step(state, batch, aux, rng)
    seen = state.method_state["visited"].at[state.step - 1].set(batch["index"])
    return state.with_method_state("visited", seen)

  return dataclasses.replace(inner, init_state=init_state, post_step=post_step)


def run_of(name, **changes):
  """Two epochs of three steps over four devices, on noisy labels."""
  return tiny_run(
    functools.partial(visited, METHODS[name]),
    devices=DEVICES,
    source=noisy_source(),
    **{
      "total": "2 epochs",
      "data": NOISY,
      "checkpoint": {"every": "3 steps", "keep": 2},
      "log": {"every": "1 steps"},
      "evaluate": {"corruptions": ("contrast",), "severities": (1,), "batch_size": 16},
      **changes,
    },
  )


def train(name, workdir, *, until=6):
  done = []
  stop = lambda: len(done) == until
  return loop.train(run_of(name), workdir, quiet=True, on_step=done.append, stop=stop)


def tables(result):
  """Measures a finished run; returns what it told."""
  told = []
  assert final.finish(result.run, result, result.directory, told.append, lambda: False)
  return told


def refusals(folder, mine):
  """What this process hears of claims that one of the two, or both, must refuse."""
  rundir._PATIENCE = 0.0
  plain = functools.partial(tiny_run, devices=DEVICES)
  flipped = noisy_source()
  if mine == 1:
    flipped = flipped.with_labels(1 - np.minimum(flipped.labels, 1))
  claims = {
    "config": lambda: rundir.claim(plain(optim={"lr": 0.5 + mine}), folder / "new"),
    "labels": lambda: rundir.claim(plain(source=flipped), folder / "new"),
    "taken": lambda: rundir.claim(plain(optim={"lr": 0.5}), folder / "noisymix"),
    "apart": lambda: rundir.claim(plain(), folder / f"apart{mine}"),
    "missing": lambda: missing(folder / f"absent{mine}", mine),
  }
  heard = {}
  for name, claim in claims.items():
    try:
      claim()
      heard[name] = ""
    except (InputError, OSError) as error:
      heard[name] = f"{type(error).__name__}: {error}"
  return heard


def missing(path, mine):
  with distributed.together():
    if mine == 1:
      path.read_text()


def told_to_stop(folder, mine):
  """The steps at which a run ends of whose processes the second one gets a SIGTERM, and resumes."""
  run = tiny_run(
    devices=DEVICES, total="1000000 steps", evaluate={"every": "1000000 steps"},
    log={"every": "100 steps"}, checkpoint={"every": "1000000 steps"},
  )  # fmt: skip

  def on_step(step):
    if step == 5 and mine == 1:
      os.kill(os.getpid(), signal.SIGTERM)

  stopped = loop.train(run, folder / "stopped", quiet=True, on_step=on_step)
  resumed = loop.train(run, folder / "stopped", quiet=True, stop=lambda: True)
  assert not stopped.finished and not resumed.finished
  return [stopped.step, resumed.step]


def basic(folder: Path, mine: int) -> dict:
  out = {"devices": [jax.device_count(), jax.local_device_count()]}
  for name in METHODS:
    assert train(name, folder / name, until=3).step == 3
    result = train(name, folder / name)
    out[name] = dict(result.metrics)
  out["told"] = tables(result)
  out["refused"] = refusals(folder, mine)
  out["stopped"] = told_to_stop(folder, mine)
  return out


def pictures(root):
  """Writes the images as PNG files in folders of classes, for a stream."""
  source = noisy_source()
  for split, images, labels in (
    ("train", source.images, source.labels), ("test", source.test_images, source.test_labels)
  ):  # fmt: skip
    for i, label in enumerate(labels):
      (root / split / str(label)).mkdir(parents=True, exist_ok=True)
      Image.fromarray(images[i]).save(root / split / str(label) / f"{i:03d}.png")


def more(folder: Path, mine: int) -> dict:
  """Seeds that lie on different hosts, a stream, and a student of an earlier stage."""
  del mine
  streamed = data.load("folder", folder / "pictures", stream=True, threads=1)
  given = {"network": toy_network(), "method": reweighted}
  # The second seed is the first to stop improving by a part in ten: each has a rate of its own.
  plateau = {"lr": 1e-3, "schedule": "plateau", "factor": 0.5, "patience": 0, "threshold": 0.1}
  steps = {"total": "4 epochs", "log": {"every": "1 epoch"}}
  # Each host makes the crops of its own rows; the pass has no crops.
  cropped = {
    "first": {"resized_crop": 8, "scale": (0.3, 1.0), "flip": True},
    "wrappers": ("multiplicative_reweighting",),
  }
  staged = {
    "total": "2 steps",
    "model": {"name": "wide_resnet", "depth": 10, "widen_factor": 1},
    "stages": ("teacher", "student"),
    "stage": {"student": {"teacher": "teacher", "method": {"name": "knowledge_distillation"}}},
  }
  runs = {
    "seeds": ({"seeds": 2, "optim": plateau, **steps}, {"source": noisy_source(), **given}),
    "stream": (cropped, {"source": streamed, "network": toy_network(), "method": methods.erm}),
    "stages": (staged, {}),
  }
  out = {}
  for name, (changes, parts) in runs.items():
    config = schema.merge({**CONFIG, "total": "1 epoch"}, changes)
    results = experiment.run(config, folder / name, quiet=True, **parts)
    out[name] = [dict(result.metrics) for result in results]
  name, rows = "train/student/lr", told(folder / "seeds")
  out["rates"] = [{str(row["step"]): row[name] for row in rows if name in row}]
  return out


def damaged(folder: Path, mine: int) -> dict:
  """A stream of which a picture can no longer be read, by the process in whose share it falls."""
  source = data.load("folder", folder / "pictures", stream=True, threads=1)
  run = tiny_run(devices=DEVICES, source=source, total="1 epoch")
  with distributed.together():  # both have looked at all pictures
    pass
  if mine == 0:
    max((folder / "pictures" / "train").glob("*/*.png")).write_bytes(b"")
  with distributed.together():
    pass
  loop.train(run, folder / "run", quiet=True)
  return {}


def main(folder: Path, what: str = "basic") -> None:
  with distributed.joined("on"):
    mine = jax.process_index()
    out = {"basic": basic, "more": more, "damaged": damaged}[what](folder, mine)
    (folder / f"process{mine}.json").write_text(json.dumps(out))


if __name__ == "__main__":
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  main(Path(sys.argv[1]), *sys.argv[2:])
