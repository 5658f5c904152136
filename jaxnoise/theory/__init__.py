"""The papers' theorems as functions: both sides of each, to be compared on a model of your own."""

from jaxnoise.theory._regularizers import Expansion as Expansion
from jaxnoise.theory._regularizers import PerturbationMoments as PerturbationMoments
from jaxnoise.theory._regularizers import Perturbations as Perturbations
from jaxnoise.theory._regularizers import coefficient_moments as coefficient_moments
from jaxnoise.theory._regularizers import nfm_expansion as nfm_expansion
from jaxnoise.theory._regularizers import nfm_loss as nfm_loss
from jaxnoise.theory._regularizers import perturbation_grid as perturbation_grid
from jaxnoise.theory._regularizers import released_moments as released_moments
from jaxnoise.theory._robustness import RobustBound as RobustBound
from jaxnoise.theory._robustness import regularization_radius as regularization_radius
from jaxnoise.theory._robustness import robust_assumptions as robust_assumptions
from jaxnoise.theory._robustness import robust_bound as robust_bound
from jaxnoise.theory._robustness import robust_radius as robust_radius
from jaxnoise.theory._stability import fisher_penalty as fisher_penalty
from jaxnoise.theory._stability import jensen_shannon_expansion as jensen_shannon_expansion
from jaxnoise.theory._stability import stability_expansion as stability_expansion
from jaxnoise.theory._stability import stability_loss as stability_loss
