"""jaxnoise: noise-robust training in JAX, as pure functions that compose."""

__version__ = "0.1.0"
