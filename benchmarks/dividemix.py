"""What DivideMix' fixed shapes cost: this library's program against the authors' order of work.

    python benchmarks/dividemix.py --out runs/dividemix --seeds 5

Scikit-learn's digits with symmetric label noise (every class alike, the true one included), two
small wide networks, the same initial weights, labels, augmentation, optimizer and schedule for both
programs. Each is trained for the same number of epochs, so that the number of updates differs as
it does between the programs:

  fixed     `methods.dividemix`: one compiled step, batches drawn with replacement from each heap,
            N / batch steps in every epoch, both networks in each step.
  authors   a loop on the host: lists of labelled and unlabelled indices that change size with each
            epoch, the labelled visited once each in random order, the unlabelled over and over; the
            first network for the whole epoch, then the second with the new first one to guess;
            scikit-learn's mixture. Partial batches are dropped, to compile once.

`accuracy` is of the summed logits on the test set at the end, `best` over epochs (a look at the
test set, for the shape of the curve only); `precision` and `recall` of the labelled heap, of true
labels, are at the last sorting, the mean of both networks. Results are kept in OUT/results.jsonl,
one row for each program and seed; the same command again makes the rows that are missing.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.mixture import GaussianMixture

from jaxnoise import augment, data, losses, methods, models
from jaxnoise.core import Network, Spec
from jaxnoise.methods import _dividemix_terms as terms_lib
from jaxnoise.training import sharding
from jaxnoise.training import step as step_lib

NETS = ("net0", "net1")
PROGRAMS = ("fixed", "authors")
CROP = functools.partial(augment.random_crop, padding=1)
THRESHOLD, TEMPERATURE, ALPHA, RAMP = 0.5, 0.5, 4.0, 16


def noisy_digits(rate: float, seed: int) -> data.Source:
  source = data.digits()
  rng = np.random.default_rng(seed)
  labels = source.labels.copy()
  chosen = rng.permutation(len(labels))[: round(rate * len(labels))]
  labels[chosen] = rng.integers(0, source.num_classes, len(chosen))
  return source.with_labels(labels)


class Setting:
  """What both programs share, for one seed."""

  def __init__(self, args: argparse.Namespace, seed: int):
    self.args, self.seed = args, seed
    self.source = noisy_digits(args.noise, seed)
    self.true = data.digits().labels
    count, size = self.source.num_train, args.batch_size
    self.network: Network = models.network(
      models.wide_resnet(self.source.num_classes, depth=10, widen_factor=args.widen)
    )
    steps = count // size
    self.spec = Spec(
      num_train=count,
      num_classes=self.source.num_classes,
      image_shape=self.source.image_shape,
      batch_size=size,
      pools={"train": count},
      steps_per_epoch=steps,
      num_steps=steps * args.epochs,
    )
    self.method = methods.dividemix(
      self.network,
      spec=self.spec,
      warm_up=args.warm_up,
      lambda_u=args.lambda_u,
      alpha=ALPHA,
      temperature=TEMPERATURE,
      clean_threshold=THRESHOLD,
      ramp_epochs=RAMP,
      first=CROP,
    )
    self.test = jnp.asarray(self.source.test_images), np.asarray(self.source.test_labels)
    self.init = jax.jit(
      lambda root: step_lib.init_state(
        self.network, self.method, optax.identity(), self.spec, root
      )
    )

  def optimizer(self, rate) -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(rate, momentum=0.9))

  def rate(self, epoch):
    """A tenth in the second half, as the authors' 150 of 300 epochs."""
    return jnp.where(epoch < self.args.epochs // 2, self.args.lr, self.args.lr / 10)

  @functools.cached_property
  def logits(self):
    return jax.jit(lambda params, stats, image: self.network.apply(params, stats, image).logits)

  def accuracy(self, params, stats) -> float:
    image, label = self.test
    image = image.astype(jnp.float32) / 255
    total = sum(self.logits(params[n], stats[n], image) for n in NETS)
    return float(np.mean(np.argmax(total, 1) == label))

  def heap(self, clean) -> dict[str, float]:
    """How good the labelled heaps are."""
    right = self.source.labels == self.true
    chosen = [np.asarray(w) > THRESHOLD for w in clean]
    return {
      "precision": float(np.mean([right[c].mean() if c.any() else np.nan for c in chosen])),
      "recall": float(np.mean([c[right].mean() for c in chosen])),
      "labelled": float(np.mean(chosen)),
    }


def fixed(s: Setting) -> dict[str, float]:
  """The library's step and pass, as the training loop calls them."""
  optimizer = s.optimizer(lambda count: s.rate(count // s.spec.steps_per_epoch))
  mesh = sharding.make_mesh(jax.devices()[:1])
  place = functools.partial(jax.device_put, device=sharding.replicated(mesh))
  state = s.init(jax.random.key(s.seed))
  state = place(state.replace(opt_state=optimizer.init(state.params)))
  arrays = data.device_data(s.source, sharding.replicated(mesh))
  step = jax.jit(step_lib.make_step(s.method, optimizer, s.spec, mesh))
  sort = jax.jit(step_lib.make_pass(s.method, s.spec, mesh, 256))
  orders = jax.jit(step_lib.make_orders(s.method, s.spec, s.spec.steps_per_epoch))
  curve = []
  for epoch in range(s.args.epochs):
    order = place(orders(state.rng, arrays["labels"], epoch))
    for _ in range(s.spec.steps_per_epoch):
      state, _ = step(state, arrays, order)
    # The sorting after the last epoch would have no reader here.
    if epoch + 1 < s.args.epochs:
      state = sort(state, arrays)
    curve.append(s.accuracy(state.params, state.batch_stats))
  clean = state.method_state["dividemix"]["clean"].values()
  return {"updates": int(state.step), "curve": curve, **s.heap(clean)}


def authors(s: Setting) -> dict[str, float]:
  """The authors' order of work, one network after the other, sizes as they fall."""
  args, network, source = s.args, s.network, s.source
  size, classes = args.batch_size // 2, source.num_classes
  images, labels = source.images, source.labels
  rng = np.random.default_rng(1000 + s.seed)
  state = s.init(jax.random.key(s.seed))
  params, stats = dict(state.params), dict(state.batch_stats)
  optimizer = s.optimizer(1.0)  # the rate is applied below, as it changes by epoch
  momenta = {n: optimizer.init(params[n]) for n in NETS}
  view = augment.batched(CROP)
  scaled = lambda image: image.astype(jnp.float32) / 255

  def updated(grads, momentum, own, rate):
    change, momentum = optimizer.update(grads, momentum, own)
    return jax.tree.map(lambda p, u: p + rate * u, own, change), momentum

  @jax.jit
  def warm(own, own_stats, momentum, image, label, key, rate):
    def loss(p):
      out = network.apply(p, own_stats, view(key, scaled(image)), train=True)
      hot = jax.nn.one_hot(label, classes)
      return jnp.mean(losses.cross_entropy(out.logits, hot)), out.batch_stats

    grads, own_stats = jax.grad(loss, has_aux=True)(own)
    own, momentum = updated(grads, momentum, own, rate)
    return own, own_stats, momentum

  @jax.jit
  def main(own, own_stats, momentum, other, other_stats, x, label, w, u, key, rate, lambda_u):
    keys = jax.random.split(key, 6)
    x1, x2, u1, u2 = (view(k, scaled(i)) for k, i in zip(keys, (x, x, u, u), strict=False))
    said = {}
    for name, image in (("u1", u1), ("u2", u2), ("x1", x1), ("x2", x2)):
      out = network.apply(own, own_stats, image, train=True)
      said[name], own_stats = out.logits, out.batch_stats
    pair = lambda a, b: jnp.stack([a, b], axis=1)
    theirs = pair(*(network.apply(other, other_stats, image).logits for image in (u1, u2)))
    hot = jax.nn.one_hot(label, classes)
    t_x = terms_lib.co_refine(pair(said["x1"], said["x2"]), hot, w, temperature=TEMPERATURE)
    t_u = terms_lib.co_guess(pair(said["u1"], said["u2"]), theirs, temperature=TEMPERATURE)
    lam = jax.random.beta(keys[4], ALPHA, ALPHA)
    lam, perm = jnp.maximum(lam, 1 - lam), jax.random.permutation(keys[5], 4 * size)
    image = jnp.concatenate([x1, x2, u1, u2])
    target = jnp.concatenate([t_x, t_x, t_u, t_u])
    image, target = (lam * v + (1 - lam) * v[perm] for v in (image, target))

    def loss(p):
      out = network.apply(p, own_stats, image, train=True)
      z, k = out.logits, 2 * size
      value, _ = terms_lib.dividemix_objective(
        z[:k], target[:k], z[k:], target[k:], lambda_u=lambda_u
      )
      return value, out.batch_stats

    grads, own_stats = jax.grad(loss, has_aux=True)(own)
    own, momentum = updated(grads, momentum, own, rate)
    return own, own_stats, momentum

  def sort(net):
    z = np.asarray(s.logits(params[net], stats[net], scaled(jnp.asarray(images))), np.float64)
    log_p = z - np.logaddexp.reduce(z, axis=1, keepdims=True)
    value = -log_p[np.arange(len(labels)), labels]
    value = ((value - value.min()) / (value.max() - value.min()))[:, None]
    mixture = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=s.seed)
    return mixture.fit(value).predict_proba(value)[:, mixture.means_.argmin()]

  def batches(heap, width):
    """Forever: the heap in random orders, one after the other; whole batches only."""
    while True:
      order = rng.permutation(np.resize(heap, max(len(heap), width)))
      for start in range(0, len(order) - width + 1, width):
        yield order[start : start + width]

  everything, curve, updates, clean = np.arange(len(labels)), [], 0, None
  root = jax.random.key(77 + s.seed)
  for epoch in range(args.epochs):
    rate = float(s.rate(epoch))
    if epoch >= args.warm_up:
      clean = {n: sort(n) for n in NETS}
    for net, other in (NETS, NETS[::-1]):
      mine = params[net], stats[net], momenta[net]
      if epoch < args.warm_up:
        count = len(everything) // args.batch_size
        stream = batches(everything, args.batch_size)
      else:
        w = clean[other]
        known, unknown = everything[w > THRESHOLD], everything[w <= THRESHOLD]
        known = known if len(known) else everything
        count = max(len(known) // size, 1)
        stream = batches(known, size)
        guessed = batches(unknown if len(unknown) else everything, size)
      for k in range(count):
        updates += 1
        key, index = jax.random.fold_in(root, updates), next(stream)
        if epoch < args.warm_up:
          mine = warm(*mine, images[index], labels[index], key, rate)
          continue
        ramp = np.clip((epoch + k / count - args.warm_up) / RAMP, 0, 1)
        mine = main(
          *mine, params[other], stats[other], images[index], labels[index],
          w[index].astype(np.float32), images[next(guessed)], key, rate, args.lambda_u * ramp,
        )  # fmt: skip
      params[net], stats[net], momenta[net] = mine
    curve.append(s.accuracy(params, stats))
  return {"updates": updates // 2, "curve": curve, **s.heap(clean.values())}


def rows_of(path: Path, setting: dict) -> list[dict]:
  rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
  return [row for row in rows if row["setting"] == setting]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--out", type=Path, default=Path("runs/dividemix"))
  parser.add_argument("--seeds", type=int, default=5)
  parser.add_argument("--epochs", type=int, default=40)
  parser.add_argument("--warm_up", type=int, default=10)
  parser.add_argument("--noise", type=float, default=0.4)
  parser.add_argument("--lambda_u", type=float, default=25.0)
  parser.add_argument("--lr", type=float, default=0.02)
  parser.add_argument("--batch_size", type=int, default=64, help="half of it in each side batch")
  parser.add_argument("--widen", type=int, default=1)
  args = parser.parse_args()
  if args.epochs <= args.warm_up:
    parser.error(f"--epochs is {args.epochs}; it must be more than --warm_up, {args.warm_up}")
  setting = {k: v for k, v in vars(args).items() if k not in ("out", "seeds")}
  args.out.mkdir(parents=True, exist_ok=True)
  path = args.out / "results.jsonl"
  for seed in range(args.seeds):
    for program in PROGRAMS:
      done = [(r["program"], r["seed"]) for r in rows_of(path, setting)]
      if (program, seed) in done:
        continue
      start = time.perf_counter()
      result = globals()[program](Setting(args, seed))
      curve = result.pop("curve")
      row = {
        "program": program, "seed": seed, "accuracy": curve[-1], "best": max(curve), **result,
        "seconds": round(time.perf_counter() - start, 1), "curve": curve, "setting": setting,
      }  # fmt: skip
      with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
      print(f"seed {seed} {program:8} accuracy {row['accuracy']:.4f}", flush=True)
  show([r for r in rows_of(path, setting) if r["seed"] < args.seeds])


def show(rows: list[dict]) -> None:
  names = ("accuracy", "best", "precision", "recall", "labelled", "updates", "seconds")
  print(f"{'':8}" + "".join(f"{name:>20}" for name in names))
  for program in PROGRAMS:
    cells = [np.array([r[name] for r in rows if r["program"] == program]) for name in names]
    spread = [c.std(ddof=1) if len(c) > 1 else np.nan for c in cells]
    line = (f"{c.mean():12.4g} ±{d:6.2g}" for c, d in zip(cells, spread, strict=True))
    print(f"{program:8}" + "".join(line))
  by = {(r["program"], r["seed"]): r["accuracy"] for r in rows}
  seeds = sorted({seed for _, seed in by})
  gap = np.array([by["fixed", s] - by["authors", s] for s in seeds])
  error = gap.std(ddof=1) / np.sqrt(len(gap)) if len(gap) > 1 else np.nan
  print(f"accuracy, fixed - authors, paired over {len(gap)} seeds: {gap.mean():+.4f} ± {error:.4f}"
        " (standard error)")  # fmt: skip


if __name__ == "__main__":
  main()
