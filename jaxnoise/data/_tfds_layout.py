"""What TFDS leaves on disk: where a prepared data set lies, its splits, features and class names.

`<data_dir>/<builder>[/<config>]/<version>/` holds dataset_info.json (splits and their shards),
features.json, `<feature>.labels.txt`, and the shards in one file format.
"""

from __future__ import annotations

import importlib.util
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxnoise.core.errors import InputError

INFO = "dataset_info.json"
FEATURES = "features.json"
FORMATS = ("array_record", "tfrecord")
"""The file formats that can be read, the preferred one first."""

_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


class Prepared(NamedTuple):
  """One prepared version of a data set.

  Attributes:
    directory: where its files lie.
    name: the builder's name.
    splits: split -> (file name template, number of examples in each shard).
    image_key: the feature that holds the encoded image.
    label_key: the feature that holds the class number.
    id_key: the feature that names the example, or "".
    image_shape: (H, W, C), 0 for an axis that varies; or () if it is not recorded.
    num_classes: K.
    class_names: K names, or ().
  """

  directory: pathlib.Path
  name: str
  splits: Mapping[str, tuple[str, tuple[int, ...]]]
  image_key: str
  label_key: str
  id_key: str
  image_shape: tuple[int, ...]
  num_classes: int
  class_names: tuple[str, ...]

  def shards(self, split: str) -> tuple[str, list[pathlib.Path]]:
    """The file format of a split and its files.

    Raises:
      InputError: files of neither format are there, or some are missing.
    """
    template, lengths = self.splits[split]
    missing: list[pathlib.Path] = []
    installed = importlib.util.find_spec("array_record") is not None
    for form in FORMATS if installed else reversed(FORMATS):
      paths = [self.directory / _file_name(template, self.name, split, form, i, len(lengths))
               for i in range(len(lengths))]
      absent = [path for path in paths if not path.is_file()]
      if not absent:
        return form, paths
      if not missing or len(absent) < len(paths):
        missing = absent
    raise InputError(
      f"{self.directory}: has no {missing[0].name} (a file of the split {split!r}, in the format "
      f"{' or '.join(FORMATS)}); copy the whole directory, or prepare the set again"
    )


def find_version(path: pathlib.Path, name: str) -> pathlib.Path | None:
  """Looks for the newest prepared version of a data set.

  Args:
    path: a TFDS data_dir, or a builder's, a config's or a version's directory in one.
    name: BUILDER or BUILDER/CONFIG.

  Returns:
    The version's directory, or None if there is none.

  Raises:
    InputError: `path` is a version of another set, or the set has configs and `name` has none.
  """
  builder, _, config = name.partition("/")
  if (path / INFO).is_file():
    info = read_json(path / INFO)
    found = "/".join(filter(None, (info.get("name"), config and info.get("configName"))))
    if found != name:
      raise InputError(
        f"{path}: is the TFDS data set {found!r}, expected {name!r}; change data.path"
      )
    return path
  inner = pathlib.Path(builder, config)
  for folder in (path / inner, path / config if path.name == builder else path):
    # The second place is for a path that leads to the builder's or the config's own directory.
    parts = folder.parts[-len(inner.parts):]
    if parts == inner.parts and folder.is_dir():
      versions = [
        (tuple(map(int, match.groups())), child) for child in folder.iterdir()
        if (match := _VERSION.fullmatch(child.name)) and (child / INFO).is_file()
      ]
      if versions:
        return max(versions)[1]
      configs = sorted(c.parent.parent.name for c in folder.glob(f"*/*/{INFO}"))
      if configs and not config:
        raise InputError(
          f"{folder}: has a directory for each config, {', '.join(dict.fromkeys(configs))}; name "
          f"one as {builder}/CONFIG"
        )
  return None


def read_prepared(directory: pathlib.Path) -> Prepared:
  """Reads the description of a prepared version.

  Raises:
    InputError: a damaged description, or features other than an image and its class.
  """
  info = read_json(directory / INFO)
  if not (directory / FEATURES).is_file():
    raise InputError(
      f"{directory}: has no {FEATURES}; prepare the set again with a newer tensorflow_datasets"
    )
  features = read_json(directory / FEATURES).get("featuresDict", {}).get("features", {})
  image_key = _choose(features, "image", "image", directory)
  label_key = _choose(features, "classLabel", "label", directory)
  id_key = "id" if "id" in features else ""
  try:
    splits = {
      split["name"]: (
        split.get("filepathTemplate") or _TEMPLATE, tuple(map(int, split["shardLengths"]))
      )
      for split in info["splits"]
    }
    dimensions = features[image_key]["image"].get("shape", {}).get("dimensions", [])
    shape = tuple(max(0, int(n)) for n in dimensions)
    num_classes = int(features[label_key]["classLabel"]["numClasses"])
    name = info["name"]
  except (KeyError, TypeError, ValueError, AttributeError) as error:
    raise InputError(
      f"{directory}: {INFO} or {FEATURES} lacks what TFDS writes ({error!r}); prepare the set again"
    ) from error
  names = directory / f"{label_key}.labels.txt"
  class_names = tuple(names.read_text("utf-8").splitlines()) if names.is_file() else ()
  class_names = class_names if len(set(class_names)) == num_classes else ()
  return Prepared(
    directory, name, splits, image_key, label_key, id_key, shape, num_classes, class_names
  )


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """Reads a JSON object, or raises an InputError that names the file."""
  try:
    value = json.loads(path.read_text("utf-8"))
  except (OSError, ValueError) as error:
    raise InputError(f"{path}: cannot be read as JSON ({error}); copy the set again") from error
  if not isinstance(value, dict):
    raise InputError(f"{path}: holds no JSON object; copy the set again")
  return value


def _choose(features: Mapping[str, Any], kind: str, usual: str, directory: pathlib.Path) -> str:
  fitting = [key for key, value in features.items() if kind in value]
  if usual in fitting:
    return usual
  if len(fitting) == 1:
    return fitting[0]
  what = {"image": "one image", "classLabel": "one class label"}[kind]
  raise InputError(
    f"{directory}: has the features {', '.join(features) or 'none'}, of which {len(fitting)} fit; "
    f"expected {what} to each example; take a data set for image classification"
  )


def _file_name(template: str, name: str, split: str, form: str, shard: int, count: int) -> str:
  values = {
    "DATASET": name, "SPLIT": split, "FILEFORMAT": form,
    "SHARD_INDEX": f"{shard:05d}", "NUM_SHARDS": f"{count:05d}",
    "SHARD_X_OF_Y": f"{shard:05d}-of-{count:05d}",
  }
  return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), template)
