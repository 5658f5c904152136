"""The examples in the docstrings."""

import doctest

import pytest

from jaxnoise.corruptions import _apply, _blur, _common, _digital, _noise, _tables, _weather


@pytest.mark.parametrize(
  "module",
  [_apply, _blur, _common, _digital, _noise, _tables, _weather],
  ids=lambda module: module.__name__.rpartition(".")[2],
)
def test_examples_run(module):
  result = doctest.testmod(module)
  assert result.failed == 0 and result.attempted > 0
