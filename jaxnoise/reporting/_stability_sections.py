"""What a page of the stability suite says of gradient norms and of moved parameters."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxnoise import evaluation
from jaxnoise.reporting import _html, _suite_tables
from jaxnoise.reporting._statistics import estimate

Tables = Mapping[str, Mapping[str, Any]]

COMPARED = (
  "The numbers have no unit. They compare networks of one architecture, trained alike: twice the "
  "weights in one layer and half of them in the next change the numbers, and not what the network "
  "computes."
)
SETS = {"train": "training", "test": "test"}
_MEANING = (
  "The gradient norm is GN = (1/N) Σ ‖∂f(x) / ∂θ‖², over the logits f, all trained parameters θ "
  "and N clean images without augmentation, the network in evaluation mode. Add independent noise "
  "of a small standard deviation s to every parameter, and the logits of an image move by s² GN in "
  "the mean square (summed over the logits): the lower, the steadier."
)
_CLAIM = (
  "The theory of unbiased label noise says that noise in the labels drives SGD away from "
  "points of high gradient norm; it does not say that this makes a network more accurate."
)


def norm(tables: Tables) -> str:
  """The gradient norm of each set of images, with the error of its estimate."""
  table = tables.get("gradient_norm")
  if table is None:
    return ""
  several = len(table["seeds"]) > 1
  headings = ["set", "images", "GN, mean (min / max)" if several else "GN"]
  headings += ["mean ± s. e. over seeds"] * several + ["s. e. of the estimate"]
  parts = []
  for predictor, summary in table["summary"].items():
    rows = []
    for cell, name in SETS.items():
      value = estimate(summary[cell])
      digits = _suite_tables.figures(value.mean)
      error = _error(summary, f"{cell}_error")
      rows.append([
        name,
        f"{table['settings']['images'][cell]:,}",
        value.range_text(1.0, digits),
        *([value.text(1.0, digits)] * several),
        "exact" if error is None else _figures(error, 2),
      ])  # fmt: skip
    shown = _html.table(
      headings, rows, label=f"gradient norm of {predictor}", kind="numbers"
    )
    shown = f"<p>{_size(table, predictor)}</p>\n{shown}"
    parts.append(shown if not parts else _html.folded(f"The same for {predictor}", shown))
  notes = _how_estimated(table["settings"], several)
  return f"""<h2>Gradient norm of the logits</h2>
<p>{html.escape(_MEANING)}</p>
<p>{html.escape(_CLAIM)} {html.escape(COMPARED)}</p>
{"".join(parts)}<p class="soft">{html.escape(notes)}</p>"""


def perturbation(tables: Tables) -> str:
  """How far the logits move when parameters do, beside what the gradient norm says."""
  table = tables.get("perturbation")
  if table is None:
    return ""
  settings = table["settings"]
  several = len(table["seeds"]) > 1
  whole = settings["images"] == table["n"]
  images = "all" if whole else f"{settings['images']:,}, evenly spaced, of the {table['n']:,}"
  parts = []
  for predictor, summary in table["summary"].items():
    rows = []
    for scale in settings["scales"]:
      foretold, change, ratio, error = _held(summary, scale)
      rows.append([
        f"{scale:g}", _figures(foretold), _figures(change), f"{ratio:.3f} ± {error:.3f}"
      ])  # fmt: skip
    headings = ("s", "s² GN", "squared change of the logits", "change / s² GN")
    shown = _html.table(headings, rows, label=f"moved parameters of {predictor}", kind="numbers")
    shown = f"<p>{html.escape(predictor)}</p>\n{shown}" if len(table["summary"]) > 1 else shown
    parts.append(shown if not parts else _html.folded(f"The same for {predictor}", shown))
  said = (
    "The check of what the number means: every parameter is moved by s times a normal draw, and "
    "the squared change of the logits is measured. Where the last column is 1 within about two of "
    "its errors, the gradient norm says how far the logits move; where it is not, s is too large "
    "for the first order alone."
  )
  notes = (
    f"Mean over {images} test images and {settings['directions']} draws, the same for every s; GN "
    "of the same images. The error is that of the draws, and of GN where that is an estimate."
  )
  notes += " Means over seeds, with the mean of their errors." if several else ""
  return f"""<h2>When the parameters move</h2>
<p>{html.escape(said)}</p>
{"".join(parts)}<p class="soft">{html.escape(notes)}</p>"""


def error_lines(tables: Tables, predictor: str) -> Iterator[str]:
  """What a terminal is told beside the numbers: how they were found, how far off they may be."""
  table = tables.get("gradient_norm")
  if table is not None:
    summary = table["summary"][predictor]
    yield _size(table, predictor)
    errors = {name: _error(summary, f"{cell}_error") for cell, name in SETS.items()}
    told = [f"{_figures(e, 2)} ({name})" for name, e in errors.items() if e is not None]
    samples = table["settings"].get("samples")
    yield f"{samples} draws an image; standard error {', '.join(told)}" if told else "exact"
  table = tables.get("perturbation")
  for scale in table["settings"]["scales"] if table else ():
    _, _, ratio, error = _held(table["summary"][predictor], scale)
    yield f"squared change / (s² GN) at s = {scale:g}: {ratio:.3f} ± {error:.3f}"


def _held(summary: Mapping[str, Sequence[float]], scale: float) -> tuple[float, ...]:
  """s² GN, the change, their ratio and its error; means over seeds.

  Seeds are moved along the same draws, so that their errors do not average out for certain.
  """
  cell = evaluation.scale_cell(scale)
  gn = np.array(summary[evaluation.GRADIENT_NORM], float)
  change = np.array(summary[cell], float)
  error = np.array(summary[f"{cell} error"], float)
  of_gn = np.array(summary.get(f"{evaluation.GRADIENT_NORM} error", np.zeros_like(gn)), float)
  with np.errstate(divide="ignore", invalid="ignore"):
    ratio = change / (scale**2 * gn)
    relative = np.hypot(error / change, of_gn / gn)
    found = (scale**2 * gn, change, ratio, ratio * relative)
  return tuple(float(x.mean()) for x in found)


def _size(table: Mapping[str, Any], predictor: str) -> str:
  notes = table["notes"]
  return html.escape(
    f"{predictor}: {notes['outputs'][predictor]:,} logits, "
    f"{notes['parameters'][predictor]:,} parameters"
  )


def _how_estimated(settings: Mapping[str, Any], several: bool) -> str:
  if settings["estimator"] == "exact":
    return "Exact: one backward pass for each image and logit."
  said = (
    f"Hutchinson's estimator, without bias: {settings['samples']} draws of random signs for each "
    "image, a backward pass each (--samples; --estimator=exact takes one for each logit). Its "
    "standard error is that of the draws, for these images."
  )
  return said + (" Shown is its mean over seeds." if several else "")


def _error(summary: Mapping[str, Sequence[float]], field: str) -> float | None:
  return float(np.mean(summary[field])) if field in summary else None


def _figures(value: float, count: int = 4) -> str:
  """A number of any size with so many figures."""
  if np.isfinite(value) and value and not 1e-4 <= abs(value) < 1e7:
    mantissa, power = f"{value:.{count - 1}e}".split("e")
    return f"{mantissa} · 10{''.join(_POWERS[c] for c in str(int(power)))}"
  digits = _suite_tables.figures(value) + count - 4
  return f"{value:.{max(digits, 0)}f}"


_POWERS = dict(zip("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹", strict=True))
