"""report.html: one self-contained page per run; nothing on it is loaded from elsewhere."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnoise import metrics
from jaxnoise.reporting import _runs, _style, _tables, figures
from jaxnoise.training import schema

# (heading, table, field, unit): what a headline card and a row of the table of scores show.
_SCORES = (
  ("accuracy, clean", "clean", "accuracy", "%"),
  ("accuracy, corrupted", "corrupted", "mean_accuracy", "%"),
  ("accuracy, corrupted, of those right when clean", "corrupted", "mean_conditional", "%"),
  ("calibration error, clean", "clean", "ece", "%"),
  ("calibration error, corrupted", "corrupted", "mean_ece", "%"),
  ("negative log-likelihood, clean", "clean", "nll", "nats"),
)


def write_report(run_dir: str | Path) -> Path:
  """Writes RUN/report.html: scores, curves, corruption table, reliability, config, versions.

  A run that has not ended gets a page of what there is, and says so.

  Args:
    run_dir: the run directory.

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
  path = run.path / "report.html"
  body = "\n".join(filter(None, (section(run) for section in _SECTIONS)))
  title = html.escape(f"{run.method} on {run.dataset}")
  page = _style.PAGE.format(title=title, sheet=_style.SHEET, body=body)
  temporary = path.with_name(path.name + ".tmp")
  temporary.write_text(page, encoding="utf-8")
  os.replace(temporary, path)
  return path


def _head(run: _runs.RunRecord) -> str:
  info = run.info
  facts = [run.config.get("name") or run.path.name]
  if "num_train" in info:
    shape = " x ".join(str(n) for n in info["image_shape"])
    facts.append(f"{info['num_train']:,} training images of {shape}, {info['num_classes']} classes")
  facts.append(f"{len(run.seeds)} seed{'s' if len(run.seeds) > 1 else ''}")
  if run.rows:
    facts.append(f"{run.rows[-1]['epoch']:g} epochs, {run.rows[-1]['step']:,} steps")
  lines = [f"<h1>{html.escape(f'{run.method} on {run.dataset}')}</h1>"]
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


def _score(
  run: _runs.RunRecord, table: str, field: str, predictor: str
) -> _tables.Estimate | None:
  read = _runs.final if table == "clean" else _runs.corrupted
  values = read(run, field, predictor)
  return None if values is None else _tables.estimate(values)


def _value(value: _tables.Estimate, unit: str) -> str:
  return f"{value.text()} %" if unit == "%" else value.text(scale=1.0, digits=4)


def _range(value: _tables.Estimate, unit: str) -> str:
  scale, digits = (100, 2) if unit == "%" else (1, 4)
  return f"{value.low * scale:.{digits}f} to {value.high * scale:.{digits}f}"


def _scores(run: _runs.RunRecord) -> str:
  if run.clean is None:
    return ""
  cards = []
  for heading, table, field, unit in _SCORES[:2] + _SCORES[3:5]:
    value = _score(run, table, field, run.predictors[0])
    if value:
      spread = f"{_range(value, unit)} over {value.n} seeds" if value.n > 1 else "1 seed: no spread"
      cards.append(
        f'<div class="card"><span>{heading}</span><b>{_value(value, unit)}</b>'
        f"<span>{spread}</span></div>"
      )
  rows = []
  for predictor in run.predictors:
    for heading, table, field, unit in _SCORES:
      value = _score(run, table, field, predictor)
      if value:
        name = f"{heading} ({unit})" if unit == "nats" else heading
        rows.append([predictor, name, _value(value, unit), _range(value, unit), str(value.n)])
  n = run.clean["n"]
  headings = ("predictor", "score", "mean ± standard error", "min to max", "seeds")
  return f"""<h2>Scores</h2>
<p>Of the network after the last step, on all {n:,} test images. The spread is over seeds: ± is one
standard error of their mean. Corrupted means the unweighted mean over every corruption and severity
below; calibration error is ECE with {_num_bins(run)} bins of equal width.</p>
<div class="grid cards">{"".join(cards)}</div>
<details><summary>All scores, every predictor</summary>
<div class="wide">{_table(headings, rows)}</div></details>"""


def _num_bins(run: _runs.RunRecord) -> int:
  bins = next(iter(run.clean.get("calibration", {}).values()), [{"count": ()}])
  return len(bins[0]["count"])


def _curves(run: _runs.RunRecord) -> str:
  accuracy = [f"{s}/{p}/accuracy" for p in run.predictors[:1] for s in ("test", "holdout")]
  svgs = [
    figures.run_curve_svg(run, ["train/student/loss"], "Training loss", 1.0),
    figures.run_curve_svg(run, accuracy, "Accuracy in %", 100.0),
  ]
  svgs = [svg for svg in svgs if svg]
  if not svgs:
    return ""
  held_out = any(_runs.has_curve(run, name) for name in accuracy[1:])
  best = (
    "Best is where accuracy on the held-out images is highest; the number is the test set's there."
    if held_out
    else "Nothing was held out: best on the test set is marked for reading, not for choosing."
  )
  several = "Lines are means over seeds, bands go from min to max. " if len(run.seeds) > 1 else ""
  drawn = "".join(f"<figure>{svg}</figure>" for svg in svgs)
  return f"""<h2>Curves</h2>
<div class="grid">{drawn}</div>
<p class="soft">{several}{best}</p>"""


def _corruptions(run: _runs.RunRecord) -> str:
  chance = 100 / run.info.get("num_classes", 10)
  parts = []
  for predictor in run.predictors:
    cells = _runs.corruption_cells(run, "accuracy", predictor)
    if cells is not None:
      over = "" if len(cells.value) == 1 else f", mean over {len(cells.value)} seeds"
      table = _heat_table(cells, f"{predictor}: accuracy in %{over}", chance)
      name = html.escape(f"The same for {predictor}")
      first = f'<div class="wide">{table}</div>'
      parts.append(
        first if not parts else f"<details><summary>{name}</summary>{first}</details>"
      )
  return f"<h2>Accuracy under corruption</h2>\n{''.join(parts)}" if parts else ""


def _heat_table(cells: _runs.Cells, caption: str, chance: float) -> str:
  value, names, severities = figures.with_means(cells)
  value = 100 * value
  # From chance to perfect, so that the pages of several runs can be held side by side.
  colours = figures.cell_colours(value, chance, 100.0)
  head = "".join(f'<th scope="col">{html.escape(s)}</th>' for s in ("severity", *severities))
  rows = []
  for name, line, colour in zip(names, value, colours, strict=True):
    tds = "".join(
      f'<td style="background:{back};color:{ink}">{v:.1f}</td>'
      for v, (back, ink) in zip(line, colour, strict=True)
    )
    rows.append(f'<tr><th scope="row">{html.escape(name)}</th>{tds}</tr>')
  return (
    f'<table class="heat"><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead>'
    f"<tbody>{''.join(rows)}</tbody></table>"
  )


def _reliability(run: _runs.RunRecord) -> str:
  bins = (run.clean or {}).get("calibration", {})
  drawn = []
  for predictor in run.predictors:
    if bins.get(predictor):
      fields = metrics.CalibrationBins._fields
      sums = [np.sum([seed[f] for seed in bins[predictor]], axis=0) for f in fields]
      with np.errstate(invalid="ignore"):
        columns = metrics.reliability(metrics.CalibrationBins(*sums))
      svg = figures.reliability_svg(*(np.asarray(c) for c in columns))
      drawn.append(f"<figure>{svg}<figcaption>{html.escape(predictor)}</figcaption></figure>")
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
  table = _table(("field", "value", "default"), changed, "facts")
  whole = html.escape(json.dumps(run.config, indent=1, sort_keys=True))
  return f"""<h2>Config</h2>
<div class="wide">{table}</div>
<details><summary>Every field</summary><pre>{whole}</pre></details>"""


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
  return f'<h2>Versions</h2>\n<div class="wide">{_table(("what", "which"), rows, "facts")}</div>'


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "plain") -> str:
  head = "".join(f'<th scope="col">{html.escape(h)}</th>' for h in headings)
  body = "".join(
    "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
  )
  return f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


_SECTIONS = (_head, _scores, _curves, _corruptions, _reliability, _config, _origin)
