# %% [markdown]
# # Unbiased label noise: where SGD settles, and when a diffusion says so
#
# "Implicit Regularization Effects of Unbiased Random Label Noises with SGD" studies SGD on labels
# $\tilde y_i = f^*(x_i) + \varepsilon_i$ whose noise has mean 0 and variance $\sigma^2$. The noise
# adds a random push to every step, which the paper reads as a regulariser and describes by a
# diffusion. Its test case is least squares, where SGD does not settle on a point but wanders in a
# cloud. For least squares that cloud can be computed exactly, so here the paper's Figure 1 is drawn
# with the exact clouds on top, and the pictures that the paper offers are held against them. Full
# length it takes about a minute on a CPU core; with `JAXNOISE_FAST=1` runs are shorter.

# %%
import os
import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from jaxnoise import core, theory

FAST = os.environ.get("JAXNOISE_FAST", "0") not in ("", "0")
started = time.perf_counter()
BLUE, ORANGE, GREEN, PINK = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
plt.rcParams.update({"figure.dpi": 90, "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# ## 1. One noise, three scalings
#
# In a batch of $B$ examples the labels' noise adds $\xi = -\frac{1}{B} \sum_j \varepsilon_j \nabla
# f(x_j)$ to the gradient of the loss $\frac{1}{2} (f - \tilde y)^2$. Its covariance is
# $\frac{\sigma^2}{B} G$ with $G = \frac{1}{N} \sum_i \nabla f(x_i) \nabla f(x_i)^T$. The paper has
# a factor $\eta$ more, which is the scaling of a diffusion (its eq. 16); what a step really adds to
# the parameters is $\eta \xi$, with a factor $\eta^2$. The library has all three and asks which is
# meant. Below: $E|\xi|^2$ for a network with 16 hidden units, by formula and by drawing.

# %%
ETA, BATCH = 0.01, 5
DRAWS = 2000 if FAST else 20000


def network(params, x):
  return params["out"] @ jnp.tanh(params["in"] * x + params["bias"])


keys = jax.random.split(jax.random.key(0), 4)
params = {name: jax.random.normal(key, (16,)) for name, key in zip(("in", "bias", "out"), keys)}
inputs = jnp.linspace(-2.0, 2.0, 64)
gradients = theory.output_gradients(network, params, inputs)
print("{} examples, {} parameters, sigma^2 0.5".format(*gradients.shape))
print(f"\n{'scale':<12}{'formula':>12}{'drawn':>12}{'standard error':>17}")
for scale in ("gradient", "paper", "increment"):
  settings = {"batch_size": BATCH, "learning_rate": ETA, "scale": scale}
  strength = float(theory.uln_regularizer_strength(gradients, 0.5, **settings))
  xi = theory.uln_regularizer_draws(keys[3], gradients, 0.5, draws=DRAWS, **settings)
  square = np.sum(np.square(xi, dtype=np.float64), axis=1)
  error = square.std() / DRAWS**0.5
  print(f"{scale:<12}{strength:>12.6f}{square.mean():>12.6f}{error:>17.6f}")
  assert abs(square.mean() - strength) < 4 * error

# %% [markdown]
# Rows differ by factors of $1 / \eta$: as wrong is a comparison with the wrong power of $\eta$.
#
# ## 2. Figure 1, with the exact clouds
#
# $N = 100$ examples of two numbers from $N(0, \Sigma)$, labels $x_i^T \beta^* + \varepsilon_i$ with
# $\beta^* = (1, 1)$. The noise is drawn **once**, so that only the choice of batches makes it move.
# $\eta = 0.01$, $B = 5$, a million steps from $(0, 0)$. At the top $\Sigma = 20 I$ and $\sigma^2$
# grows; below $\sigma^2 = 0.5$ and $\Sigma$ changes. The start, and the two middle values of
# $\sigma^2$, are not in the paper; the ones here are our choice.
#
# Noise that is fixed in the data moves the least-squares solution: SGD cannot know $\beta^*$, it
# wanders about $\hat\beta = (X^T X)^{-1} X^T \tilde y$. Its covariance about that point solves a
# linear equation without any limit or approximation (`theory.least_squares_sgd_stationary`). The
# black ellipse is that solution, drawn to hold 95 % of a normal cloud. The dashed green one is the
# paper's model, noise of a constant covariance about $\beta^*$ (its eq. 20).
#
# A hundred draws are few, and every cloud scales with $\frac{1}{N} \sum_i \varepsilon_i^2$, which
# would hide what is compared here. The seed is therefore the first for which the second moments of
# $x_i$ are within 0.08 and those of $\varepsilon_i x_i$ (at $\hat\beta$) within 0.12 of what they
# estimate, in units of $\Sigma$ and $\sigma^2 \Sigma$.

# %%
STAR = np.ones(2)
SETTINGS = {"learning_rate": ETA, "batch_size": BATCH}
STEPS, EVERY = (20_000, 4) if FAST else (1_000_000, 20)
PANELS = {
  "(a) 20 I, s2 = 0.25": ((20, 20), 0.25),
  "(b) 20 I, s2 = 0.5": ((20, 20), 0.5),
  "(c) 20 I, s2 = 1": ((20, 20), 1.0),
  "(d) 20 I, s2 = 2": ((20, 20), 2.0),
  "(e) 10 I": ((10, 10), 0.5),
  "(f) 100 I": ((100, 100), 0.5),
  "(g) Ver: diag(10, 100)": ((10, 100), 0.5),
  "(h) Hor: diag(100, 10)": ((100, 10), 0.5),
}
rng = np.random.default_rng(76)  # see below
NORMAL, NOISE = rng.normal(size=(100, 2)), rng.normal(size=100)  # shared by all panels


def problem(sigma, variance):
  """Inputs with this covariance, labels without noise, labels with it."""
  x = NORMAL * np.sqrt(sigma)
  return x, x @ STAR, x @ STAR + NOISE * variance**0.5


def ellipse(centre, covariance, share=0.95):
  """The outline [2, 200] that holds this share of a normal distribution."""
  radius = np.sqrt(-2 * np.log(1 - share))
  turn = np.linspace(0, 2 * np.pi, 200)
  circle = radius * np.stack([np.cos(turn), np.sin(turn)])
  return np.asarray(centre)[:, None] + np.linalg.cholesky(covariance) @ circle


fig, axes = plt.subplots(2, 4, figsize=(11.5, 6.2), sharex=True, sharey=True, layout="constrained")
found = {}
for ax, (name, (sigma, variance)) in zip(axes.ravel(), PANELS.items()):
  x, clean, noisy = problem(sigma, variance)
  exact = theory.least_squares_sgd_stationary(x, noisy, **SETTINGS)
  second = x.T @ x / len(x)
  model = theory.uln_additive_covariance(second, variance, **SETTINGS)
  run = {"steps": STEPS, "every": EVERY, **SETTINGS}
  cloud = np.asarray(theory.least_squares_sgd(jax.random.key(2), x, noisy, **run), np.float64)
  first = {"steps": 2000, **SETTINGS}  # every step: the way in
  way, quiet = (
    np.vstack([np.zeros(2), theory.least_squares_sgd(jax.random.key(3), x, labels, **first)])
    for labels in (noisy, clean)
  )
  ax.plot(*cloud.T, ".", color=ORANGE, ms=1.5, alpha=0.15, mew=0, rasterized=True)
  ax.plot(*way[:60].T, color=ORANGE, lw=0.8, label="noisy labels")
  ax.plot(*quiet.T, color=BLUE, lw=1.2, marker=".", ms=3, label="without noise")
  ax.plot(*ellipse(exact.centre, exact.covariance), color="black", lw=1.5, label="exact, 95 %")
  ax.plot(*ellipse(STAR, model), color=GREEN, ls="--", lw=1.5, label="model of eq. (20)")
  ax.plot(*STAR, marker="*", ls="", color=BLUE, ms=12, mec="white", label=r"$\beta^*$")
  ax.plot(*exact.centre, marker="+", ls="", color="black", ms=10, mew=2, label=r"$\hat\beta$")
  ax.set(title=name.replace("s2", r"$\sigma^2$"), aspect="equal")
  found[name] = exact, model, cloud[1000 // EVERY :], quiet[-1]
fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
fig.suptitle("where SGD goes (the way from (0, 0) is cut off at 0.78)")
ax.set(xlim=(0.78, 1.22), ylim=(0.78, 1.22))  # shared by all
plt.show()

print(f"{'variances, 1e-4':<24}{'simulated':>16}{'exact':>16}{'eq. (20)':>16}{'95 % holds':>12}"
      "  off beta*  off beta^")
for name, (exact, model, cloud, quiet) in found.items():
  off = cloud - exact.centre
  variances = [1e4 * v.diagonal() for v in (np.cov(cloud.T), exact.covariance, model)]
  inside = np.einsum("ti,ij,tj->t", off, np.linalg.inv(exact.covariance), off) < 5.991
  away = [np.linalg.norm(cloud.mean(0) - point) for point in (STAR, exact.centre)]
  cells = "".join(f"{a:>9.2f},{b:>6.2f}" for a, b in variances)
  print(f"{name:<24}{cells}{inside.mean():>12.1%}{away[0]:>11.4f}{away[1]:>11.4f}")
  assert np.allclose(quiet, STAR, atol=1e-5)  # without noise it stops at beta*
  if not FAST:
    assert np.allclose(variances[0], variances[1], rtol=0.05)
    assert away[1] < 0.1 * away[0]

# %% [markdown]
# The exact ellipse fits every cloud in size, shape and place. Of what the paper reads off its
# figure this holds: without noise SGD stops at $\beta^*$; the cloud grows with $\sigma^2$ and with
# the trace of $\Sigma$; it is long where $\Sigma$ is. Two things do not. The centre is $\hat\beta$
# and not $\beta^*$ (last two columns). And the model of constant noise is too small where $\eta
# \lambda$ is large: in (f), and along the long axes of (g) and (h). (In (a) to (e) it is a little
# too large, as the noise that was drawn is a little small.) Sections 3 and 4 say why.
#
# ## 3. The limit of small steps is round
#
# In the paper $\sigma^2$ and $\Sigma$ set the span of the cloud and its shape. In the diffusion
# itself the noise $\sqrt{\eta \sigma^2 / B}\, S^{1/2} dW$ is strong along directions of large $S$,
# but the pull $-S (\beta - \beta^*) dt$ back to the centre is too, and by exactly as much: the
# cloud has the variance $\eta \sigma^2 / (2B)$ along **every** axis, for any $S$. Whatever is not
# round in Figure 1 comes from $\eta \lambda$ not being small (0.1 to 1 there). On the left the
# variance of one axis in units of the diffusion's, as the learning rate goes up on a design like
# (b), with fresh noise every step. On the right the clouds of (g) for three learning rates, each in
# units of its own diffusion.

# %%
RATES = ETA * np.geomspace(0.1, 4.0, 7)
CHAINS = 200 if FAST else 1000
x, clean, _ = problem((20, 20), 0.5)
second = x.T @ x / len(x)
limit = theory.least_squares_sgd_limit(x, batch_size=BATCH)


def axis(covariance):
  return np.trace(covariance) / 2  # of both axes, in the mean


def unit(rate):
  return theory.uln_diffusion_variance(0.5, learning_rate=rate, batch_size=BATCH)


def ratios(rate):
  """The variance of an axis over the diffusion's: exact, and by eq. (20)."""
  settings = {"learning_rate": rate, "batch_size": BATCH}
  solved = theory.least_squares_sgd_stationary(x, clean, noise_variance=0.5, **settings)
  model = theory.uln_additive_covariance(second, 0.5, **settings)
  return axis(solved.covariance) / unit(rate), axis(model) / unit(rate)


fine = np.geomspace(0.0005, 0.97 * limit, 80)
curves = np.transpose([ratios(rate) for rate in fine])
dots = []
print(f"{'eta':<10}{'eta lambda':>11}{'simulated':>12}{'exact':>9}{'eq. (20)':>10}"
      "   (variance over the diffusion's)")
for number, rate in enumerate(RATES):
  path = theory.least_squares_sgd(
    jax.random.key(10 + number), x, clean, steps=1000, chains=CHAINS, start=jnp.ones(2),
    noise_variance=0.5, learning_rate=rate, batch_size=BATCH,
  )
  off = np.asarray(path[700:], np.float64) - STAR
  each = np.mean(off**2, axis=(0, 2)) / unit(rate)  # of every chain
  dots.append((each.mean(), each.std() / CHAINS**0.5))
  exact, model = ratios(rate)
  print(f"{rate:<10.5f}{rate * axis(second):>11.3f}{each.mean():>12.3f}{exact:>9.3f}{model:>10.3f}")
  assert abs(each.mean() - exact) < 5 * dots[-1][1] + 0.002

fig, axes = plt.subplots(1, 2, figsize=(10.5, 4.3), layout="constrained")
mean = axis(second)
axes[0].axhline(1, color=PINK, ls=":", lw=2, label="diffusion")
axes[0].plot(fine * mean, curves[1], color=GREEN, ls="--", lw=2, label="model of eq. (20)")
axes[0].plot(fine * mean, curves[0], color="black", lw=2, label="exact")
values, errors = np.transpose(dots)
axes[0].errorbar(RATES * mean, values, 2 * errors, fmt="o", color=ORANGE, label="simulated, 2 s.e.")
axes[0].axvspan(limit * mean, 3, color="grey", alpha=0.15, lw=0)
axes[0].text(np.sqrt(limit * mean * 3), 4, "SGD diverges", rotation=90, ha="center", color="grey")
axes[0].set(xscale="log", yscale="log", xlim=(0.008, 3), ylim=(0.8, 20), xlabel=r"$\eta \lambda$",
            ylabel=r"variance / ($\eta \sigma^2 / 2B$)", title="one axis, design of (b)")
axes[0].set_yticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
axes[0].minorticks_off()
axes[0].legend(frameon=False, loc="upper left")

tall, tall_clean, _ = problem((10, 100), 0.5)
shapes = {}
for rate, color in ((0.01, ORANGE), (0.003, BLUE), (0.0003, "black")):
  solved = theory.least_squares_sgd_stationary(
    tall, tall_clean, noise_variance=0.5, learning_rate=rate, batch_size=BATCH)
  shape = solved.covariance / unit(rate)
  shapes[rate] = np.sqrt(shape[1, 1] / shape[0, 0])
  axes[1].plot(*ellipse(np.zeros(2), shape), color=color, lw=2, label=f"exact, $\\eta$ = {rate}")
axes[1].plot(*ellipse(np.zeros(2), np.eye(2)), color=PINK, ls=":", lw=3, label="diffusion")
axes[1].set(aspect="equal", title="shape of the cloud (g), rescaled", xlabel="first number",
            ylabel="second number", xlim=(-5, 10.5))
axes[1].legend(frameon=False, loc="center right")
plt.show()
print("height over width of (g), by eta:", {eta: f"{value:.3f}" for eta, value in shapes.items()})
assert shapes[0.01] > 1.3 and abs(shapes[0.0003] - 1) < 0.03

# %% [markdown]
# For small $\eta \lambda$ all agree, and the cloud is round though $\Sigma$ is not. At the paper's
# $\eta = 0.01$ the diffusion is already too small. Beyond, eq. (20) falls behind too: it grows as
# $1 / (1 - \eta \lambda / 2)$, to a pole at $\eta \lambda = 2$, while SGD's own pole comes first.
#
# ## 4. What constant noise leaves out
#
# A step multiplies the distance from the centre by $I - \eta H$ with $H$ the batch's mean of $x
# x^T$. Eq. (20) has the mean of all examples there; SGD has another $H$ every step, so that noise
# grows with the distance from the centre. That is $\Sigma_{SGD}$ of eq. (14), which depends on
# $\beta$. With it, a model of normal noise has the very first and second moments of SGD with fresh
# noise and batches with replacement. In 100 I, where $\eta \lambda$ is about 1:

# %%
x, clean, noisy = problem((100, 100), 0.5)
second = x.T @ x / len(x)
exact = theory.least_squares_sgd_stationary(x, clean, noise_variance=0.5, **SETTINGS)
model20 = theory.uln_additive_covariance(second, 0.5, **SETTINGS)
RUNS, LENGTH, BURN = (200, 300, 60) if FAST else (800, 600, 100)


def sgd(key):
  return theory.least_squares_sgd(
    key, x, clean, steps=LENGTH, chains=RUNS, start=jnp.ones(2), noise_variance=0.5, **SETTINGS)


def normal_model(key):
  given = lambda beta, row: beta @ row, jnp.ones(2), jnp.float32(x), jnp.float32(clean)
  options = {"steps": LENGTH, "noise_variance": 0.5, **SETTINGS}
  run = jax.vmap(lambda key: theory.uln_dynamics(key, *given, **options), out_axes=1)
  return run(jax.random.split(key, RUNS))


fig, ax = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
bins = np.linspace(-0.4, 0.4, 81)
print(f"eta lambda: {', '.join(f'{ETA * v:.2f}' for v in np.linalg.eigvalsh(second))}")
print(f"{'':<30}{'variances, 1e-4':>18}{'kurtosis':>10}   (3 for a normal distribution)")
for name, run, color in (("SGD", sgd, ORANGE), ("normal noise of eq. (14)", normal_model, BLUE)):
  off = np.asarray(run(jax.random.key(20))[BURN:], np.float64) - STAR
  variances, each = np.mean(off**2, axis=(0, 1)), np.mean(off**2, axis=0)
  kurtosis = np.mean(np.mean(off**4, axis=(0, 1)) / variances**2)
  print(f"{name:<30}{1e4 * variances[0]:>9.2f},{1e4 * variances[1]:>8.2f}{kurtosis:>10.2f}")
  assert np.all(np.abs(variances - exact.covariance.diagonal()) < 5 * each.std(0) / RUNS**0.5)
  drawn = {"color": color, "lw": 2, "label": name}
  ax.hist(off[..., 0].ravel(), bins=bins, density=True, histtype="step", **drawn)
for name, covariance, color, dash in (
  ("normal, exact variance", exact.covariance, "black", "-"),
  ("constant noise of eq. (20)", model20, GREEN, "--"),
):
  variance, other = covariance.diagonal()
  print(f"{name:<30}{1e4 * variance:>9.2f},{1e4 * other:>8.2f}{3:>10.2f}")
  density = np.exp(-(bins**2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
  ax.plot(bins, density, color=color, ls=dash, lw=1.5, label=name)
ax.set(yscale="log", ylim=(2e-3, 30), xlabel=r"first number, distance from $\beta^*$",
       ylabel="density", title="100 I")
ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# Eq. (14) has the right variance, eq. (20) far too little. Tails are heavier than a normal
# distribution's even where every single push is normal, since pushes are larger farther out; SGD's
# are heavier still. The paper's "Gaussian-alike" is right of the middle.
#
# How the batches are drawn counts as well. With the noise in the labels, subsets instead of draws
# with replacement shrink all the noise of a step by $(N - B) / (N - 1)$. Shuffled epochs are
# another matter: the pushes of an epoch nearly cancel. There is no equation for it here, only the
# simulator. Design (b), variances over the exact ones with replacement:

# %%
x, clean, noisy = problem((20, 20), 0.5)
base = theory.least_squares_sgd_stationary(x, noisy, **SETTINGS)
print(f"{'batches of 5 of 100':<24}{'simulated':>11}{'exact':>9}")
for sampling in ("with_replacement", "without_replacement", "epoch"):
  path = theory.least_squares_sgd(
    jax.random.key(30), x, noisy, steps=600, chains=CHAINS, sampling=sampling,
    start=jnp.asarray(base.centre), **SETTINGS)
  each = np.mean((np.asarray(path[200:], np.float64) - base.centre) ** 2, axis=(0, 2))
  each, solved = each / axis(base.covariance), np.nan
  if sampling != "epoch":
    same = theory.least_squares_sgd_stationary(x, noisy, sampling=sampling, **SETTINGS)
    solved = axis(same.covariance) / axis(base.covariance)
    assert abs(each.mean() - solved) < 5 * each.std() / CHAINS**0.5
  print(f"{sampling:<24}{each.mean():>11.3f}{solved:>9.3f}")
assert each.mean() < 0.9  # the epochs

# %% [markdown]
# ## 5. When there is no cloud at all
#
# The cloud exists while the second moments shrink: the spectral radius of $S \mapsto E[(I - \eta H)
# S (I - \eta H)]$ has to be below 1. It is one eigenvalue problem, and so is the largest learning
# rate for which it holds. The text of the paper writes the loss $(f - y)^2$, its gradients are
# those of half of it. With the full one every gradient doubles, and the paper's own panel (f) is
# beyond the limit. The library refuses it, and says what would work.

# %%
x, clean, noisy = problem((100, 100), 0.5)
limits = {name: theory.least_squares_sgd_limit(x, batch_size=BATCH, loss=name)
          for name in ("half", "full")}
print("largest stable eta on 100 I: half loss {half:.5f}, full loss {full:.5f}".format(**limits))
descent = 2 / np.linalg.eigvalsh(x.T @ x / 100)[-1]
print(f"gradient descent on all examples: half loss {descent:.5f}, full loss {descent / 2:.5f}")
try:
  theory.least_squares_sgd(jax.random.key(0), x, noisy, steps=10, loss="full", **SETTINGS)
except core.InputError as error:
  refusal = str(error)
print(f"\nInputError: {refusal}")

fig, axes = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
fine, ends = np.linspace(0.0005, 0.02, 80), {}
for loss, color in (("half", BLUE), ("full", ORANGE)):
  radius = [theory.least_squares_sgd_radius(x, learning_rate=rate, batch_size=BATCH, loss=loss)
            for rate in fine]
  axes[0].plot(fine, radius, color=color, lw=2, label=f"{loss} loss")
  axes[0].plot(limits[loss], 1, "o", color=color)
  path = theory.least_squares_sgd(
    jax.random.key(40), x, noisy, steps=200, chains=500, loss=loss, start=jnp.ones(2),
    allow_divergence=True, **SETTINGS)
  square = np.sum((np.asarray(path, np.float64) - STAR) ** 2, axis=2)
  axes[1].plot(square.mean(1), color=color, lw=2, label=f"{loss} loss, mean")
  axes[1].plot(np.median(square, axis=1), color=color, ls=":", lw=2, label=f"{loss} loss, median")
  ends[loss] = square[-1].mean(), np.median(square[-1])
axes[0].axhline(1, color="grey", lw=1)
axes[0].axvline(ETA, color="grey", lw=1, ls="--")
axes[0].set(ylim=(0, 3), xticks=[0, 0.005, 0.01, 0.015, 0.02], xlabel=r"$\eta$",
            ylabel="spectral radius", title="second moments, 100 I")
axes[0].text(ETA, 2.9, r" the paper's $\eta$", va="top", color="grey")
axes[1].set(yscale="log", xlabel="step", ylabel=r"$|\beta - \beta^*|^2$", title=r"$\eta$ = 0.01")
axes[0].legend(frameon=False, loc="upper left")
axes[1].legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()
for loss, end in ends.items():
  print("squared distance after 200 steps, {} loss: mean {:.2g}, median {:.2g}".format(loss, *end))
assert limits["full"] < ETA < limits["half"] and np.isclose(limits["half"], 2 * limits["full"])
assert f"learning_rate={limits['full']:.4g}" in refusal
assert min(ends["full"]) > 1e3 and max(ends["half"]) < 0.05

# %% [markdown]
# With the full loss not even gradient descent on all examples is stable at $\eta = 0.01$, and SGD
# needs less than gradient descent with either loss: the batches' own noise has to shrink too. The
# bound is one of the mean, which a few chains can carry up; here all of them run away.
#
# **What is found.** On least squares the stationary cloud of SGD is known exactly, and runs agree
# with it: centre $\hat\beta$, covariance by one linear solve. The diffusion gives its size where
# $\eta \lambda$ is small, and there it is round. What Figure 1 shows of shapes is an effect of
# large steps, of which constant noise explains a part and the sampling of the examples the rest.
#
# **What this does not say.** Nothing about networks, where $G$ changes along the way and the noise
# may lead to outputs less sensitive to the parameters. Nothing about accuracy either; on least
# squares label noise only costs. The data are one draw, chosen as said in section 2.

# %%
print(f"all checks passed after {time.perf_counter() - started:.0f} s")
