"""audit.html: the labels that are probably wrong, with their images, on one self-contained page."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxnoise import evaluation
from jaxnoise.core.errors import InputError
from jaxnoise.reporting import _html
from jaxnoise.training import writers

_SMALL = 24
_SIGNALS = {
  "views": "one minus the probability of the given label, averaged over augmented views that the "
  "network was not trained on",
  "checkpoints": "the loss of the given label, averaged over the checkpoints that were kept",
  "track_losses": "the loss in training, averaged over all visits",
}


def write_audit(table: str | Path | Mapping[str, Any], path: str | Path) -> Path:
  """Writes the page of a label audit.

  Args:
    table: from `evaluation.audit_table`, or the JSON file that holds it.
    path: of the page; its folder is made.

  Returns:
    The path.

  Raises:
    InputError: where the file is none of an audit.

  Example:
    >>> import numpy as np
    >>> from jaxnoise import data, evaluation, reporting
    >>> pool = data.Pool(np.zeros((3, 8, 8, 3), np.uint8), np.array([0, 1, 1]))
    >>> audit = evaluation.audit_labels(pool.labels, signals={"loss": [0.1, 3.0, 0.2]})
    >>> page = reporting.write_audit(evaluation.audit_table(audit, pool), "audit.html")
    >>> page.read_text().count("<img")
    3
  """
  where = table if isinstance(table, str | Path) else "the table"
  if isinstance(table, str | Path):
    table = writers.read_json(Path(table))
  if "worst" not in table:
    raise InputError(f"{where} has no 'worst'; is it the audit.json of a label audit?")
  parts = (_head, _numbers, _gallery, _pairs, _probabilities, _how)
  return _html.write_page(Path(path), _title(table), [part(table) for part in parts])


def audit_lines(table: Mapping[str, Any]) -> list[str]:
  """The numbers of an audit, one line each, for a terminal.

  Example:
    >>> from jaxnoise import reporting
    >>> reporting.audit_lines({"n": 10, "expected": 1.26, "likely": 1, "measured": None})
    ['1.3 of 10 labels expected to be wrong, 1 with a probability of 1/2 or more']
  """
  lines = [
    f"{table['expected']:,.1f} of {table['n']:,} labels expected to be wrong, {table['likely']:,} "
    "with a probability of 1/2 or more"
  ]
  if table["measured"]:
    found = [f"{name} {text}" for name, text in _measured(table["measured"])]
    lines.append("against the true labels: " + ", ".join(found))
  return lines


def _measured(found: Mapping[str, Any]) -> list[tuple[str, str]]:
  names = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "precision_at_wrong": f"precision at {found['wrong']:,}",
    "suggestion_accuracy": "suggestions right",
    "brier": "Brier score",
  }
  rows = [(name, found[field]) for field, name in names.items()]
  return [("wrong", f"{found['wrong']:,}")] + [
    (name, "-" if value is None else f"{value:.4f}") for name, value in rows
  ]


def _title(table: Mapping[str, Any]) -> str:
  if "method" not in table:
    return "Label audit"
  return f"{table['method']} on {table['data']}: label audit"


def _head(table: Mapping[str, Any]) -> str:
  facts = [table["name"]] if "name" in table else []
  facts.append(f"{table['n']:,} training labels")
  facts += [f"seed {table['seed']}", f"step {table['step']:,}"] if "step" in table else []
  shown = html.escape(" · ".join(facts))
  return f'<h1>{html.escape(_title(table))}</h1>\n<p class="soft">{shown}</p>'


def _numbers(table: Mapping[str, Any]) -> str:
  count = table["n"]
  cards = [
    ("wrong labels expected", f"{table['expected']:,.0f}", f"{table['expected'] / count:.1%}"),
    ("probability 1/2 or more", f"{table['likely']:,}", f"{table['likely'] / count:.1%}"),
  ]
  measured = table["measured"]
  if measured:
    wrong = measured["wrong"]
    cards.append(("wrong labels in truth", f"{wrong:,}", f"{wrong / count:.1%}"))
    for field, name, scale, unit in (
      ("auroc", "AUROC", 1, ""),
      ("average_precision", "average precision", 1, ""),
      ("precision_at_wrong", f"precision at {wrong:,}", 100, " %"),
      ("suggestion_accuracy", "suggestions that are right", 100, " %"),
    ):
      if measured[field] is not None:
        digits = 4 if scale == 1 else 2
        cards.append((name, f"{scale * measured[field]:.{digits}f}{unit}", ""))
  drawn = "".join(
    f'<div class="card"><span>{html.escape(name)}</span><b>{value}</b><span>{more}</span></div>'
    for name, value, more in cards
  )
  return f'<div class="grid cards">{drawn}</div>'


def _probabilities(table: Mapping[str, Any]) -> str:
  """How many labels have which probability and, where that is known, how many are wrong."""
  measured = table["measured"]
  rows = []
  for k, count in enumerate(table["histogram"]):
    row = [f"{10 * k} to {10 * (k + 1)} %", f"{count:,}", _html.bar(count / table["n"])]
    if measured:
      found = measured["reliability"][k]
      both = (found["probability"], found["wrong"])
      row += ["-" if value is None else f"{100 * value:.1f}" for value in both]
    rows.append(row)
  headings = ["probability of being wrong", "labels", ""]
  note = ""
  if measured:
    headings += ["mean, %", "wrong in truth, %"]
    note = (
      '<p class="soft">Calibrated probabilities have equal numbers in the last two columns. The '
      f"mean squared error of the probability is {measured['brier']:.4f}.</p>"
    )
  shown = _html.table(headings, rows, label="labels by probability", kind="numbers")
  return f"<h2>Probabilities</h2>\n{shown}{note}"


def _how(table: Mapping[str, Any]) -> str:
  rows = [[name, _SIGNALS.get(name, "kept by the method for every example")]
          for name in table["signals"]]
  shown = _html.table(("signal", "what it is"), rows, label="signals", kind="facts")
  views = ""
  if "views" in table:
    views = (
      f" Of each image {table['views']} views were drawn with {table['policy']} and shown to "
      f"{table['predictor']}."
    )
  return f"""<h2>How labels were judged</h2>
{shown}
<p>The score is the mean rank over the signals, between 0 and 1.{html.escape(views)}</p>
<p>{_basis(table)}</p>"""


def _basis(table: Mapping[str, Any]) -> str:
  """Where the probability comes from."""
  basis = table["basis"]
  if basis == [evaluation.DISAGREEMENT]:
    return (
      "No signal falls into two kinds of examples, so the probability is the share of labels of "
      "such a score that differ from the averaged prediction; of a network that has memorised its "
      "labels it is too low."
    )
  named = html.escape(" and ".join(basis))
  return (
    f"The probability comes from a mixture of two kinds of examples fitted to {named}. It is an "
    "estimate: no true label is used."
  )


def _class(table: Mapping[str, Any], k: int) -> str:
  names = table["class_names"]
  return html.escape(names[k]) if 0 <= k < len(names) else str(k) if k >= 0 else "?"


def _gallery(table: Mapping[str, Any]) -> str:
  if not table["worst"]:
    return ""
  kind = "samples small" if max(table["image_shape"][:2]) <= _SMALL else "samples"
  known = (
    " Where the true label is known it stands last; images whose label is right after all are "
    "framed."
    if table["measured"]
    else ""
  )
  shown = "".join(_picture(table, row) for row in table["worst"])
  return f"""<h2>The most suspicious labels</h2>
<p>Given label → suggested label, the probability that the given one is wrong and, below it, the
score; # is the position in the training set.{known}</p>
<div class="{kind}">{shown}</div>"""


def _picture(table: Mapping[str, Any], row: Mapping[str, Any]) -> str:
  given, suggested = _class(table, row["given"]), _class(table, row["suggested"])
  percent = 100 * row["probability"]
  chance = "> 99 %" if percent > 99 else "< 1 %" if percent < 1 else f"{percent:.0f} %"
  lines = [f"{given} → {suggested}", html.escape(chance), f"{row['score']:.4f}", f"#{row['index']}"]
  right = "true" in row and row["true"] == row["given"]
  if "true" in row:
    lines.append("label is right" if right else f"true: {_class(table, row['true'])}")
  said = f"training image {row['index']}, labelled {given}, suggested {suggested}, "
  said += html.escape(chance)
  return (
    f'<figure class="{"wrong" if right else "right"}">'
    f'<img src="data:image/png;base64,{html.escape(row["png"])}" alt="{said}">'
    f"<figcaption>{'<br>'.join(lines)}</figcaption></figure>"
  )


def _pairs(table: Mapping[str, Any]) -> str:
  if not table["pairs"]:
    return ""
  total = max(table["likely"], 1)
  rows = [
    [
      _html.Markup(_class(table, pair["given"])),
      _html.Markup(_class(table, pair["suggested"])),
      f"{pair['count']:,}",
      f"{100 * pair['count'] / total:.1f}",
    ]
    for pair in table["pairs"]
  ]
  headings = ("given label", "suggested label", "labels", "% of them")
  shown = _html.table(headings, rows, label="most frequent suggestions", kind="pairs")
  return f"""<h2>Most frequent suggestions</h2>
<p>Among the {table["likely"]:,} labels that are wrong with a probability of 1/2 or more.</p>
{shown}"""
