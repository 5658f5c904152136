"""From the names and layouts of PyTorch state dicts to the trees of the networks here."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.core import InputError
from jaxnoise.core.types import PyTree
from jaxnoise.models._torch_files import flatten, read_torch

FAMILIES = (
  "ResNets of torchvision, RepDistiller, MR, ELR and TRADES, PreActResNets of NoisyMix, PuzzleMix, "
  "DivideMix, LabelNoiseCorrection and GJS, wide ResNets of NoisyMix, PuzzleMix, MR, RepDistiller, "
  "AugMix and TRADES, and Inception-ResNet-v2 of timm and pretrainedmodels"
)

Scope = tuple[str, ...]  # where a layer is in our trees: ("stage1_block1", "conv1"), ("head",)
Path = tuple[str, ...]  # collection, scope and leaf: ("params", "head", "kernel")
Shapes = Mapping[str, tuple[int, ...]]

_BLOCK = re.compile(r"(?:layer|block)(\d+)\.(?:layer\.)?(\d+)\.(.+)")
_IN_BLOCK = {
  **{f"conv{i}": f"conv{i}" for i in (1, 2, 3)},
  **{f"bn{i}": f"norm{i}" for i in (1, 2, 3)},
  **{f"{name}.0": "shortcut" for name in ("shortcut", "downsample")},
  **{f"{name}.1": "shortcut_norm" for name in ("shortcut", "downsample")},
  "convShortcut": "shortcut",
  "conv_shortcut": "shortcut",
}
_TOP = {"conv1": "stem", "bn": "final_norm", "fc": "head", "linear": "head"}
_UNUSED = "sub_block1."  # TRADES makes this block and never calls it

_STEM_LAYERS = ("1a", "2a", "2b", "3b", "4a")
_PARTS = {
  "mixed_5b": "stem",
  "mixed_6a": "stage2_reduction",
  "mixed_7a": "stage3_reduction",
  "repeat": "stage1_block",
  "repeat_1": "stage2_block",
  "repeat_2": "stage3_block",
  "block8": "stage3_block",
}
_PART = re.compile(r"(mixed_\d[a-z]|block8|repeat(?:_\d)?)(?:\.(\d+))?\.(branch\d.*|conv2d)")
_BRANCH = re.compile(r"branch(\d)(?:\.(\d))?\.(conv|bn)")


def import_torch(
  state_dict: Mapping[str, Any] | str | os.PathLike[str], like: PyTree | None = None
) -> dict[str, PyTree]:
  """Translates PyTorch weights to the parameters and statistics of a network here.

  Kernels [out, in, h, w] become [h, w, in, out], dense weights [out, in] become [in, out]; batch
  norms' weight, bias, running_mean and running_var become scale, bias, mean and var. Which family
  it is follows from the names; whether a lone `bn1` is the stem's norm or the one before the pool
  follows from its width, and where both fit the file is refused.

  Families: ResNets in the names of torchvision (also of timm), RepDistiller, MR, ELR and TRADES;
  PreActResNets of NoisyMix, PuzzleMix, DivideMix, LabelNoiseCorrection and GJS; wide ResNets with
  biases (NoisyMix, PuzzleMix, MR) and without (RepDistiller, AugMix, TRADES); Inception-ResNet-v2
  of timm and pretrainedmodels. The block `sub_block1` of TRADES' WRN-34-10, which its forward pass
  never uses, is left out with a warning. Names and shapes do not tell everything: PuzzleMix's and
  NoisyMix's PreActResNet-18 have the same ones, so the network's `variant` is the caller's to know.

  To fine-tune with other classes, import without `like` and keep the new network's own "head".

  Args:
    state_dict: arrays by PyTorch's names, or a path, which `read_torch` reads.
    like: what to match: {"params": ..., "batch_stats": ...} or the pair that `network.init`
      returns, arrays or shapes.

  Returns:
    {"params": ..., "batch_stats": ...}, float32 NumPy arrays; of the structure of `like` if given.

  Raises:
    InputError: for names of no known family, for layers that are not complete, and for the first
      entry that `like` has not, has more or has in another shape; whatever `read_torch` raises.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> import numpy as np
    >>> from jaxnoise import models
    >>> weights = {"conv1.weight": np.zeros((4, 3, 3, 3)), "fc.weight": np.zeros((10, 4))}
    >>> weights["layer1.0.conv1.weight"] = np.zeros((4, 4, 3, 3))
    >>> tree = models.import_torch(weights)
    >>> tree["params"]["stem"]["kernel"].shape, tree["params"]["head"]["kernel"].shape
    ((3, 3, 3, 4), (4, 10))
  """
  if isinstance(state_dict, str | os.PathLike):
    where, arrays = str(state_dict), read_torch(state_dict)
  else:
    where = "state_dict"
    arrays = flatten(state_dict, where)
  unused = [name for name in arrays if name.startswith(_UNUSED)]
  if unused:
    warnings.warn(
      f"{where}: {len(unused)} entries of sub_block1 are left out; the forward pass of TRADES "
      "never uses them",
      stacklevel=2,
    )
  arrays = {name: array for name, array in arrays.items() if name not in unused}
  if like is not None:
    like = _checked_like(like)
  shapes = {name: array.shape for name, array in arrays.items()}
  scopes = _scopes(shapes, where, () if like is None else tuple(like["params"]))
  entries: dict[Path, tuple[str, np.ndarray]] = {}
  for name, array in arrays.items():
    path, value = _translate(name, array, scopes[name.rpartition(".")[0]], where)
    if path in entries:
      raise InputError(f"{where}: {entries[path][0]} and {name} are both {'/'.join(path)} here")
    entries[path] = (name, value)
  _check_complete(entries, where)
  if like is not None:
    return _fit(entries, like, where)
  tree: dict[str, Any] = {"params": {}, "batch_stats": {}}
  for path, (_, value) in entries.items():
    node = tree
    for key in path[:-1]:
      node = node.setdefault(key, {})
    node[path[-1]] = value
  return tree


def _checked_like(like: PyTree) -> dict[str, PyTree]:
  if isinstance(like, tuple) and len(like) == 2:
    like = {"params": like[0], "batch_stats": like[1]}
  if not isinstance(like, Mapping) or set(like) != {"params", "batch_stats"}:
    found = sorted(like) if isinstance(like, Mapping) else type(like).__name__
    raise InputError(f"like: found {found}, expected params and batch_stats as network.init gives")
  return dict(like)


def _scopes(shapes: Shapes, where: str, wanted: Sequence[str]) -> dict[str, Scope]:
  """Where each layer of the file belongs, by the layer's PyTorch name.

  `wanted` are the names at the top of the network's parameters, if it is known.
  """
  layers = dict.fromkeys(name.rpartition(".")[0] for name in shapes)
  place: Callable[[str], Scope | None]
  if "conv2d_1a.conv" in layers:
    last = 1 + len({name.split(".")[1] for name in layers if name.startswith("repeat_2.")})
    place = lambda layer: _inception_scope(layer, last)
  else:
    place = lambda layer: _residual_scope(layer, shapes, where, wanted)
    if "conv1" not in layers or not any(map(_BLOCK.fullmatch, layers)):
      place = lambda layer: None
  scopes = {layer: scope for layer in layers if (scope := place(layer))}
  strange = [name for name in shapes if name.rpartition(".")[0] not in scopes]
  if strange:
    more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
    raise InputError(
      f"{where}: {', '.join(strange[:3])}{more} belong to no family of networks known here, which "
      f"are: {FAMILIES}"
    )
  return scopes


def _residual_scope(
  layer: str, shapes: Shapes, where: str, wanted: Sequence[str]
) -> Scope | None:
  if match := _BLOCK.fullmatch(layer):
    stage, block, inner = match.groups()
    ours = _IN_BLOCK.get(inner)
    return (f"stage{int(stage)}_block{int(block) + 1}", ours) if ours else None
  if layer == "bn1":
    return (_place_of_bn1(shapes, where, wanted),)
  return (_TOP[layer],) if layer in _TOP else None


def _place_of_bn1(shapes: Shapes, where: str, wanted: Sequence[str]) -> str:
  """A norm after the stem has the stem's width, one before the pool the dense layer's inputs."""

  def size(name: str, axis: int) -> int:
    return (*shapes.get(name, ()), 0, 0)[axis]

  width = size("bn1.weight", 0)
  head = max(size(f"{name}.weight", 1) for name in ("fc", "linear"))
  widths = {"stem_norm": size("conv1.weight", 0), "final_norm": head}
  fits = [name for name, other in widths.items() if other == width > 0]
  if len(fits) > 1 and any(re.search(r"\.(shortcut|downsample)\.1\.", name) for name in shapes):
    return "stem_norm"  # a network that normalises after its convolutions has no final norm
  if len(fits) > 1 and ("stem_norm" in wanted) != ("final_norm" in wanted):
    fits = [name for name in fits if name in wanted]
  if len(fits) != 1:
    raise InputError(
      f"{where}: bn1 has {width} channels, the stem {widths['stem_norm']} and the head "
      f"{head} inputs, so it may be the norm of {' or '.join(fits) or 'neither'}; "
      "give `like` with one of stem_norm and final_norm"
    )
  return fits[0]


def _inception_scope(layer: str, last_block: int) -> Scope | None:
  if layer in ("last_linear", "classif"):
    return ("head",)
  if match := re.fullmatch(r"conv2d_(\d[a-z])\.(conv|bn)", layer):
    kind = "conv" if match[2] == "conv" else "norm"
    if match[1] == "7b":
      return (f"final_{kind}",)
    known = match[1] in _STEM_LAYERS
    return ("stem", f"{kind}{_STEM_LAYERS.index(match[1]) + 1}") if known else None
  match = _PART.fullmatch(layer)
  if not match or match[1] not in _PARTS:
    return None
  part, number, inner = match.groups()
  scope = _PARTS[part]
  if part.startswith("repeat") == (number is None):
    return None
  if scope.endswith("block"):
    scope += str(last_block if number is None else int(number) + 1)
  if inner == "conv2d":
    return (scope, "expansion")
  if not (branch := _BRANCH.fullmatch(inner)):
    return None
  position = int(branch[2] or 0) + 1
  if part == "mixed_5b" and branch[1] == "3":  # element 0 of this branch is the average pool
    position -= 1
  kind = "conv" if branch[3] == "conv" else "norm"
  return (scope, f"branch{int(branch[1]) + 1}_{kind}{position}")


_NORM = {
  "weight": ("params", "scale"),
  "bias": ("params", "bias"),
  "running_mean": ("batch_stats", "mean"),
  "running_var": ("batch_stats", "var"),
}
_KERNEL = {"weight": ("params", "kernel"), "bias": ("params", "bias")}


def _is_norm(scope: Scope) -> bool:
  return "norm" in scope[-1]


def _translate(
  name: str, array: np.ndarray, scope: Scope, where: str
) -> tuple[Path, np.ndarray]:
  """The entry's path and its values in our layout."""
  leaf = name.rpartition(".")[2]
  known = _NORM if _is_norm(scope) else _KERNEL
  if leaf not in known:
    raise InputError(
      f"{where}: {name} is unknown; the layer {'/'.join(scope)} has {', '.join(known)}"
    )
  collection, ours = known[leaf]
  rank = 1 if ours != "kernel" else 2 if scope == ("head",) else 4
  if array.ndim != rank or not jnp.issubdtype(array.dtype, jnp.floating):
    raise InputError(
      f"{where}: {name} is {array.dtype} {list(array.shape)}, expected floats of {rank} axes"
    )
  value = array.transpose({1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}[rank])
  return (collection, *scope, ours), np.ascontiguousarray(value, np.float32)


def _check_complete(entries: Mapping[Path, tuple[str, np.ndarray]], where: str) -> None:
  for path, (name, _) in entries.items():
    scope = path[1:-1]
    known = _NORM if _is_norm(scope) else {"weight": _KERNEL["weight"]}
    for leaf, (collection, ours) in known.items():
      if (collection, *scope, ours) not in entries:
        raise InputError(
          f"{where}: has {name} but no {name.rpartition('.')[0]}.{leaf}; save the whole "
          "state_dict(), buffers too, not the parameters alone"
        )


def _fit(
  entries: Mapping[Path, tuple[str, np.ndarray]], like: Mapping[str, PyTree], where: str
) -> dict[str, PyTree]:
  """The values in the structure of `like`, or an error that names the first difference."""
  leaves, structure = jax.tree_util.tree_flatten_with_path(like)
  wanted = {
    tuple(str(getattr(step, "key", step)) for step in steps): np.shape(leaf)
    for steps, leaf in leaves
  }
  wrong = [
    path
    for path in {**wanted, **entries}
    if path not in wanted or path not in entries or wanted[path] != entries[path][1].shape
  ]
  if not wrong:
    return jax.tree.unflatten(structure, [entries[path][1] for path in wanted])
  path = min(wrong, key=_order)
  ours = "/".join(path)
  if path not in entries:
    what = (
      f"has no {_counterpart(path, entries)}, which the network needs as {ours} "
      f"{list(wanted[path])}"
    )
  else:
    name, value = entries[path]
    what = f"{name} is {ours} {list(value.shape)} here, and the network has "
    what += f"{list(wanted[path])} there" if path in wanted else "no such entry"
  fix = "give the network the depth, width, variant and number of classes of the file"
  if all(path[1] == "head" for path in wrong):
    fix = "for other classes, import without `like` and keep the network's own head"
  more = f" ({len(wrong) - 1} more differ)" if len(wrong) > 1 else ""
  raise InputError(f"{where}: {what}{more}; {fix}")


def _order(path: Path) -> tuple[Any, ...]:
  """Sorts paths as an image meets the layers, parameters before statistics."""
  ranks = {"stem": 0, "stem_norm": 1, "final_conv": 3, "final_norm": 4, "head": 5}
  numbers = tuple(int(number) for number in re.findall(r"\d+", path[1]))
  return ranks.get(path[1], 2), numbers, path[2:-1], path[0] != "params", path[-1] == "bias"


def _counterpart(path: Path, entries: Mapping[Path, tuple[str, np.ndarray]]) -> str:
  """The PyTorch name that a missing entry would have, in the style of the file's other names."""
  collection, *scope, leaf = path
  leaves = {pair: name for name, pair in (_NORM if _is_norm(tuple(scope)) else _KERNEL).items()}
  name = leaves.get((collection, leaf), leaf)
  known = {found[1:-1]: theirs.rpartition(".")[0] for found, (theirs, _) in entries.items()}
  if tuple(scope) in known:
    return f"{known[tuple(scope)]}.{name}"
  if match := re.fullmatch(r"stage(\d+)_block(\d+)", scope[0]):
    stage, block = match[1], int(match[2]) - 1
    alike = [found for found in known if found[1:] == tuple(scope[1:]) and "_block" in found[0]]
    alike.sort(key=lambda found: not found[0].startswith(f"stage{stage}_"))
    if alike:
      layer = re.sub(r"^(layer|block)\d+", rf"\g<1>{stage}", known[alike[0]])
      return re.sub(r"\.\d+\.", f".{block}.", layer, count=1) + f".{name}"
  top = {"stem": "conv1", "stem_norm": "bn1", "final_norm": "bn1 or bn", "head": "fc or linear"}
  return f"{name} of {top.get(scope[0], 'such a layer')}"
