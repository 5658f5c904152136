"""Several processes as one run: how they start, agree, stop together and end.

Each process of a run holds some of the devices and runs the same program. Process 0 is the one that
writes and prints. What one of them refuses is refused by all, so that none waits for another that
has gone. With one process every function here is free.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxnoise.core.errors import InputError, closest

MODES = ("auto", "on", "off")
_ADDRESS, _COUNT, _ID = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
_SLURM = (
  "SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID",
)  # fmt: skip
_TPU_HOSTS = ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES")
_MESSAGE_BYTES = 2048
_THREADS = 32


def environment(variables: Mapping[str, str] | None = None) -> str:
  """What says that this process is one of several: "address", "slurm", "tpu", or "" for nothing.

  * address: JAX_COORDINATOR_ADDRESS is set.
  * slurm: a SLURM step of more than one task.
  * tpu: a TPU virtual machine whose slice may have other hosts. One that lists a single host is
    none of several.

  Args:
    variables: the environment; None means this process's.

  Example:
    >>> from jaxnoise.training import distributed
    >>> distributed.environment({"JAX_COORDINATOR_ADDRESS": "10.0.0.1:1234"})
    'address'
    >>> distributed.environment({})
    ''
  """
  given = os.environ if variables is None else variables
  if given.get(_ADDRESS):
    return "address"
  if all(given.get(name) for name in _SLURM) and given["SLURM_NTASKS"] != "1":
    return "slurm"
  for name in _TPU_HOSTS:
    if given.get(name):
      return "tpu" if "," in given[name] or given.get("MEGASCALE_NUM_SLICES", "1") != "1" else ""
  # jax sets the first as it is imported where it finds TPU chips and their library.
  on_tpu = given.get("TPU_ML_PLATFORM") == "JAX" and not given.get("TPU_SKIP_MDS_QUERY")
  wanted = given.get("JAX_PLATFORMS", "")
  return "tpu" if on_tpu and (not wanted or "tpu" in wanted) else ""


def start(mode: str = "auto", *, heartbeat: int = 100, timeout: int = 300) -> None:
  """Joins this process to the others of its run; call it before any computation.

  Args:
    mode: "auto" joins where `environment` finds something to join; "on" must find it; "off" never
      joins.
    heartbeat: seconds without a sign of life after which a process counts as dead.
    timeout: seconds to wait for the others.

  Raises:
    InputError: when there is nothing to join, something of it is missing, or process 0 does not
      answer. Where others do not come, jax ends process 0 itself, with exit code 134.

  Example:
    >>> from jaxnoise.training import distributed
    >>> distributed.start("off")
    >>> distributed.is_main(), distributed.several()
    (True, False)
  """
  if mode not in MODES:
    raise InputError(f"--distributed is {mode!r}: {closest(mode, MODES)}")
  found = environment()
  if mode == "off" or (mode == "auto" and not found):
    return
  if not found:
    raise InputError(
      f"--distributed=on, but nothing says where the other processes are; set {_ADDRESS} "
      f"(host:port of process 0), {_COUNT} and {_ID} on every host, or start it under SLURM or on "
      "a TPU slice"
    )
  given = _given() if found == "address" else {}
  where = given.get("coordinator_address", found)
  said = f"process {given['process_id']} of {given['num_processes']} " if len(given) == 3 else ""
  print(f"jaxnoise: {said}joins the others ({where})", file=sys.stderr, flush=True)
  if given.get("process_id"):
    _reach(where, timeout)
  # XLA's CPU client has a thread for each core, and every collective holds one until all devices
  # have come to it: with few cores a step would wait for itself for ever.
  os.environ.setdefault("PJRT_NPROC", str(max(_THREADS, os.cpu_count() or 1)))
  try:
    jax.distributed.initialize(
      **given, heartbeat_timeout_seconds=heartbeat, initialization_timeout=timeout
    )
  except ValueError as error:
    if mode == "auto" and found == "tpu" and "coordinator_address" in str(error):
      return  # a machine with TPU chips that belongs to no slice
    raise InputError(f"--distributed={mode}: {_line(error)}") from None
  except RuntimeError as error:
    raise InputError(
      f"--distributed={mode}: the processes of this run did not find one another "
      f"({_line(error)}); is {_ADDRESS} that of process 0, and was the same command started on "
      "every host?"
    ) from None


def _given() -> dict[str, Any]:
  """The address, the number of processes and this one's, as the environment has them."""
  out: dict[str, Any] = {"coordinator_address": os.environ[_ADDRESS]}
  if not out["coordinator_address"].rpartition(":")[2].isdigit():
    raise InputError(f"{_ADDRESS} is {os.environ[_ADDRESS]!r}; it must be host:port")
  for name, field in ((_COUNT, "num_processes"), (_ID, "process_id")):
    value = os.environ.get(name, "")
    if not value and all(os.environ.get(known) for known in _SLURM):
      continue  # SLURM knows it
    if not value.isdigit():
      raise InputError(
        f"{_ADDRESS} is set, but {name} is {value!r}; set it to "
        + ("how many processes there are" if name == _COUNT else "this process's, from 0")
      )
    out[field] = int(value)
  count, mine = out.get("num_processes", 1), out.get("process_id", 0)
  if "num_processes" in out and mine >= count:
    raise InputError(f"{_ID} is {mine}, but {_COUNT} is {count}; processes are counted from 0")
  return out


def _reach(address: str, timeout: float) -> None:
  """Waits until something listens there; jax would end the process with pages of C++ instead."""
  host, _, port = address.rpartition(":")
  deadline = time.monotonic() + timeout
  while True:
    try:
      socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
      return
    except OSError as error:
      if time.monotonic() > deadline:
        raise InputError(
          f"nothing answers at {_ADDRESS} {address} ({_line(error)}); is it that of process 0, was "
          "process 0 started, and may this host reach the port?"
        ) from None
      time.sleep(0.2)


def several() -> bool:
  """Whether this process is one of several."""
  return jax.process_count() > 1


def is_main() -> bool:
  """Whether this process is the one that writes and prints: process 0."""
  return jax.process_index() == 0


def everyone(text: str) -> list[str]:
  """What each process says, by its number; all of them must call it.

  Args:
    text: this process's; cut off at 2048 bytes.

  Example:
    >>> from jaxnoise.training import distributed
    >>> distributed.everyone("here")
    ['here']
  """
  if not several():
    return [text]
  said = np.zeros(_MESSAGE_BYTES, np.uint8)
  encoded = np.frombuffer(text.encode()[:_MESSAGE_BYTES], np.uint8)
  said[: len(encoded)] = encoded
  rows = multihost_utils.process_allgather(said)
  return [row.tobytes().rstrip(b"\0").decode(errors="ignore") for row in rows]


def from_main(value: Any) -> Any:
  """What process 0 has, on every process; all of them must call it.

  Args:
    value: anything that JSON can hold; that of the others is ignored.

  Example:
    >>> from jaxnoise.training import distributed
    >>> distributed.from_main({"step": 3})
    {'step': 3}
  """
  if not several():
    return value
  encoded = json.dumps(value).encode() if is_main() else b""
  size = int(multihost_utils.broadcast_one_to_all(np.int32(len(encoded))))
  # In powers of two: each size is a program of its own.
  padded = np.zeros(1 << max(size - 1, 1).bit_length(), np.uint8)
  padded[: len(encoded)] = np.frombuffer(encoded, np.uint8)
  return json.loads(multihost_utils.broadcast_one_to_all(padded)[:size].tobytes())


def fetch(array: Any) -> np.ndarray:
  """An array on the host, from wherever its parts lie; all processes must call it.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.training import distributed
    >>> distributed.fetch(jnp.arange(3)).tolist()
    [0, 1, 2]
  """
  if isinstance(array, jax.Array) and not (array.is_fully_addressable or array.is_fully_replicated):
    return multihost_utils.process_allgather(array, tiled=True)
  return np.asarray(array)


@contextlib.contextmanager
def together() -> Iterator[None]:
  """What one process refuses within is refused by all at the end, in the same words.

  All processes must enter it. Without it the others would wait for one that has gone.

  Raises:
    InputError: what any process raised, with its number where it is another one's.

  Example:
    >>> from jaxnoise.training import distributed
    >>> with distributed.together():
    ...   path_is_free = True
  """
  if not several():
    yield
    return
  own: Exception | None = None
  try:
    yield
  except Exception as error:
    own = error
  wrong = "" if own is None else str(own) if isinstance(own, InputError) else _line(own)
  problems = everyone(wrong)
  if own is not None:
    raise own
  for number, problem in enumerate(problems):
    if problem:
      raise InputError(f"process {number} of {len(problems)} stopped: {problem}")


@contextlib.contextmanager
def ends_all() -> Iterator[None]:
  """What this process refuses within ends it at once, in its own words, and the others with it.

  For what processes compute together and one of them may find unreadable, such as an image of its
  share: the others wait for it in the middle of a step and cannot be told. They end as when a host
  has died. With one process the error is raised as it is.

  Example:
    >>> from jaxnoise.training import distributed
    >>> with distributed.ends_all():
    ...   images_of_this_host_are_whole = True
  """
  try:
    yield
  except InputError as error:
    if not several():
      raise
    _end(f"stopped, and the others end with it: {_line(error, 2000)}", 2)


def preemption() -> Callable[[], bool]:
  """Returns a function that says on every process at the same call whether to save and stop.

  A SIGTERM to any process is noticed by jax's preemption service, which agrees in the background on
  one of the next calls; each call asks this process alone, at no cost. Every process must call it
  equally often.

  Raises:
    InputError: when the service is switched off.

  Example:
    >>> from jaxnoise.training import distributed
    >>> stop = distributed.preemption()
    >>> stop()
    False
  """
  calls, told = itertools.count(1), False

  def stop() -> bool:
    nonlocal told
    told = told or multihost_utils.reached_preemption_sync_point(next(calls))
    return told

  try:
    multihost_utils.reached_preemption_sync_point(0)
  except RuntimeError as error:
    raise InputError(
      "jax's preemption service is off, without which processes cannot stop together; unset "
      "JAX_ENABLE_PREEMPTION_SERVICE"
    ) from error
  return stop


@contextlib.contextmanager
def joined(mode: str = "auto") -> Iterator[None]:
  """`start`, and an end that keeps no process waiting; for a command, around all that it does.

  Of several processes, one that has done its work or refuses its input waits for the others to do
  so too. One that fails in any other way, such as when another host has died, ends at once with a
  line and exit code 1: what is being computed together cannot be finished.

  Args:
    mode: as for `start`.

  Raises:
    InputError: as `start`.

  Example:
    >>> from jaxnoise.training import distributed
    >>> with distributed.joined("off"):
    ...   distributed.several()
    False
  """
  start(mode)
  try:
    yield
  except (InputError, SystemExit):
    _leave()
    raise
  except BaseException as error:
    if not several():
      raise
    _abandon(error)
  else:
    _leave()


def _leave() -> None:
  if several():
    with contextlib.suppress(RuntimeError):  # whoever has gone already
      jax.distributed.shutdown()


def _abandon(error: BaseException) -> None:
  if not isinstance(error, jax.errors.JaxRuntimeError | OSError):
    traceback.print_exception(error)
  _end(
    f"cannot go on ({type(error).__name__}: {_line(error)}); where another host has died, start "
    "the same command again on every host: it resumes from the last checkpoint",
    1,
  )


def _end(why: str, code: int) -> None:
  """Ends this process without a farewell to the others, which would wait for them."""
  mine, count = jax.process_index(), jax.process_count()
  print(f"jaxnoise: process {mine} of {count} {why}", file=sys.stderr, flush=True)
  sys.stdout.flush()
  os._exit(code)


def _line(error: BaseException, longest: int = 300) -> str:
  text = " ".join(str(error).split()) or type(error).__name__
  return text if len(text) <= longest else text[:longest] + " ..."
