"""Several seeds as one program: how a function of one network becomes one of several.

Every leaf of the state but `step` and `teacher` has a leading axis with a row for each network: one
for each seed and, in a sweep, for each member and seed, the seeds of a member next to one another.
One network has no axis. The forms give the same numbers and differ in what they cost:

* "mapped": one row after the other in a loop. Compiled once; the memory of one network at work.
  Members of a sweep are written out, each with a loop over its own seeds.
* "unrolled": the rows are written out. The compiler sees them all, and takes as much longer.
* "vmapped": every operation has the axis; what becomes of kernels with an axis of their own is up
  to the backend.
* Over devices: a mesh with several of them along "seed" gives each group of devices its own seeds,
  by `shard_map`, and runs those of a group in one of the forms above. Groups exchange nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from jaxnoise.core.errors import InputError, closest
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import PRNGKey, PyTree
from jaxnoise.training import sharding

Row = Callable[[PyTree, PyTree], PyTree]
"""(what a row has of its own, what all rows share) -> what a row returns."""


def root_keys(seed: int, seeds: int, members: int = 1) -> PRNGKey:
  """The root keys of seed, ..., seed + seeds - 1, once for each member; one key has no axis."""
  if seeds * members == 1:
    return jax.random.key(seed)
  return jnp.stack([jax.random.key(seed + s) for s in range(seeds)] * members)


def take(state: TrainState, row: int | slice) -> TrainState:
  """The state of one network out of several: its row of every leaf, the shared step and teacher."""
  rows = state.replace(step=None, teacher=None)
  lies = jax.tree.leaves(rows)[0].sharding
  if isinstance(lies, NamedSharding) and sharding.groups(lies.mesh) > 1:
    # One group of devices has it, which may be on another host; all of them get it.
    rows = jax.jit(_at, out_shardings=sharding.replicated(lies.mesh))(rows, row)
  else:
    rows = _at(rows, row)
  return rows.replace(step=state.step, teacher=state.teacher)


def _at(rows: PyTree, row: Any) -> PyTree:
  return jax.tree.map(lambda x: x[row], rows)


def _mapped(one: Row, rows: PyTree, shared: PyTree) -> PyTree:
  return jax.lax.map(lambda row: one(row, shared), rows)


def _unrolled(one: Row, rows: PyTree, shared: PyTree) -> PyTree:
  outs = [one(_at(rows, r), shared) for r in range(_count(rows))]
  return jax.tree.map(lambda *xs: jnp.stack(xs), *outs)


def _vmapped(one: Row, rows: PyTree, shared: PyTree) -> PyTree:
  return jax.vmap(one, in_axes=(0, None))(rows, shared)


FORMS: Mapping[str, Callable[[Row, PyTree, PyTree], PyTree]] = {
  "mapped": _mapped,
  "unrolled": _unrolled,
  "vmapped": _vmapped,
}
"""How the rows that one group of devices has are run."""

# Of five seeds on 2 CPU cores, over runs in a row: WRN-10-1 at 16 pixels mapped 0.81, unrolled
# 0.83, vmapped 2.7 (kernels with an axis are a grouped convolution there); at 8 pixels 0.85, 0.71,
# 1.7; WRN-16-2 at 8 pixels 1.20, 0.98, 1.9. Unrolled takes some 10 s longer to compile, which what
# it gains at 8 pixels makes up for after about a thousand steps. Not measured on accelerators,
# where one small network leaves most of the chip idle, rows in a loop leave it as idle, and only
# the axis gives each operation more work.
_FASTEST = {"cpu": "mapped", "gpu": "vmapped", "tpu": "vmapped"}


def fastest(backend: str | None = None) -> str:
  """The form that `config.seeds` takes on a backend, from benchmarks/seeds.py where it was run.

  Args:
    backend: "cpu", "gpu" or "tpu"; None means the default one. Of others nothing is known, and they
      get "mapped", which is compiled as quickly as one run.

  Example:
    >>> from jaxnoise.training import seeds
    >>> seeds.fastest("cpu")
    'mapped'
  """
  return _FASTEST.get(backend or jax.default_backend(), "mapped")


def over_seeds(
  fns: Sequence[Callable[..., Any]],
  seeds: int,
  mesh: Mesh | None = None,
  *,
  form: str | None = None,
  swept: str = "",
) -> Callable[..., Any]:
  """Turns fn(first, data, *rest) of one network into the same of M members with S seeds each.

  Args:
    fns: M functions of one network, one for each member of a sweep; `first` is a TrainState or a
      root key; each returns a TrainState, a tuple that starts with one, or other arrays.
    seeds: S.
    mesh: with several devices along "seed", a number that divides S, these share a member's seeds;
      None means none has.
    form: a name in `FORMS`; None means `fastest()`.
    swept: what the members differ in, for messages.

  Returns:
    For M S = 1 the function as it is; else one whose `first` and `rest` have a leading axis M S
    (but the state's step and teacher), and whose `data` all share, except that labels [S, N] are
    each seed's own row. What it returns has the axis too.

  Raises:
    InputError: for an unknown form; when traced, for members that return other arrays.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxnoise.training import seeds
    >>> step = seeds.over_seeds([lambda x, data: 2 * x, lambda x, data: 3 * x], seeds=2)
    >>> step(jnp.arange(4.0), {}).tolist()
    [0.0, 2.0, 6.0, 9.0]
  """
  form = fastest() if form is None else form
  if form not in FORMS:
    raise InputError(f"form is {form!r}, no such form: {closest(form, FORMS)}")
  if len(fns) * seeds == 1:
    return fns[0]

  def several(first: Any, data: Mapping[str, Any], *rest: Any):
    is_state = isinstance(first, TrainState)
    labels = data.get("labels")
    labels = labels if labels is not None and labels.ndim == 2 else None
    shared = {"data": data if labels is None else {k: data[k] for k in data if k != "labels"}}
    teacher = data.get("teacher")
    if is_state:
      shared |= {"step": first.step, "teacher": first.teacher}
      first, teacher = first.replace(step=None, teacher=None), first.teacher
    own = (first, rest)
    outs = []
    for m, fn in enumerate(fns):
      mine = own
      if len(fns) > 1:
        mine = jax.tree.map(lambda x, m=m: x[m * seeds : (m + 1) * seeds], own)
      outs.append(_run(_row(fn), (mine, labels), shared, mesh, form))
    out = outs[0] if len(fns) == 1 else _joined(outs, swept)
    return _on_state(lambda state: state.replace(step=state.step[0], teacher=teacher), out)

  return several


def rounds(seeds: int, mesh: Mesh, form: str | None = None) -> int:
  """How often the body of the loop over seeds runs; 1 where there is none."""
  return seeds // sharding.groups(mesh) if (form or fastest()) == "mapped" else 1


def _row(fn: Callable[..., Any]) -> Row:
  """A function of one network as one of a row and of what all rows share."""

  def one(row: PyTree, shared: PyTree) -> PyTree:
    (mine, others), labels = row
    data = shared["data"] if labels is None else {**shared["data"], "labels": labels}
    if isinstance(mine, TrainState):
      mine = mine.replace(step=shared["step"], teacher=shared["teacher"])
    return _on_state(lambda state: state.replace(teacher=None), fn(mine, data, *others))

  return one


def _run(one: Row, rows: PyTree, shared: PyTree, mesh: Mesh | None, form: str) -> PyTree:
  """Runs all rows of one member: on every device, or each group of devices its own."""

  def local(rows: PyTree, shared: PyTree) -> PyTree:
    return FORMS["unrolled" if _count(rows) == 1 else form](one, rows, shared)

  groups = 1 if mesh is None else sharding.groups(mesh)
  if groups == 1 or _count(rows) % groups:
    return local(rows, shared)
  return sharding.split_seeds(local, mesh)(rows, shared)


def _joined(outs: Sequence[PyTree], swept: str) -> PyTree:
  """The rows of all members, one after the other."""
  arrays = [
    {jax.tree_util.keystr(path): x.shape for path, x in jax.tree.leaves_with_path(out)}
    for out in outs
  ]
  for m, mine in enumerate(arrays):
    for name in sorted({*arrays[0], *mine}):
      if arrays[0].get(name) != mine.get(name):
        a, b = (of[name][1:] if name in of else "nothing" for of in (arrays[0], mine))
        raise InputError(
          f"{swept or 'the sweep'} changes an array, {name}: {a} of member 0, {b} of member {m}; "
          "members of one program have arrays of one shape, so make these runs of their own"
        )
  return jax.tree.map(lambda *xs: jnp.concatenate(xs), *outs)


def _count(rows: PyTree) -> int:
  return jax.tree.leaves(rows)[0].shape[0]


def _on_state(change: Callable[[TrainState], TrainState], out: PyTree) -> PyTree:
  """Applies `change` to the state that `out` is or starts with; other results pass."""
  if isinstance(out, TrainState):
    return change(out)
  if isinstance(out, tuple) and out and isinstance(out[0], TrainState):
    return (change(out[0]), *out[1:])
  return out
