"""The examples in the docstrings."""

import doctest

import pytest

from jaxnoise.metrics import (
  _accuracy,
  _adaptive,
  _calibration,
  _corruption,
  _relative,
  _stability,
  _temperature,
)


@pytest.mark.parametrize(
  "module",
  [_accuracy, _adaptive, _calibration, _corruption, _relative, _stability, _temperature],
  ids=lambda module: module.__name__.rpartition(".")[2],
)
def test_examples_run(module):
  result = doctest.testmod(module)
  assert result.failed == 0 and result.attempted > 0
