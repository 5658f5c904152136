"""Suites: measurements of a finished run in cells, each kept as soon as it is measured."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from jaxnoise import data as data_lib
from jaxnoise.core.state import TrainState
from jaxnoise.core.types import Method
from jaxnoise.training import writers

Values = Mapping[str, Sequence[Mapping[str, Any]]]
"""predictor -> for each seed, field -> number (or a list of numbers, for what a page draws)."""


@dataclasses.dataclass(frozen=True)
class Subject:
  """The networks that a suite measures, and the images that it measures them on.

  Attributes:
    method: whose predictors are measured.
    states: one per seed.
    mesh: the devices.
    test: the clean test images.
    holdout: examples held out of training, for what is fitted after it; None where there are none.
    batch_size: images at a time.
    holdout_labels: [S, H] labels of the held-out examples for each state, where these differ.
  """

  method: Method
  states: Sequence[TrainState] = dataclasses.field(repr=False)
  mesh: Mesh
  test: data_lib.Pool
  holdout: data_lib.Pool | None
  batch_size: int
  holdout_labels: np.ndarray | None = None

  @property
  def predictors(self) -> tuple[str, ...]:
    """Their names, the headline first."""
    return tuple(self.method.predictors(self.states[0]))


@dataclasses.dataclass(frozen=True)
class Part:
  """One table of a suite.

  Attributes:
    name: of the table.
    settings: everything that its numbers depend on beside the networks and the test set, as JSON
      has it; a table of other settings is measured anew.
    cells: names of the measurements, in order.
    measure: what measures one.
    summarise: cell -> values of all cells, to predictor -> field -> one number per seed (or rows,
      for what a page says).
    headline: field of a cell that progress is told by.
    notes: what only the summary depends on; written beside it.
  """

  name: str
  settings: Mapping[str, Any]
  cells: tuple[str, ...]
  measure: Callable[[str], Values] = dataclasses.field(repr=False)
  summarise: Callable[[Mapping[str, Values]], Mapping[str, Mapping[str, list[float]]]] = (
    dataclasses.field(repr=False)
  )
  headline: str = "accuracy"
  notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def run_parts(
  parts: Sequence[Part],
  folder: Path,
  about: Mapping[str, Any],
  *,
  tell: Callable[[str], None] = lambda text: None,
  stop: Callable[[], bool] = lambda: False,
  quiet: bool = True,
) -> bool:
  """Measures what is missing of every part; folder/NAME.json has what is there at any moment.

  A table is {**about, "settings", "cells": cell -> values, "complete", "summary", "notes"}; it is
  written whole after each cell, so that a run that is killed goes on at the cell it was in.

  Args:
    parts: in order.
    folder: of the tables.
    about: what the numbers are of (step, seeds, test set); a table that says otherwise, or has
      other settings, is begun anew.
    tell: called with lines for the user.
    stop: asked before each cell whether to give up.
    quiet: show no progress.

  Returns:
    Whether everything is measured; False when asked to stop.

  Example:
    >>> import pathlib
    >>> from jaxnoise import evaluation
    >>> part = evaluation.Part("sums", {}, ("a", "bc"),
    ...   measure=lambda cell: {"student": [{"length": len(cell)}]},
    ...   summarise=lambda cells: {"student": {"cells": [len(cells)]}}, headline="length")
    >>> evaluation.run_parts([part], pathlib.Path("tables"), {"step": 3})
    True
    >>> evaluation.read_table(pathlib.Path("tables/sums.json"))["summary"]
    {'student': {'cells': [2]}}
  """
  about = _plain(about)
  tables = {part.name: _begun(part, folder, about, tell) for part in parts}
  left = sum(len(p.cells) - len(tables[p.name]["cells"]) for p in parts)
  progress = writers.Progress(left, 0, 0, quiet or not left, unit="cell")
  done = 0
  try:
    for part in parts:
      table, path = tables[part.name], folder / f"{part.name}.json"
      for cell in part.cells:
        if cell in table["cells"]:
          continue
        if stop():
          return False
        table["cells"][cell] = _plain(part.measure(cell))
        writers.write_json(path, table)
        done += 1
        progress.update(done, f"{part.name} {cell}{_news(part, table['cells'][cell])}", row=True)
      # In the order of the part, whatever order they were measured in.
      cells = {cell: table["cells"][cell] for cell in part.cells}
      summary, notes = _plain(part.summarise(cells)), _plain(part.notes)
      end = {"complete": True, "summary": summary, "notes": notes}
      if any(table.get(key) != value for key, value in end.items()):
        writers.write_json(path, {**table, "cells": cells, **end})
  finally:
    progress.close()
  return True


def read_table(path: Path) -> dict[str, Any] | None:
  """Reads a table that `run_parts` wrote; None where there is none, or one that is not complete."""
  table = writers.read_json(path) if path.exists() else None
  return table if table is not None and table.get("complete") else None


def _begun(
  part: Part, folder: Path, about: Mapping[str, Any], tell: Callable[[str], None]
) -> dict[str, Any]:
  """The table as far as it is measured."""
  path = folder / f"{part.name}.json"
  fresh = {**about, "settings": _plain(part.settings), "cells": {}, "complete": False}
  fresh["summary"] = {}
  found = writers.read_json(path) if path.exists() else None
  if found is None:
    return fresh
  found.pop("format_version")
  other = sorted(k for k in (*about, "settings") if found.get(k) != fresh[k])
  if other:
    tell(f"{part.name}: the table at hand has another {' and '.join(other)}; measuring anew")
    return fresh
  known = {cell: found["cells"][cell] for cell in part.cells if cell in found["cells"]}
  if len(known) < len(part.cells) and known:
    tell(f"{part.name}: {len(known)} of {len(part.cells)} cells are there already")
  return {**found, "cells": known}


def _news(part: Part, values: Values) -> str:
  """The headline's mean over seeds, for the progress line."""
  rows = next(iter(values.values()))
  numbers = [row[part.headline] for row in rows if part.headline in row]
  if not numbers:
    return ""
  return f": {part.headline.replace('_', ' ')} {sum(numbers) / len(numbers):.4f}"


def _plain(value: Any) -> Any:
  """The value as JSON gives it back."""
  return json.loads(json.dumps(value))


def by_seed(rows: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
  """[{field: number} of each seed] as field -> [number of each seed].

  Example:
    >>> from jaxnoise import evaluation
    >>> evaluation.by_seed([{"accuracy": 0.5}, {"accuracy": 0.75}])
    {'accuracy': [0.5, 0.75]}
  """
  return {field: [row[field] for row in rows] for field in rows[0]}


def scalars(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
  """The numbers of each row, without what a page draws."""
  return [{k: v for k, v in row.items() if isinstance(v, (int, float))} for row in rows]
