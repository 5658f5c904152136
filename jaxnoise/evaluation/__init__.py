"""Evaluation: what every predictor of a method does on clean and on corrupted images."""

from jaxnoise.evaluation._adversarial import FGSM as FGSM
from jaxnoise.evaluation._adversarial import PGD as PGD
from jaxnoise.evaluation._adversarial import Threat as Threat
from jaxnoise.evaluation._adversarial import attack_part as attack_part
from jaxnoise.evaluation._adversarial import threats_of as threats_of
from jaxnoise.evaluation._audit import DISAGREEMENT as DISAGREEMENT
from jaxnoise.evaluation._audit import VIEWS as VIEWS
from jaxnoise.evaluation._audit import Audit as Audit
from jaxnoise.evaluation._audit import audit_labels as audit_labels
from jaxnoise.evaluation._audit import audit_metrics as audit_metrics
from jaxnoise.evaluation._audit_files import LABEL_FORMATS as LABEL_FORMATS
from jaxnoise.evaluation._audit_files import audit_table as audit_table
from jaxnoise.evaluation._audit_files import check_labels_file as check_labels_file
from jaxnoise.evaluation._audit_files import write_labels as write_labels
from jaxnoise.evaluation._audit_signals import table_signals as table_signals
from jaxnoise.evaluation._calibration import calibration as calibration
from jaxnoise.evaluation._calibration import calibration_part as calibration_part
from jaxnoise.evaluation._classification import Measure as Measure
from jaxnoise.evaluation._classification import TestSet as TestSet
from jaxnoise.evaluation._classification import make_measure as make_measure
from jaxnoise.evaluation._classification import measure_set as measure_set
from jaxnoise.evaluation._classification import summarise as summarise
from jaxnoise.evaluation._contact import contact_sheet as contact_sheet
from jaxnoise.evaluation._corruption_part import corruption_means as corruption_means
from jaxnoise.evaluation._corruption_part import corruption_part as corruption_part
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
from jaxnoise.evaluation._renditions import among_classes as among_classes
from jaxnoise.evaluation._renditions import rendition_part as rendition_part
from jaxnoise.evaluation._robustness import CorruptedPools as CorruptedPools
from jaxnoise.evaluation._robustness import corruption_table as corruption_table
from jaxnoise.evaluation._robustness import corruption_variant as corruption_variant
from jaxnoise.evaluation._robustness import generated_views as generated_views
from jaxnoise.evaluation._robustness import stored_views as stored_views
from jaxnoise.evaluation._robustness import table_rows as table_rows
from jaxnoise.evaluation._stability import flip_means as flip_means
from jaxnoise.evaluation._stability import sequence_part as sequence_part
from jaxnoise.evaluation._suite import Part as Part
from jaxnoise.evaluation._suite import Subject as Subject
from jaxnoise.evaluation._suite import by_seed as by_seed
from jaxnoise.evaluation._suite import read_table as read_table
from jaxnoise.evaluation._suite import run_parts as run_parts
from jaxnoise.evaluation._vicinal import make_view_predict as make_view_predict
from jaxnoise.evaluation._vicinal import predict_views as predict_views
