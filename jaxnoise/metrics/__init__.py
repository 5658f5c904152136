"""Metrics as pure functions: per-example values, and statistics that add across batches."""

from jaxnoise.metrics._accuracy import brier_score as brier_score
from jaxnoise.metrics._accuracy import correct as correct
from jaxnoise.metrics._accuracy import negative_log_likelihood as negative_log_likelihood
from jaxnoise.metrics._adaptive import adaptive_bins as adaptive_bins
from jaxnoise.metrics._adaptive import aurra as aurra
from jaxnoise.metrics._adaptive import maximum_calibration_error as maximum_calibration_error
from jaxnoise.metrics._adaptive import rms_calibration_error as rms_calibration_error
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
from jaxnoise.metrics._gradient_norm import GRADIENT_NORM_SAMPLES as GRADIENT_NORM_SAMPLES
from jaxnoise.metrics._gradient_norm import draws_mean as draws_mean
from jaxnoise.metrics._gradient_norm import gradient_norm_draws as gradient_norm_draws
from jaxnoise.metrics._gradient_norm import hutchinson_gradient_norm as hutchinson_gradient_norm
from jaxnoise.metrics._gradient_norm import output_gradient_norm as output_gradient_norm
from jaxnoise.metrics._label_noise import auroc as auroc
from jaxnoise.metrics._label_noise import average_precision as average_precision
from jaxnoise.metrics._label_noise import memorisation as memorisation
from jaxnoise.metrics._label_noise import precision_at as precision_at
from jaxnoise.metrics._relative import ALEXNET_IMAGENET_C as ALEXNET_IMAGENET_C
from jaxnoise.metrics._relative import corruption_errors as corruption_errors
from jaxnoise.metrics._relative import flip_rates as flip_rates
from jaxnoise.metrics._relative import mean_corruption_error as mean_corruption_error
from jaxnoise.metrics._relative import mean_errors as mean_errors
from jaxnoise.metrics._relative import mean_flip_rate as mean_flip_rate
from jaxnoise.metrics._relative import (
  relative_mean_corruption_error as relative_mean_corruption_error,
)
from jaxnoise.metrics._stability import flip_probability as flip_probability
from jaxnoise.metrics._stability import ranking_distance as ranking_distance
from jaxnoise.metrics._temperature import TEMPERATURE_BOUNDS as TEMPERATURE_BOUNDS
from jaxnoise.metrics._temperature import apply_temperature as apply_temperature
from jaxnoise.metrics._temperature import temperature_scale as temperature_scale
from jaxnoise.metrics._vicinal import bin_centre_calibration_error as bin_centre_calibration_error
from jaxnoise.metrics._vicinal import equiradial_projection as equiradial_projection
