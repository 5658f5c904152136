# %% [markdown]
# # Your own model, data, loss and method
#
# jaxnoise trains what you hand in as objects: arrays, a Flax module, a function as the loss, a
# record of functions as the method. This notebook does so, takes the method apart, and compares the
# runs. It takes one to two minutes on a CPU; with `JAXNOISE_FAST=1` the same cells train for less.

# %%
import json
import logging
import os
import pathlib
import tempfile
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import jaxnoise
from jaxnoise import core, data, methods, models, reporting
from jaxnoise.training import restore

FAST = os.environ.get("JAXNOISE_FAST", "0") not in ("", "0")
RUNS = pathlib.Path(tempfile.mkdtemp(prefix="jaxnoise-"))
started = time.perf_counter()
logging.getLogger("absl").setLevel(logging.ERROR)  # the checkpoint library narrates
plt.rcParams["figure.dpi"] = 90

# %% [markdown]
# ## 1. Arrays and a module
#
# Images are `[N, H, W, C]`, bytes or floats in [0, 1], and labels `[N]` integers: scikit-learn's
# digits stand in for yours. The module knows nothing of jaxnoise. It takes images in [0, 1], so
# normalising them is its own first step; `train` switches its dropout and may be left out.

# %%
digits = load_digits()
images, labels = np.uint8(np.rint(digits.images[..., None] * 255 / 16)), digits.target
parts = images[:1400], labels[:1400], images[1400:], labels[1400:]
source = data.arrays(*parts, name="my digits", class_names=list("0123456789"))


class Small(nn.Module):
  width: int = 32

  @nn.compact
  def __call__(self, image, train):
    h = nn.relu(nn.Conv(self.width, (3, 3), strides=2)(2 * image - 1))
    h = nn.relu(nn.Conv(2 * self.width, (3, 3), strides=2)(h)).reshape(len(h), -1)
    return nn.Dense(10)(nn.Dropout(0.1, deterministic=not train)(h))

# %% [markdown]
# ## 2. One call
#
# A config is a dictionary with the fields of the command line; what is missing has its default.
# NoisyMix mixes at stages of a network. A module that returns logits alone has one, 0, the image,
# and noise is in units of pixels in [0, 1] there.

# %%
COMMON = {
  "total": "4 epochs" if FAST else "30 epochs",
  "batch_size": 64,
  "seeds": 3,
  "evaluate": {"corruptions": ("contrast",), "severities": (1, 3, 5)},
}
method = {"name": "noisymix", "stages": (0,), "add_noise": 0.2}
config = {**COMMON, "policy": {"name": "augmix"}, "method": method}
result = jaxnoise.train(config, RUNS / "noisymix", source=source, network=Small())

# %% [markdown]
# The result holds the numbers of the last evaluation, one per seed, and the trained networks as
# functions from images in [0, 1] to logits; the directory holds what a command's run holds. The
# same cell, run again, returns the same result without training. The directory knows your objects
# by their names only, though: after a change inside one, take another directory.

# %%
accuracies = result.metrics["test/student/accuracy"]
predicted = result.predictors(seed=0)["student"](source.test_images / 255).argmax(-1)
by_hand = float(jnp.mean(predicted == source.test_labels))
print(f"accuracy of each seed: {np.round(accuracies, 3)}; of the first, by hand: {by_hand:.3f}")
print("files:", ", ".join(sorted(path.name for path in result.directory.iterdir())))
print("recorded as", json.loads((result.directory / "config.json").read_text())["config"]["model"])

# %% [markdown]
# ## 3. Your own loss
#
# A loss is a function from logits and target distributions, `[B, K]` both, to one value per
# example. Here the Brier score, $\sum_k (p_k - t_k)^2$, in the place of cross-entropy in plain
# training (`erm`). To choose it by name in a config, list it in `jaxnoise/losses`.

# %%
def brier(logits, targets):
  return jnp.sum((jax.nn.softmax(logits) - targets) ** 2, axis=-1)

plain = jaxnoise.train(COMMON, RUNS / "brier", source=source, network=Small(), loss=brier)

# %% [markdown]
# ## 4. Your own method
#
# A method is a record of pure functions, and two of them are enough: the loss, and what is to be
# evaluated. What `loss_fn` reads from `state` is constant, what comes through `params` is
# differentiated. This one rewards entropy (the confidence penalty of Pereyra et al., 2017),
#
# $$L = \frac1B \sum_i \mathrm{CE}(p_i, y_i) - \beta\, H(p_i).$$

# %%
def confidence_penalty(network, num_classes, beta=0.1):
  def loss_fn(state):
    def fn(params, batch, rng):
      out = network.apply(params, state.batch_stats, batch["image"], train=True, rng=rng)
      log_p = jax.nn.log_softmax(out.logits)
      fit = -jnp.sum(jax.nn.one_hot(batch["label"], num_classes) * log_p, axis=-1)
      entropy = -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)
      values = fit - beta * entropy
      metrics = {"loss": core.reduce.mean_count(values), "entropy": core.reduce.mean_count(entropy)}
      loss = core.reduce.weighted_mean(values, batch.get("weight"))
      return loss, core.Aux(out.batch_stats, fit, metrics)
    return fn

  def predictors(state):
    return {"student": lambda image: network.apply(state.params, state.batch_stats, image).logits}

  return core.Method("confidence_penalty", loss_fn, predictors)

# %% [markdown]
# No part of this needs a training loop. Any state will do: here that of the NoisyMix run's first
# seed, opened again. The loss is a function of images and of $\beta$ as much as of the parameters,
# so all three have gradients. That for $\beta$ has to be minus the mean entropy.

# %%
network = models.network(Small())  # the pair of functions (init, apply) that methods know
opened = restore.open_run(RUNS / "noisymix", source=source, network=network)
batch = data.gather(data.device_data(source), jnp.arange(64))


@jax.jit
def loss_of(params, image, beta):
  loss_fn = confidence_penalty(network, 10, beta).loss_fn(opened.state)
  return loss_fn(params, {**batch, "image": image}, jax.random.key(1))


grad = jax.jit(jax.grad(loss_of, argnums=(0, 1, 2), has_aux=True))
(_, fit_pixels, _), _ = grad(opened.state.params, batch["image"], 0.0)
(_, pixels, by_beta), aux = grad(opened.state.params, batch["image"], 1.0)
total, rows = aux.metrics["entropy"]
entropy_pixels = pixels - fit_pixels
correlation = np.corrcoef(fit_pixels.ravel(), entropy_pixels.ravel())[0, 1]
print(f"gradient for beta {by_beta:.4f}, mean entropy {total / rows:.4f}")
print(f"correlation of the two pixel gradients {correlation:.2f}")

# %%
def grid(lines, rows, columns, title):
  """Shows images [R, 8, H, W, 3 or 1] in [0, 1] with labels at the left and above."""
  size = (9.5, 1.15 * len(rows) + 0.5)
  fig, axes = plt.subplots(len(rows), 8, figsize=size, squeeze=False, layout="tight")
  for label, line, row in zip(rows, axes, lines, strict=True):
    line[0].set_ylabel(label, rotation=0, ha="right", va="center")
    for ax, image in zip(line, row, strict=True):
      ax.imshow(image, cmap="gray", vmin=0, vmax=1)
      ax.set(xticks=[], yticks=[])
  for ax, text in zip(axes[0], columns, strict=True):
    ax.set_title(text, fontsize=9)
  fig.suptitle(title)
  plt.show()


def signed(maps):
  """Red where a brighter pixel raises the term, blue where it lowers it."""
  largest = jnp.abs(maps).max((1, 2, 3), keepdims=True)
  return plt.get_cmap("RdBu_r")(np.asarray(0.5 + 0.5 * maps / largest)[..., 0])


terms = [batch["image"][:8], signed(fit_pixels[:8]), signed(entropy_pixels[:8])]
heads = batch["label"][:8].tolist()
grid(terms, ["image", "cross-entropy", "minus entropy"], heads, "gradient of each term by pixel")

# %% [markdown]
# Each map has its own scale. Over the batch the two terms pull against each other (the correlation
# above is negative): what makes a digit more certain lowers the cross-entropy and costs entropy.
#
# ## 5. A wrapper around it
#
# A wrapper takes a method and returns one. `with_ema` averages the weights over the last steps and
# adds the average as a second predictor. Neither knows the other, and the loop knows neither.

# %%
method = methods.with_ema(confidence_penalty(network, 10, beta=0.3), decay=0.98)
own = jaxnoise.train(COMMON, RUNS / "penalty", source=source, network=network, method=method)

# %% [markdown]
# ## 6. The comparison
#
# Every run has the same tables, so any can be compared: in print, or as one page with paired
# differences and their intervals. `erm` is plain training, here with your loss.

# %%
directories = [RUNS / name for name in ("brier", "noisymix", "penalty")]
records = [reporting.load_run(directory) for directory in directories]
print(reporting.format_rows(reporting.comparison_rows(records)), "\n")
for record in records[1:]:
  print(reporting.verdict(records[0], record))
print("\nthe page:", reporting.write_comparison(directories, RUNS / "comparison.html"))

# %% [markdown]
# Tables are JSON. `tables/clean.json` counts, for every predictor and seed, the test images of each
# class that are classified correctly.

# %%
tables = {path.name: json.loads((path / "tables/clean.json").read_text()) for path in directories}
fig, ax = plt.subplots(figsize=(7, 2.8), layout="constrained")
for offset, (name, table) in zip((-0.15, 0, 0.15), tables.items(), strict=True):
  classes = table["classes"]
  right = 100 * np.mean(classes["correct"]["student"], axis=0) / classes["count"]
  ax.plot(np.arange(10) + offset, right, "o", label=name)
ax.set(ylabel="right (%)", title="test accuracy by class, mean of three seeds")
ax.set_xticks(range(10), classes["names"])
fig.legend(loc="outside right upper", frameon=False)
plt.show()

# %% [markdown]
# ## 7. Predictions
#
# A run opened again predicts any set of images, with any of its predictors; what was an object has
# to be handed in again. Below, the test images whose true class the averaged network finds least
# probable.

# %%
opened = restore.open_run(RUNS / "penalty", source=source, network=network, method=method)
predictions = opened.predict(source.test, "ema")
said, true, p = predictions.prediction, source.test_labels, predictions.probability
truth = p[np.arange(len(true)), true]
worst = np.argsort(truth)[:8]
heads = [f"said {said[i]}: {p[i].max():.2f}\ntrue {true[i]}: {truth[i]:.2f}" for i in worst]
grid([source.test_images[worst] / 255], ["ema"], heads, "the least probable truths")

# %% [markdown]
# **What this does not say.** Three seeds, one split of 1,797 small images, hyper-parameters that
# nobody tuned: the runs show that the parts fit together, and rank no method.

# %%
assert abs(accuracies[0] - by_hand) < 0.006 and list(own.predictors()) == ["student", "ema"]
assert np.isclose(by_beta, -total / rows, rtol=1e-4) and float(jnp.abs(pixels).max()) > 0
assert np.isclose(predictions.accuracy(), own.metrics["test/ema/accuracy"][0], atol=0.006)
assert all(np.mean(table["predictors"]["student"]["accuracy"]) > 0.6 for table in tables.values())
print(f"all checks passed after {time.perf_counter() - started:.0f} s")
