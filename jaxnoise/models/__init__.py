"""Networks for small images, by name, and the door through which methods use them."""

from jaxnoise.models._layers import Conv as Conv
from jaxnoise.models._layers import conv as conv
from jaxnoise.models._layers import normalise as normalise
from jaxnoise.models._network import network as network
from jaxnoise.models._preact_resnet import preact_resnet18 as preact_resnet18
from jaxnoise.models._stages import frozen_stages as frozen_stages
from jaxnoise.models._torch_files import read_torch as read_torch
from jaxnoise.models._wide_resnet import wide_resnet as wide_resnet
