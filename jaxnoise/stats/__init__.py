"""Statistics of the training set: mixtures of two kinds of examples, and weights of examples.

One-dimensional mixtures, fitted by EM, tell clean labels from noisy ones by their losses;
multiplicative weights turn summed losses into a distribution over the examples.
"""

from jaxnoise.stats._beta_mixture import BetaMixture as BetaMixture
from jaxnoise.stats._beta_mixture import LossModel as LossModel
from jaxnoise.stats._beta_mixture import beta_density as beta_density
from jaxnoise.stats._beta_mixture import beta_mixture as beta_mixture
from jaxnoise.stats._beta_mixture import beta_posterior as beta_posterior
from jaxnoise.stats._beta_mixture import fit_losses as fit_losses
from jaxnoise.stats._beta_mixture import look_up as look_up
from jaxnoise.stats._beta_mixture import noise_posterior as noise_posterior
from jaxnoise.stats._beta_mixture import normalise_losses as normalise_losses
from jaxnoise.stats._beta_mixture import posterior_table as posterior_table
from jaxnoise.stats._gaussian_mixture import GaussianMixture as GaussianMixture
from jaxnoise.stats._gaussian_mixture import gaussian_mixture as gaussian_mixture
from jaxnoise.stats._gaussian_mixture import gaussian_posterior as gaussian_posterior
from jaxnoise.stats._multiplicative_weights import batch_weights as batch_weights
from jaxnoise.stats._multiplicative_weights import cap_weights as cap_weights
from jaxnoise.stats._multiplicative_weights import log_weights as log_weights
from jaxnoise.stats._multiplicative_weights import step_size_at as step_size_at
from jaxnoise.stats._multiplicative_weights import weights as weights
