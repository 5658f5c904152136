"""Losses: pure functions that return one value per example and reduce nothing.

This list is the registry: `config.method.loss` names an entry of it that takes (logits, targets).
"""

from jaxnoise.losses._binary import binary_cross_entropy as binary_cross_entropy
from jaxnoise.losses._classification import cross_entropy as cross_entropy
from jaxnoise.losses._distillation import hinton as hinton
from jaxnoise.losses._divergence import jensen_shannon as jensen_shannon
