"""Networks for images, by name, and the door through which methods use them."""

from jaxnoise.models._import_torch import import_torch as import_torch
from jaxnoise.models._inception_resnet import inception_resnet_v2 as inception_resnet_v2
from jaxnoise.models._layers import Conv as Conv
from jaxnoise.models._layers import conv as conv
from jaxnoise.models._layers import normalise as normalise
from jaxnoise.models._layers import resized as resized
from jaxnoise.models._network import network as network
from jaxnoise.models._preact_resnet import preact_resnet18 as preact_resnet18
from jaxnoise.models._preact_resnet import preact_resnet34 as preact_resnet34
from jaxnoise.models._remat import has_blocks as has_blocks
from jaxnoise.models._resnet import cifar_resnet as cifar_resnet
from jaxnoise.models._resnet import resnet18 as resnet18
from jaxnoise.models._resnet import resnet34 as resnet34
from jaxnoise.models._resnet import resnet50 as resnet50
from jaxnoise.models._stages import frozen_stages as frozen_stages
from jaxnoise.models._torch_files import read_torch as read_torch
from jaxnoise.models._wide_resnet import wide_resnet as wide_resnet
