"""Pages of charts: what is drawn, what the tables say, what is refused."""

import numpy as np
import pytest

from jaxnoise import reporting
from jaxnoise.core import InputError


def curve(places, *values):
  return reporting.Curve(np.array(places), np.array(values))


def test_a_page_has_the_lines_and_the_means(tmp_path):
  lines = {
    "plain <1>": curve([0.2, 0.4], [0.1, 0.3], [0.5, 0.5]),
    "other": curve([0.4, 0.8], [0.25], [0.125]),
  }
  charts = [reporting.Chart("ECE in %", "noise rate", lines)]
  path = tmp_path / "deep" / "page.html"
  assert reporting.write_charts(path, "A & B", charts, ["What it says."]) == path
  page = path.read_text()
  assert "<h1>A &amp; B</h1>" in page and "What it says." in page and page.count("<svg") == 1
  assert "plain &lt;1&gt;" in page and "<1>" not in page
  rows = [row.split("</tr>")[0] for row in page.split('<tr><th scope="row">')[1:]]
  cells = [[cell.split("</td>")[0] for cell in row.split("<td>")[1:]] for row in rows]
  assert cells == [["20.00", "-"], ["50.00", "25.00"], ["-", "12.50"]]


@pytest.mark.parametrize("lines", [{}, {"empty": curve([], *np.zeros((0, 1)))}])
def test_a_chart_without_a_point_is_refused(lines, tmp_path):
  with pytest.raises(InputError, match="nothing to draw"):
    reporting.write_charts(tmp_path / "page.html", "T", [reporting.Chart("C", "x", lines)])
  assert not list(tmp_path.iterdir())
