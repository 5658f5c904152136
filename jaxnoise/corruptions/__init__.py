"""Common corruptions on the device: (rng, image [H, W, C] in [0, 1], severity 1..5) -> image.

Sizes other than the native one (32 pixels for the "cifar" table, 224 for "imagenet") multiply
every length, a radius or a standard deviation in pixels, by min(H, W) / native side. `corrupt`
takes a batch and a name; `perturb` makes the sequences of frames that stability is measured on.
"""

from jaxnoise.corruptions._apply import corrupt as corrupt
from jaxnoise.corruptions._apply import truncate_to_8_bits as truncate_to_8_bits
from jaxnoise.corruptions._blur import defocus_blur as defocus_blur
from jaxnoise.corruptions._blur import gaussian_blur as gaussian_blur
from jaxnoise.corruptions._common import check_images as check_images
from jaxnoise.corruptions._digital import contrast as contrast
from jaxnoise.corruptions._digital import pixelate as pixelate
from jaxnoise.corruptions._digital import saturate as saturate
from jaxnoise.corruptions._elastic import elastic_transform as elastic_transform
from jaxnoise.corruptions._jpeg import jpeg_compression as jpeg_compression
from jaxnoise.corruptions._motion import glass_blur as glass_blur
from jaxnoise.corruptions._motion import motion_blur as motion_blur
from jaxnoise.corruptions._motion import zoom_blur as zoom_blur
from jaxnoise.corruptions._noise import gaussian_noise as gaussian_noise
from jaxnoise.corruptions._noise import impulse_noise as impulse_noise
from jaxnoise.corruptions._noise import shot_noise as shot_noise
from jaxnoise.corruptions._noise import speckle_noise as speckle_noise
from jaxnoise.corruptions._sequences import SEQUENCE_EXTRA as SEQUENCE_EXTRA
from jaxnoise.corruptions._sequences import SEQUENCES as SEQUENCES
from jaxnoise.corruptions._sequences import is_noise as is_noise
from jaxnoise.corruptions._sequences import perturb as perturb
from jaxnoise.corruptions._sequences import sequence_length as sequence_length
from jaxnoise.corruptions._snow import frost as frost
from jaxnoise.corruptions._snow import snow as snow
from jaxnoise.corruptions._spatter import spatter as spatter
from jaxnoise.corruptions._tables import EXTRA as EXTRA
from jaxnoise.corruptions._tables import GROUPS as GROUPS
from jaxnoise.corruptions._tables import NAMES as NAMES
from jaxnoise.corruptions._tables import SEVERITIES as SEVERITIES
from jaxnoise.corruptions._tables import STANDARD as STANDARD
from jaxnoise.corruptions._tables import parameters as parameters
from jaxnoise.corruptions._weather import brightness as brightness
from jaxnoise.corruptions._weather import fog as fog
