"""The vocabulary: batches, networks, methods, random streams, reductions, state, errors."""

from jaxnoise.core.errors import InputError as InputError
from jaxnoise.core.rng import Streams as Streams
from jaxnoise.core.rng import fold as fold
from jaxnoise.core.rng import step_key as step_key
from jaxnoise.core.state import TrainState as TrainState
from jaxnoise.core.types import Aux as Aux
from jaxnoise.core.types import Batch as Batch
from jaxnoise.core.types import Method as Method
from jaxnoise.core.types import Network as Network
from jaxnoise.core.types import Output as Output
from jaxnoise.core.types import SideBatch as SideBatch
from jaxnoise.core.types import Spec as Spec
from jaxnoise.core.types import table_rows as table_rows
