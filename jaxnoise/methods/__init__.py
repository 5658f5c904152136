"""Methods: factories that return a record of pure functions, and wrappers that compose them.

This list is the registry: `config.method.name` and `config.wrappers` name entries of it.
"""

from jaxnoise.methods._mixed import mixup_objective as mixup_objective
from jaxnoise.methods.adversarial import free_at as free_at
from jaxnoise.methods.augmax import augmax as augmax
from jaxnoise.methods.augmax import augmax_ascent as augmax_ascent
from jaxnoise.methods.augmix import augmix as augmix
from jaxnoise.methods.cutmix import cutmix as cutmix
from jaxnoise.methods.distill import knowledge_distillation as knowledge_distillation
from jaxnoise.methods.erm import erm as erm
from jaxnoise.methods.mixup import manifold_mixup as manifold_mixup
from jaxnoise.methods.mixup import mixup as mixup
from jaxnoise.methods.mixup import nfm as nfm
from jaxnoise.methods.noisymix import noisymix as noisymix
from jaxnoise.methods.noisymix import noisymix_objective as noisymix_objective
from jaxnoise.methods.puzzlemix import puzzlemix as puzzlemix
from jaxnoise.methods.wrappers import random_weighting as random_weighting
from jaxnoise.methods.wrappers import rectified_weights as rectified_weights
from jaxnoise.methods.wrappers import with_ema as with_ema
