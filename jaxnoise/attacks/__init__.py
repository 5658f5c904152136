"""Attacks: images near the given ones on which a per-example loss is large.

An attack sees `loss_fn(image [B, H, W, C]) -> [B]` and nothing of a network, so it works over any
predictor, over several at once, and, with the sign turned, towards a target. Images are float32 or
float64 in [0, 1]; the network attacked is in evaluation mode, its noise and dropout off. What an
attack returns is a constant for any outer gradient.
"""

from jaxnoise.attacks._apgd import JudgedLoss as JudgedLoss
from jaxnoise.attacks._apgd import apgd as apgd
from jaxnoise.attacks._apgd import checkpoints as checkpoints
from jaxnoise.attacks._apgd import dlr as dlr
from jaxnoise.attacks._apgd import judged_ascent as judged_ascent
from jaxnoise.attacks._apgd import likeliest_targets as likeliest_targets
from jaxnoise.attacks._apgd import targeted_dlr as targeted_dlr
from jaxnoise.attacks._ensemble import FEWEST_CLASSES as FEWEST_CLASSES
from jaxnoise.attacks._ensemble import STANDARD as STANDARD
from jaxnoise.attacks._ensemble import RunEnsemble as RunEnsemble
from jaxnoise.attacks._ensemble import ensemble as ensemble
from jaxnoise.attacks._fab import Nearest as Nearest
from jaxnoise.attacks._fab import boundary_step as boundary_step
from jaxnoise.attacks._fab import fab as fab
from jaxnoise.attacks._gradient import fgsm as fgsm
from jaxnoise.attacks._gradient import pgd as pgd
from jaxnoise.attacks._gradient import uniform_start as uniform_start
from jaxnoise.attacks._objectives import ImageLoss as ImageLoss
from jaxnoise.attacks._objectives import cross_entropy_ascent as cross_entropy_ascent
from jaxnoise.attacks._objectives import margin_ascent as margin_ascent
from jaxnoise.attacks._restarts import WorstCase as WorstCase
from jaxnoise.attacks._restarts import restart_accuracies as restart_accuracies
from jaxnoise.attacks._restarts import restart_counts as restart_counts
from jaxnoise.attacks._restarts import survivors as survivors
from jaxnoise.attacks._restarts import worst_case as worst_case
from jaxnoise.attacks._square import square as square
