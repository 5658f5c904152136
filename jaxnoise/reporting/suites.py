"""RUN/SUITE.html: what a suite has measured, on one self-contained page."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxnoise import metrics
from jaxnoise.reporting import (
  _adversarial_sections,
  _html,
  _runs,
  _stability_sections,
  _suite_tables,
  _svg,
)
from jaxnoise.reporting._statistics import estimate
from jaxnoise.reporting.pages import corruption_table
from jaxnoise.training import writers

Tables = Mapping[str, Mapping[str, Any]]


def write_suite(run_dir: str | Path, suite: str, path: str | Path | None = None) -> Path:
  """Writes the page of a suite that has been run, of those parts of it that are complete.

  Args:
    run_dir: the run directory.
    suite: its name.
    path: of the page; None is RUN/SUITE.html.

  Returns:
    The path.

  Raises:
    InputError: where the directory is no run, or no part of the suite is complete.
  """
  run = _runs.load_run(run_dir)
  tables = _suite_tables.read_suite(run_dir, suite)
  path = run.path / f"{suite}.html" if path is None else Path(path)
  title = f"{run.method} on {run.dataset}: {suite}"
  predictor = _suite_tables.predictors(tables)[0]
  sections = [_head(run, tables, title)]
  if suite == "stability":
    sections += [_stability_sections.norm(tables), _stability_sections.perturbation(tables)]
    return _html.write_page(path, title, sections)
  sections.append(_overview(tables))
  if suite == "robustness":
    sheets = run.path / "tables" / suite / "contact.json"
    contact = writers.read_json(sheets) if sheets.exists() else {}
    sections += [
      _corruptions(run, tables, predictor),
      _contact(contact),
      _sequences(tables, predictor, contact),
      _attacks(tables, predictor),
      _calibration(tables, predictor),
    ]
  elif suite == "distillation":
    sections += [_corruptions(run, tables, predictor), _attacks(tables, predictor)]
    if "ood" in tables:
      sections.append(_reliability("ood", tables["ood"], predictor))
  elif suite == "adversarial":
    sections += [
      _attacks(tables, predictor),
      _adversarial_sections.ensemble(tables, predictor),
      _adversarial_sections.masking(tables, predictor),
    ]
  else:
    sections += [_reliability(name, table, predictor) for name, table in tables.items()]
  return _html.write_page(path, title, sections)


def suite_lines(run_dir: str | Path, suite: str) -> list[str]:
  """The numbers of a suite's headline predictor, one line each, for a terminal.

  Raises:
    InputError: where no part of the suite is complete.
  """
  tables = _suite_tables.read_suite(run_dir, suite)
  predictor = _suite_tables.predictors(tables)[0]
  found = list(_suite_tables.numbers(tables, predictor))
  width = max(len(number.label) for number in found)
  seeds = len(next(iter(tables.values()))["seeds"])
  spread = f", mean (min / max) over {seeds} seeds" if seeds > 1 else ""
  unit = ", in % unless it says otherwise" if any(n.scale != 1 for n in found) else ""
  head = f"{suite}, {predictor}{unit}{spread}"
  lines = [head, *(f"  {number.label:{width}}  {number.text()}" for number in found)]
  lines += _stability_sections.error_lines(tables, predictor)
  verdicts = _adversarial_sections.verdict_lines(tables, predictor)
  return lines + ["masked gradients", *(f"  {line}" for line in verdicts)] if verdicts else lines


def _head(run: _runs.RunRecord, tables: Tables, title: str) -> str:
  table = next(iter(tables.values()))
  seeds = len(table["seeds"])
  facts = [
    run.config.get("name") or run.path.name,
    f"{table['n']:,} test images",
    f"{seeds} seed{'s' if seeds > 1 else ''}",
    f"step {table['step']:,}",
  ]
  facts = html.escape(" · ".join(facts))
  return f'<h1>{html.escape(title)}</h1>\n<p class="soft">{facts}</p>'


def _overview(tables: Tables) -> str:
  parts = []
  for predictor in _suite_tables.predictors(tables):
    rows = [
      [number.label, number.text(), number.value.text(number.scale, number.decimals)]
      for number in _suite_tables.numbers(tables, predictor)
    ]
    shown = _html.table(
      (predictor, "mean (min / max)", "mean ± s. e."), rows,
      label=f"every number of {predictor}", kind="numbers",
    )  # fmt: skip
    parts.append(shown if not parts else _html.folded(f"The same for {predictor}", shown))
  notes = ["In %, unless it says otherwise; minimum, maximum and standard error are over seeds."]
  reference = next(
    (t["notes"]["reference"] for t in tables.values() if t.get("notes", {}).get("reference")), ""
  )
  if reference:
    notes.append(f"mCE and flip rate are relative to {reference}.")
  if "corruptions" in tables:
    notes.append("Corrupted means the unweighted mean over the standard corruptions measured.")
  if "pgd" in tables:
    notes.append(_how_attacked(tables["pgd"]["settings"]))
  text = html.escape(" ".join(notes))
  return f'<h2>Numbers</h2>\n{"".join(parts)}<p class="soft">{text}</p>'


def _how_attacked(settings: Mapping[str, Any]) -> str:
  steps = max(threat["num_steps"] for threat in settings["threats"].values())
  runs = settings["restarts"]
  return (
    f"PGD takes {steps} steps of a quarter of the radius from a random start, {runs} "
    f"time{'s' if runs > 1 else ''}; an image counts if it withstands all."
  )


def _corruptions(run: _runs.RunRecord, tables: Tables, predictor: str) -> str:
  table = tables.get("corruptions")
  if table is None:
    return ""
  settings = table["settings"]
  names, severities = tuple(settings["names"]), tuple(settings["severities"])
  chance = 100 / run.info.get("num_classes", 10)
  drawn = []
  for field, caption, low, high in (
    ("accuracy", "Accuracy in %", chance, 100.0),
    ("ece", "ECE in %", 0.0, 50.0),
  ):
    value = _suite_tables.cell_array(table, predictor, field)
    cells = _runs.Cells(names, severities, value.reshape(-1, len(names), len(severities)))
    drawn.append(corruption_table(cells, caption, low, high))
  made = "Read from the official files." if settings["images"] == "stored" else (
    f"Made on the device with the parameters for {_variant(settings['variant'])}; frost with "
    f"{'the official textures' if settings['frost'] == 'official' else 'generated ice'}."
  )
  grid = f'<div class="grid heats">{"".join(drawn)}</div>'
  return f'<h2>Corruptions</h2>\n{grid}<p class="soft">{html.escape(made)}</p>'


def _variant(name: str) -> str:
  return {"cifar": "CIFAR (32 pixels)", "imagenet": "ImageNet (224 pixels)"}[name]


def _contact(contact: Mapping[str, Any]) -> str:
  if not contact.get("corruptions", {}).get("rows"):
    return ""
  return f"""<h2>Corruptions at every severity</h2>
<p>The first test image.</p>
{_strips(contact["corruptions"], "corruption")}"""


def _strips(sheet: Mapping[str, Any], corner: str) -> str:
  heads = "".join(f"<span>{html.escape(h)}</span>" for h in sheet["columns"])
  lines = []
  for row in sheet["rows"]:
    name = html.escape(row["name"].replace("_", " "))
    image = f'<img src="data:image/png;base64,{html.escape(row["png"])}" alt="{name}">'
    lines.append(f'<tr><th scope="row">{name}</th><td>{image}</td></tr>')
  body, head = "".join(lines), ""
  if heads:
    columns = f'<td><div class="heads">{heads}</div></td>'
    head = f'<thead><tr><th scope="col">{corner}</th>{columns}</tr></thead>'
  return _html.scrolling(f'<table class="strip">{head}<tbody>{body}</tbody></table>', corner)


def _sequences(tables: Tables, predictor: str, contact: Mapping[str, Any]) -> str:
  table = tables.get("sequences")
  if table is None:
    return ""
  flips = _suite_tables.cell_array(table, predictor, "flip_probability")
  top5 = _suite_tables.cell_array(table, predictor, "top5_distance")
  rows = [
    [
      cell.replace("_", " "),
      estimate(flips[:, i]).range_text(100.0, 2),
      estimate(top5[:, i]).range_text(1.0, 3),
    ]
    for i, cell in enumerate(table["cells"])
  ]
  shown = _html.table(
    ("perturbation", "flip probability, %", "top-5 distance"), rows,
    label="flip probability by perturbation", kind="numbers",
  )  # fmt: skip
  strips = ""
  if contact.get("sequences", {}).get("rows"):
    film = _strips(contact["sequences"], "perturbation")
    strips = _html.folded("Frames from first to last, of the first test image", film)
  return f"""<h2>Perturbation sequences</h2>
<p>How often the prediction changes from one frame to the next; frames of noise are compared with
the clean first one.</p>
{shown}{strips}"""


def _attacks(tables: Tables, predictor: str) -> str:
  rows = []
  for part, attack in _suite_tables.GRADIENT_ATTACKS.items():
    table = tables.get(part)
    for cell, threat in (table["settings"]["threats"] if table else {}).items():
      if not threat["num_steps"]:
        continue
      values = table["cells"][cell][predictor]
      runs = table["settings"]["restarts"] if threat["random_start"] else 1
      rows.append(
        [
          attack.rstrip(","),
          _suite_tables.radius(cell),
          str(threat["num_steps"]),
          str(runs),
          *(
            estimate([v[field] for v in values]).range_text(100.0, 2) if field in values[0] else "-"
            for field in ("accuracy", "worst_run")
          ),
        ]
      )
  if not rows:
    return ""
  headings = ["attack", "radius", "steps", "runs", "accuracy, %", "worst single run, %"]
  if all(row[-1] == "-" for row in rows):
    headings, rows = headings[:-1], [row[:-1] for row in rows]
  shown = _html.table(headings, rows, label="accuracy under attack", kind="numbers")
  art = ""
  if "pgd_art" in tables:
    art = f"\n<p>{html.escape(_ART)}</p>"
  return f"""<h2>Attacks</h2>
<p>Share of images that are classified correctly and stay so under every run of the attack on the
network itself. Gradient attacks overrate a network that hides its gradients.</p>{art}
{shown}"""


_ART = (
  "PGD with ART's defaults takes 100 steps of 0.1, longer than the radius, from the image itself, "
  "so that it jumps between corners of the ball. It is here only because the published tables of "
  "multiplicative reweighting come from that library and do not say which steps were taken; "
  "compare networks by the other attacks."
)


def _calibration(tables: Tables, predictor: str) -> str:
  table = tables.get("calibration")
  if table is None:
    return ""
  fitted = "temperature" in table["summary"][predictor]
  why = (
    f"The temperature is fitted on {table['settings']['held_out']:,} held-out examples."
    if fitted
    else "Nothing was held out of training (config.data.holdout is 0), so no temperature is fitted."
  )
  wrong = table["settings"].get("held_out_wrong")
  if fitted and wrong:
    why += (
      f" {100 * wrong:.1f} % of their labels are wrong, as in training, and the temperature fits "
      "that too."
    )
  least, most = metrics.TEMPERATURE_BOUNDS
  found = table["summary"][predictor].get("temperature", ())
  if any(not 1.01 * least < t < 0.99 * most for t in found):
    why += (
      " One lies at the end of its range: every held-out example is classified correctly, or too "
      "few are, and the numbers at that temperature say little."
    )
  drawn = _diagrams(table["cells"]["test"][predictor])
  return f"<h2>Calibration</h2>\n<p>{why}</p>\n{drawn}"


def _reliability(name: str, table: Mapping[str, Any], predictor: str) -> str:
  drawn = _diagrams(table["cells"]["images"][predictor])
  settings = table["settings"]
  facts = f"{settings['images']:,} images of {settings['classes']} classes"
  return f"""<h2>{html.escape(name)}</h2>
<p>{facts}; the network chooses among these alone.</p>
{drawn}"""


def _diagrams(rows: list[Mapping[str, Any]]) -> str:
  """Reliability of all seeds together, before and after temperature scaling."""
  drawn = []
  for field, caption in (("bins", "as trained"), ("scaled_bins", "at the fitted temperature")):
    if field not in rows[0]:
      continue
    count, confidence, correct = (
      np.sum([row[field][k] for row in rows], axis=0) for k in ("count", "confidence", "correct")
    )
    with np.errstate(invalid="ignore"):
      svg = _svg.reliability_svg(confidence / count, correct / count, count / count.sum())
    drawn.append(_html.figure(svg, caption))
  return f'<div class="grid">{"".join(drawn)}</div>'
