"""One process at a time in a run directory."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from jaxnoise.core.errors import InputError

NAME = ".lock"


@contextlib.contextmanager
def held(workdir: Path) -> Iterator[None]:
  """Holds the run directory until it is left, or the process dies in whatever way.

  The lock is the operating system's, on the file `.lock` of the directory, so that a killed process
  leaves nothing to clean up. A file system without locks gives none.

  Args:
    workdir: made if missing.

  Raises:
    InputError: when another run, in this process or another, holds it.

  Example:
    >>> import pathlib, tempfile
    >>> from jaxnoise.training import lock
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   with lock.held(pathlib.Path(folder)):
    ...     try:
    ...       with lock.held(pathlib.Path(folder)):
    ...         pass
    ...     except lock.InputError as error:
    ...       print("another process" in str(error))
    True
  """
  workdir.mkdir(parents=True, exist_ok=True)
  file = os.open(workdir / NAME, os.O_RDWR | os.O_CREAT, 0o644)
  try:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
        raise InputError(
          f"workdir {workdir} is in use by another process that trains in it; wait for it or stop "
          "it, or choose another --workdir"
        ) from None
      if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
        raise
    yield
  finally:
    os.close(file)
