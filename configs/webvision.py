"""mini-WebVision (first 50 classes, Google's images): the rows of NRD's Table 3.

  python -m jaxnoise.main --config=configs/webvision.py --config.data.path=DIR
  python -m jaxnoise.main --config=configs/webvision.py:method=gjs --config.data.path=DIR
  python -m jaxnoise.main --config=configs/webvision.py:method=dividemix,network=inception_resnet_v2

`method`: nrd, gjs, js, ce, elr_plus, dividemix. `network`: resnet50, inception_resnet_v2. DIR holds
WebVision 1.0: info/train_filelist_google.txt, info/val_filelist.txt, google/, val_images_256/. Its
65,944 images stay on disk and stream, every view a random crop of the whole image, made on the
host. Two rows need something else: with `teacher=first` AugMix comes before the crop, so that views
are cropped on the device from the 256 x 256 of the centre of each image; and dividemix, which draws
its batches by what it has learnt, holds those in memory (13 GB). Test images are "Resize 256,
CenterCrop 224".

Published in Table 3, top-1 / top-5 accuracy in % (the first is in the run's report):

  method      network               networks  WebVision       ImageNet
  elr_plus    inception_resnet_v2   2         77.78 / 91.68   70.29 / 89.76
  dividemix   inception_resnet_v2   2         77.32 / 91.64   75.20 / 90.84
  dividemix   resnet50              2         76.32 / 90.65   74.42 / 91.21
  ce          resnet50              1         70.69 / 88.64   67.32 / 88.00
  js          resnet50              1         74.56 / 91.09   70.36 / 90.60
  gjs         resnet50              1         77.99 / 90.62   74.33 / 90.33
  nrd         resnet50              1         78.56 / 92.48   75.24 / 92.36

Recipes, all SGD 0.9 from scratch, Nesterov but for the last two; images are normalised by
ImageNet's mean and std. What no source at hand gives is said:

  nrd        batch 64, lr 0.1, 300 epochs, pi (0.1, 0.8, 0.1) unscaled, average 0.99, weight decay
             1e-4 (not restated by the paper; GJS and the author's code). Student: random resized
             crop, flip, colour jitter. Teacher: `teacher=first`: AugMix before crop and flip (the
             paper's appendix), `teacher=last` after them (the code). `schedule`: appendix (lr times
             0.1 at 100 and 200), text (150 and 250), code (times 0.97 per epoch).
  gjs        batch 32, lr 0.1 times 0.97 per epoch, pi_1 0.1 unscaled, two views like the student's.
  js         batch 64, lr 0.2 times 0.97 per epoch, pi_1 0.1 unscaled.
  ce         JS' recipe: none is given.
  elr_plus   batch 32, lr 0.02 times 0.1 at 50 and 100 of 120 epochs (how many is not given), weight
             decay 5e-4, mixup alpha 1.5, beta 0.7, lambda 3. Random resized crop and flip alone,
             which is our choice; the authors crop 227 of a larger image.
  dividemix  two batches of 32 (64 in the warm-up), lr 0.01 times 0.1 at 40 of 80 epochs, warm-up 1,
             alpha 0.5, lambda_u 0, weight decay 5e-4; crops as for elr_plus. For resnet50 the same,
             nothing else is given.
"""

from typing import Any

from ml_collections import ConfigDict

from jaxnoise.training import schema

CHOICES = {
  "method": ("nrd", "gjs", "js", "ce", "elr_plus", "dividemix"),
  "network": ("resnet50", "inception_resnet_v2"),
  "schedule": ("appendix", "text", "code"),
  "teacher": ("first", "last"),
}
PUBLISHED = {
  ("elr_plus", "inception_resnet_v2"): 77.78,
  ("dividemix", "inception_resnet_v2"): 77.32,
  ("dividemix", "resnet50"): 76.32,
  ("ce", "resnet50"): 70.69,
  ("js", "resnet50"): 74.56,
  ("gjs", "resnet50"): 77.99,
  ("nrd", "resnet50"): 78.56,
}
JITTER = {"name": "color_jitter", "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.2}
RECIPES = {
  "nrd": {"batch_size": 64, "lr": 0.1, "epochs": 300},
  "gjs": {"batch_size": 32, "lr": 0.1, "epochs": 300},
  "js": {"batch_size": 64, "lr": 0.2, "epochs": 300},
  "ce": {"batch_size": 64, "lr": 0.2, "epochs": 300},
  "elr_plus": {"batch_size": 32, "lr": 0.02, "epochs": 120, "milestones": (50, 100)},
  "dividemix": {"batch_size": 64, "lr": 0.01, "epochs": 80, "milestones": (40,)},
}
MILESTONES = {"appendix": (100, 200), "text": (150, 250)}


def arguments() -> list[str]:
  """One argument for each row of the table, and the open choices of NRD."""
  rows = [f"method={method},network={network}" for method, network in PUBLISHED]
  return [*rows, "method=nrd,schedule=text,teacher=last", "method=nrd,schedule=code"]


def method(name: str, teacher: str) -> dict[str, Any]:
  """The config section of a method."""
  augmix = {"name": "torchvision_augmix"}
  sections = {
    "nrd": {
      "name": "nrd", "weights": (0.1, 0.8, 0.1), "decay": 0.99, "scale": "none",
      "teacher_policy": augmix, "teacher_policy_first": teacher == "first",
    },
    "gjs": {"name": "gjs", "weights": (0.1, 0.45, 0.45), "scaled": False},
    "js": {"name": "js", "label_weight": 0.1, "scaled": False},
    "ce": {"name": "erm", "loss": "cross_entropy"},
    "elr_plus": {
      "name": "elr_plus", "elr_weight": 3.0, "beta": 0.7, "alpha": 1.5, "ema_steps": None,
    },
    "dividemix": {"name": "dividemix", "warm_up": 1, "alpha": 0.5, "lambda_u": 0.0},
  }  # fmt: skip
  return sections[name]


def get_config(argument: str = "") -> ConfigDict:
  """The recipe for one row of the table."""
  choice = schema.parse_argument(argument, CHOICES)
  name, network = choice["method"], choice["network"]
  recipe = RECIPES[name]
  config = ConfigDict(schema.default(), type_safe=True)
  suffix = f"-{choice['schedule']}-{choice['teacher']}" if name == "nrd" else ""
  config.name = f"{name}-webvision-{network}{suffix}"
  config.total = f"{recipe['epochs']} epochs"
  config.batch_size = recipe["batch_size"]
  config.data.name = "webvision"
  config.data.options = ConfigDict({"image_size": 256})
  config.data.stream = name != "dividemix"
  config.first.resized_crop = 224
  config.first.flip = True
  mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
  config.model = ConfigDict(
    {"name": network, "mean": mean, "std": std, "input_size": (256, 224)}
  )
  if name not in ("elr_plus", "dividemix"):
    config.policy = ConfigDict(JITTER)
  config.method = ConfigDict(method(name, choice["teacher"]))
  config.optim.lr = recipe["lr"]
  config.optim.nesterov = name not in ("elr_plus", "dividemix")
  config.optim.weight_decay = 5e-4 if name in ("elr_plus", "dividemix") else 1e-4
  milestones = recipe.get("milestones")
  if name == "nrd":
    milestones = MILESTONES.get(choice["schedule"])
  if milestones is None:
    config.optim.schedule = "exponential"
    config.optim.factor = 0.97
    config.optim.decay_every = "1 epoch"
  else:
    config.optim.schedule = "step"
    config.optim.milestones = tuple(f"{m} epochs" for m in milestones)
  config.evaluate.batch_size = 256
  config.evaluate.every = "5 epochs"
  config.checkpoint.every = "1 epoch"
  published = PUBLISHED.get((name, network))
  if published is not None:
    config.published = ConfigDict({"accuracy": published, "source": "NRD, Table 3"})
  return config
