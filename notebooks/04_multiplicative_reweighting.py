# %% [markdown]
# # Multiplicative reweighting: where the weight of wrong labels goes
#
# Multiplicative reweighting (MR, "Multiplicative Reweighting for Robust Neural Network
# Optimization") keeps one number per training example, the sum $L_i$ of its losses at the ends of
# the epochs so far, and weighs the example by $p_i \propto e^{-\eta L_i}$. What has been hard to
# fit counts less. Here the paper's Figure 1 and what is proved of it are computed on toys, MR is
# used as a function in a loop of one's own, and Figures 2 to 5 are repeated on scikit-learn's
# digits instead of CIFAR-10. It takes about five minutes on two CPU cores; with `JAXNOISE_FAST=1`
# in the environment fewer networks are trained, for a moment each.

# %%
import dataclasses
import logging
import os
import pathlib
import tempfile
import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxnoise
from jaxnoise import core, methods, metrics, stats, theory
from jaxnoise.training import cache

FAST = os.environ.get("JAXNOISE_FAST", "0") not in ("", "0")
RUNS = pathlib.Path(tempfile.mkdtemp(prefix="jaxnoise-"))
started = time.perf_counter()
logging.getLogger("absl").setLevel(logging.ERROR)  # the checkpoint library narrates
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(RUNS / "cache"))
cache.use_compilation_cache()
BLUE, ORANGE, GREEN, PINK = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
plt.rcParams.update({"figure.dpi": 90, "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# ## 1. Figure 1: two toys with one parameter
#
# $N = 15$ examples with $x_i = y_i = \pm1$, a third of them corrupted ($\sigma = 1/3$, $\Delta =
# 1/2 - \sigma$). At the left labels are flipped, the loss is logistic, and the clean loss is
# $\log(1 + e^{-\theta})$. At the right they get an error $e_i = \pm1$, the loss is squared, and the
# clean loss is $(\theta - 1)^2 / 2$. MR has $\eta = 1$ in both. Double precision, as the curves
# fall far.

# %%
STEPS, SIGMA = 1000, 1 / 3
with jax.enable_x64(True):
  figure1 = jax.device_get(theory.figure1_simulation(jax.random.key(5), steps=STEPS))
  labels = figure1.x * (1 + figure1.corruption)
  solved = theory.reweighted_least_squares(figure1.x, labels, steps=STEPS, step_size=1.0)
  solved = jax.device_get(solved)

fig, axes = plt.subplots(1, 2, figsize=(9.6, 3.4), layout="constrained")
parts = {
  "clean_gd": ("GD, clean labels", BLUE, "-"),
  "noisy_gd": ("GD, noisy labels", ORANGE, "--"),
  "mr_gd": ("MR-GD, noisy labels", GREEN, "-."),
}
for name, (label, color, dash) in parts.items():
  curve = figure1.logistic[name][1:]
  axes[0].plot(np.arange(1, STEPS + 1), curve, color=color, ls=dash, lw=2, label=label)
axes[0].set(title="logistic", xscale="log", xlim=(1, STEPS), ylabel="clean loss")
parts = {
  "ls": ("LS", ORANGE, "--"),
  "mr_ls": ("MR-LS", GREEN, "-"),
  "mr_gd": ("MR-GD", BLUE, ":"),
}
for name, (label, color, dash) in parts.items():
  axes[1].plot(figure1.linear[name], color=color, ls=dash, lw=2, label=label)
axes[1].set(title="linear", xlim=(0, 40), ylim=(1e-16, 2))
for ax in axes:
  ax.set(xlabel="step", yscale="log")
  ax.legend(frameon=False)
plt.show()

k = int(figure1.corruption.sum())
print(f"noisy GD ends at {figure1.logistic['noisy_gd'][-1]:.6f}, log 1.5 = {np.log(1.5):.6f}")
plateau = (k / 15) ** 2 / 2
print(f"LS stays at {figure1.linear['ls'][-1]:.6f}, (k / 15)^2 / 2 with k = {k} is {plateau:.6f}")
print("clean loss after     " + "".join(f"{t:>10}" for t in (1, 10, 100, 1000)))
for name in ("clean_gd", "mr_gd"):
  cells = "".join(f"{figure1.logistic[name][t]:10.6f}" for t in (1, 10, 100, 1000))
  print(f"  {name:<19}{cells}")
after = ", ".join(f"{figure1.linear['mr_ls'][t]:.1e}" for t in (5, 10, 20))
print(f"MR-LS after 5, 10 and 20 updates: {after}")

# %% [markdown]
# On noisy labels gradient descent stops where the pull of the wrong labels balances that of the
# right ones, $\log\frac{1}{1 - \sigma}$. With MR it follows the run on clean labels: the flipped
# examples lose their weight, and the rest is separable. Least squares stays where the errors leave
# it, for which only their signed sum $k$ counts; reweighted, it goes to the true parameter
# exponentially. (The key is one that gives three errors more of one sign than of the other; one
# more is commoner, and the plateau then a ninth as high.) With learning rate 1 a gradient step
# solves the linear problem, so that MR-GD is MR-LS one step later.
#
# ## 2. What is proved, and how tight it is
#
# `jaxnoise.theory` has every lemma and theorem as a function, in corrected form where the print
# slips. Lemma 5 says after how many steps the loss on clean labels is below $\epsilon$, Theorem 8
# the same of MR on noisy ones, here beside the first step at which it is so. The factor $2N/\sigma$
# that is printed is valid; the proof needs $2/\sigma$. Theorem 9 bounds the distance of MR-LS from
# the truth. And the weights are what a regularised leader would play: of all distributions they
# minimise $\langle p, L \rangle + \frac{1}{\eta} \sum_i (p_i \log p_i - p_i)$.

# %%
print(f"{'':8}{'clean labels, GD':^24}{'a third flipped, MR':^34}")
print(f"{'epsilon':<8}{'first':>10}{'Lemma 5':>12}{'first':>12}{'Theorem 8':>12}{'as printed':>12}")
hits = {}
for epsilon in (0.5, 0.1, 0.05, 0.01):
  clean = int(np.argmax(figure1.logistic["clean_gd"] < epsilon))
  noisy = int(np.argmax(figure1.logistic["mr_gd"] <= epsilon))
  lemma5 = float(theory.mr_lemma5_steps(epsilon))
  tight = float(theory.mr_theorem8_steps(epsilon, SIGMA))
  printed = float(theory.mr_theorem8_steps(epsilon, SIGMA, 15))
  hits[epsilon] = clean, lemma5, noisy, tight, printed
  print(f"{epsilon:<8}{clean:>10}{lemma5:>12.2f}{noisy:>12}{tight:>12.1f}{printed:>12.1f}")

with jax.enable_x64(True):
  t = jnp.arange(STEPS + 1)
  toy = jax.device_get(theory.logistic_trajectory(SIGMA, steps=STEPS, step_size=1.0))
  lemma7 = float(theory.mr_lemma7_gap(toy.theta).min())
  plain = theory.logistic_trajectory(SIGMA, steps=STEPS)
  error6 = np.abs(np.asarray(plain.theta - theory.mr_lemma6_limit(SIGMA).theta))
  lemma6 = np.asarray(theory.mr_lemma6_bound(SIGMA, t))
  lemma10 = np.asarray(theory.mr_lemma10_bound(t, SIGMA, 1.0, 1.0, 15))
  theorem9 = np.asarray(theory.mr_theorem9_bound(t, SIGMA, 1.0, 1.0))
  tighter = np.asarray(theory.mr_theorem9_bound(t, SIGMA, 1.0, 1.0, tight=True))
  summed = np.cumsum(solved.losses, axis=0)[:-1]
  ftrl = np.asarray(theory.mr_ftrl_gap(solved.weights[1:], summed, 1.0))
error9 = np.abs(solved.theta - 1)
print(f"\nLemma 7: the smallest step of {STEPS} is {lemma7:.6f}, above 0")
print(f"\n{'update':<8}{'|theta - 1|':>14}{'tighter':>12}{'Theorem 9':>12}")
for at in (0, 1, 10, 20, 40):
  print(f"{at:<8}{error9[at]:>14.2e}{tighter[at]:>12.2e}{theorem9[at]:>12.2e}")
print(f"\nthe weights of MR-LS miss the leader's minimum by {np.abs(ftrl).max():.1e} at most")

assert abs(figure1.logistic["noisy_gd"][-1] - np.log(1.5)) < 1e-9
assert np.all(error6 <= lemma6 + 1e-15)  # Lemma 6, with the linear rate derived for it
assert np.allclose(figure1.linear["ls"], (k / 15) ** 2 / 2)
assert np.allclose(figure1.linear["mr_gd"][1:], figure1.linear["mr_ls"][:-1], atol=1e-15)
assert lemma7 > 0 and np.allclose(figure1.logistic["mr_gd"], np.logaddexp(0, -toy.theta))
assert np.all(np.abs(ftrl) < 1e-9)
for epsilon, (_, lemma5, _, tight, _) in hits.items():
  assert np.all(figure1.logistic["clean_gd"][int(lemma5) + 1 :] < epsilon)
  assert np.all(figure1.logistic["mr_gd"][int(np.ceil(tight)) :] <= epsilon)
assert np.all(solved.weights[:, -1] >= lemma10 * (1 - 1e-12))  # the last example is clean
assert np.all(error9 <= tighter * (1 + 1e-9) + 1e-14) and np.all(tighter <= theorem9)

# %% [markdown]
# ## 3. MR in a loop of your own
#
# A method is a record of functions, and no trainer is needed to call them. `example_pass` gives the
# losses of a batch in evaluation mode, `after_pass` adds them to the sums in the state, `loss_fn`
# derives the weights. Below the logistic toy is written as a network with two logits, $0$ and
# $\theta x$, and one epoch is one batch of all examples: the library's MR then has to walk the path
# of `theory.logistic_trajectory`.

# %%
def apply(params, batch_stats, image, **_):
  z = params * (2 * image[..., 0, 0, 0] - 1)  # images are in [0, 1]
  return core.Output(jnp.stack([jnp.zeros_like(z), z], axis=-1), batch_stats, {})


network = core.Network(lambda rng, image: (jnp.zeros(()), {}), apply, 0)
spec = core.Spec(num_train=15, num_classes=2, image_shape=(1, 1, 1), steps_per_epoch=1)
inner = methods.erm(network, spec=spec)
method = methods.multiplicative_reweighting(inner, network, spec=spec, eta=1.0)

x = jnp.asarray(figure1.x, jnp.float32)
flipped = jnp.arange(15) < 5
batch = {
  "image": ((x + 1) / 2).reshape(-1, 1, 1, 1),
  "label": jnp.int32((x > 0) != flipped),
  "index": jnp.arange(15),
}
key = jax.random.key(0)


@jax.jit
def epoch(state):
  gradient, _ = jax.grad(method.loss_fn(state), has_aux=True)(state.params, batch, key)
  state = state.replace(params=state.params - gradient, step=state.step + 1)
  whole = {**batch, "mask": jnp.ones(15)}
  losses, _ = method.example_pass(state)(state.batch_stats, whole, key)
  return method.after_pass(state, losses, key)


state = method.init_state(core.TrainState.create(key, *network.init(key, batch["image"])))
path = [0.0]
for _ in range(10):
  state = epoch(state)
  path.append(float(state.params))
for at in (1, 2, 3, 5, 10):
  print(f"theta after {at:>2}: library {path[at]:.6f}, recursion {toy.theta[at]:.6f}")

# %% [markdown]
# The loss is differentiated as any function. The weights are constants of it, as in the paper:
# the sums get no gradient. Where the step through the weights is wanted, `stats.batch_weights` is
# the function without that stop. Two gradients for $\eta$: of the reweighted loss, which is minus
# the weighted covariance of the sums and the losses, and of the clean loss after 20 steps of MR,
# through all of them.

# %%
def loss_of(params, image, loss_sum):
  at = state.with_method_state("multiplicative_reweighting", {"loss_sum": loss_sum})
  return method.loss_fn(at)(params, {**batch, "image": image}, key)[0]


loss_sum = state.method_state["multiplicative_reweighting"]["loss_sum"]
inputs = state.params, batch["image"], loss_sum
for_theta, for_image, for_sums = jax.jit(jax.grad(loss_of, argnums=(0, 1, 2)))(*inputs)
print(f"gradient for theta {for_theta:.4f}, largest for a pixel {jnp.abs(for_image).max():.4f}, "
      f"largest for a sum {jnp.abs(for_sums).max():.4f}")

losses = theory.logistic_losses(state.params, x, jnp.where(flipped, -x, x))
for_eta = jax.grad(lambda eta: stats.batch_weights(loss_sum, eta) @ losses)(1.0)
p = stats.weights(loss_sum, 1.0)
covariance = p @ ((loss_sum - p @ loss_sum) * (losses - p @ losses))
print(f"reweighted loss, gradient for eta {for_eta:.6f}, minus the covariance {-covariance:.6f}")


def clean_loss(eta):
  return jax.nn.softplus(-theory.logistic_trajectory(SIGMA, steps=20, step_size=eta).theta[-1])


through = jax.grad(clean_loss)(0.1)
difference = (clean_loss(0.11) - clean_loss(0.09)) / 0.02
print(f"clean loss after 20 steps, gradient for eta {through:.4f}, by differences {difference:.4f}")

assert np.allclose(path, toy.theta[:11], atol=1e-5)
assert not for_sums.any() and for_theta != 0 and for_image.any()
assert np.isclose(for_eta, -covariance, rtol=1e-3) and np.isclose(through, difference, rtol=0.02)

# %% [markdown]
# ## 4. Digits, and every weight of every epoch
#
# Networks as in the paper's experiments, made small: WRN-10-1 for ResNet-18, 60 epochs for 200, on
# 1,293 digits with random crops. The optimizer is the paper's for CIFAR-10: SGD with momentum 0.9,
# learning rate 0.1, a tenth of it after 40 and again after 60 % of the training, weight decay
# 0.005. A share of the labels, 20 or 40 %, is drawn anew among all ten classes, and one in ten is
# the true one again: 18 or 36 % are wrong. 144 examples are held out, their labels noisy too.
#
# MR's state holds the sums $L$ at present. Their history is one more table of the state, filled by
# an `after_pass` around MR's; with $\eta = 0$ the method is plain training, and the sums are kept
# all the same.

# %%
EPOCHS, RATES, GRID = (5, (0.4,), (1e-2, 1e-1)) if FAST else (60, (0.2, 0.4), (1e-3, 1e-2, 1e-1, 1))
NAME, HALF = "multiplicative_reweighting", (0.5, 0.5, 0.5)


def mr_with_history(network, *, spec, eta):
  inner = methods.erm(network, spec=spec)
  method = methods.multiplicative_reweighting(inner, network, spec=spec, eta=eta)
  epochs = spec.num_steps // spec.steps_per_epoch

  def init_state(state):
    return method.init_state(state).with_method_state("L", jnp.zeros((epochs + 1, spec.num_train)))

  def after_pass(state, tables, rng):
    state = method.after_pass(state, tables, rng)
    row, now = state.step // spec.steps_per_epoch, state.method_state[NAME]["loss_sum"]
    return state.with_method_state("L", state.method_state["L"].at[row].set(now))

  return dataclasses.replace(method, init_state=init_state, after_pass=after_pass)


def config(rate, eta):
  return {
    "total": f"{EPOCHS} epochs",
    "batch_size": 64,
    "data": {"name": "digits", "holdout": 144, "noise": {"kind": "symmetric", "rate": rate}},
    "first": {"padding": 1},
    "model": {"name": "wide_resnet", "depth": 10, "widen_factor": 1, "mean": HALF, "std": HALF},
    "method": {"eta": eta},
    "optim": {
      "lr": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 5e-3,
      "schedule": "step", "milestones": ("40 percent", "60 percent"), "factor": 0.1,
    },
    "evaluate": {"every": f"{EPOCHS} epochs", "batch_size": 360},
    "checkpoint": {"every": f"{EPOCHS} epochs"},
  }  # fmt: skip


results, history = {}, {}


def train(rate, eta):
  begun = time.perf_counter()
  folder = RUNS / f"{rate}-{eta}"
  result = jaxnoise.train(config(rate, eta), folder, method=mr_with_history, quiet=True)
  results[rate, eta] = result
  history[rate, eta] = np.asarray(result.state.method_state["L"], np.float64)
  found = result.metrics["holdout/student/accuracy"]
  print(
    f"noise {rate:.0%}, eta {eta:<5g}: held-out accuracy {found:.1%} "
    f"({time.perf_counter() - begun:.0f} s)"
  )

# %% [markdown]
# ## 5. Figure 5: the step size
#
# Four step sizes at 40 % noise, and plain training. The choice is made on the held-out examples;
# the most that they can give is the share of their labels that is right. The test images are left
# for section 9. The second table has the number of examples that carry the weight at the end,
# $1 / \sum_i p_i^2$, and how the weight is spread over the classes of the given labels.

# %%
for eta in (0, *GRID):
  train(0.4, eta)
source, held = results[0.4, 0].run.source, results[0.4, 0].run.holdout
ceiling = float(np.mean(held.labels == held.clean_labels))
accuracy = {eta: results[0.4, eta].metrics["holdout/student/accuracy"] for eta in (0, *GRID)}
chosen = max(GRID, key=accuracy.get)
print(f"chosen: eta {chosen:g}; {ceiling:.1%} of the held-out labels are right\n")

classes = np.arange(10)[:, None] == source.labels
print(f"{'eta':<8}{'examples that carry the weight':>32}{'share of each class, in percent':>46}")
for eta in (0, *GRID):
  weight = np.asarray(stats.weights(history[0.4, eta][-1], eta), np.float64)
  shares = " ".join(f"{100 * share:4.1f}" for share in classes @ weight)
  print(f"{eta:<8g}{1 / np.sum(weight**2):32.0f}{shares:>52}")

# %%
fig, ax = plt.subplots(figsize=(5.2, 3.2), layout="constrained")
values = np.array([accuracy[eta] for eta in GRID])
spread = np.sqrt(values * (1 - values) / len(held.labels))
ax.errorbar(GRID, 100 * values, 100 * spread, color=BLUE, marker="o", lw=2, capsize=4, label="MR")
ax.axhline(100 * accuracy[0], color=ORANGE, ls="--", lw=2, label="plain training")
ax.axhline(100 * ceiling, color="0.5", ls=":", lw=2, label="held-out labels that are right")
ax.set(xscale="log", xlabel="step size of MR", ylabel="held-out accuracy (%)")
ax.set_title("40 % noise, bars: one standard error", fontsize=11)
fig.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
plt.show()

# %% [markdown]
# **What is found.** On the held-out examples a step size of 0.1 is best, near the most that they
# can give; the others, the paper's 0.01 among them, do no better than plain training. What counts
# is the product of $\eta$ and the summed losses, and the sums here are of 60 epochs with 20 steps
# each, the paper's of 200 epochs with hundreds: with 0.01 the weights have moved too little when
# the wrong labels are fitted. A step size of 1 moves them too fast. The weight gathers on few
# examples, and three classes have none left: to MR a class that is not fitted yet looks like wrong
# labels.
#
# ## 6. Figure 2: the weight of the wrong labels
#
# $\sum_{i\ \mathrm{wrong}} p_i$ after every epoch, for the paper's step size and the chosen one.

# %%
SHOWN = sorted({1e-2, chosen})
for rate, eta in [(rate, eta) for rate in RATES for eta in (0, *SHOWN)]:
  if (rate, eta) not in results:
    train(rate, eta)
wrong = {}
for rate in RATES:
  train_set = results[rate, SHOWN[0]].run.source
  wrong[rate] = train_set.labels != train_set.clean_labels
mass = {
  (rate, eta): np.asarray(stats.weights(history[rate, eta], eta))[:, wrong[rate]].sum(axis=1)
  for rate in RATES
  for eta in (0, *SHOWN)
}
STYLES = dict(zip((0, *SHOWN), ((ORANGE, "--"), (BLUE, "-"), (GREEN, "-.")), strict=False))

fig, axes = plt.subplots(
  1, len(RATES), figsize=(9.6, 3.2), sharey=True, squeeze=False, layout="constrained"
)
for ax, rate in zip(axes[0], RATES, strict=True):
  for eta, (color, dash) in STYLES.items():
    label = f"eta {eta:g}" if eta else "plain training"
    ax.plot(mass[rate, eta], color=color, ls=dash, lw=2, label=label)
  ax.set(title=f"{rate:.0%} noise", xlabel="epoch", yscale="log")
axes[0, 0].set_ylabel("weight of wrong labels")
axes[0, 0].legend(frameon=False)
plt.show()

marks = [EPOCHS * part // 6 for part in (0, 1, 2, 3, 6)]
print(f"{'noise':<8}{'eta':<8}" + "".join(f"{f'epoch {at}':>12}" for at in marks))
for (rate, eta), line in mass.items():
  if eta:
    print(f"{rate:<8.0%}{eta:<8g}" + "".join(f"{line[at]:12.4f}" for at in marks))

# %% [markdown]
# The lines begin at the share of wrong labels. (The authors' code counts every label that was drawn
# anew, the right ones too, and begins at 0.2 and 0.4.) With $\eta = 0.01$ they fall to 0.09 and
# 0.24, where the paper's fall from 0.2 to about 0.03 and from 0.4 to about 0.1; and not
# exponentially: when the wrong labels are fitted, their losses are as small as the others', and the
# weights stand still. With 0.1 they fall a hundredfold, most of it before the learning rate is cut
# at epoch 24.
#
# ## 7. Figure 3: the losses of the extreme 2 %
#
# The 2 % of the examples that end with the highest weight and the 2 % that end with the lowest, and
# their mean loss, to the given label, after every epoch: the difference of two sums.

# %%
extreme = {}
fig, axes = plt.subplots(
  1, 2 * len(RATES), figsize=(9.6, 3.2), sharey=True, squeeze=False, layout="constrained"
)
runs = [(rate, eta) for rate in RATES for eta in SHOWN]
for ax, (rate, eta) in zip(axes[0], runs, strict=False):
  losses = np.diff(history[rate, eta], axis=0)
  order = np.argsort(history[rate, eta][-1])  # the smallest sum has the largest weight
  count = max(1, round(0.02 * len(order)))
  groups = {"highest 2 %": (order[:count], BLUE, "-"), "lowest 2 %": (order[-count:], ORANGE, "--")}
  for name, (rows, color, dash) in groups.items():
    mean = losses[:, rows].mean(axis=1)
    extreme[rate, eta, name] = mean[-1], wrong[rate][rows].mean()
    ax.plot(np.arange(1, EPOCHS + 1), mean, color=color, ls=dash, lw=2, label=name)
  ax.set(xlabel="epoch")
  ax.set_title(f"{rate:.0%} noise, eta {eta:g}", fontsize=11)
axes[0, 0].set_ylabel("mean loss")
axes[0, 0].legend(frameon=False)
plt.show()

for (rate, eta, name), (loss, share) in extreme.items():
  print(
    f"noise {rate:.0%}, eta {eta:<5g} {name + ' of the weights':<24} mean loss at the end "
    f"{loss:9.5f}, labels wrong {share:.0%}"
  )

# %% [markdown]
# The examples with the highest weight are fitted and right, those with the lowest are wrong, all of
# them. With $\eta = 0.1$ the loss of the latter rises to 7 and 8 and stays there, the paper's
# picture: the network contradicts these labels to the end. With 0.01 it comes down when the
# learning rate is cut: many are fitted late.
#
# ## 8. Figure 4: who is at which weight
#
# Examples sorted by their weight at the end, in 100 bins of 13, and the share of wrong labels in
# each.

# %%
bins = {}
fig, axes = plt.subplots(
  len(SHOWN), len(RATES), figsize=(9.6, 4.6), sharex=True, sharey=True, squeeze=False,
  layout="constrained",
)  # fmt: skip
for column, rate in zip(axes.T, RATES, strict=True):
  for ax, eta in zip(column, SHOWN, strict=True):
    order = np.argsort(-history[rate, eta][-1])
    share = np.array([part.mean() for part in np.array_split(wrong[rate][order], 100)])
    bins[rate, eta] = share
    ax.bar(np.arange(100) + 0.5, share, 1.0, color=STYLES[eta][0])
    ax.axvline(100 * wrong[rate].mean(), color="k", ls=":", lw=1.5)
    ax.set_title(f"{rate:.0%} noise, eta {eta:g}", fontsize=11)
    ax.set_xlim(0, 100)
fig.supxlabel("percentile of the weight, lowest first; dotted: the share of wrong labels", size=10)
fig.supylabel("share of wrong labels in the bin", size=10)
plt.show()
for (rate, eta), share in bins.items():
  bad = round(100 * wrong[rate].mean())
  print(
    f"noise {rate:.0%}, eta {eta:<5g} wrong in the bins below percentile {bad}: "
    f"{share[:bad].mean():.1%}, above: {share[bad:].mean():.1%}"
  )

# %% [markdown]
# Below the share of wrong labels nearly every example is wrong, above it nearly none, as in the
# paper's figure, and with both step sizes alike.
#
# ## 9. Weights as an audit, and the test images
#
# The AUROC of the weights for telling wrong labels from right ones: the chance that a wrong one
# weighs less than a right one. Beside it the same of the loss at the last epoch alone. The row of
# plain training ($\eta = 0$) has the sums that MR would have used. Test accuracy is printed here
# alone, for plain training, the paper's step size and the one that was chosen in section 5.

# %%
print(f"{'noise':<8}{'eta':<8}{'AUROC, weights':>16}{'AUROC, last loss':>18}{'memorised':>12}"
      f"{'test accuracy':>16}")
auroc = {}
for rate, eta in mass:
  total = history[rate, eta]
  auroc[rate, eta] = metrics.auroc(total[-1], wrong[rate])
  last = metrics.auroc(total[-1] - total[-2], wrong[rate])
  found = results[rate, eta].metrics
  print(
    f"{rate:<8.0%}{eta:<8g}{auroc[rate, eta]:16.4f}{last:18.4f}"
    f"{found['labels/student/memorised']:12.1%}{found['test/student/accuracy']:16.1%}"
  )

# %% [markdown]
# **What is found.** With the step size chosen on noisy held-out labels 98.6 % of the test images
# are right, for 68.6 % with plain training, at 40 % noise; 98.9 for 91.4 % at 20 %. The paper's
# step size gains 7 and 3 points. (The paper has, with ResNet-18 on CIFAR-10, 90.75 for 69.22 % and
# 93.97 for 84.66 %.)
#
# The sums find the wrong labels in every row, those of *plain training* nearly as well as any. The
# ranking comes from the history of the losses, not from the reweighting; what the reweighting adds
# is that the network does not fit the labels in the end. Plain training has fitted nearly all of
# them, and its last loss alone ranks far worse.
#
# **What this does not say.** One seed, 360 test images of 8x8 grey pixels, a small network. The
# step size was chosen among four values on 144 held-out examples at 40 % noise, and 20 % has the
# same; the recipe around it was settled with test accuracies in sight. The weight decay is the
# paper's, 0.005, and it matters: with the recipe of `configs/noisymix_digits.py` (0.0005, Nesterov,
# a cosine) and $\eta = 0.01$ one run fitted every wrong label, whose weight went from 0.36 to 0.30
# only. Over more seeds and methods the comparison is for a benchmark, not for a notebook.

# %%
for (rate, eta), line in mass.items():
  assert np.isclose(line[0], wrong[rate].mean(), atol=1e-6)  # uniform at first
  assert abs(wrong[rate].mean() - 0.9 * rate) < 0.03
  assert np.all(np.diff(history[rate, eta], axis=0) >= 0)  # losses are not negative
  kept = results[rate, eta].state.method_state[NAME]["loss_sum"]
  assert np.allclose(history[rate, eta][-1], kept)
  if eta == 0:
    assert np.allclose(line, line[0], atol=1e-6)
if not FAST:
  assert max(accuracy[eta] for eta in GRID) > accuracy[0] and ceiling > accuracy[chosen] - 0.05
  for (rate, eta), line in mass.items():
    assert eta == 0 or line[-1] < 0.8 * line[0]
    assert auroc[rate, eta] > 0.98
  for rate in RATES:
    bad = round(100 * wrong[rate].mean())
    assert mass[rate, chosen][-1] < 0.1 * mass[rate, chosen][0]
    assert all(bins[rate, eta][:bad].mean() > 0.9 for eta in SHOWN)
    assert all(bins[rate, eta][bad:].mean() < 0.05 for eta in SHOWN)
    high, low = (extreme[rate, chosen, f"{end} 2 %"][0] for end in ("highest", "lowest"))
    assert high < 0.1 and low > 3
    test = {eta: results[rate, eta].metrics["test/student/accuracy"] for eta in (0, chosen)}
    assert test[chosen] > test[0] + 0.04
print(f"all checks passed after {time.perf_counter() - started:.0f} s")
