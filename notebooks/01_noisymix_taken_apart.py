# %% [markdown]
# # NoisyMix, taken apart
#
# NoisyMix (Erichson et al.) trains on mixed and noised features of augmented images and asks that
# the views of an image be classified alike. This notebook opens one step of it on scikit-learn's
# 8x8 digits: the views, the mixing, each term of the loss with its gradient, and what remains when
# a part is switched off. It takes one to two minutes on a CPU; with `JAXNOISE_FAST=1` in the
# environment the same cells train for fewer epochs.

# %%
import os
import time

# Compiling takes longer here than running: ask for less of it, unless the environment says more.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from jaxnoise import augment, core, corruptions, data, methods, models

FAST = os.environ.get("JAXNOISE_FAST", "0") not in ("", "0")
started = time.perf_counter()
plt.rcParams.update({"figure.dpi": 90, "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# ## 1. The loss is a function
#
# A batch is a dictionary, a network a pair of pure functions `init` and `apply`, a state a tree of
# arrays. `method.loss_fn(state)` is a function of `(params, batch, rng)`: what it reads from the
# state is constant, what comes through `params` is differentiated.

# %%
source = data.digits()
train_set = data.device_data(source)
spec = core.Spec(source.num_train, source.num_classes, source.image_shape)
half = (0.5, 0.5, 0.5)
network = models.network(models.wide_resnet(10, depth=10, widen_factor=1, mean=half, std=half))
params, batch_stats = network.init(jax.random.key(0), jnp.zeros((1, *spec.image_shape)))
state = core.TrainState.create(jax.random.key(1), params, batch_stats)
batch = data.gather(train_set, jnp.arange(64))
rng = jax.random.key(2)

# %%
loss_fn = methods.noisymix(network, spec=spec).loss_fn(state)
grad_fn = jax.jit(jax.grad(loss_fn, has_aux=True))
grads, aux = grad_fn(params, batch, rng)

count = sum(p.size for p in jax.tree.leaves(params))
grad_norm = float(optax.global_norm(grads))
print(f"{count:,} parameters, gradient norm {grad_norm:.3f}")
for name, (total, rows) in aux.metrics.items():
  print(f"{name:>10} {float(total / rows):.4f}")

# %% [markdown]
# ## 2. The views
#
# An image $x^0$ gets two further views $x^1, x^2$, each an AugMix draw: a few chains of image
# operations, averaged with random weights and blended with the image itself,
#
# $$x^v = (1 - m)\,x^0 + m \sum_i w_i\, c_i(x^0), \qquad
#   w \sim \mathrm{Dirichlet}(1, 1, 1),\quad m \sim \mathrm{Beta}(1, 1).$$
#
# A method knows a network only by its `apply`, so an `apply` that takes notes shows exactly what
# the loss gives to the network: the views, and the activations before and after each *tap*, the
# places where something may be mixed in. Tap 0 is the normalised image, tap $k$ the output of
# stage $k$.

# %%
@jax.jit
def look_inside(state, batch, rng):
  seen = {}

  def apply(params, batch_stats, image, *, tap, **options):
    def noting(stage, h):
      seen[f"before {stage}"], seen[f"after {stage}"] = h, tap(stage, h)
      return seen[f"after {stage}"]

    seen["views"] = image
    return network.apply(params, batch_stats, image, tap=noting, **options)

  spied = methods.noisymix(network._replace(apply=apply), spec=spec)
  spied.loss_fn(state)(state.params, batch, rng)
  return seen

# %%
def grid(images, rows, title):
  """Shows images [R, C, H, W, 3] in [0, 1], one row label each."""
  height, width = len(images), len(images[0])
  size = (width + 1.2, height + 0.4)
  fig, axes = plt.subplots(height, width, figsize=size, squeeze=False, layout="constrained")
  for label, line, row in zip(rows, axes, images, strict=True):
    line[0].set_ylabel(label, rotation=0, ha="right", va="center")
    for ax, image in zip(line, row, strict=True):
      ax.imshow(image)
      ax.set(xticks=[], yticks=[])
      ax.spines[:].set_visible(False)
  fig.suptitle(title)
  plt.show()


def signed(maps):
  """Colours maps by sign: red is positive, blue negative, the largest magnitude the darkest."""
  maps = np.asarray(maps)
  return plt.get_cmap("RdBu_r")(0.5 + 0.5 * maps / np.abs(maps).max())[..., :3]


views = look_inside(state, batch, rng)["views"]
grid(views[:8].swapaxes(0, 1), ["$x^0$", "$x^1$", "$x^2$"], "the clean image and two AugMix views")

# %% [markdown]
# ## 3. Mixing, with noise
#
# In one forward pass a single stage $k$ is drawn. There, one coefficient $\lambda$ and one
# permutation $\sigma$ of the batch serve all three views:
#
# $$h^v = (1 + m^v) \odot \bigl(\lambda\, g_k(x^v) + (1 - \lambda)\, g_k(x^v)_\sigma\bigr) + a^v,
#   \qquad \lambda \sim \mathrm{Beta}(\alpha, \alpha).$$
#
# The noise is sparse: 65 % of the entries of $m$, and 65 % of those of $a$, are zero. In the
# authors' code, and here by default, the additive noise is two and three times as strong on the
# second and third view. Keys are derived from names, so a notebook can repeat a draw of the loss.

# %%
@jax.jit
def draws(rng):
  streams = core.Streams(rng)
  partners = augment.sample_partners(streams("partners"), 64)[0]
  stage = jax.random.randint(streams("stage"), (), 0, 4)
  return stage, augment.sample_coefficient(streams("lam"), 1.0), partners


def find(wanted):
  """The first key whose loss mixes at this stage, with a coefficient that shows both images."""
  for seed in range(1000):
    stage, lam, partners = draws(jax.random.key(seed))
    if stage == wanted and 0.5 < lam < 0.7:
      return jax.random.key(seed), lam, partners
  raise LookupError

# %%
key, lam, partners = find(0)
inside = look_inside(state, batch, key)
pixels = inside["after 0"] * 0.5 + 0.5  # tap 0 comes after the normalisation
lines = [inside["views"][:8, 0], inside["views"][partners[:8], 0], *pixels[:8].swapaxes(0, 1)]
labels = ["$x^0$", r"$x^0_\sigma$", "$h^0$", "$h^1$", "$h^2$"]
grid(np.clip(lines, 0, 1), labels, rf"mixed at the input, $\lambda$ = {lam:.2f}")

mixed = augment.mix(inside["before 0"], partners[None], lam)
untouched = float(jnp.mean(jnp.isclose(inside["after 0"], mixed, atol=1e-6)))
print(f"only mixed, no noise: {untouched:.1%} of the entries; 0.65^2 = {0.65**2:.1%}")

# %% [markdown]
# The same at the first residual stage. Each column is one channel of one image's activations $g_1$,
# on a scale of its own; the other taps let everything pass.

# %%
key, lam, partners = find(1)
inside = look_inside(state, batch, key)
before, after = inside["before 1"][:, 0], inside["after 1"][:, 0]
maps = jnp.stack([before[0], before[partners[0]], after[0]])
channels = np.stack([signed(maps[..., c]) for c in range(8)], axis=1)
grid(channels, ["$g_1(x)$", r"$g_1(x)_\sigma$", "$h$"], rf"mixed at stage 1, $\lambda$ = {lam:.2f}")
changed = [k for k in range(4) if bool(jnp.any(inside[f"before {k}"] != inside[f"after {k}"]))]
print("taps that changed something:", changed)

# %% [markdown]
# ## 4. The loss, term by term
#
# With logits $z^v$ of the three views and $p^v = \mathrm{softmax}(z^v)$,
#
# $$L = \underbrace{\tfrac1B \sum_i \lambda\, \mathrm{CE}(z^0_i, y_i)
#       + (1 - \lambda)\, \mathrm{CE}(z^0_i, y_{\sigma(i)})}_{\text{label term}}
#     + \gamma\, \underbrace{\tfrac1B \sum_i \mathrm{JSD}(p^0_i, p^1_i, p^2_i)}_{\text{stability}},
# \qquad
# \mathrm{JSD} = \tfrac13 \sum_v \mathrm{KL}\bigl(p^v \,\|\, \bar p\bigr), \quad
# \bar p = \tfrac13 \sum_v p^v,$$
#
# with $\gamma = 12$. The loss reports both terms, and what it reports is as differentiable as the
# loss. So one forward pass and two backward passes give the gradient of each, with respect to the
# parameters and to the images, and their sum is a training step.

# %%
GAMMA = 12.0
STEPS = 30 if FAST else 120
optimizer = optax.sgd(optax.cosine_decay_schedule(0.1, STEPS), momentum=0.9, nesterov=True)
method = methods.noisymix(network, spec=spec, jsd_weight=GAMMA)


@jax.jit
def dissected_step(state, batch, rng):
  def terms(params, image):
    _, aux = method.loss_fn(state)(params, {**batch, "image": image}, rng)
    value = {name: total / rows for name, (total, rows) in aux.metrics.items()}
    return (value["label_loss"], GAMMA * value["jsd"]), aux.batch_stats

  values, pull, batch_stats = jax.vjp(terms, state.params, batch["image"], has_aux=True)
  label, label_pixels = pull((jnp.ones(()), jnp.zeros(())))
  stability, stability_pixels = pull((jnp.zeros(()), jnp.ones(())))
  grads = jax.tree.map(jnp.add, label, stability)
  updates, opt_state = optimizer.update(grads, state.opt_state)
  new = state.replace(
    step=state.step + 1,
    params=optax.apply_updates(state.params, updates),
    batch_stats=batch_stats,
    opt_state=opt_state,
  )
  norms = optax.global_norm(label), optax.global_norm(stability)
  cosine = optax.tree_utils.tree_vdot(label, stability) / (norms[0] * norms[1])
  return new, grads, (values, norms, cosine), (label_pixels, stability_pixels)

# %% [markdown]
# On the parameters of section 1 and with the same key, the two gradients must add up to the one
# found there. Then we train for a moment and watch them.

# %%
current = state.replace(opt_state=optimizer.init(params))
_, summed, _, _ = dissected_step(current, batch, rng)
mismatch = float(optax.global_norm(jax.tree.map(jnp.subtract, summed, grads))) / grad_norm
print(f"relative difference to jax.grad of the whole loss: {mismatch:.1e}")

history = []
for i in range(STEPS):
  rows = jax.random.choice(jax.random.fold_in(rng, i), spec.num_train, (64,), replace=False)
  key = core.step_key(rng, i)
  current, _, record, _ = dissected_step(current, data.gather(train_set, rows), key)
  history.append(record)
values, norms, cosines = jax.device_get(jax.tree.map(lambda *x: jnp.stack(x), *history))

# %%
third = STEPS // 3
print(f"{'mean over steps':<17}{'term':<11}{'value':>7}{'gradient norm':>15}{'cosine':>8}")
for part in (slice(0, third), slice(STEPS - third, STEPS)):
  for term, value, norm in zip(("label", "12 JSD"), values, norms, strict=True):
    where = f"{part.start + 1} to {part.stop}"
    cells = f"{value[part].mean():7.3f}{norm[part].mean():15.3f}{cosines[part].mean():8.2f}"
    print(f"{where:<17}{term:<11}{cells}")

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3), sharex=True, layout="constrained")
colors = {"label term": "tab:blue", "12 JSD": "tab:orange"}
for ax, title, series in zip(axes, ("value", "gradient norm"), (values, norms), strict=True):
  for (term, color), line in zip(colors.items(), series, strict=True):
    smooth = [line[max(0, i - 9) : i + 1].mean() for i in range(STEPS)]
    ax.plot(line, color=color, alpha=0.25, lw=0.8)
    ax.plot(smooth, color=color, label=term)
  ax.set(title=f"{title} of each term", xlabel="step", ylim=(0, None))
axes[0].legend(frameon=False)
plt.show()

# %% [markdown]
# Faint lines are single steps, strong ones means of the last ten. The label term does not go to
# zero: the mixed label of two digits has an entropy of its own, and the drawn $\lambda$ decides how
# much. The stability term starts near zero, as a fresh network says much the same of every view; it
# stays small in value, yet comes to pull about as hard as the labels do.
#
# Gradients reach the images too. Red pixels raise the term when they get brighter, blue ones when
# they get darker; what AugMix computes on grey levels passes no gradient, so a view contributes
# through the share $1 - m$ of the image in it.

# %%
key, lam, partners = find(0)
_, _, _, pixel_grads = dissected_step(current, batch, key)
maps = [signed(g[:8].sum(-1)) for g in pixel_grads]
labels = ["$x$", r"$\partial\,$label$/\partial x$", r"$\partial\,$JSD$/\partial x$"]
grid([batch["image"][:8], *maps], labels, "the batch, and what each term asks of its pixels")

# %% [markdown]
# ## 5. The switches
#
# The paper's Table 4 switches four parts on and off: **A**ugMix data, **M**ixing, **N**oise, and
# the **J**SD. Without J a single view is trained on, AugMix's if A is on. Each is an argument:

# %%
ROWS = ["----", "--N-", "-M--", "-MN-", "A---", "A-NJ", "A--J", "AMN-", "AM-J", "AMNJ"]


def switched(row):
  return {
    "policy": augment.augmix if "A" in row else None,
    "alpha": 1.0 if "M" in row else 0.0,
    "add_noise": 0.5 if "N" in row else 0.0,
    "mult_noise": 0.5 if "N" in row else 0.0,
    "jsd_weight": GAMMA if "J" in row else 0.0,
  }

# %% [markdown]
# Ten programs are compiled, so the network had better be small. It also shows what a method needs
# to know of a network: two functions, with a call of `tap` wherever something may be mixed in.

# %%
def init(rng, image):
  del image
  keys, he = jax.random.split(rng, 3), jax.nn.initializers.he_normal()
  shapes = {"conv1": (3, 3, 3, 16), "conv2": (3, 3, 16, 32), "head": (32, 10)}
  return {name: he(key, shape) for key, (name, shape) in zip(keys, shapes.items())}, {}


def apply(params, batch_stats, image, *, tap=lambda stage, h: h, **unused):
  def layer(h, kernel, stride):  # images have any number of leading axes: [B, V, H, W, C]
    out = models.conv(h.reshape(-1, *h.shape[-3:]), kernel, stride=stride)
    return jax.nn.relu(out).reshape(*h.shape[:-3], *out.shape[1:])

  h = tap(0, (image - 0.5) / 0.5)
  h = tap(1, layer(h, params["conv1"], 1))
  h = layer(h, params["conv2"], 2)
  return core.Output(h.mean((-3, -2)) @ params["head"], batch_stats, {})


small = core.Network(init, apply, num_stages=1)

# %% [markdown]
# Training is ten lines: a step that draws nothing but from its key, and a loop that dispatches it.

# %%
EPOCHS, BATCH = 3 if FAST else 20, 64
BATCHES = spec.num_train // BATCH


def train(method, seed=0):
  root = jax.random.key(seed)
  steps = EPOCHS * BATCHES
  optimizer = optax.sgd(optax.cosine_decay_schedule(0.1, steps), momentum=0.9, nesterov=True)

  @jax.jit
  def step(state, train_set, order):
    rows = jax.lax.dynamic_slice(order, (state.step % BATCHES * BATCH,), (BATCH,))
    key = core.step_key(root, state.step)
    _, grads = method.grad_fn(state)(state.params, data.gather(train_set, rows), key)
    updates, opt_state = optimizer.update(grads, state.opt_state)
    params = optax.apply_updates(state.params, updates)
    return state.replace(step=state.step + 1, params=params, opt_state=opt_state)

  params, batch_stats = small.init(core.fold(root, "init"), None)
  state = core.TrainState.create(root, params, batch_stats, opt_state=optimizer.init(params))
  for epoch in range(EPOCHS):
    order = data.epoch_order(root, epoch, spec.num_train)
    for _ in range(BATCHES):
      state = step(state, train_set, order)
  return state

# %% [markdown]
# Besides the clean test set, one corruption each of noise, weather and resolution, at severity 5 of
# 5. Blur would show nothing: radii scale with the image, and on 8 pixels little is left of them.

# %%
test = data.gather(data.pool_data(source.test), jnp.arange(360))
test_images = {"clean": test["image"]}
for name in ("gaussian_noise", "fog", "pixelate"):
  test_images[name] = corruptions.corrupt(jax.random.key(3), test["image"], name, 5)
grid([x[:8] for x in test_images.values()], list(test_images), "the test sets")


@jax.jit
def accuracy(params, image):
  return jnp.mean(jnp.argmax(small.apply(params, {}, image).logits, -1) == test["label"])

# %%
table = {}
columns = list(test_images)
print(f"{'row':<6}" + "".join(f"{name:>16}" for name in columns) + f"{'seconds':>9}")
for row in ROWS:
  begun = time.perf_counter()
  method = methods.noisymix(small, spec=spec, stages=(0, 1), **switched(row))
  trained = train(method)
  table[row] = [100 * float(accuracy(trained.params, x)) for x in test_images.values()]
  cells = "".join(f"{value:16.1f}" for value in table[row])
  print(f"{row:<6}{cells}{time.perf_counter() - begun:9.1f}")

# %%
fig, axes = plt.subplots(1, 4, figsize=(10, 3), sharey=True, layout="constrained")
for ax, name, bars in zip(axes, columns, zip(*table.values()), strict=True):
  ax.barh(ROWS, bars, color=["tab:orange" if "J" in row else "tab:blue" for row in ROWS])
  ax.set(title=name.replace("_", " "), xlim=(0, 100), xlabel="accuracy (%)")
axes[0].invert_yaxis()
axes[0].set_yticks(range(len(ROWS)), ROWS, family="monospace")
fig.suptitle("test accuracy by row; orange rows have the stability term")
plt.show()

# %% [markdown]
# **What this does not say.** One seed, 360 test images (a standard error of 1 to 3 points on every
# bar), a two-layer network and a moment of training: the cell shows that each switch changes what
# is trained, and no ranking. The paper's ranking is of a wide residual network on CIFAR-100-C,
# where its rows rise from 47.4 % with everything off to 71.9 % with everything on. Several seeds
# with intervals are `config.seeds` and the commands' work, not a notebook's.

# %%
assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves((grads, pixel_grads)))
assert all(bool(jnp.any(g != 0)) for g in pixel_grads)
assert bool(jnp.array_equal(views[:, 0], batch["image"]))
assert all(float(jnp.abs(views[:, v] - views[:, 0]).max()) > 0.1 for v in (1, 2))
assert abs(untouched - 0.65**2) < 0.02
assert changed == [1] and mismatch < 1e-3
assert (values[1] >= 0).all() and np.isfinite(norms).all() and list(table) == ROWS
assert all(0 <= value <= 100 for line in table.values() for value in line)
assert table["----"][0] > (30 if FAST else 85)
print(f"all checks passed after {time.perf_counter() - started:.0f} s")
