"""report.html: one self-contained page per run; nothing on it is loaded from elsewhere."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnoise.reporting import _details, _draw, _html, _runs, _scores, _svg, _sweeps
from jaxnoise.training import schema


def write_report(run_dir: str | Path, path: str | Path | None = None) -> Path:
  """Writes RUN/report.html: what the run scored, how it got there, and what it was run with.

  Scores with their spread, curves, corruption table, reliability, classes, sample images, label
  noise, teacher, config and versions; what the run has no table for is left out. A run that has not
  ended gets a page of what there is, and says so. The members of a sweep are shown side by side,
  against the first one, and each by itself.

  Args:
    run_dir: the run directory.
    path: of the page, where it is to be another; folders are made.

  Returns:
    The path of the page.

  Raises:
    InputError: where the directory is no run.

  Example:
    >>> import pathlib
    >>> from jaxnoise import reporting
    >>> from jaxnoise.training import writers
    >>> config = {"method": {"name": "erm"}, "data": {"name": "digits"}}
    >>> writers.write_json(pathlib.Path("new_run/config.json"), {"config": config})
    >>> page = reporting.write_report("new_run")
    >>> page.name, "erm on digits" in page.read_text()
    ('report.html', True)
  """
  run = _runs.load_run(run_dir)
  path = run.path / "report.html" if path is None else Path(path)
  members = _sweeps.members(run)
  sections = _of_sweep(run, members) if len(members) > 1 else [s(run) for s in _SECTIONS]
  return _html.write_page(path, f"{run.method} on {run.dataset}", sections)


def _of_sweep(run: _runs.RunRecord, members: Sequence[_runs.RunRecord]) -> list[str]:
  """The members of a sweep against the first one, and what a page says of each."""
  from jaxnoise.reporting import comparison  # which draws its tables with this module

  own = [
    _html.folded(member.member, "\n".join(filter(None, (s(member) for s in _OF_MEMBER))))
    for member in members
  ]
  return [
    _head(run),
    *comparison.members_sections(members),
    "<h2>Each member</h2>",
    *own,
    *(section(run) for section in _SECTIONS if section not in (_head, *_OF_MEMBER)),
  ]


def _head(run: _runs.RunRecord) -> str:
  info = run.info
  facts = [run.config.get("name") or run.path.name]
  if "num_train" in info:
    shape = " x ".join(str(n) for n in info["image_shape"])
    facts.append(f"{info['num_train']:,} training images of {shape}, {info['num_classes']} classes")
  facts.append(f"{len(run.seeds)} seed{'s' if len(run.seeds) > 1 else ''}")
  count = len(_sweeps.members(run))
  facts += [f"a sweep of {count} members, with all seeds each"] * (count > 1)
  if run.rows:
    facts.append(f"{run.rows[-1]['epoch']:g} epochs, {run.rows[-1]['step']:,} steps")
  lines = [f"<h1>{html.escape(f'{run.method} on {run.dataset}')}</h1>"]
  facts += _timing(run)
  lines.append(f'<p class="soft">{html.escape(" · ".join(facts))}</p>')
  if not run.finished:
    steps = info.get("num_steps")
    of = f" of {steps:,}" if steps else ""
    done = run.rows[-1]["step"] if run.rows else 0
    lines.append(
      f'<p class="warning">This run has not ended: step {done:,}{of}, no final scores. '
      "The command that started it resumes it.</p>"
    )
  return "\n".join(lines)


def _timing(run: _runs.RunRecord) -> list[str]:
  """What the rows tell about time, where they do: the last total, the median rate."""
  found: dict[str, list[float]] = {"wall_seconds": [], "images_per_second": []}
  for row in run.rows:
    for name, value in row.items():
      if name.rpartition("/")[2] in found:
        found[name.rpartition("/")[2]].append(float(np.mean(value)))
  facts = []
  if found["wall_seconds"]:
    facts.append(f"{found['wall_seconds'][-1]:,.0f} s")
  if found["images_per_second"]:
    facts.append(f"{np.median(found['images_per_second']):,.0f} images/s")
  return facts


def _curves(run: _runs.RunRecord) -> str:
  accuracy = [f"{s}/{p}/accuracy" for p in run.predictors[:1] for s in ("test", "holdout")]
  svgs = [
    _svg.run_curve_svg(run, ["train/student/loss"], "Training loss", 1.0),
    _svg.run_curve_svg(run, accuracy, "Accuracy in %", 100.0),
  ]
  svgs = [svg for svg in svgs if svg]
  if not svgs:
    return ""
  held_out = any(_runs.has_curve(run, name) for name in accuracy[1:])
  notes = [
    "Best is where accuracy on the held-out images is highest, the last of equals; the number is "
    "the test set's there."
    if held_out
    else "Nothing was held out: best on the test set is marked for reading, not for choosing."
  ]
  if any(_runs.has_curve(run, name) for name in accuracy):
    notes += _scores.best_notes(run, held_out=held_out)
  several = "Lines are means over seeds, bands go from min to max. " if len(run.seeds) > 1 else ""
  drawn = "".join(_html.figure(svg) for svg in svgs)
  return f"""<h2>Curves</h2>
<div class="grid">{drawn}</div>
<p class="soft">{several}{" ".join(notes)}</p>"""


def _corruptions(run: _runs.RunRecord) -> str:
  chance = 100 / run.info.get("num_classes", 10)
  parts = []
  for predictor in run.predictors:
    cells = _runs.corruption_cells(run, "accuracy", predictor)
    if cells is not None:
      over = "" if len(cells.value) == 1 else f", mean over {len(cells.value)} seeds"
      table = corruption_table(cells, f"{predictor}: accuracy in %{over}", chance)
      parts.append(table if not parts else _html.folded(f"The same for {predictor}", table))
  if not parts:
    return ""
  stored = (run.corruptions or {}).get("images") == "stored"
  made = "Read from files made beforehand." if stored else "Corrupted while they were measured."
  return f"<h2>Accuracy under corruption</h2>\n{''.join(parts)}<p class=\"soft\">{made}</p>"


def corruption_table(
  cells: _runs.Cells, caption: str, low: float, high: float = 100.0, signed: bool = False
) -> str:
  """A (corruption, severity) table of colours with its means, in percent.

  From chance to perfect, unless told otherwise, so that pages can be held side by side.
  """
  value, names, severities = _draw.with_means(cells)
  return _html.heat_table(
    100 * value, names, severities,
    corner="severity", caption=caption, low=low, high=high, signed=signed, means=True,
  )  # fmt: skip


def _reliability(run: _runs.RunRecord) -> str:
  bins = (run.clean or {}).get("calibration", {})
  drawn = []
  for predictor in run.predictors:
    if bins.get(predictor):
      fields = ("count", "confidence", "correct")
      count, confidence, correct = (
        np.sum([seed[f] for seed in bins[predictor]], axis=0) for f in fields
      )
      # By numpy, so that writing a page starts no device, which may be busy training.
      with np.errstate(invalid="ignore"):
        svg = _svg.reliability_svg(confidence / count, correct / count, count / count.sum())
      drawn.append(_html.figure(svg, predictor))
  if not drawn:
    return ""
  return f"""<h2>Reliability</h2>
<p>Clean test images, all seeds together, sorted into bins by the confidence of the prediction. Dots
below the diagonal are predictions more confident than right.</p>
<div class="grid">{"".join(drawn)}</div>"""


def _config(run: _runs.RunRecord) -> str:
  changed = [
    [name, _text(value), "" if default is _MISSING else _text(default)]
    for name, value, default in _changes(run.config, schema.default())
  ]
  table = _html.table(("field", "value", "default"), changed, label="config", kind="facts")
  whole = html.escape(json.dumps(run.config, indent=1, sort_keys=True))
  return f"<h2>Config</h2>\n{table}{_html.folded('Every field', f'<pre>{whole}</pre>')}"


_MISSING = object()


def _changes(
  config: Mapping[str, Any], default: Mapping[str, Any], prefix: str = ""
) -> Iterable[tuple[str, Any, Any]]:
  """(field, value, default) wherever a config differs from the defaults."""
  for key in sorted(config):
    value, old = config[key], default.get(key, _MISSING)
    if isinstance(value, Mapping):
      yield from _changes(value, old if isinstance(old, Mapping) else {}, f"{prefix}{key}.")
    elif (list(old) if isinstance(old, tuple) else old) != value:
      yield prefix + key, value, old


def _text(value: Any) -> str:
  return value if isinstance(value, str) and value else json.dumps(value)


def _origin(run: _runs.RunRecord) -> str:
  info = run.info
  rows = [["commit", str(info.get("commit") or "not known")]]
  rows += [[k, str(info[k])] for k in ("python", "platform") if k in info]
  rows += [[k, str(v or "not installed")] for k, v in sorted(info.get("versions", {}).items())]
  table = _html.table(("what", "which"), rows, label="versions", kind="facts")
  return f"<h2>Versions</h2>\n{table}"


_SECTIONS = (
  _head,
  _scores.section,
  _curves,
  _corruptions,
  _reliability,
  _details.classes,
  _details.samples,
  _details.label_noise,
  _details.teacher,
  _config,
  _origin,
)
_OF_MEMBER = (
  _scores.section,
  _curves,
  _corruptions,
  _reliability,
  _details.classes,
  _details.samples,
)
"""What is a member's own; the rest is of the whole sweep."""
