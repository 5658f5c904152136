"""Label noise: matrices first, then draws; files of labels, human ones included."""

from jaxnoise.label_noise._corrupt import KINDS as KINDS
from jaxnoise.label_noise._corrupt import NoisyLabels as NoisyLabels
from jaxnoise.label_noise._corrupt import Realised as Realised
from jaxnoise.label_noise._corrupt import corrupt as corrupt
from jaxnoise.label_noise._corrupt import realised as realised
from jaxnoise.label_noise._files import from_file as from_file
from jaxnoise.label_noise._files import write_file as write_file
from jaxnoise.label_noise._flip import apportion as apportion
from jaxnoise.label_noise._flip import flip_classes as flip_classes
from jaxnoise.label_noise._flip import flip_sequentially as flip_sequentially
from jaxnoise.label_noise._flip import inverse_sample as inverse_sample
from jaxnoise.label_noise._flip import num_flips as num_flips
from jaxnoise.label_noise._flip import replace_labels as replace_labels
from jaxnoise.label_noise._instance import instance_distribution as instance_distribution
from jaxnoise.label_noise._instance import truncated_rates as truncated_rates
from jaxnoise.label_noise._matrices import CIFAR10_TARGETS as CIFAR10_TARGETS
from jaxnoise.label_noise._matrices import CIFAR100_TARGETS as CIFAR100_TARGETS
from jaxnoise.label_noise._matrices import DIGITS_TARGETS as DIGITS_TARGETS
from jaxnoise.label_noise._matrices import SUPERCLASSES as SUPERCLASSES
from jaxnoise.label_noise._matrices import asymmetric_cifar10_matrix as asymmetric_cifar10_matrix
from jaxnoise.label_noise._matrices import asymmetric_digits_matrix as asymmetric_digits_matrix
from jaxnoise.label_noise._matrices import check_matrix as check_matrix
from jaxnoise.label_noise._matrices import pair_flip_matrix as pair_flip_matrix
from jaxnoise.label_noise._matrices import pairs_matrix as pairs_matrix
from jaxnoise.label_noise._matrices import superclass_matrix as superclass_matrix
from jaxnoise.label_noise._matrices import symmetric_matrix as symmetric_matrix
