"""Data sets: found by name, checked, split, and served from the device."""

from jaxnoise.data._archives import cifar10 as cifar10
from jaxnoise.data._archives import cifar100 as cifar100
from jaxnoise.data._device import DeviceData as DeviceData
from jaxnoise.data._device import device_data as device_data
from jaxnoise.data._device import gather as gather
from jaxnoise.data._device import pool_data as pool_data
from jaxnoise.data._device import pool_of as pool_of
from jaxnoise.data._embedded import digits as digits
from jaxnoise.data._embedded import generated as generated
from jaxnoise.data._load import load as load
from jaxnoise.data._npz import npz as npz
from jaxnoise.data._order import epoch_order as epoch_order
from jaxnoise.data._order import padded_batches as padded_batches
from jaxnoise.data._order import side_order as side_order
from jaxnoise.data._order import weighted_draw as weighted_draw
from jaxnoise.data._resident import Pool as Pool
from jaxnoise.data._resident import Source as Source
from jaxnoise.data._resident import channel_statistics as channel_statistics
