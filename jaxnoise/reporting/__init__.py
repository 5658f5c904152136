"""Reporting: run directories read back, compared, drawn, and written up as pages."""

from jaxnoise.reporting._groups import Group as Group
from jaxnoise.reporting._groups import group_runs as group_runs
from jaxnoise.reporting._runs import Cells as Cells
from jaxnoise.reporting._runs import Curve as Curve
from jaxnoise.reporting._runs import RunRecord as RunRecord
from jaxnoise.reporting._runs import corrupted as corrupted
from jaxnoise.reporting._runs import corruption_cells as corruption_cells
from jaxnoise.reporting._runs import curve as curve
from jaxnoise.reporting._runs import final as final
from jaxnoise.reporting._runs import find_runs as find_runs
from jaxnoise.reporting._runs import load_run as load_run
from jaxnoise.reporting._statistics import Estimate as Estimate
from jaxnoise.reporting._statistics import ExampleDifference as ExampleDifference
from jaxnoise.reporting._statistics import difference_by_example as difference_by_example
from jaxnoise.reporting._statistics import estimate as estimate
from jaxnoise.reporting._suite_tables import read_suite as read_suite
from jaxnoise.reporting._tables import ComparisonRow as ComparisonRow
from jaxnoise.reporting._tables import comparison_rows as comparison_rows
from jaxnoise.reporting._tables import format_rows as format_rows
from jaxnoise.reporting._tables import paired_difference as paired_difference
from jaxnoise.reporting._tables import verdict as verdict
from jaxnoise.reporting.comparison import write_comparison as write_comparison
from jaxnoise.reporting.figures import comparison_figure as comparison_figure
from jaxnoise.reporting.pages import write_report as write_report
from jaxnoise.reporting.suites import suite_lines as suite_lines
from jaxnoise.reporting.suites import write_suite as write_suite
