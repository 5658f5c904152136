"""The corruption benchmark as a part of a suite, with the means that the papers print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxnoise import corruptions, metrics
from jaxnoise.evaluation import _classification, _robustness, _suite

FIELDS = ("accuracy", "conditional", "nll", "ece")


def corruption_part(
  subject: _suite.Subject,
  test_set: _classification.TestSet,
  views: _robustness.Views,
  *,
  names: Sequence[str],
  severities: Sequence[int],
  settings: Mapping[str, Any],
  reference: Mapping[str, float] | None = None,
  reference_name: str = "",
) -> _suite.Part:
  """Measures every corruption at every severity; the summary has the papers' means.

  Args:
    subject: what is measured.
    test_set: its test images.
    views: the corrupted ones.
    names: of corruptions.
    severities: of each.
    settings: what else the corrupted images depend on.
    reference: error by corruption of the network that mCE is relative to, as a fraction.
    reference_name: what that network is called.
  """
  measure = _classification.make_measure(subject.method, subject.mesh)
  clean: list[Any] = []
  cells = {f"{name}/{severity}": (name, severity) for name in names for severity in severities}

  def measure_one(cell: str) -> dict[str, list[dict[str, Any]]]:
    if not clean:
      clean.extend(_classification.measure_set(measure, s, test_set) for s in subject.states)
    batches = views(*cells[cell])
    measured = _robustness.corruption_cell(
      measure, subject.states, clean, batches, test_set.count
    )
    out: dict[str, list[dict[str, Any]]] = {}
    for of_state in measured:
      for predictor, pairs in of_state.items():
        row = {k: float(total) / float(n) if n else float("nan") for k, (total, n) in pairs.items()}
        out.setdefault(predictor, []).append(row)
    return out

  def summarise(values: Mapping[str, _suite.Values]) -> dict[str, dict[str, list[float]]]:
    tables = {cells[cell]: of_cell for cell, of_cell in values.items()}
    out = {}
    for predictor, rows in next(iter(values.values())).items():
      each = [
        corruption_means(
          {
            field: {cell: (v[predictor][seed][field], 1) for cell, v in tables.items()}
            for field in FIELDS
          },
          reference,
        )
        for seed in range(len(rows))
      ]
      out[predictor] = _suite.by_seed(each)
    return out

  about = {"names": list(names), "severities": list(severities), **settings}
  return _suite.Part(
    "corruptions", about, tuple(cells), measure_one, summarise, notes={"reference": reference_name}
  )


def corruption_means(
  cells: _robustness.Cells, reference: Mapping[str, float] | None = None
) -> dict[str, float]:
  """The means over a (corruption, severity) table that the papers print, unweighted.

  Over the standard corruptions where the table has some, else over all: "mean_accuracy" and
  "without_noise", "noise", "blur", "weather", "digital"; "mean_conditional", "mean_nll" and
  "mean_ece"; "mean_all" and "mean_all_conditional" over the validation corruptions too where there
  are both; "mce" with a reference.

  Args:
    cells: field -> (corruption, severity) -> (sum, count).
    reference: error of the reference network by corruption; all its corruptions must be there.

  Raises:
    InputError: where a corruption of the reference was not measured, or a cell is missing.

  Example:
    >>> from jaxnoise import evaluation
    >>> table = {("fog", 1): (4, 4), ("shot_noise", 1): (1, 2)}
    >>> cells = {field: table for field in ("accuracy", "conditional", "nll", "ece")}
    >>> means = evaluation.corruption_means(cells, {"fog": 0.5, "shot_noise": 0.5})
    >>> means["mean_accuracy"], means["without_noise"], means["noise"], means["mce"]
    (0.75, 1.0, 0.5, 0.5)
  """
  accuracy = cells["accuracy"]
  there = list(dict.fromkeys(name for name, _ in accuracy))
  standard = [name for name in there if name in corruptions.STANDARD] or there
  means = {
    f"mean_{field}": metrics.mean_corruption_accuracy(cells[field], standard)
    for field in ("accuracy", "conditional", "nll", "ece")
  }
  table = {cell: value for cell, value in accuracy.items() if cell[0] in standard}
  noise = corruptions.GROUPS["noise"]
  if any(name in noise for name in standard) and not all(name in noise for name in standard):
    means["without_noise"] = metrics.accuracy_without(table, noise)
  means.update(metrics.accuracy_by_group(table, corruptions.GROUPS))
  if len(standard) < len(there):
    means["mean_all"] = metrics.mean_corruption_accuracy(accuracy)
    means["mean_all_conditional"] = metrics.mean_corruption_accuracy(cells["conditional"])
  if reference is not None:
    severities = sorted({severity for _, severity in accuracy})
    means["mce"] = metrics.mean_corruption_error(table, reference, severities=severities)
  return means
