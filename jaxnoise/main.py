"""Trains what a config file describes: `python -m jaxnoise.main --config=configs/noisymix.py`.

Fields are overridden as `--config.optim.lr=0.05`; some config files take an argument,
`--config=configs/noisymix.py:dataset=cifar100`. `--workdir` defaults to
`runs/<config>-<hash of the resolved config>`, so that the same command resumes. `--dry_run` prints
the plan and writes nothing. On several hosts each runs this command (docs/tpu_pod.md);
`--distributed=auto|on|off` says whether to look for the others. Exit codes: 0 done or stopped by
SIGTERM after saving, 1 the training failed or another host died, 2 bad input (nothing was written,
unless it is an image of a stream that cannot be read when its step comes).
"""

from __future__ import annotations

import ast
import errno
import hashlib
import json
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from jaxnoise.core.errors import InputError, closest
from jaxnoise.training import cache, distributed, schema, writers

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PATHS = (
  errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS,
  errno.ENAMETOOLONG, errno.ELOOP,
)  # fmt: skip
_SWITCHES = ("quiet", "noquiet", "dry_run", "nodry_run", "help", "h")


def parse(argv: Sequence[str]) -> tuple[dict, Path]:
  """Reads the command line into (what to do, workdir).

  Sections whose fields are a factory's arguments (`model`, `method`, `policy`, `wrapper_args`,
  `stage`) take any field, `--config.method.epsilon=0.03`: the factory's signature says what exists.
  `sweep` takes fields of others, `--config.sweep.optim.lr="(0.1,0.05)"`.
  Naming another factory, `--config.method.name=erm`, drops the fields that the file had for its
  own.

  Raises:
    InputError: for anything that cannot be understood.
  """
  argv = _joined(argv)
  file, name = _config_file(argv)
  if file is not None and not file.is_file():
    raise InputError(f"--config names {file}, which does not exist; give the path of a config file")
  changes, rest = _open_changes(argv)
  values = _read_flags(rest)
  if values.help:
    return {"help": f"{__doc__}\n{values.main_module_help() or values.get_help()}"}, Path()
  if values.config is None:
    raise InputError("--config is missing; give a file such as --config=configs/smoke.py")
  resolved = schema.merge(values.config.to_dict(), changes)
  resolved["name"] = resolved.get("name") or name
  # How many threads decode images makes no other run.
  telling = {
    section: {**fields, "threads": 0} if section == "data" and "threads" in fields else fields
    for section, fields in resolved.items()
  }
  digest = hashlib.sha256(json.dumps(telling, sort_keys=True).encode()).hexdigest()[:10]
  path = writers.run_directory(values.workdir or f"runs/{name}-{digest}")
  chosen = {"quiet": values.quiet, "dry_run": values.dry_run, "distributed": values.distributed}
  return {"config": resolved, **chosen}, path


def _joined(argv: Sequence[str]) -> list[str]:
  """Writes `--flag value` as `--flag=value`."""
  out: list[str] = []
  for word in argv:
    last = out[-1] if out else ""
    open_flag = last.startswith("--") and "=" not in last and last[2:] not in _SWITCHES
    if len(out) > 1 and open_flag and not last.startswith("--noconfig"):
      out[-1] = f"{last}={word}"
    else:
      out.append(word)
  return out


def _config_file(argv: Sequence[str]) -> tuple[Path | None, str]:
  """The config file, and its name with its argument as a folder may be called."""
  given = [word.split("=", 1)[1] for word in argv if re.match(r"--?config=", word)]
  if not given:
    return None, "run"
  file, _, argument = given[-1].partition(":")
  stem = Path(file).stem
  return Path(file), re.sub(r"[^\w.=-]+", "_", stem + (f"-{argument}" if argument else ""))


def _open_changes(argv: Sequence[str]) -> tuple[dict, list[str]]:
  """Takes the changes of open sections out of the command line: ({section: {...}}, the rest)."""
  changes: dict = {}
  rest = []
  for word in argv:
    match = re.match(r"--?config\.([\w.]+)=(.*)$", word, flags=re.DOTALL)
    sections = match[1].split(".") if match else ()
    inside = any(section in schema.OPEN for section in sections[:-1])
    if not inside:
      rest.append(word)
      continue
    try:
      value = ast.literal_eval(match[2])
    except (ValueError, SyntaxError):
      value = match[2]  # a bare word
    inner = changes
    for section in sections[:-1]:
      inner = inner.setdefault(section, {})
    inner[sections[-1]] = value
  return changes, rest


def _read_flags(argv: Sequence[str]) -> flags.FlagValues:
  """Reads what absl and ml_collections understand."""
  _check_fields(argv)
  values = flags.FlagValues()
  config_flags.DEFINE_config_file(
    "config",
    None,
    "Path of the config file, with :argument if it takes one.",
    flag_values=values,
    sys_argv=list(argv),
  )
  flags.DEFINE_string("workdir", "", "Run directory.", flag_values=values)
  flags.DEFINE_boolean("quiet", False, "Print no progress.", flag_values=values)
  flags.DEFINE_boolean(
    "dry_run",
    False,
    "Print the plan (steps, parameters, memory, label noise, files) and stop; writes nothing.",
    flag_values=values,
  )
  flags.DEFINE_string(
    "distributed",
    "auto",
    "Whether to join other processes of this run: auto, on or off.",
    flag_values=values,
  )
  flags.DEFINE_boolean("help", False, "Show this help.", short_name="h", flag_values=values)
  try:
    rest = values(list(argv))
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
    raise _explain(error) from None
  if len(rest) > 1:
    raise InputError(f"{rest[1]!r} is not an option; options start with --config or --workdir")
  return values


def _check_fields(argv: Sequence[str]) -> None:
  """Names the closest field for each misspelt `--config.a.b` before absl stumbles on it."""
  for word in argv:
    match = re.match(r"--?(?:no)?config\.([\w.]+)", word)
    section = schema.default()
    for part in match[1].split(".") if match else ():
      if not isinstance(section, dict):
        break
      if part not in section:
        raise InputError(f"config.{match[1]} is no field of the config: {closest(part, section)}")
      section = section[part]


def _explain(error: Exception) -> InputError:
  """One sentence for what absl and ml_collections say in pages."""
  text = " ".join(str(error).split())
  own = re.search(r"InputError: (.*)$", text)
  if own:
    return InputError(own[1])
  wrong_type = re.search(r"flag --(config\.[\w.]+)=(.*?): (.*)$", text)
  if wrong_type:
    field, value, why = wrong_type.groups()
    return InputError(
      f"{field} is {value!r}, which is not of the type that the config file gives it: {why}"
    )
  return InputError(f"the command line cannot be read: {text}")


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit code."""
  logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)
  # The checkpoint library narrates every save, and tells what fails in pages; a line here says it.
  for name in ("absl", "asyncio"):
    logging.getLogger(name).setLevel(logging.CRITICAL)
  try:
    parsed, workdir = parse(argv)
    if "help" in parsed:
      print(parsed["help"])
      return 0
    if parsed["config"].get("deterministic"):
      cache.ask_for_determinism()
    with distributed.joined(parsed["distributed"]):
      run = _dry_run if parsed["dry_run"] else _train
      return run(parsed["config"], workdir, parsed["quiet"])
  except InputError as error:
    print(f"jaxnoise: {' '.join(str(error).split())}", file=sys.stderr)
    return 2
  except OSError as error:
    where = f": {error.filename}" if error.filename else ""
    reason = (error.strerror or " ".join(str(error).split()) or type(error).__name__) + where
    if error.errno in _PATHS:
      print(f"jaxnoise: {reason}; is the path right?", file=sys.stderr)
      return 2
    mended = "Make room" if error.errno in _FULL else "Mend that"
    kept = f"what was saved before is kept. {mended}, and the same command goes on"
    print(f"jaxnoise: {reason}; {kept}", file=sys.stderr)
    return 1


def _train(config: dict, workdir: Path, quiet: bool) -> int:
  from jaxnoise import api
  from jaxnoise.training import checkpoint, loop

  cache.use_compilation_cache()
  try:
    api.train_all(config, workdir, quiet=quiet)
  except (loop.NonFiniteError, checkpoint.CheckpointError) as error:
    print(f"jaxnoise: {error}", file=sys.stderr)
    return 1
  if distributed.is_main():
    print(f"run directory: {workdir}", flush=True)
  return 0


def _dry_run(config: dict, workdir: Path, quiet: bool) -> int:
  from jaxnoise.training import experiment, preview

  del quiet
  cache.use_compilation_cache()
  tell = print if distributed.is_main() else (lambda text, **_: None)
  with distributed.together():
    planned = experiment.assemble_all(config, workdir)
  for run, directory in planned:
    tell(experiment.describe(run, directory))
    tell(preview.describe(preview.preview(run, directory)), flush=True)
  tell("dry run: nothing was trained or written")
  return 0


def console() -> None:
  """The entry point `jaxnoise`."""
  sys.exit(main(sys.argv))


if __name__ == "__main__":
  console()
