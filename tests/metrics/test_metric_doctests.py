"""The examples in the docstrings."""

import doctest

import pytest

from jaxnoise.metrics import _accuracy, _calibration, _corruption


@pytest.mark.parametrize(
  "module",
  [_accuracy, _calibration, _corruption],
  ids=lambda module: module.__name__.rpartition(".")[2],
)
def test_examples_run(module):
  result = doctest.testmod(module)
  assert result.failed == 0 and result.attempted > 0
