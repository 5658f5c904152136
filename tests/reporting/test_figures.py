"""Figures: written, of the promised size, with nothing cut off, and told apart."""

import itertools
import re
import sys

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from jaxnoise import reporting
from jaxnoise.core import InputError
from jaxnoise.reporting import _draw, _svg, figures
from tests.reporting import fabricate


def runs(folder, *methods, **changes):
  made = [fabricate.run_directory(folder / m, m, epochs=10, **changes) for m in methods]
  return [reporting.load_run(path) for path in made]


@pytest.mark.parametrize(
  ("methods", "changes"),
  [
    (("erm", "noisymix"), {}),
    (("erm", "noisymix"), {"seeds": 1}),
    (("erm", "noisymix", "mixup"), {}),
    (("erm",), {"names": ()}),
    (("erm", "noisymix"), {"finished": False}),
  ],
  ids=["two", "one_seed", "three", "no_corruptions", "unfinished"],
)
def test_the_comparison_is_a_1600_by_900_picture(tmp_path, methods, changes):
  path = tmp_path / "new" / "figure.png"
  assert reporting.comparison_figure(runs(tmp_path, *methods, **changes), path) == path
  with Image.open(path) as image:
    assert image.size == (1600, 900)
    pixels = np.asarray(image.convert("RGB"))
  assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100
  border = np.concatenate([pixels[[0, -1]].reshape(-1, 3), pixels[:, [0, -1]].reshape(-1, 3)])
  assert (border == 255).all(), "something reaches the edge and may be cut off"


@pytest.mark.parametrize("equal", [False, True])
def test_no_text_covers_another(tmp_path, equal):
  """Long names, and tables of one value, on which a colour scale has no length."""
  made = runs(tmp_path, "erm_with_a_name_that_is_long", "multiplicative_reweighting_over_noisymix")
  if equal:
    made = [made[0]] * 2
  figure = figures._comparison(made)
  FigureCanvasAgg(figure).draw()
  renderer = figure.canvas.get_renderer()
  # Tick labels are matplotlib's own business: those beyond the axis exist and are not drawn.
  ticks = {
    label
    for ax in figure.findobj(Axes)
    for axis in (ax.xaxis, ax.yaxis)
    for label in axis.get_ticklabels(which="both")
  }
  texts = [
    t
    for t in figure.findobj(Text)
    if t.get_text().strip() and t not in ticks and t.get_window_extent(renderer).width > 1
  ]
  boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in texts]
  assert len(boxes) > 3 * 12 * 6, "every cell has its number"
  for (a, one), (b, two) in itertools.combinations(boxes, 2):
    assert not one.overlaps(two.shrunk(0.98, 0.9)), (a, b)
  for text, box in boxes:
    assert box.x0 >= 0 and box.x1 <= 1600 and box.y0 >= 0 and box.y1 <= 900, text


def test_no_global_state_of_pyplot(tmp_path):
  reporting.comparison_figure(runs(tmp_path, "erm"), tmp_path / "figure.png")
  pyplot = sys.modules.get("matplotlib.pyplot")
  assert pyplot is None or not pyplot.get_fignums()


def test_the_band_is_the_range_over_seeds():
  ax = Figure().subplots()
  value = np.array([[1.0, 2.0, 6.0], [3.0, 3.0, 3.0]])
  _draw.curves(ax, reporting.Curve(np.array([1.0, 2.0]), value), label="x")
  assert ax.get_lines()[0].get_ydata().tolist() == [3.0, 3.0]
  band = ax.collections[0].get_paths()[0].get_extents()
  assert (band.y0, band.y1) == (1.0, 6.0)


def test_with_means_are_means():
  value = np.arange(12.0).reshape(1, 3, 4) * np.ones((2, 1, 1))
  cells = reporting.Cells(("a_b", "c", "d"), (1, 2, 3, 4), value)
  table, rows, columns = _draw.with_means(cells)
  assert rows == ["a b", "c", "d", "mean"] and columns == ["1", "2", "3", "4", "mean"]
  np.testing.assert_allclose(table[:3, -1], value[0].mean(axis=1))
  assert table[-1, -1] == pytest.approx(value.mean())


def _luminance(color):
  rgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
  linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
  return linear @ np.array([0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("map_name", ["cividis", "PuOr"])
def test_numbers_in_cells_are_readable_on_every_colour(map_name):
  values = np.concatenate([np.linspace(0, 1, 200), [np.nan]])[None]
  for back, ink in itertools.chain(*_draw.cell_colours(values, 0.0, 1.0, map_name)):
    low, high = sorted([_luminance(back), _luminance(ink)])
    assert (high + 0.05) / (low + 0.05) >= 4.5, (back, ink)


def test_inline_svg_is_self_contained_and_the_same_every_time(tmp_path):
  (run,) = runs(tmp_path, "erm")
  names = ["test/student/accuracy", "holdout/student/accuracy"]
  svgs = [_svg.run_curve_svg(run, names, "Accuracy", 100.0) for _ in range(2)]
  assert svgs[0] == svgs[1]
  assert svgs[0].startswith("<svg viewBox=") and "http" not in svgs[0]
  assert "last: " in svgs[0] and "best on holdout: " in svgs[0]
  assert _svg.run_curve_svg(run, ["train/nobody/loss"], "", 1.0) == ""


def test_curves_without_their_legend_over_the_data(tmp_path):
  (run,) = runs(tmp_path, "erm")
  names = ["test/student/accuracy", "holdout/student/accuracy"]
  for label in ("short", "a name that is rather long for a legend of one line"):
    curves = [(f"{label} {i}", reporting.curve(run, name)) for i, name in enumerate(names)]
    svg = _svg.overlay_svg(curves, "Accuracy <in> %", 100.0)
    assert 'aria-label="Accuracy &lt;in&gt; % by epoch"' in svg
    *_, height = (float(x) for x in svg.split('viewBox="')[1].split('"')[0].split())
    at = [float(y) for y in re.findall(r"translate\([\d.]+ ([\d.]+)\)[^>]*>\s*" + label, svg)]
    at = at or [float(y) for y in re.findall(rf'y="([\d.]+)"[^>]*>{label}', svg)]
    assert len(at) == 2 and min(at) > 0.8 * height, "the legend is below the axes"
  assert _svg.overlay_svg([], "", 1.0) == "" and _svg.intervals_svg([], "") == ""


def test_lines_differ_in_colour_and_dash():
  curve = reporting.Curve(np.arange(3.0), np.ones((3, 1)))
  ax = Figure().subplots()
  for i in range(6):
    _draw.curves(ax, curve, label=str(i), series=i)
  lines = ax.get_lines()
  assert len({line.get_color() for line in lines}) == 6
  assert len({str(line._dash_pattern) for line in lines}) == 6


def test_an_interval_is_drawn_from_end_to_end():
  bars = [_svg.Bar("a", 1.0, (0.5, 1.5)), _svg.Bar("b", -1.0, None)]
  svg = _svg.intervals_svg(bars, "Difference")
  assert svg.count("http") == 0 and ">a<" in svg and ">b<" in svg and 'role="img"' in svg


def test_a_comparison_of_nothing_or_of_two_data_sets_is_refused(tmp_path):
  with pytest.raises(InputError, match="0 runs"):
    reporting.comparison_figure([], tmp_path / "figure.png")
  a = runs(tmp_path / "a", "erm")
  b = runs(tmp_path / "b", "erm", dataset="cifar10")
  with pytest.raises(InputError, match="one data set"):
    reporting.comparison_figure(a + b, tmp_path / "figure.png")
  c = runs(tmp_path / "c", "noisymix", names=fabricate.NAMES[:3])
  with pytest.raises(InputError, match="other corruptions"):
    reporting.comparison_figure(a + c, tmp_path / "figure.png")
  assert not (tmp_path / "figure.png").exists()
