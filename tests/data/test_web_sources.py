"""mini-WebVision, Clothing1M, Food-101N, ImageNet: generated trees in the official layouts.

None of these is the data set: names, lists and folders are as the official files unpack, the images
are of one grey level each, by which a test knows them.
"""

import numpy as np
import pytest
from PIL import Image

from jaxnoise import data
from jaxnoise.core import InputError
from jaxnoise.data import _images

WNIDS = [f"n0144{k:04d}" for k in range(6)]
DISHES = ("apple_pie", "baklava", "churros")


def save(path, grey, size=(6, 9)):
  path.parent.mkdir(parents=True, exist_ok=True)
  # Under a JPEG's name a PNG: Pillow looks at the content, and grey levels stay as they are.
  Image.new("L", size, grey).save(path, "PNG")


def write(path, lines):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def levels(images):
  assert (images == images[:, :1, :1, :1]).all()
  return images[:, 0, 0, 0].tolist()


# --- WebVision -----------------------------------------------------------------------------------

# Two images of each of four classes, not in their order; classes 10 and 999 are not in a mini set.
SHOWN = [(3, 0), (0, 0), (10, 0), (1, 0), (2, 0), (0, 1), (999, 0), (1, 1), (2, 1), (3, 1)]


def webvision(root, validation="val_images_256"):
  train = [(f"google/q{k:04d}/{i} {k}.jpg", k) for k, i in SHOWN]
  for number, (name, _) in enumerate(train):
    save(root / name, 10 * number)
  write(root / "info/train_filelist_google.txt", [f"{name} {k}" for name, k in train])
  write(root / "info/train_filelist_flickr.txt", ["flickr/q0001/1.jpg 0"])
  test = [(f"val{i:06d}.jpg", k) for i, k in enumerate((2, 999, 0, 3, 1, 0))]
  for number, (name, _) in enumerate(test):
    save(root / validation / name, 200 + number)
  write(root / "info/val_filelist.txt", [f"{name} {k}" for name, k in test])
  write(root / "info/synsets.txt", [f"{wnid} tench, Tinca tinca" for wnid in WNIDS])


@pytest.mark.parametrize("validation", ["val_images_256", "val_images"])
def test_webvision(tmp_path, validation):
  webvision(tmp_path, validation)
  source = data.load("webvision", tmp_path, num_classes=4, image_size=4)
  assert source.image_shape == (4, 4, 3) and source.num_classes == 4
  assert source.labels.tolist() == [3, 0, 1, 2, 0, 1, 2, 3], "the list's order"
  assert levels(source.images) == [0, 10, 30, 40, 50, 70, 80, 90]
  assert source.ids[:2].tolist() == ["google/q0003/0 3.jpg", "google/q0000/0 0.jpg"]
  assert source.test_labels.tolist() == [2, 0, 3, 1, 0]
  assert levels(source.test_images) == [200, 202, 203, 204, 205]
  assert source.class_names == tuple(WNIDS[:4])
  assert source.image_mean == (0.485, 0.456, 0.406)


def test_fifty_classes_are_the_default(tmp_path):
  webvision(tmp_path)
  with pytest.raises(InputError, match=r"google\.txt: has no images of class 4, expected"):
    data.webvision(tmp_path)
  (tmp_path / "info/synsets.txt").unlink()
  assert data.webvision(tmp_path, num_classes=3, image_size=4).class_names == ()


def test_per_class(tmp_path):
  webvision(tmp_path)
  kept = [data.webvision(tmp_path, 4, 4, per_class=1, seed=seed).ids.tolist() for seed in range(6)]
  for ids in kept:
    assert sorted(name[7:12] for name in ids) == ["q0000", "q0001", "q0002", "q0003"]
  assert kept[0] == data.webvision(tmp_path, 4, 4, per_class=1).ids.tolist()
  assert len({tuple(ids) for ids in kept}) > 1
  everything = data.webvision(tmp_path, 4, 4).ids.tolist()
  assert all([i for i in everything if i in ids] == ids for ids in kept), "in the old order"
  with pytest.raises(InputError, match="webvision per_class: 12 class-balanced examples take 3 of"):
    data.webvision(tmp_path, 4, 4, per_class=3)


# --- Clothing1M ----------------------------------------------------------------------------------


def clothing1m(root, lists=""):
  keys = [f"images/{i % 10}/{i:02d}/{i},{i}.jpg" for i in range(20)]
  for i, key in enumerate(keys):
    save(root / key, 10 * i)
  where = root / lists
  # 14 and 15 have both kinds of label, and they differ.
  write(where / "noisy_label_kv.txt", [f"{keys[i]} {i % 14}" for i in range(15, -1, -1)])
  write(where / "clean_label_kv.txt", [f"{keys[i]} {(i + 7) % 14}" for i in range(14, 20)])
  write(where / "noisy_train_key_list.txt", [keys[i] for i in (13, 0, 7, 12)])
  write(where / "clean_train_key_list.txt", [keys[16]])
  write(where / "clean_val_key_list.txt", [keys[17], keys[14]])
  write(where / "clean_test_key_list.txt", [keys[19], keys[15], keys[18]])
  write(where / "category_names_eng.txt", [f"Garment {k}" for k in range(14)])
  return keys


@pytest.mark.parametrize("lists", ["", "annotations"])
def test_clothing1m(tmp_path, lists):
  keys = clothing1m(tmp_path, lists)
  source = data.load("clothing1m", tmp_path, image_size=4)
  assert source.labels.tolist() == [13, 0, 7, 12], "noisy labels"
  assert source.ids.tolist() == [keys[i] for i in (13, 0, 7, 12)]
  assert levels(source.images) == [130, 0, 70, 120]
  assert source.test_labels.tolist() == [12, 8, 11], "clean labels, of 15 too"
  assert levels(source.test_images) == [190, 150, 180]
  assert source.class_names[13] == "Garment 13" and source.clean_labels is None
  assert not source.extra_pools and source.image_std == (0.3113, 0.3192, 0.3214)

  pool = data.clothing1m(tmp_path, 4, trusted="val").pools["trusted"]
  assert pool.labels.tolist() == [10, 7] and levels(pool.images) == [170, 140]
  pool = data.clothing1m(tmp_path, 4, trusted="train").pools["trusted"]
  assert pool.ids.tolist() == [keys[16]]


# --- Food-101N -----------------------------------------------------------------------------------


def food101n(root, images="images"):
  release, other = root / "Food-101N_release", root / "food-101"
  train = [f"{DISHES[k]}/{i}{k}.jpg" for i in range(2) for k in (2, 0, 1)]
  for i, name in enumerate(train):
    save(release / images / name, 10 * i)
  write(release / "meta/imagelist.tsv", ["class_name/key", *train])
  write(release / "meta/classes.txt", ["class_name", *DISHES])
  verified = [f"{train[4]}\t1", f"{train[1]}\t0", "churros/elsewhere.jpg\t1", f"{train[0]}\t1"]
  write(release / "meta/verified_train.tsv", ["class_name/key\tverification_label", *verified])
  write(release / "meta/verified_val.tsv", ["class_name/key\tverification_label", f"{train[2]}\t1"])
  write(other / "meta/classes.txt", DISHES)
  test = ["baklava/7", "churros/8", "apple_pie/9"]
  write(other / "meta/test.txt", test)
  write(other / "meta/train.txt", ["baklava/1"])
  for i, name in enumerate(test):
    save(other / "images" / f"{name}.jpg", 200 + i)
  return train


@pytest.mark.parametrize("images", ["images", "train"])
def test_food101n(tmp_path, images):
  train = food101n(tmp_path, images)
  source = data.load("food101n", tmp_path, image_size=4)
  assert source.labels.tolist() == [2, 0, 1, 2, 0, 1] and source.class_names == DISHES
  assert source.ids.tolist() == train and levels(source.images) == [0, 10, 20, 30, 40, 50]
  assert source.test_labels.tolist() == [1, 2, 0] and levels(source.test_images) == [200, 201, 202]
  assert not source.extra_pools

  pool = data.food101n(tmp_path, image_size=4, trusted="train").pools["trusted"]
  assert pool.ids.tolist() == [train[4], train[0]], "said to be right, and in the image list"
  assert pool.labels.tolist() == [0, 2]
  pool = data.food101n(tmp_path, image_size=4, trusted="val").pools["trusted"]
  assert levels(pool.images) == [20]


def test_food101_in_other_places(tmp_path):
  food101n(tmp_path)
  assert data.food101n(tmp_path / "Food-101N_release", image_size=4).num_train == 6
  (tmp_path / "food-101").rename(tmp_path / "elsewhere")
  with pytest.raises(InputError, match=r"no folder food-101 in or beside.*set test_path"):
    data.food101n(tmp_path)
  assert data.food101n(tmp_path, tmp_path / "elsewhere", image_size=4).num_train == 6


# --- ImageNet ------------------------------------------------------------------------------------


def imagenet_train(root):
  for k, wnid in enumerate(WNIDS):
    for i in range(2):
      save(root / "train" / wnid / f"{wnid}_{i}.JPEG", 20 * k + i)


# The development kit numbers classes in an order of its own; numbers above 1000 are no classes.
NUMBER = {wnid: number for number, wnid in enumerate(reversed(WNIDS), 1)}
TRUE = [4, 0, 1, 5, 3, 2, 0]


def meta_mat(path):
  import scipy.io

  path.parent.mkdir(parents=True, exist_ok=True)
  synsets = np.array(
    [(number, wnid, "tench") for wnid, number in NUMBER.items()] + [(1001, "n00001740", "entity")],
    dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")],
  )
  scipy.io.savemat(path, {"synsets": synsets[:, None]})


def validation(root, form):
  for i, k in enumerate(TRUE, 1):
    folder = root / "val" / WNIDS[k] if form == "folders" else root / "val"
    save(folder / f"ILSVRC2012_val_{i:08d}.JPEG", 200 + i)
  if form.startswith("kit"):
    where = root / "ILSVRC2012_devkit_t12" / "data" if form == "kit" else root
    write(where / "ILSVRC2012_validation_ground_truth.txt", [NUMBER[WNIDS[k]] for k in TRUE])
    meta_mat(where / "meta.mat")
  elif form == "solution":
    # The order of the rows is not that of the images.
    rows = [f"ILSVRC2012_val_{i:08d},{WNIDS[k]} 1 2 3 4 " for i, k in enumerate(TRUE, 1)]
    write(root / "LOC_val_solution.csv", ["ImageId,PredictionString", *reversed(rows)])


@pytest.mark.parametrize("form", ["folders", "kit", "kit beside", "solution"])
def test_imagenet(tmp_path, form):
  imagenet_train(tmp_path)
  validation(tmp_path, form)
  source = data.load("imagenet", tmp_path, image_size=4)
  assert source.class_names == tuple(WNIDS)
  assert source.labels.tolist() == sorted([*range(6), *range(6)])
  assert levels(source.images)[:3] == [0, 1, 20]
  assert source.ids[0] == f"{WNIDS[0]}/{WNIDS[0]}_0.JPEG"
  found = dict(zip(levels(source.test_images), source.test_labels.tolist()))
  assert found == {200 + i: k for i, k in enumerate(TRUE, 1)}

  few = data.imagenet(tmp_path, num_classes=3, image_size=4, per_class=1)
  assert few.num_train == 3 and few.class_names == tuple(WNIDS[:3])
  expected = {200 + i: k for i, k in enumerate(TRUE, 1) if k < 3}
  assert dict(zip(levels(few.test_images), few.test_labels.tolist())) == expected

  pool = data.imagenet_validation(tmp_path, num_classes=3, image_size=4)
  assert dict(zip(levels(pool.images), pool.labels.tolist())) == expected


def test_classes_of_webvision_are_those_of_imagenet(tmp_path):
  webvision(tmp_path / "web")
  validation(tmp_path / "imagenet", "kit")
  source = data.webvision(tmp_path / "web", num_classes=4, image_size=4)
  pool = data.imagenet_validation(tmp_path / "imagenet", num_classes=4, image_size=4)
  assert pool.images.shape[1:] == source.image_shape
  label = pool.labels[pool.ids.tolist().index("ILSVRC2012_val_00000003.JPEG")]
  assert source.class_names[label] == WNIDS[TRUE[2]]


# --- what is refused -----------------------------------------------------------------------------


def replace(path, old, new):
  path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


def imagenet_flat(root):
  imagenet_train(root)
  validation(root, "kit beside")


def imagenet_solved(root):
  imagenet_train(root)
  validation(root, "solution")


WEB_LIST, KEY_LIST = "info/train_filelist_google.txt", "noisy_train_key_list.txt"
RELEASE, SOLUTION = "Food-101N_release/meta", "LOC_val_solution.csv"
WEB, CLOTHES, FOOD = (webvision, "webvision"), (clothing1m, "clothing1m"), (food101n, "food101n")
FLAT, SOLVED = (imagenet_flat, "imagenet"), (imagenet_solved, "imagenet")
BAD = {
  "web list": (WEB, lambda d: (d / WEB_LIST).unlink(),
    r"train_filelist_google\.txt: there is no such file, expected the official list"),
  "web empty list": (WEB, lambda d: (d / WEB_LIST).write_text("\n"), r"google\.txt: lists nothing"),
  "web image": (WEB, lambda d: (d / "google/q0001/1 1.jpg").unlink(),
    r"q0001/1 1\.jpg is listed but does not exist \(1 of 8 are missing\)"),
  "web test image": (WEB, lambda d: (d / "val_images_256/val000004.jpg").unlink(),
    r"val000004\.jpg is listed but does not exist"),
  "web label": (WEB, lambda d: replace(d / WEB_LIST, ".jpg 999", ".jpg 1000"),
    r"found the line 'google/q0999/0 999\.jpg 1000', expected.* label in 0\.\.999"),
  "web negative": (WEB, lambda d: replace(d / WEB_LIST, ".jpg 999", ".jpg -1"),
    r"jpg -1', expected a file name and a label"),
  "web no label": (WEB, lambda d: replace(d / WEB_LIST, " 999.jpg 999", ".jpg"),
    r"found the line 'google/q0999/0\.jpg', expected a file name and a label"),
  "web val": (WEB, lambda d: (d / "val_images_256").rename(d / "val"),
    "has no folder val_images_256 or val_images"),
  "web names": (WEB, lambda d: write(d / "info/synsets.txt", ["n01440764 tench"]),
    r"synsets\.txt: lists 1 classes, expected 4 or more"),
  "web damaged": (WEB, lambda d: (d / "google/q0001/1 1.jpg").write_text("no"),
    "cannot be read as an image"),
  "key list": (CLOTHES, lambda d: (d / KEY_LIST).unlink(),
    r"noisy_train_key_list\.txt: there is no such file"),
  "labels": (CLOTHES, lambda d: (d / "clean_label_kv.txt").unlink(),
    r"clean_label_kv\.txt: there is no such file"),
  "unlabelled key": (CLOTHES, lambda d: replace(d / KEY_LIST, "7/07/7,7", "9/19/19,19"),
    r"noisy_label_kv\.txt: has no label for 'images/9/19/19,19\.jpg' of noisy_train_key_list"),
  "garment": (CLOTHES, lambda d: replace(d / "noisy_label_kv.txt", "jpg 13", "jpg 14"),
    r"jpg 14', expected a file name and a label in 0\.\.13"),
  "garment names": (CLOTHES, lambda d: write(d / "category_names_eng.txt", ["Shirt", "Vest"]),
    r"category_names_eng\.txt: found 2 names, expected one for each of the 14"),
  "dish list": (FOOD, lambda d: (d / RELEASE / "imagelist.tsv").unlink(),
    r"imagelist\.tsv: there is no such file"),
  "dish": (FOOD, lambda d: replace(d / RELEASE / "imagelist.tsv", "baklava/0", "bakalva/0"),
    r"imagelist\.tsv: found the line 'bakalva/01\.jpg', expected CLASS/NAME with a class"),
  "dish image": (FOOD, lambda d: (d / "food-101/images/churros/8.jpg").unlink(),
    r"churros/8\.jpg is listed but does not exist \(1 of 3"),
  "dish test list": (FOOD, lambda d: (d / "food-101/meta/test.txt").unlink(),
    r"meta/test\.txt: there is no such file"),
  "no train": (FLAT, lambda d: (d / "train").rename(d / "trian"), "train: there is no such folder"),
  "no val": (FLAT, lambda d: (d / "val").rename(d / "valid"),
    "val: there is no such folder, expected ImageNet's validation images"),
  "no truth": (SOLVED, lambda d: (d / SOLUTION).unlink(),
    r"val: has no folders of classes, so that ILSVRC2012_validation_ground_truth\.txt"),
  "no meta": (FLAT, lambda d: (d / "meta.mat").unlink(), r"meta\.mat: there is no such file"),
  "bad meta": (FLAT, lambda d: (d / "meta.mat").write_text("no"),
    r"meta\.mat: cannot be read as the development kit's"),
  "truth": (FLAT, lambda d: write(d / "ILSVRC2012_validation_ground_truth.txt", [1, 2, 0]),
    r"found '0' in line 3, expected a number of meta\.mat"),
  "solution": (SOLVED, lambda d: replace(d / SOLUTION, WNIDS[4], "tench"), "found tench, expected"),
  "foreign image": (FLAT, lambda d: save(d / "val" / "mine.JPEG", 0),
    r"the class of mine\.JPEG is not known"),
  "empty class": (FLAT, lambda d: [f.unlink() for f in (d / "train" / WNIDS[2]).iterdir()],
    "train: has no images of class 2"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_trees(tmp_path, case):
  (make, name), change, message = BAD[case]
  make(tmp_path)
  change(tmp_path)
  with pytest.raises(InputError, match=message) as error:
    data.load(name, tmp_path, image_size=4, **({"num_classes": 4} if name == "webvision" else {}))
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(("make", "name", "options", "message"), [
  (webvision, "webvision", {"num_classes": 1}, "num_classes: found 1, expected one in 2..1000"),
  (webvision, "webvision", {"num_class": 4}, "webvision: has no option 'num_class'; did you mean"),
  (webvision, "webvision", {"num_classes": 4, "per_class": -1}, "per_class: found -1"),
  (webvision, "webvision", {"num_classes": 4, "image_size": -1}, "image_size: found -1"),
  (clothing1m, "clothing1m", {"trusted": "vall"}, "trusted is 'vall': did you mean 'val'"),
  (food101n, "food101n", {"trusted": "test"}, "trusted is 'test': known names: train, val"),
  (imagenet_flat, "imagenet", {"num_classes": 7}, "num_classes: found 7, expected one in 0..6"),
  (imagenet_flat, "imagenet", {"num_classes": 1}, "num_classes: found 1, expected"),
])  # fmt: skip
def test_bad_options(tmp_path, make, name, options, message):
  make(tmp_path)
  with pytest.raises(InputError, match=message):
    data.load(name, tmp_path, **options)


@pytest.mark.parametrize("name", ["webvision", "clothing1m", "food101n", "imagenet"])
def test_no_path(tmp_path, name):
  with pytest.raises(InputError, match=r"data\.path: is empty, expected .*folder with .*https://"):
    data.load(name)
  with pytest.raises(InputError, match=f"{name}: .*nowhere' is no folder; set data.path to"):
    data.load(name, tmp_path / "nowhere")


def test_the_memory_bound_counts_all_splits_and_comes_before_the_images(tmp_path, monkeypatch):
  keys = clothing1m(tmp_path)  # 4 to train on, 3 to test, 2 trusted
  (tmp_path / keys[7]).unlink()
  monkeypatch.setattr(_images, "MEMORY_LIMIT", 8 * 4 * 4 * 3)
  with pytest.raises(InputError, match=r"clothing1m: 9 images of 4x4 take.*data.stream"):
    data.clothing1m(tmp_path, image_size=4, trusted="val")
  with pytest.raises(InputError, match=r"7,7\.jpg is listed but does not exist"):
    data.clothing1m(tmp_path, image_size=4)


def test_images_of_their_own_size(tmp_path):
  webvision(tmp_path)
  assert data.webvision(tmp_path, 4, image_size=0).image_shape == (9, 6, 3)
  save(tmp_path / "val_images_256/val000004.jpg", 0, size=(9, 9))
  with pytest.raises(InputError, match=r"val000004\.jpg is 9x9 pixels, others are 9x6; set image"):
    data.webvision(tmp_path, 4, image_size=0)
