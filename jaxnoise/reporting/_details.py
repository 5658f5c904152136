"""The parts of a page on single classes, single images and single labels."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxnoise.reporting import _html, _runs, _svg

_SHOWN_CLASSES = 20
_SHOWN_PAIRS = 10
_WHOLE_MATRIX = 12
_SMALL = 24
FITTED = {
  "memorised": "wrong labels fitted",
  "corrected": "wrong labels seen through",
  "label_precision": "fitted labels that are right",
}
"""What the curves "labels/PREDICTOR/NAME" are called."""
HASH = 12
"""Characters of a SHA-256 that are shown."""


def classes(run: _runs.RunRecord) -> str:
  """How each class fares with the headline predictor, and what is taken for what."""
  table = (run.clean or {}).get("classes")
  predictor = next(iter(run.predictors), "")
  if not table or predictor not in table.get("correct", {}):
    return ""
  names, count = run.class_names, np.asarray(table["count"], float)
  with np.errstate(divide="ignore", invalid="ignore"):
    accuracy = np.asarray(table["correct"][predictor], float) / count[None, :]
  mean = accuracy.mean(axis=0)
  order = [int(k) for k in np.argsort(mean, kind="stable") if count[k]]
  several = len(accuracy) > 1
  rows = []
  for k in order:
    spread = [f"{100 * accuracy[:, k].min():.1f} to {100 * accuracy[:, k].max():.1f}"]
    cells = [f"{100 * mean[k]:.1f}", _html.bar(mean[k]), f"{count[k]:,.0f}"]
    rows.append([names[k], *cells[:2], *(spread if several else []), cells[2]])
  headings = ["class", "accuracy, %", "", *(["min to max"] if several else []), "images"]
  shown = _html.table(headings, rows[:_SHOWN_CLASSES], label="accuracy by class", kind="classes")
  if len(rows) > _SHOWN_CLASSES:
    rest = _html.table(headings, rows[_SHOWN_CLASSES:], label="other classes", kind="classes")
    shown += _html.folded(f"The other {len(rows) - _SHOWN_CLASSES} classes", rest)
  over = f", mean over {len(accuracy)} seeds" if several else ""
  confused = _confusions(run.clean.get("confusion", {}).get(predictor), names, several)
  return f"""<h2>Classes</h2>
<p>Of {html.escape(predictor)} on the clean test images{over}; the hardest class first.</p>
<div class="pair"><div>{shown}</div><div>{confused}</div></div>
{_matrix(run, predictor, names)}"""


def _confusions(matrices: Sequence | None, names: Sequence[str], several: bool) -> str:
  """The pairs of classes that are mixed up most often."""
  if not matrices:
    return ""
  matrix = np.mean(matrices, axis=0)
  rows = []
  for i, j, count in _largest(matrix):
    share = f"{100 * count / matrix[i].sum():.1f}"
    rows.append([names[i], names[j], f"{count:.1f}" if several else f"{count:.0f}", share])
  if not rows:
    return "<p>No test image is classified wrongly.</p>"
  how_many = "images per seed" if several else "images"
  headings = ("true class", "taken for", how_many, "% of the class")
  return _html.table(headings, rows, label="most frequent confusions", kind="pairs")


def _largest(matrix: np.ndarray) -> list[tuple[int, int, float]]:
  """(row, column, value) of the largest values off the diagonal, the largest first."""
  off = np.where(np.eye(len(matrix), dtype=bool), 0, matrix)
  order = np.argsort(-off, axis=None, kind="stable")[:_SHOWN_PAIRS]
  cells = [(int(k) // len(matrix), int(k) % len(matrix)) for k in order]
  return [(i, j, float(off[i, j])) for i, j in cells if off[i, j] > 0]


def _matrix(run: _runs.RunRecord, predictor: str, names: Sequence[str]) -> str:
  matrices = run.clean.get("confusion", {}).get(predictor)
  if not matrices or len(names) > _WHOLE_MATRIX:
    return ""
  table = _shares(np.sum(matrices, axis=0), names, "Predicted class of the images of a class, in %")
  return _html.folded("All confusions", table)


def _shares(counts: np.ndarray, names: Sequence[str], caption: str) -> str:
  """Rows of a matrix of counts as percentages."""
  with np.errstate(invalid="ignore"):
    value = 100 * counts / counts.sum(axis=1, keepdims=True)
  return _html.heat_table(
    value, names, names, corner="true class", caption=caption, low=0.0, high=100.0
  )


def samples(run: _runs.RunRecord) -> str:
  """Test images with what was made of them."""
  table = run.samples
  if not table:
    return ""
  names = table.get("names") or run.class_names
  kind = "samples small" if max(table["image_shape"][:2]) <= _SMALL else "samples"

  def grid(found: Sequence[Mapping[str, Any]]) -> str:
    return f'<div class="{kind}">{"".join(_sample(one, names) for one in found)}</div>'

  seed = f", seed {table['seed']}" if len(run.seeds) > 1 else ""
  wrong = table["mistakes"]
  mistakes = f"<h3>Most confident mistakes</h3>\n{grid(wrong)}" if wrong else ""
  return f"""<h2>Sample images</h2>
<p>Clean test images and what {html.escape(table["predictor"])}{seed} makes of them: ✓ right, the
class; ✗ wrong, true class → prediction; then the probability of the prediction.</p>
<h3>From all over the test set</h3>
{grid(table["spread"])}
{mistakes}"""


def _sample(one: Mapping[str, Any], names: Sequence[str]) -> str:
  def name(k: int) -> str:
    return html.escape(names[k]) if 0 <= k < len(names) else "nothing"

  right = one["label"] == one["prediction"]
  true, said = name(one["label"]), name(one["prediction"])
  chance = f"{100 * one['probability']:.0f} %"
  what = f"test image {one['index']}, {true}, " + ("recognised" if right else f"taken for {said}")
  told = f"✓ {true}" if right else f"✗ {true} → {said}"
  return (
    f'<figure class="{"right" if right else "wrong"}">'
    f'<img src="data:image/png;base64,{html.escape(one["png"])}" alt="{what} with {chance}">'
    f"<figcaption>{told}<br>{chance}</figcaption></figure>"
  )


def teacher(run: _runs.RunRecord) -> str:
  """The frozen teacher that the run learned from."""
  told = run.info.get("teacher")
  if not told:
    return ""
  rows = [["run", told["run"]]] if told.get("run") else []
  rows += [["method", f"{told['method']}, seed {told['seed']}"]] if told.get("method") else []
  if told.get("step") is not None:
    step, steps = told["step"], told.get("num_steps")
    ended = "" if step == steps or steps is None else f" of {steps:,}: it had not ended"
    rows.append(["parameters after", f"{step:,} steps{ended}"])
  if told.get("run"):
    value = told.get("accuracy")
    on = f", on {told['n']:,} test images" if told.get("n") else ""
    known = "not measured at that step" if value is None else f"{100 * value:.2f} %{on}"
    rows.append(["accuracy", known])
  rows.append(["parameters, SHA-256", told["sha256"]])
  return f"<h2>Teacher</h2>\n{_html.table(('what', 'value'), rows, label='teacher', kind='facts')}"


def label_noise(run: _runs.RunRecord) -> str:
  """How the labels that training saw differ from the true ones."""
  table = run.label_noise
  if not table:
    return ""
  names = run.class_names
  nominal = [f"{k}: {v}" for k, v in table.get("nominal", {}).items() if k != "matrix"]
  rows = [
    ["asked for", ", ".join(nominal) or "not known"],
    ["wrong labels", f"{table['changed']:,} of {table['n']:,}: {100 * table['rate']:.2f} %"],
    ["labels, CRC32", f"{table['labels_crc32']:08x}"],
    ["labels, SHA-256", table["labels_sha256"]],
  ]
  facts = _html.table(("what", "value"), rows, label="label noise", kind="facts")
  facts += _each_seed(run) + _fitted(run)
  counts = table.get("counts")
  if counts is None:
    return f"<h2>Label noise</h2>\n{facts}{_rates(table, names)}"
  counts = np.asarray(counts, float)
  if len(counts) <= _WHOLE_MATRIX:
    caption = "Given label of the training images of a class, in %"
    return f"<h2>Label noise</h2>\n{facts}{_shares(counts, names, caption)}"
  pairs = [
    [names[i], names[j], f"{n:,.0f}", f"{100 * n / counts[i].sum():.1f}"]
    for i, j, n in _largest(counts)
  ]
  headings = ("true class", "given label", "images", "% of the class")
  largest = _html.table(headings, pairs, label="most frequent wrong labels", kind="pairs")
  return f"<h2>Label noise</h2>\n{facts}{_rates(table, names)}{largest}"


def _each_seed(run: _runs.RunRecord) -> str:
  """Whose labels the section describes, and how those of the other seeds fared."""
  table = run.label_noise or {}
  seeds, own = table.get("seeds", run.seeds), table.get("of_seeds", ())
  if len(seeds) < 2:
    return ""
  if not own:
    return '<p class="soft">All seeds have these labels.</p>'
  rows = [
    [str(seed), f"{one['changed']:,}", f"{100 * one['rate']:.2f}", one["labels_sha256"][:HASH]]
    for seed, one in zip(seeds, own, strict=False)
  ]
  headings = ("seed", "wrong labels", "of all, %", "SHA-256 begins")
  each = _html.table(headings, rows, label="label noise of each seed", kind="numbers")
  return f"""<p class="soft">Each seed has labels of its own: count, hashes and matrix are those of
seed {seeds[0]}.</p>
{each}"""


def _fitted(run: _runs.RunRecord) -> str:
  """Which training labels the network fits, over the run."""
  first = run.predictors[0] if run.predictors else "student"
  curves = [
    (text, _runs.curve(run, f"labels/{first}/{name}"))
    for name, text in FITTED.items()
    if _runs.has_curve(run, f"labels/{first}/{name}")
  ]
  if not curves:
    return ""
  svg = _svg.overlay_svg(curves, "Training labels, in %", 100.0)
  last = [f"{text} {100 * curve.value[-1].mean():.2f} %" for text, curve in curves]
  return f"""<div class="grid">{_html.figure(svg)}</div>
<p class="soft">By the predictions of {html.escape(first)} on the training images as they are; at
the end: {", ".join(last)}.</p>"""


def _rates(table: Mapping[str, Any], names: Sequence[str]) -> str:
  rates = [(r, names[k]) for k, r in enumerate(table["class_rates"]) if r is not None]
  (low, least), (high, most) = min(rates), max(rates)
  text = (
    f"Share of wrong labels by class: from {100 * low:.1f} % ({least}) to {100 * high:.1f} % "
    f"({most}), median {100 * np.median([r for r, _ in rates]):.1f} %."
  )
  return f"<p>{html.escape(text)}</p>"
