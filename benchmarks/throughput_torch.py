"""NoisyMix's training step in PyTorch, as its users write it and tuned: the other side of
throughput.py, which runs it in a process of its own and asks it for epochs.

  python benchmarks/throughput_torch.py --program=users --workers=4 < FILE   an epoch for each line
  python benchmarks/throughput_torch.py --program=tuned < FILE

PreActResNet-18 on random images of 32 px, batches of B training images as 3B views, SGD with
Nesterov momentum and a cosine, every part written from the method's description.

  users: a Dataset that flips and crops with PIL and draws two views with torchvision's AugMix (its
    nine operations that are no test corruptions), a DataLoader with worker processes, pinned memory
    on a GPU, float32 (PyTorch's default, TF32 in convolutions on a GPU).
  tuned: channels_last, torch.compile, autocast to bfloat16 on a GPU (elsewhere where asked for), a
    fused optimizer; images resident on the device, where flip, crop and AugMix as its authors
    define it are tensor operations on whole batches, compiled too.

It prints one line of JSON when it is ready, and one more for each line that it is given.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import math
import random
import sys
import time

import torch
import torchvision
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

SIDE, CLASSES, VIEWS = 32, 10, 3
IDENTITY = 9  # behind AugMix's nine operations, in the order of `lookup` and `maps`


class Block(nn.Module):
  """conv2(relu(norm2(conv1(a)))) + shortcut(a) with a = relu(norm1(x))."""

  def __init__(self, inputs: int, width: int, stride: int):
    super().__init__()
    self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(width)
    self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
    self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
    same = stride == 1 and inputs == width
    self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, width, 1, stride, bias=False)

  def forward(self, x):
    a = F.relu(self.norm1(x))
    return self.conv2(F.relu(self.norm2(self.conv1(a)))) + self.shortcut(a)


class PreActResNet18(nn.Module):
  """Bare stem, four stages of two blocks, global mean, dense layer: NoisyMix's variant."""

  def __init__(self):
    super().__init__()
    widths = (64, 64, 128, 256, 512)
    self.stem = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    self.stages = nn.ModuleList(
      nn.Sequential(Block(before, width, 1 if k == 0 else 2), Block(width, width, 1))
      for k, (before, width) in enumerate(itertools.pairwise(widths))
    )
    self.head = nn.Linear(512, CLASSES)

  def forward(self, x, stage, change):
    """Logits; `change` acts on what stage `stage` gives, 0 being the image."""
    h = self.stem(change(x) if stage == 0 else x)
    for k, part in enumerate(self.stages, 1):
      h = part(h)
      h = change(h) if stage == k else h
    return self.head(h.mean((2, 3)))


def noisy_mix(h, lam, order, levels, sparsity=0.65):
  """(1 + m) (lam h + (1 - lam) h[order]) + a within each view of h [3B, C, H, W]."""
  views = h.unflatten(0, (VIEWS, -1))
  mixed = lam * views + (1 - lam) * views[:, order]
  additive, multiplicative = (0.5 * level.view(VIEWS, 1, 1, 1, 1) for level in levels)
  additive = additive * torch.arange(1, VIEWS + 1, device=h.device).view(VIEWS, 1, 1, 1, 1)
  normal = torch.randn_like(mixed) * (torch.rand_like(mixed) >= sparsity)
  uniform = (2 * torch.rand_like(mixed) - 1) * (torch.rand_like(mixed) >= sparsity)
  return ((1 + multiplicative * uniform) * mixed + additive * normal).flatten(0, 1)


def noisymix_loss(model, image, label, stage, lam, order, levels):
  """The mixed cross-entropy of the clean views, and 12 JSD of all three."""
  change = functools.partial(noisy_mix, lam=lam, order=order, levels=levels)
  log_p = F.log_softmax(model(image, stage, change).float(), 1).unflatten(0, (VIEWS, -1))
  p, clean = log_p.exp(), log_p[0]
  middle = p.mean(0).clamp(1e-7, 1).log()
  divergence = (p * (log_p - middle)).sum(2).mean()
  label_loss = lam * F.nll_loss(clean, label) + (1 - lam) * F.nll_loss(clean, label[order])
  return label_loss + 12 * divergence


class Trainer:
  """The network, its optimizer, and a step on views [3B, 3, 32, 32]."""

  def __init__(self, device: torch.device, steps: int, *, tuned: bool, bfloat16: bool):
    self.device, self.tuned, self.bfloat16 = device, tuned, bfloat16
    self.model, self.loss = PreActResNet18().to(device), noisymix_loss
    if tuned:
      self.model.to(memory_format=torch.channels_last)
      self.loss = torch.compile(noisymix_loss)
    self.optimizer = torch.optim.SGD(
      self.model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4,
      fused=True if tuned else None,
    )  # fmt: skip
    self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 200 * steps, 1e-6)
    two, five = (torch.full((2, VIEWS), value, device=device) for value in (2.0, 5.0))
    self.level = torch.distributions.Beta(two, five, validate_args=False)

  def step(self, image, label, stage: int | None = None) -> None:
    stage = random.randrange(4) if stage is None else stage
    lam = torch.rand((), device=self.device) if self.tuned else random.random()
    order = torch.randperm(len(label), device=self.device)
    self.optimizer.zero_grad(set_to_none=True)
    with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
      loss = self.loss(self.model, image, label, stage, lam, order, self.level.sample())
    loss.backward()
    self.optimizer.step()
    self.schedule.step()


class Views(Dataset):
  """Every image as its three views, made by PIL and torchvision."""

  def __init__(self, images, labels):
    self.images, self.labels = images.numpy(), labels.tolist()
    self.first = transforms.Compose(
      [transforms.RandomHorizontalFlip(), transforms.RandomCrop(SIDE, padding=4)]
    )
    self.augmix = transforms.AugMix(all_ops=False)
    half = (0.5, 0.5, 0.5)
    self.finish = transforms.Compose([transforms.ToTensor(), transforms.Normalize(half, half)])

  def __len__(self):
    return len(self.labels)

  def __getitem__(self, i):
    image = self.first(Image.fromarray(self.images[i]))
    views = (image, self.augmix(image), self.augmix(image))
    return [self.finish(view) for view in views], self.labels[i]


def users(images, labels, device, batch: int, workers: int):
  """The program of the method's users: a function that trains one epoch."""
  pinned = device.type == "cuda"
  loader = DataLoader(
    Views(images, labels), batch, shuffle=True, num_workers=workers, pin_memory=pinned,
    drop_last=True, persistent_workers=workers > 0,
  )  # fmt: skip
  trainer = Trainer(device, len(loader), tuned=False, bfloat16=False)
  trainer.model.train()

  def epoch() -> None:
    for views, label in loader:
      # Each view by itself: what they are joined to on the host would not be pinned.
      image = torch.cat([view.to(device, non_blocking=True) for view in views])
      trainer.step(image, label.to(device, non_blocking=True))

  return epoch, trainer.model


def flip_crop(image, padding: int = 4):
  """A flip and a crop of its own for every image [B, 32, 32, 3] -> [B, 3, 32, 32] float."""
  count, device = len(image), image.device
  top, left = torch.randint(2 * padding + 1, (2, count, 1), device=device)
  along = torch.arange(SIDE, device=device)[None]
  flipped = torch.rand(count, 1, device=device) < 0.5
  columns = left + torch.where(flipped, SIDE - 1 - along, along)
  padded = F.pad(image, (0, 0, padding, padding, padding, padding))
  rows = (top + along)[:, :, None]
  each = torch.arange(count, device=device)[:, None, None]
  return padded[each, rows, columns[:, None]].permute(0, 3, 1, 2).float()


def lookup(index, op, share):
  """[n, 3, 256] tables of autocontrast, equalize, posterize and solarize, else the identity.

  Args:
    index: [n, 3, H W] grey levels.
    op: [n], 0 to 3 for those four.
    share: [n] levels over ten.
  """
  count, device = index.shape[2], index.device
  grey = torch.arange(256, device=device, dtype=torch.float32).expand(*index.shape[:2], 256)
  low, high = index.amin(2, keepdim=True), index.amax(2, keepdim=True)
  spread = torch.floor((grey - low) * (255 / (high - low).clamp(min=1))).clamp(0, 255)
  spread = torch.where(high > low, spread, grey)
  histogram = torch.zeros_like(grey).contiguous()
  histogram = histogram.scatter_add(2, index, torch.ones_like(index, dtype=torch.float32))
  step = torch.floor((count - histogram.gather(2, high)) / 255)
  below = torch.floor(step / 2) + histogram.cumsum(2) - histogram
  equal = torch.floor(below / step.clamp(min=1)).clamp(max=255)
  equal = torch.where(step > 0, equal, grey)
  share = share.view(-1, 1, 1)
  unit = torch.exp2(4 + torch.trunc(4 * share))
  posterized = torch.floor(grey / unit) * unit
  solarized = torch.where(grey < 256 - torch.trunc(256 * share), grey, 255 - grey)
  for k, table in enumerate((spread, equal, posterized, solarized)):
    grey = torch.where(op.view(-1, 1, 1) == k, table, grey)
  return grey


def maps(op, signed):
  """[n, 2, 3] from output to input: rotate, shear x, shear y, translate x, translate y, or none."""
  a = torch.where(op == 4, torch.trunc(30 * signed) * (math.pi / 180), 0.0)
  shear_x, shear_y = (torch.where(op == k, 0.3 * signed, 0.0) for k in (5, 6))
  # In halves of the image; PIL shears about the upper left corner.
  move_x, move_y = (
    torch.where(op == k, torch.trunc(SIDE / 3 * signed) * (2 / SIDE), 0.0) for k in (7, 8)
  )
  first = torch.stack([a.cos(), shear_x - a.sin(), move_x + shear_x], 1)
  second = torch.stack([shear_y + a.sin(), a.cos(), move_y + shear_y], 1)
  return torch.stack([first, second], 1)


def augmix(x, width: int = 3, depth: int = 3, severity: float = 3.0):
  """One AugMix view of each image [N, 3, H, W] of grey levels, all chains at once."""
  device, n = x.device, width * len(x)
  chains = x.repeat_interleave(width, 0)
  used = torch.randint(1, depth + 1, (n,), device=device)
  for place in range(depth):
    op = torch.randint(IDENTITY, (n,), device=device)
    op = torch.where(used > place, op, IDENTITY)
    share = (0.1 + (severity - 0.1) * torch.rand(n, device=device)) / 10
    signed = torch.where(torch.rand(n, device=device) < 0.5, share, -share)
    index = chains.flatten(2).long()
    chains = lookup(index, op, share).gather(2, index).unflatten(2, x.shape[2:])
    grid = F.affine_grid(maps(op, signed), chains.shape, align_corners=False)
    chains = torch.round(F.grid_sample(chains, grid, align_corners=False)).clamp(0, 255)
  weights = -torch.log1p(-torch.rand(len(x), width, 1, 1, 1, device=device))
  weights = weights / weights.sum(1, keepdim=True)
  m = torch.rand(len(x), 1, 1, 1, device=device)
  return (1 - m) * x + m * (weights * chains.unflatten(0, (-1, width))).sum(1)


def three_views(images, index):
  """Views [3B, 3, 32, 32] of images [N, 32, 32, 3], normalised."""
  clean = flip_crop(images[index])
  views = torch.cat([clean, augmix(clean.repeat(VIEWS - 1, 1, 1, 1))])
  return (views / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def tuned(images, labels, device, batch: int, bfloat16: bool):
  """The tuned program: a function that trains one epoch; compiled before it is returned."""
  images, labels = images.to(device), labels.to(device)
  steps = len(labels) // batch
  trainer = Trainer(device, steps, tuned=True, bfloat16=bfloat16)
  trainer.model.train()
  views = torch.compile(three_views)

  def epoch() -> None:
    order = torch.randperm(len(labels), device=device)
    for index in order[: steps * batch].view(steps, batch):
      trainer.step(views(images, index), labels[index])

  first = torch.arange(batch, device=device)
  for stage in range(4):
    trainer.step(views(images, first), labels[first], stage)
  return epoch, trainer.model


def tell(**line) -> None:
  print(json.dumps(line), flush=True)


def serve(args: argparse.Namespace) -> None:
  """Makes the program ready, and trains an epoch for every line of the input."""
  device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
  torch.manual_seed(0)
  torch.backends.cudnn.benchmark = True  # shapes are fixed
  images = torch.randint(256, (args.images, SIDE, SIDE, 3), dtype=torch.uint8)
  common = (images, torch.arange(args.images) % CLASSES, device, args.batch)
  bfloat16 = args.program == "tuned" and (args.bfloat16 or device.type == "cuda")
  if args.program == "users":
    epoch, model = users(*common, args.workers)
  else:
    epoch, model = tuned(*common, bfloat16)
  tell(
    torch=torch.__version__, torchvision=torchvision.__version__, device=device.type,
    threads=torch.get_num_threads(), precision="bfloat16" if bfloat16 else "float32",
    parameters=sum(p.numel() for p in model.parameters()),
  )  # fmt: skip
  for _ in sys.stdin:
    start = time.perf_counter()
    epoch()
    if device.type == "cuda":
      torch.cuda.synchronize()
    tell(seconds=time.perf_counter() - start)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split(":", maxsplit=1)[0])
  parser.add_argument("--program", choices=("users", "tuned"), default="users")
  parser.add_argument("--workers", type=int, default=4, help="of the DataLoader of users")
  parser.add_argument("--images", type=int, default=50_000)
  parser.add_argument("--batch", type=int, default=128)
  parser.add_argument("--bfloat16", action="store_true", help="tuned: on a CPU too")
  try:
    serve(parser.parse_args())
  except Exception as error:  # whatever it is, the row says it
    text = str(error).strip().splitlines() or [""]
    tell(error=f"{type(error).__name__}: {text[0]}")
    raise


if __name__ == "__main__":
  main()
