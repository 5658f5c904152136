"""Metrics as pure functions: per-example values, and statistics that add across batches."""

from jaxnoise.metrics._accuracy import correct as correct
from jaxnoise.metrics._accuracy import negative_log_likelihood as negative_log_likelihood
from jaxnoise.metrics._calibration import CalibrationBins as CalibrationBins
from jaxnoise.metrics._calibration import calibration_bins as calibration_bins
from jaxnoise.metrics._calibration import expected_calibration_error as expected_calibration_error
from jaxnoise.metrics._calibration import reliability as reliability
from jaxnoise.metrics._corruption import CorruptionTable as CorruptionTable
from jaxnoise.metrics._corruption import accuracy_by_group as accuracy_by_group
from jaxnoise.metrics._corruption import accuracy_without as accuracy_without
from jaxnoise.metrics._corruption import cell_accuracies as cell_accuracies
from jaxnoise.metrics._corruption import corruption_counts as corruption_counts
from jaxnoise.metrics._corruption import mean_corruption_accuracy as mean_corruption_accuracy
