"""What figures are made of, on matplotlib's object interface: no display, no state of pyplot.

Colours are Okabe and Ito's, the maps cividis and PuOr; both are told apart by colour-blind readers,
and lines differ in dash as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize, to_hex
from matplotlib.image import AxesImage

from jaxnoise.reporting import _runs

SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
"""Line colours, in this order."""
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
INK, FAINT = "#1b1f24", "#8a9099"
ACCURACY, DIFFERENCE = "cividis", "PuOr"


@contextlib.contextmanager
def style() -> Iterator[None]:
  """Settings that hold while a figure is made and written."""
  ink = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
  with matplotlib.rc_context(
    {
      **dict.fromkeys(ink, INK),
      "axes.edgecolor": FAINT,
      "axes.spines.top": False,
      "axes.spines.right": False,
      "font.size": 11,
      "grid.color": FAINT,
      "grid.alpha": 0.3,
      "legend.frameon": False,
      "svg.fonttype": "none",
      "svg.hashsalt": "jaxnoise",
    }
  ):
    yield


def curves(
  ax: Axes, curve: _runs.Curve, *, label: str, series: int = 0, scale: float = 1.0
) -> None:
  """Draws the mean over seeds as a line and their range, minimum to maximum, as a band.

  Args:
    ax: drawn on.
    curve: epochs [points] and values [points, seeds].
    label: for the legend.
    series: position in `SERIES`.
    scale: 100 for percent.
  """
  color, dash = SERIES[series % len(SERIES)], DASHES[series % len(DASHES)]
  value = curve.value * scale
  if value.shape[1] > 1:
    low, high = value.min(axis=1), value.max(axis=1)
    ax.fill_between(curve.epoch, low, high, color=color, alpha=0.22, linewidth=0)
  marker = "o" if len(value) == 1 else None
  drawn = {"color": color, "ls": dash, "lw": 2, "marker": marker}
  ax.plot(curve.epoch, value.mean(axis=1), label=label, **drawn)
  ax.set_xlabel("epoch")
  ax.grid(visible=True)


def mark(ax: Axes, epoch: float, value: float, text: str, *, series: int = 0) -> None:
  """Marks one point of a curve with a ring and, in the legend, a text."""
  marker = "os^D"[series % 4]
  ax.plot([epoch], [value], marker, color=INK, mfc="none", mew=1.8, ms=9, label=text, ls="none")


def cell_colours(
  values: np.ndarray, low: float, high: float, map_name: str = ACCURACY
) -> list[list[tuple[str, str]]]:
  """Returns (background, text colour) for each cell of a table [rows, columns].

  The text is black or white, whichever has more contrast on the background (WCAG's ratio).

  Args:
    values: nan gives grey.
    low: the value at the map's lower end.
    high: the value at the map's upper end.
    map_name: one of matplotlib's colour maps.
  """
  scale = Normalize(low, high if high > low else low + 1e-9, clip=True)
  colors = matplotlib.colormaps[map_name]
  return [[_cell_colour(v, colors, scale) for v in row] for row in np.asarray(values, float)]


def _cell_colour(value: float, colors: Colormap, scale: Normalize) -> tuple[str, str]:
  rgb = np.asarray(colors(scale(value)))[:3] if np.isfinite(value) else np.full(3, 0.6)
  linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
  luminance = float(linear @ np.array([0.2126, 0.7152, 0.0722]))
  return to_hex(rgb), "#000000" if luminance > 0.179 else "#ffffff"


def corruption_heatmap(
  ax: Axes,
  cells: _runs.Cells,
  *,
  title: str,
  low: float,
  high: float,
  signed: bool = False,
  names: bool = True,
) -> AxesImage:
  """Draws a (corruption, severity) table, mean over seeds in percent, with row and column means.

  Args:
    ax: drawn on.
    cells: values as fractions [seeds, corruptions, severities].
    title: above it.
    low: percent at the lower end of the colours.
    high: percent at the upper end.
    signed: whether the values are differences.
    names: whether the corruptions are named at the left.

  Returns:
    The image, for a colour bar.
  """
  value, rows, columns = with_means(cells)
  value = 100 * value
  map_name = DIFFERENCE if signed else ACCURACY
  size = 9 if signed else 10
  image = ax.imshow(value, cmap=map_name, vmin=low, vmax=high, aspect="auto")
  for i, line in enumerate(cell_colours(value, low, high, map_name)):
    for j, (_, ink) in enumerate(line):
      text = f"{value[i, j]:+.1f}" if signed else f"{value[i, j]:.1f}"
      weight = "bold" if i == len(rows) - 1 or j == len(columns) - 1 else "normal"
      ax.text(j, i, text, ha="center", va="center", color=ink, fontsize=size, weight=weight)
  # A gap before the means.
  ax.axhline(len(rows) - 1.5, color="white", lw=4)
  ax.axvline(len(columns) - 1.5, color="white", lw=4)
  ax.set_xticks(range(len(columns)), columns)
  ax.set_yticks(range(len(rows)), rows if names else [""] * len(rows))
  ax.tick_params(length=0)
  ax.spines[:].set_visible(False)
  ax.set_xlabel("severity")
  ax.set_title(title, fontsize=fitting(title, 12, 28))
  return image


def with_means(cells: _runs.Cells) -> tuple[np.ndarray, list[str], list[str]]:
  """Returns the mean over seeds with a last row and a last column of means, and their headings."""
  value = cells.value.mean(axis=0)
  value = np.concatenate([value, value.mean(axis=1, keepdims=True)], axis=1)
  value = np.concatenate([value, value.mean(axis=0, keepdims=True)], axis=0)
  names = [name.replace("_", " ") for name in cells.names]
  return value, [*names, "mean"], [*(str(s) for s in cells.severities), "mean"]


def reliability_diagram(
  ax: Axes, confidence: np.ndarray, accuracy: np.ndarray, share: np.ndarray
) -> None:
  """Draws accuracy against confidence in bins; on the diagonal confidence is right.

  Args:
    ax: drawn on.
    confidence: [bins], mean confidence; nan in an empty bin.
    accuracy: [bins], of the same examples.
    share: [bins], of all examples; drawn as the area of the dots.
  """
  ax.plot([0, 1], [0, 1], color=FAINT, lw=1, ls="--", label="calibrated")
  known = share > 0
  gap = np.stack([np.minimum(confidence, accuracy), np.maximum(confidence, accuracy)])[:, known]
  ax.vlines(confidence[known], *gap, color=SERIES[1], lw=1.5, alpha=0.7)
  size = 20 + 400 * share[known]
  label = "bins; area: share of images"
  ax.scatter(
    confidence[known], accuracy[known], s=size, color=SERIES[0], alpha=0.75, label=label, zorder=3
  )
  ax.set(xlim=(-0.02, 1.05), ylim=(-0.05, 1.08), xlabel="confidence", ylabel="accuracy")
  ax.grid(visible=True)
  legend = ax.legend(loc="lower right", fontsize=10)
  legend.legend_handles[-1].set_sizes([40])


def fitting(text: str, size: float, characters: int) -> float:
  """The size at which the longest line takes no more room than `characters` at the given size."""
  return size * min(1.0, characters / max(len(line) for line in text.split("\n")))


def log_if_wide(ax: Axes) -> None:
  """A logarithmic axis where positive values span more than a factor of 20."""
  values = np.concatenate([line.get_ydata() for line in ax.get_lines()] or [np.ones(1)])
  if np.all(values > 0) and values.max() > 20 * values.min():
    ax.set_yscale("log")
