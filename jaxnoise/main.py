"""Trains what a config file describes: `python -m jaxnoise.main --config=configs/noisymix.py`.

Fields are overridden as `--config.optim.lr=0.05`; some config files take an argument,
`--config=configs/noisymix.py:dataset=cifar100`. `--workdir` defaults to
`runs/<config>-<hash of the resolved config>`, so that the same command resumes. Exit codes: 0 done
or stopped by SIGTERM after saving, 1 the training failed, 2 bad input (nothing was written).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from jaxnoise.core.errors import InputError, closest


def parse(argv: Sequence[str]) -> tuple[dict, Path]:
  """Reads the command line into (config, workdir).

  Raises:
    InputError: for anything that cannot be understood.
  """
  values = flags.FlagValues()
  config = config_flags.DEFINE_config_file(
    "config",
    None,
    "Path of the config file, with :argument if it takes one.",
    flag_values=values,
    sys_argv=list(argv),
  )
  workdir = flags.DEFINE_string("workdir", "", "Run directory.", flag_values=values)
  flags.DEFINE_boolean("quiet", False, "Print no progress.", flag_values=values)
  flags.DEFINE_boolean("help", False, "Show this help.", short_name="h", flag_values=values)
  file, name = _config_file(argv)
  if file is not None and not file.is_file():
    raise InputError(f"--config names {file}, which does not exist; give the path of a config file")
  try:
    rest = values(list(argv), known_only=False)
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
    raise _explain(error, argv) from None
  if values.help:
    return {"help": f"{__doc__}\n{values.main_module_help() or values.get_help()}"}, Path()
  if len(rest) > 1:
    raise InputError(f"{rest[1]!r} is not an option; options start with --config or --workdir")
  if config.value is None:
    raise InputError("--config is missing; give a file such as --config=configs/smoke.py")
  resolved = config.value.to_dict()
  resolved["name"] = resolved.get("name") or name
  digest = hashlib.sha256(json.dumps(resolved, sort_keys=True).encode()).hexdigest()[:10]
  path = Path(workdir.value) if workdir.value else Path("runs") / f"{name}-{digest}"
  return {"config": resolved, "quiet": values.quiet}, path


def _config_file(argv: Sequence[str]) -> tuple[Path | None, str]:
  """The config file, and its name with its argument as a folder may be called."""
  match = re.search(r"--?config[= ]([^\s:]+)(?::(\S*))?", " ".join(argv))
  if not match:
    return None, "run"
  file = Path(match[1])
  return file, re.sub(r"[^\w.=-]+", "_", file.stem + (f"-{match[2]}" if match[2] else ""))


def _explain(error: Exception, argv: Sequence[str]) -> InputError:
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


def _check_fields(argv: Sequence[str]) -> None:
  """Names the closest field for each misspelt `--config.a.b` before absl stumbles on it.

  The config file says what fields there are, so it is read once without the overrides.
  """
  fields = [m[1] for m in (re.match(r"--?(?:no)?config\.([\w.]+)", a) for a in argv) if m]
  plain = [a for a in argv if not re.match(r"--?(?:no)?config\.", a)]
  if not fields:
    return
  known = parse(plain)[0]["config"]
  for field in fields:
    section = known
    for part in field.split("."):
      if not isinstance(section, dict):
        break
      if part not in section:
        raise InputError(f"config.{field} is no field of the config: {closest(part, section)}")
      section = section[part]


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit code."""
  logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)
  try:
    _check_fields(argv)
    parsed, workdir = parse(argv)
    if "help" in parsed:
      print(parsed["help"])
      return 0
    return _train(parsed["config"], workdir, parsed["quiet"])
  except InputError as error:
    print(f"jaxnoise: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


def _train(config: dict, workdir: Path, quiet: bool) -> int:
  import jax

  from jaxnoise import reporting
  from jaxnoise.training import experiment, loop

  cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(Path.home() / ".cache" / "jaxnoise"))
  jax.config.update("jax_compilation_cache_dir", cache)
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
  try:
    results = experiment.run(config, workdir, quiet=quiet)
  except loop.NonFiniteError as error:
    print(f"jaxnoise: {error}", file=sys.stderr)
    return 1
  for (_, directory), result in zip(experiment.plan(config, workdir), results, strict=False):
    if result.finished:
      print(f"report: {reporting.write_report(directory)}")
  print(f"run directory: {workdir}", flush=True)
  return 0


def console() -> None:
  """The entry point `jaxnoise`."""
  sys.exit(main(sys.argv))


if __name__ == "__main__":
  console()
