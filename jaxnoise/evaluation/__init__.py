"""Evaluation: what every predictor of a method does on clean and on corrupted images."""

from jaxnoise.evaluation._classification import Measure as Measure
from jaxnoise.evaluation._classification import TestSet as TestSet
from jaxnoise.evaluation._classification import make_measure as make_measure
from jaxnoise.evaluation._classification import measure_set as measure_set
from jaxnoise.evaluation._classification import summarise as summarise
from jaxnoise.evaluation._examples import MAX_CONFUSION as MAX_CONFUSION
from jaxnoise.evaluation._examples import confusion as confusion
from jaxnoise.evaluation._examples import pack as pack
from jaxnoise.evaluation._examples import samples as samples
from jaxnoise.evaluation._examples import unpack as unpack
from jaxnoise.evaluation._prediction_files import PREDICTION_SUFFIXES as PREDICTION_SUFFIXES
from jaxnoise.evaluation._prediction_files import (
  check_predictions_file as check_predictions_file,
)
from jaxnoise.evaluation._prediction_files import write_predictions as write_predictions
from jaxnoise.evaluation._predictions import Predictions as Predictions
from jaxnoise.evaluation._predictions import make_predict as make_predict
from jaxnoise.evaluation._predictions import mean_predictions as mean_predictions
from jaxnoise.evaluation._predictions import predict_pool as predict_pool
from jaxnoise.evaluation._robustness import CorruptedPools as CorruptedPools
from jaxnoise.evaluation._robustness import corruption_table as corruption_table
from jaxnoise.evaluation._robustness import generated_views as generated_views
from jaxnoise.evaluation._robustness import stored_views as stored_views
from jaxnoise.evaluation._robustness import table_rows as table_rows
