"""The papers' theorems as functions: both sides of each, to be compared on a model of your own."""

from jaxnoise.theory._label_noise_sgd import output_gradients as output_gradients
from jaxnoise.theory._label_noise_sgd import uln_noise_covariance as uln_noise_covariance
from jaxnoise.theory._label_noise_sgd import (
  uln_regularizer_covariance as uln_regularizer_covariance,
)
from jaxnoise.theory._label_noise_sgd import uln_regularizer_draws as uln_regularizer_draws
from jaxnoise.theory._label_noise_sgd import uln_regularizer_strength as uln_regularizer_strength
from jaxnoise.theory._label_noise_sgd import uln_sampling_covariance as uln_sampling_covariance
from jaxnoise.theory._label_noise_sgd_cases import (
  gaussian_design_variances as gaussian_design_variances,
)
from jaxnoise.theory._label_noise_sgd_cases import (
  uln_additive_covariance as uln_additive_covariance,
)
from jaxnoise.theory._label_noise_sgd_cases import uln_diffusion_variance as uln_diffusion_variance
from jaxnoise.theory._label_noise_sgd_exact import StationarySGD as StationarySGD
from jaxnoise.theory._label_noise_sgd_exact import (
  least_squares_sgd_limit as least_squares_sgd_limit,
)
from jaxnoise.theory._label_noise_sgd_exact import (
  least_squares_sgd_radius as least_squares_sgd_radius,
)
from jaxnoise.theory._label_noise_sgd_exact import (
  least_squares_sgd_stationary as least_squares_sgd_stationary,
)
from jaxnoise.theory._label_noise_sgd_run import least_squares_sgd as least_squares_sgd
from jaxnoise.theory._label_noise_sgd_run import uln_dynamics as uln_dynamics
from jaxnoise.theory._regularizers import Expansion as Expansion
from jaxnoise.theory._regularizers import PerturbationMoments as PerturbationMoments
from jaxnoise.theory._regularizers import Perturbations as Perturbations
from jaxnoise.theory._regularizers import coefficient_moments as coefficient_moments
from jaxnoise.theory._regularizers import nfm_expansion as nfm_expansion
from jaxnoise.theory._regularizers import nfm_loss as nfm_loss
from jaxnoise.theory._regularizers import perturbation_grid as perturbation_grid
from jaxnoise.theory._regularizers import released_moments as released_moments
from jaxnoise.theory._reweighting import ReweightedDescent as ReweightedDescent
from jaxnoise.theory._reweighting import mean_gradient_square as mean_gradient_square
from jaxnoise.theory._reweighting import mr_corollary3_steps as mr_corollary3_steps
from jaxnoise.theory._reweighting import mr_lemma1_gap as mr_lemma1_gap
from jaxnoise.theory._reweighting import mr_theorem2_bound as mr_theorem2_bound
from jaxnoise.theory._reweighting import mr_theorem4_bound as mr_theorem4_bound
from jaxnoise.theory._reweighting import mr_theorem4_learning_rate as mr_theorem4_learning_rate
from jaxnoise.theory._reweighting import reweighted_gradient_descent as reweighted_gradient_descent
from jaxnoise.theory._reweighting import reweighting_drop as reweighting_drop
from jaxnoise.theory._reweighting_1d import Figure1 as Figure1
from jaxnoise.theory._reweighting_1d import LeastSquaresTrajectory as LeastSquaresTrajectory
from jaxnoise.theory._reweighting_1d import LogisticTrajectory as LogisticTrajectory
from jaxnoise.theory._reweighting_1d import figure1_simulation as figure1_simulation
from jaxnoise.theory._reweighting_1d import least_squares_losses as least_squares_losses
from jaxnoise.theory._reweighting_1d import logistic_losses as logistic_losses
from jaxnoise.theory._reweighting_1d import logistic_trajectory as logistic_trajectory
from jaxnoise.theory._reweighting_1d import reweighted_least_squares as reweighted_least_squares
from jaxnoise.theory._reweighting_bounds import NoisyLimit as NoisyLimit
from jaxnoise.theory._reweighting_bounds import mr_lemma5_steps as mr_lemma5_steps
from jaxnoise.theory._reweighting_bounds import mr_lemma6_bound as mr_lemma6_bound
from jaxnoise.theory._reweighting_bounds import mr_lemma6_limit as mr_lemma6_limit
from jaxnoise.theory._reweighting_bounds import mr_lemma7_gap as mr_lemma7_gap
from jaxnoise.theory._reweighting_bounds import mr_lemma10_bound as mr_lemma10_bound
from jaxnoise.theory._reweighting_bounds import mr_lemma11_bound as mr_lemma11_bound
from jaxnoise.theory._reweighting_bounds import mr_lemma11_gap as mr_lemma11_gap
from jaxnoise.theory._reweighting_bounds import mr_theorem8_steps as mr_theorem8_steps
from jaxnoise.theory._reweighting_bounds import mr_theorem9_bound as mr_theorem9_bound
from jaxnoise.theory._reweighting_bounds import mr_theorem9_steps as mr_theorem9_steps
from jaxnoise.theory._reweighting_leader import mr_ftrl_gap as mr_ftrl_gap
from jaxnoise.theory._reweighting_leader import mr_ftrl_objective as mr_ftrl_objective
from jaxnoise.theory._robustness import RobustBound as RobustBound
from jaxnoise.theory._robustness import regularization_radius as regularization_radius
from jaxnoise.theory._robustness import robust_assumptions as robust_assumptions
from jaxnoise.theory._robustness import robust_bound as robust_bound
from jaxnoise.theory._robustness import robust_radius as robust_radius
from jaxnoise.theory._stability import fisher_penalty as fisher_penalty
from jaxnoise.theory._stability import jensen_shannon_expansion as jensen_shannon_expansion
from jaxnoise.theory._stability import stability_expansion as stability_expansion
from jaxnoise.theory._stability import stability_loss as stability_loss
