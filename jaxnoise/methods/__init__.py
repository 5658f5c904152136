"""Methods: factories that return a record of pure functions, and wrappers that compose them.

This list is the registry: `config.method.name` and `config.wrappers` name entries of it.
"""

from jaxnoise.methods._dividemix_terms import co_guess as co_guess
from jaxnoise.methods._dividemix_terms import co_refine as co_refine
from jaxnoise.methods._dividemix_terms import dividemix_objective as dividemix_objective
from jaxnoise.methods._mixed import mixup_objective as mixup_objective
from jaxnoise.methods.adversarial import free_at as free_at
from jaxnoise.methods.augmax import augmax as augmax
from jaxnoise.methods.augmax import augmax_ascent as augmax_ascent
from jaxnoise.methods.augmix import augmix as augmix
from jaxnoise.methods.co_teaching import co_teaching as co_teaching
from jaxnoise.methods.co_teaching import co_teaching_objective as co_teaching_objective
from jaxnoise.methods.cutmix import cutmix as cutmix
from jaxnoise.methods.distill import fickle_teacher as fickle_teacher
from jaxnoise.methods.distill import knowledge_distillation as knowledge_distillation
from jaxnoise.methods.distill import messy_collaboration as messy_collaboration
from jaxnoise.methods.distill import redraw_labels as redraw_labels
from jaxnoise.methods.distill import soft_randomization as soft_randomization
from jaxnoise.methods.distill_features import attention_transfer as attention_transfer
from jaxnoise.methods.distill_features import rkd as rkd
from jaxnoise.methods.distill_features import similarity_preserving as similarity_preserving
from jaxnoise.methods.dividemix import dividemix as dividemix
from jaxnoise.methods.dynamic_bootstrap import dynamic_bootstrap as dynamic_bootstrap
from jaxnoise.methods.dynamic_bootstrap import (
  dynamic_bootstrap_objective as dynamic_bootstrap_objective,
)
from jaxnoise.methods.elr import elr as elr
from jaxnoise.methods.elr_plus import elr_plus as elr_plus
from jaxnoise.methods.elr_plus import elr_plus_objective as elr_plus_objective
from jaxnoise.methods.erm import erm as erm
from jaxnoise.methods.gjs import gjs as gjs
from jaxnoise.methods.gjs import js as js
from jaxnoise.methods.glc import estimate_label_matrix as estimate_label_matrix
from jaxnoise.methods.glc import glc as glc
from jaxnoise.methods.meta_weight_net import meta_weight_net as meta_weight_net
from jaxnoise.methods.meta_weight_net import weight_net as weight_net
from jaxnoise.methods.mixup import manifold_mixup as manifold_mixup
from jaxnoise.methods.mixup import mixup as mixup
from jaxnoise.methods.mixup import nfm as nfm
from jaxnoise.methods.noisymix import noisymix as noisymix
from jaxnoise.methods.noisymix import noisymix_objective as noisymix_objective
from jaxnoise.methods.nrd import nrd as nrd
from jaxnoise.methods.pgd_at import fast_at as fast_at
from jaxnoise.methods.pgd_at import pgd_at as pgd_at
from jaxnoise.methods.puzzlemix import puzzlemix as puzzlemix
from jaxnoise.methods.reweight import multiplicative_reweighting as multiplicative_reweighting
from jaxnoise.methods.self_distillation import self_distillation as self_distillation
from jaxnoise.methods.track import track_losses as track_losses
from jaxnoise.methods.trades import trades as trades
from jaxnoise.methods.trades import trades_objective as trades_objective
from jaxnoise.methods.wrappers import random_weighting as random_weighting
from jaxnoise.methods.wrappers import rectified_weights as rectified_weights
from jaxnoise.methods.wrappers import with_ema as with_ema
