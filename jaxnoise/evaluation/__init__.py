"""Evaluation: what every predictor of a method does on clean and on corrupted images."""

from jaxnoise.evaluation._classification import TestSet as TestSet
from jaxnoise.evaluation._classification import make_measure as make_measure
from jaxnoise.evaluation._classification import measure_set as measure_set
from jaxnoise.evaluation._classification import summarise as summarise
from jaxnoise.evaluation._robustness import corruption_table as corruption_table
from jaxnoise.evaluation._robustness import table_rows as table_rows
