"""Losses: pure functions that return one value per example and reduce nothing.

This list is the registry: `config.method.loss` names an entry of it that takes (logits, targets).
"""

from jaxnoise.losses._binary import binary_cross_entropy as binary_cross_entropy
from jaxnoise.losses._classification import cross_entropy as cross_entropy
from jaxnoise.losses._distillation import hinton as hinton
from jaxnoise.losses._divergence import jensen_shannon as jensen_shannon
from jaxnoise.losses._dynamic import dynamic_bootstrap as dynamic_bootstrap
from jaxnoise.losses._elr import elr as elr
from jaxnoise.losses._elr import elr_update as elr_update
from jaxnoise.losses._feature_distillation import attention_map as attention_map
from jaxnoise.losses._feature_distillation import attention_transfer as attention_transfer
from jaxnoise.losses._feature_distillation import similarity_preserving as similarity_preserving
from jaxnoise.losses._generalized_js import gjs as gjs
from jaxnoise.losses._generalized_js import gjs_no_consistency as gjs_no_consistency
from jaxnoise.losses._generalized_js import js as js
from jaxnoise.losses._generalized_js import nrd as nrd
from jaxnoise.losses._label_correction import backward_correction as backward_correction
from jaxnoise.losses._label_correction import forward_correction as forward_correction
from jaxnoise.losses._logit_noise import SWAP_READINGS as SWAP_READINGS
from jaxnoise.losses._logit_noise import expected_swap as expected_swap
from jaxnoise.losses._logit_noise import gaussian_logit_noise as gaussian_logit_noise
from jaxnoise.losses._logit_noise import half_squared_error as half_squared_error
from jaxnoise.losses._logit_noise import swap_logits as swap_logits
from jaxnoise.losses._relational import pairwise_distances as pairwise_distances
from jaxnoise.losses._relational import rkd_angle as rkd_angle
from jaxnoise.losses._relational import rkd_distance as rkd_distance
from jaxnoise.losses._robust import generalized_cross_entropy as generalized_cross_entropy
from jaxnoise.losses._robust import hard_bootstrap as hard_bootstrap
from jaxnoise.losses._robust import label_smoothing as label_smoothing
from jaxnoise.losses._robust import mean_absolute_error as mean_absolute_error
from jaxnoise.losses._robust import nce_rce as nce_rce
from jaxnoise.losses._robust import normalized_cross_entropy as normalized_cross_entropy
from jaxnoise.losses._robust import reverse_cross_entropy as reverse_cross_entropy
from jaxnoise.losses._robust import soft_bootstrap as soft_bootstrap
from jaxnoise.losses._robust import symmetric_cross_entropy as symmetric_cross_entropy
from jaxnoise.losses._semi_supervised import negative_entropy as negative_entropy
from jaxnoise.losses._semi_supervised import sharpen as sharpen
from jaxnoise.losses._semi_supervised import squared_error as squared_error
from jaxnoise.losses._semi_supervised import uniform_prior as uniform_prior
