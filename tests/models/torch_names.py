"""From the names of the authors' PyTorch state dicts to the trees of the networks here."""

from __future__ import annotations

import re

import numpy as np

LEAVES = {
  "weight": ("params", "scale"),
  "bias": ("params", "bias"),
  "running_mean": ("batch_stats", "mean"),
  "running_var": ("batch_stats", "var"),
}
LAYERS = {f"{theirs}{k}": f"{mine}{k}" for theirs, mine in
          (("bn", "norm"), ("conv", "conv")) for k in (1, 2, 3)}  # fmt: skip
HEAD = {"fc": "head", "linear": "head"}


def in_block(layer: str, name: str) -> str:
  """Everything that is neither a numbered convolution nor a numbered norm is the shortcut."""
  normalises = re.search(r"(?:shortcut|downsample)\.1\.", name)
  return LAYERS.get(layer, "shortcut_norm" if normalises else "shortcut")


def ours(name: str, bn1: str = "final_norm") -> tuple[str, ...]:
  """The path (collection, layer, ..., leaf); `bn1` says what a whole network calls by that name."""
  *_, leaf = name.split(".")
  found = re.match(r"(?:(?:block|layer)(\d)\.(?:layer\.)?(\d)\.)?([^.]+)", name)
  stage, block, layer = found.groups()
  if stage is not None:
    path = (f"stage{stage}_block{int(block) + 1}", in_block(layer, name))
  else:
    path = ({"conv1": "stem", "bn1": bn1, "bn": "final_norm", **HEAD}[layer],)
  collection, leaf_name = LEAVES[leaf]
  is_norm = "norm" in path[-1]
  return (collection, *path, "kernel" if leaf == "weight" and not is_norm else leaf_name)


def ours_in_block(name: str) -> tuple[str, ...]:
  """The same for a block on its own."""
  layer, *_, leaf = name.split(".")
  collection, leaf_name = LEAVES[leaf]
  layer = in_block(layer, name)
  return (collection, layer, "kernel" if leaf == "weight" and "norm" not in layer else leaf_name)


def torch_shape(path: tuple[str, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
  """The shape that the leaf has in PyTorch: kernels are [out, in, kh, kw] or [out, in]."""
  if path[-1] != "kernel":
    return tuple(shape)
  return (shape[-1], shape[-2], *shape[:-2])


def from_torch(weights: dict[str, np.ndarray], rename=ours, **options) -> dict:
  """Builds {"params": ..., "batch_stats": ...} from a state dict."""
  tree = {"params": {}, "batch_stats": {}}
  for name, weight in weights.items():
    path = rename(name, **options)
    value = weight
    if path[-1] == "kernel":
      value = weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T
    node = tree
    for key in path[:-1]:
      node = node.setdefault(key, {})
    assert path[-1] not in node, name
    node[path[-1]] = value
  return tree


def section(golden: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
  """The entries below a prefix, without it."""
  return {k.removeprefix(prefix): v for k, v in golden.items() if k.startswith(prefix)}


def channels_last(x: np.ndarray) -> np.ndarray:
  return np.ascontiguousarray(np.moveaxis(x, 1, -1))
