"""Noisy self-distillation with ResNet-56: Figures 2 and 3 of the unbiased-label-noise paper.

  python -m jaxnoise.main --config=configs/self_distillation.py --config.data.path=DIR
  python -m jaxnoise.main --config=configs/self_distillation.py:dataset=svhn,noise=swap,scale=0.3
  python -m jaxnoise.main --config=configs/self_distillation.py:noise=none,protocol=validation
  python -m jaxnoise.main --config=configs/self_distillation.py:scale=2,loss=kl,generations=2

`dataset`: cifar10, cifar100, svhn. `noise` on the teacher's logits, drawn afresh in every step:
gaussian (`scale` is the variance: 0.1, 0.5, 1, 2, ..., 10), swap (`scale` is the probability: 0.1,
0.2, ..., 1), none (0). `loss`: squared, kl. `generations`: 1, 2, 3, stages that are resumed where
they stopped: "teacher" is trained on labels, "student" taught by it, "student2" by that student,
and so on. `protocol`: test trains on the whole training set, as the paper's test curves; validation
holds out 20 % of it in all stages, to choose the scale by held-out accuracy. `seed`: 0 to 4. DIR is
as in configs/noisymix.py. The figures have no numbers to compare with.

The recipe, of teacher and students alike: ResNet-56, 200 epochs, batch 64, SGD 0.9, lr 0.1 times
0.1 at 100 and 150, weight decay 1e-4. Left open by the paper, and chosen here:

  augmentation  pad-4 crop and flip, as in He et al., on whom the recipe is modelled; SVHN without
                flip, as a mirrored digit is another shape (--config.first.flip=True).
  network       shortcut A, He et al.'s own on CIFAR (--config.model.shortcut=B); no Nesterov; the
                last partial batch is dropped.
  the student   starts afresh: teacher and students have seeds of their own, S + 100 G in generation
                G for seed=S. --config.seed alone is the teacher's.
  loss          squared, of the paper's theory; kl is Hinton et al.'s, temperature 1
                (--config.stage.student.method.temperature=4). Neither uses labels.
  a swap        independent for each logit; --config.stage.student.method.swap_reading=shift or
                transposition. scale_reading=deviation takes the Gaussian scale for sigma.
  validation    class-balanced: 10,000 of CIFAR, 14,651 of SVHN's 73,257.

Figure 3 is train/student/loss or train/student/label_loss (cross-entropy with the labels, which is
measured, not minimised) and test/student/nll of each epoch, in the stages' metrics.jsonl.
"""

from typing import Any

from ml_collections import ConfigDict

from jaxnoise.core import InputError
from jaxnoise.training import schema

# The paper's; the first of each is the default.
SCALES = {
  "gaussian": ("0.5", "0.1", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"),
  "swap": ("0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1"),
  "none": ("0",),
}
CHOICES = {
  "dataset": ("cifar10", "cifar100", "svhn"),
  "noise": tuple(SCALES),
  "scale": ("", *dict.fromkeys(scale for scales in SCALES.values() for scale in scales)),
  "loss": ("squared", "kl"),
  "generations": ("1", "2", "3"),
  "protocol": ("test", "validation"),
  "seed": ("0", "1", "2", "3", "4"),
}
# SVHN's are those in common use, of its training images.
MEAN_STD = {
  "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
  "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
  "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
}
HOLDOUT = {"cifar10": 10_000, "cifar100": 10_000, "svhn": 14_651}


def arguments() -> list[str]:
  """Every point of Figure 2, and one run with each of the other choices."""
  points = [
    f"dataset={dataset},noise={noise},scale={scale},protocol={protocol}"
    for dataset in CHOICES["dataset"]
    for noise, scales in SCALES.items()
    for scale in scales
    for protocol in CHOICES["protocol"]
  ]
  others = ("loss=kl", "generations=2", "generations=3,noise=swap,dataset=svhn", "seed=4")
  return [*points, *others]


def method(noise: str, scale: str, loss: str) -> dict[str, Any]:
  """The config section of a student."""
  return {
    "name": "self_distillation", "noise": "" if noise == "none" else noise, "scale": float(scale),
    "scale_reading": "variance", "swap_reading": "independent", "loss": loss, "temperature": 1.0,
  }  # fmt: skip


def stages(generations: int, section: dict[str, Any], seed: int) -> dict[str, Any]:
  """A teacher, and students each taught by the one before: `stages`, `stage` and `seed`."""
  names = ["teacher", "student", *(f"student{g}" for g in range(2, generations + 1))]
  taught = {
    name: {"teacher": names[g], "method": section, "seed": seed + 100 * (g + 1)}
    for g, name in enumerate(names[1:])
  }
  return {"stages": tuple(names), "stage": {"teacher": {}, **taught}, "seed": seed}


def get_config(argument: str = "") -> ConfigDict:
  """The recipe for one point of Figure 2."""
  choice = schema.parse_argument(argument, CHOICES)
  dataset, noise, scale, loss, generations, protocol, seed = (choice[k] for k in CHOICES)
  scale = scale or SCALES[noise][0]
  if scale not in SCALES[noise]:
    raise InputError(
      f"the config's argument scale is {scale}, but the paper has noise={noise} at "
      f"{', '.join(SCALES[noise])}; choose one of them, or set --config.stage.student.method.scale"
    )
  config = schema.merge(
    schema.default(), stages(int(generations), method(noise, scale, loss), int(seed))
  )
  parts = ["self_distillation", dataset, noise, "" if noise == "none" else scale, loss]
  parts += [f"generations{generations}" if generations != "1" else "", f"seed{seed}"]
  config["name"] = "-".join(filter(None, (*parts, "validation" * (protocol == "validation"))))
  config["total"] = "200 epochs"
  config["batch_size"] = 64
  held_out = HOLDOUT[dataset] if protocol == "validation" else 0
  config["data"] = {**config["data"], "name": dataset, "holdout": held_out}
  config["first"] = {**config["first"], "padding": 4, "flip": dataset != "svhn"}
  mean, std = MEAN_STD[dataset]
  config["model"] = {
    "name": "cifar_resnet", "depth": 56, "shortcut": "A", "mean": mean, "std": std,
  }  # fmt: skip
  config["optim"] = {
    **config["optim"], "lr": 0.1, "nesterov": False, "weight_decay": 1e-4, "schedule": "step",
    "milestones": ("100 epochs", "150 epochs"), "factor": 0.1,
  }  # fmt: skip
  config["checkpoint"] = {**config["checkpoint"], "every": "5 epochs"}
  return ConfigDict(config, type_safe=True)
