"""Facts of the data sets that are known by name."""

from __future__ import annotations

from typing import NamedTuple


class Layout(NamedTuple):
  """Where one version of an official CIFAR archive keeps what.

  Attributes:
    archive: the name of the .tar.gz file.
    folder: the folder in it.
    train: the files of the training set, in order.
    test: the file of the test set.
    label_key: in a python version, the dictionary's key of the labels.
    label_bytes: in a binary version, bytes before each image, the label last; else 0.
  """

  archive: str
  folder: str
  train: tuple[str, ...]
  test: str
  label_key: str = ""
  label_bytes: int = 0


class Known(NamedTuple):
  """A named set: what holds of it in whichever form it is found.

  Attributes:
    name: what `load` calls it.
    class_names: its K classes, in the order of their numbers.
    image_mean: what the papers normalise with; empty means that of the training images.
    image_std: the same for the standard deviation.
    layouts: the versions of an official archive, in the order they are looked for.
    builder: what TFDS calls it, or "" where TFDS does not have it.
  """

  name: str
  class_names: tuple[str, ...]
  image_mean: tuple[float, ...] = ()
  image_std: tuple[float, ...] = ()
  layouts: tuple[Layout, ...] = ()
  builder: str = ""

  @property
  def num_classes(self) -> int:
    """K."""
    return len(self.class_names)


DIGIT_NAMES = tuple("0123456789")
CIFAR10_NAMES = (
  "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)
CIFAR100_NAMES = tuple(
  """
  apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
  camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
  cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
  lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree
  orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum
  rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
  squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train
  trout tulip turtle wardrobe whale willow_tree wolf woman worm
  """.split()  # noqa: SIM905
)

_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))

CIFAR10 = Known(
  "cifar10", CIFAR10_NAMES, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010),
  (
    Layout("cifar-10-python.tar.gz", "cifar-10-batches-py", _BATCHES, "test_batch", "labels"),
    Layout(
      "cifar-10-binary.tar.gz", "cifar-10-batches-bin", tuple(f"{b}.bin" for b in _BATCHES),
      "test_batch.bin", label_bytes=1,
    ),
  ),
  builder="cifar10",
)
CIFAR100 = Known(
  "cifar100", CIFAR100_NAMES, (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761),
  (
    Layout("cifar-100-python.tar.gz", "cifar-100-python", ("train",), "test", "fine_labels"),
    Layout(
      "cifar-100-binary.tar.gz", "cifar-100-binary", ("train.bin",), "test.bin", label_bytes=2
    ),
  ),
  builder="cifar100",
)
# The papers name no statistics for SVHN, so those of the training images are taken.
SVHN = Known("svhn", DIGIT_NAMES, builder="svhn_cropped")
CINIC10 = Known(
  "cinic10", CIFAR10_NAMES,
  (0.47889522, 0.47227842, 0.43047404), (0.24205776, 0.23828046, 0.25874835),
)
