"""Optimizers against PyTorch's documented updates in plain NumPy; the plateau rule; freezing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnoise.core import InputError, TrainState
from jaxnoise.training import checkpoint, optim, schema
from tests.training.common import assert_same

RATES = (0.125, 0.125, 0.125, 0.0625, 0.0625, 0.0625)  # exact in float32
MOMENTUM, BETA1, BETA2, EPS = 0.9, 0.8, 0.95, 1e-4


def rate(step):
  return jnp.where(step < 3, 0.125, 0.0625)


def config_of(name, **changes):
  """Every field `config.optim` is meant to have, whether or not the schema has it yet."""
  fields = {"beta1": BETA1, "beta2": BETA2, "eps": EPS, "trust_coefficient": 0.01, "decay": "all"}
  rest = {"patience": 1, "threshold": 0.05, "min_scale": 0.0, "schedule": "cosine", "factor": 0.5}
  given = {"name": name, "momentum": MOMENTUM, "weight_decay": 0.01, **changes}
  return {**schema.default()["optim"], **fields, **rest, **given}


def params_and_grads(dtype=np.float64):
  """A kernel, a bias, and a kernel of zeros that gets no gradient at step 1."""
  rng = np.random.default_rng(0)
  params = {"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=2), "zero": np.zeros((2, 2))}
  draw = lambda: {name: rng.normal(size=w.shape) for name, w in params.items()}
  grads = [draw() for _ in RATES]
  grads[1]["zero"] *= 0.0
  cast = lambda tree: {name: np.asarray(x, dtype) for name, x in tree.items()}
  return cast(params), [cast(g) for g in grads]


class TorchSGD:
  """torch.optim.SGD: g + b w enters the buffer; lr multiplies what leaves it."""

  def __init__(self, decays, nesterov=False):
    self.decays, self.nesterov, self.buffer = decays, nesterov, {}

  def step(self, t, name, w, g):
    g = g + self.decays(w) * w
    self.buffer[name] = v = MOMENTUM * self.buffer[name] + g if t else g
    return w - RATES[t] * (g + MOMENTUM * v if self.nesterov else v)


class TorchAdam:
  """torch.optim.Adam, and AdamW where `decoupled`."""

  def __init__(self, decays, decoupled=False):
    self.decays, self.decoupled, self.moments = decays, decoupled, {}

  def step(self, t, name, w, g):
    if self.decoupled:
      w = w - RATES[t] * self.decays(w) * w
    else:
      g = g + self.decays(w) * w
    m, v = self.moments.get(name, (0.0, 0.0))
    m, v = BETA1 * m + (1 - BETA1) * g, BETA2 * v + (1 - BETA2) * g**2
    self.moments[name] = m, v
    below = np.sqrt(v) / np.sqrt(1 - BETA2 ** (t + 1)) + EPS
    return w - RATES[t] / (1 - BETA1 ** (t + 1)) * m / below


class PaperLARS:
  """You et al. 2017, algorithm 1, with biases and norm parameters left to plain momentum."""

  def __init__(self, decays):
    self.decays, self.velocity = decays, {}

  def step(self, t, name, w, g):
    local, b = 1.0, self.decays(w) if w.ndim > 1 else 0.0
    norm_w, norm_g = np.sqrt(np.sum(w**2)), np.sqrt(np.sum(g**2))
    if w.ndim > 1 and norm_w and norm_g:
      local = 0.01 * norm_w / (norm_g + b * norm_w)
    old = self.velocity.get(name, 0.0)
    self.velocity[name] = MOMENTUM * old + RATES[t] * local * (g + b * w)
    return w - self.velocity[name]


REFERENCES = {
  "sgd": (TorchSGD, {"nesterov": False}, {}),
  "sgd_nesterov": (TorchSGD, {"nesterov": True}, {"nesterov": True}),
  "adam": (TorchAdam, {}, {}),
  "adamw": (TorchAdam, {}, {"decoupled": True}),
  "lars": (PaperLARS, {}, {}),
}


@pytest.mark.parametrize("decay", ["all", "kernels"])
@pytest.mark.parametrize("case", REFERENCES)
def test_updates_are_pytorch_s(case, decay):
  """The norm-scale-like leaf `bias` decays under "all" only (never with LARS)."""
  reference, fields, options = REFERENCES[case]
  decays = lambda w: 0.01 if decay == "all" or w.ndim > 1 else 0.0
  theirs = reference(decays, **options)
  optimizer = optim.make_optimizer(config_of(case.split("_")[0], decay=decay, **fields), rate)
  params, grads = params_and_grads()
  expected = dict(params)
  with jax.enable_x64(True):
    params = jax.tree.map(jnp.asarray, params)
    state = optimizer.init(params)
    for t, g in enumerate(grads):
      updates, state = jax.jit(optimizer.update)(g, state, params, value=1.0)
      params = optax.apply_updates(params, updates)
      expected = {name: theirs.step(t, name, w, g[name]) for name, w in expected.items()}
      for name, w in expected.items():
        np.testing.assert_allclose(params[name], w, rtol=1e-12, atol=1e-14)


def test_decay_reaches_kernels_only():
  """Without a gradient: what moves is what decays."""
  params = jax.tree.map(jnp.ones_like, params_and_grads(dtype=np.float32)[0])
  zeros = jax.tree.map(jnp.zeros_like, params)
  for name in ("sgd", "adam", "adamw"):
    for decay, moving in (("all", {"kernel", "bias", "zero"}), ("kernels", {"kernel", "zero"})):
      optimizer = optim.make_optimizer(config_of(name, decay=decay), rate)
      updates, _ = optimizer.update(zeros, optimizer.init(params), params)
      assert {key for key, u in updates.items() if np.any(u)} == moving


def test_the_state_of_sgd_keeps_its_names():
  """Checkpoints of older runs are read by them."""
  state = optim.make_optimizer(config_of("sgd"), rate).init({"w": jnp.zeros(2)})
  paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
  assert paths == ["[1][0].trace['w']", "[1][1].count"]


class TorchPlateau:
  """torch.optim.lr_scheduler.ReduceLROnPlateau, mode "min", relative threshold, no cooldown."""

  def __init__(self, factor, patience, threshold, min_scale):
    self.factor, self.patience, self.threshold = factor, patience, threshold
    self.min_scale, self.scale, self.best, self.bad = min_scale, 1.0, np.inf, 0

  def step(self, metric):
    if metric < self.best * (1 - self.threshold):
      self.best, self.bad = metric, 0
    else:
      self.bad += 1
    if self.bad > self.patience:
      self.scale, self.bad = max(self.scale * self.factor, self.min_scale), 0


@pytest.mark.parametrize(
  ("factor", "patience", "threshold", "min_scale", "steps"),
  [(0.9, 3, 1e-4, 0.0, 4), (0.5, 0, 0.05, 0.1, 3), (0.1, 2, 1e-4, 1e-3, 1), (0.5, 1, 0.2, 0.0, 7)],
)
def test_plateau_is_pytorch_s(factor, patience, threshold, min_scale, steps):
  """Random losses, falling then flat, one of them not a number: the scale of every update."""
  rng = np.random.default_rng(steps)
  epochs = 120
  level = np.maximum(2.0 * 0.97 ** np.arange(epochs), 0.5)[:, None]
  losses = (level + 0.2 * rng.normal(size=(epochs, steps))).astype(np.float32)
  losses[50, 0] = np.nan
  theirs, expected = TorchPlateau(factor, patience, threshold, min_scale), []
  for epoch in losses:
    expected += [theirs.scale] * steps
    theirs.step(float(np.mean(epoch.astype(np.float64))))
  rule = optim.plateau(
    steps, factor=factor, patience=patience, threshold=threshold, min_scale=min_scale
  )

  def body(state, loss):
    updates, state = rule.update({"w": jnp.ones(2)}, state, value=loss)
    return state, (updates["w"][0], optim.scale_of(state))

  _, (scales, logged) = jax.jit(lambda x: jax.lax.scan(body, rule.init(None), x))(losses.ravel())
  assert len(set(expected)) > 3  # the sequence does reduce
  np.testing.assert_allclose(scales, expected, rtol=1e-5)
  np.testing.assert_array_equal(scales, logged)


@pytest.mark.parametrize("name", optim.NAMES)
def test_plateau_is_a_factor_of_the_rate(name):
  """Equal to a schedule that drops where the rule does: the momentum is not scaled by it."""
  steps = 2
  watched = optim.make_optimizer(
    config_of(name, schedule="plateau", patience=0), lambda step: 0.125, steps_per_epoch=steps
  )
  told = optim.make_optimizer(config_of(name), lambda step: jnp.where(step < 4, 0.125, 0.0625))
  params, grads = params_and_grads(dtype=np.float32)
  ours = theirs = params
  state, other = watched.init(params), told.init(params)
  for t, g in enumerate(grads):
    updates, state = watched.update(g, state, ours, value=1.0 if t < 4 else 0.5)
    ours = optax.apply_updates(ours, updates)
    updates, other = told.update(g, other, theirs, value=1.0)
    theirs = optax.apply_updates(theirs, updates)
    assert float(optim.scale_of(state)) == (1.0 if t < 4 else 0.5)
    assert float(optim.scale_of(other)) == 1.0
  assert_same(ours, theirs, rtol=1e-6)


FROZEN = {"kernel": True, "bias": True, "zero": False}


def frozen_optimizer(name, schedule="cosine"):
  made = optim.make_optimizer(config_of(name, schedule=schedule), rate, steps_per_epoch=2)
  return optim.freeze(made, FROZEN)


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
@pytest.mark.parametrize("name", optim.NAMES)
def test_frozen_parameters_stay(name, schedule):
  """Bitwise, under gradients that are not finite; the others move as if alone."""
  optimizer = frozen_optimizer(name, schedule)
  alone = optim.make_optimizer(config_of(name, schedule=schedule), rate, steps_per_epoch=2)
  start, grads = params_and_grads(dtype=np.float32)
  params, only = start, {"zero": start["zero"]}
  state, other = optimizer.init(params), alone.init(only)
  kept = {x.shape for x in jax.tree.leaves(state)}
  assert kept <= {(), start["zero"].shape}, "nothing is kept for the frozen leaves"
  for g in grads:
    updates, other = alone.update({"zero": g["zero"]}, other, only, value=1.0)
    only = optax.apply_updates(only, updates)
    broken = {**g, "bias": np.float32([np.nan, np.inf])}
    updates, state = optimizer.update(broken, state, params, value=1.0)
    params = optax.apply_updates(params, updates)
  for leaf in ("kernel", "bias"):
    assert np.asarray(params[leaf]).tobytes() == start[leaf].tobytes()
  assert np.any(params["zero"] != start["zero"])
  assert_same(params["zero"], only["zero"])
  assert float(optim.scale_of(state)) == float(optim.scale_of(other))


def test_nothing_frozen_changes_nothing():
  params = params_and_grads(dtype=np.float32)[0]
  made = optim.make_optimizer(config_of("sgd"), rate)
  same = optim.freeze(made, dict.fromkeys(params, False))
  assert jax.tree.structure(same.init(params)) == jax.tree.structure(made.init(params))


def test_states_are_saved_and_restored(tmp_path):
  """Every optimizer's state, parts frozen, in one checkpoint in the midst of an epoch: what follows
  is bitwise the same as without a break."""

  def make(name, schedule, frozen):
    config = config_of(name, schedule=schedule, patience=0)
    return optim.freeze(optim.make_optimizer(config, rate, steps_per_epoch=2), frozen)

  cases = [(name, schedule) for name in optim.NAMES for schedule in ("cosine", "plateau")]
  optimizers = {"_".join(case): make(*case, FROZEN) for case in cases}
  optimizers["free"] = make("adam", "plateau", dict.fromkeys(FROZEN, False))
  updates = {case: jax.jit(optimizer.update) for case, optimizer in optimizers.items()}
  start, grads = params_and_grads(dtype=np.float32)
  start = jax.tree.map(jnp.asarray, start)

  def go(params, states, steps):
    for t in steps:
      for case, update in updates.items():
        loss = jnp.float32(1.0 if t < 3 else 0.99)  # within the threshold: a bad epoch
        moves, states[case] = update(grads[t], states[case], params[case], value=loss)
        params[case] = optax.apply_updates(params[case], moves)
    return params, states

  def fresh():
    return dict.fromkeys(optimizers, start), {k: o.init(start) for k, o in optimizers.items()}

  def as_state(params, states):
    return TrainState.create(jax.random.key(0), params, {}, opt_state=states)

  params, states = go(*fresh(), range(3))
  saver = checkpoint.Checkpointer(tmp_path / "checkpoints")
  saver.save(as_state(params, states), 3, {})
  saver.wait()
  restored = saver.restore(as_state(*fresh()))
  saver.close()
  assert jax.tree.structure(restored.opt_state) == jax.tree.structure(states)
  assert_same(restored.opt_state, states)
  unbroken = go(params, states, range(3, 6))
  resumed = go(dict(restored.params), dict(restored.opt_state), range(3, 6))
  assert_same(unbroken, resumed)
  assert float(optim.scale_of(unbroken[1]["sgd_plateau"])) == 0.5


def test_one_seed_of_several():
  """Under vmap, as over seeds: every seed has its own scale, and masks see a leaf's own axes."""
  config = config_of("sgd", schedule="plateau", decay="kernels", patience=0)
  optimizer = optim.make_optimizer(config, lambda step: 0.125, steps_per_epoch=1)
  params = {"bias": jnp.ones((2, 3))}
  state = jax.vmap(optimizer.init)(params)
  zeros = jax.tree.map(jnp.zeros_like, params)
  update = jax.jit(jax.vmap(lambda g, s, p, loss: optimizer.update(g, s, p, value=loss)))
  for losses in ([1.0, 1.0], [1.0, 0.5], [1.0, 0.2]):
    updates, state = update(zeros, state, params, jnp.asarray(losses))
  np.testing.assert_array_equal(optim.scale_of(state), [0.5, 1.0])
  np.testing.assert_array_equal(updates["bias"], 0.0)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"name": "admaw"}, "config.optim.name is 'admaw', no such optimizer: did you mean 'adamw'"),
    ({"decay": "kernel"}, "config.optim.decay is 'kernel', no such choice: did you mean 'kernels'"),
    ({"weight_decay": -0.1}, "config.optim.weight_decay is -0.1; it must be >= 0"),
    ({"weight_decay": float("nan")}, "config.optim.weight_decay is nan"),
    ({"momentum": 1.0}, "config.optim.momentum is 1.0; it must lie in [0, 1)"),
    ({"beta1": 1.0}, "config.optim.beta1 is 1.0; it must lie in [0, 1)"),
    ({"beta2": -0.5}, "config.optim.beta2 is -0.5; it must lie in [0, 1)"),
    ({"eps": 0.0}, "config.optim.eps is 0.0; it must be larger than 0"),
    ({"trust_coefficient": 0.0}, "config.optim.trust_coefficient is 0.0; it must be larger"),
    ({"patience": -1}, "config.optim.patience is -1; it must be 0 or larger"),
    ({"threshold": 0.0}, "config.optim.threshold is 0.0; it must lie between 0 and 1"),
    ({"min_scale": 2.0}, "config.optim.min_scale is 2.0; it must lie in [0, 1]"),
    ({"schedule": "plateau", "factor": 1.0}, "config.optim.factor is 1.0; the schedule 'plateau'"),
  ],
)
def test_bad_values(changes, message):
  with pytest.raises(InputError) as error:
    optim.make_optimizer(config_of(**{"name": "sgd", **changes}), rate, steps_per_epoch=1)
  assert message in str(error.value)
