"""Mixup, manifold mixup, noisy feature mixup: the authors' numbers, and steps redone by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment, methods
from jaxnoise.augment import _mixing
from jaxnoise.core import InputError, Network, Output, Spec, TrainState, fold
from tests.toy import toy_batch, toy_network

SPEC = Spec(num_train=6, num_classes=3, image_shape=(4, 4, 3), batch_size=6)
WEIGHT = np.array([0.2, 1.0, 0.0, 3.0, 0.5, 1.3])
QUIET = {"add_noise": 0.0, "mult_noise": 0.0}
FACTORIES = {
  "mixup": methods.mixup,
  "manifold_mixup": methods.manifold_mixup,
  "nfm": lambda network, **kw: methods.nfm(network, **{"stages": (0, 1, 2), **QUIET, **kw}),
  "cutmix": methods.cutmix,
}


def make_state(network, batch):
  params, stats = network.init(jax.random.key(1), batch["image"])
  return TrainState.create(jax.random.key(2), params, stats)


def jitter(rng, image):
  return image + 0.1 * jax.random.normal(rng, image.shape)


def tolerance(x64):
  return {"rtol": 1e-7, "atol": 1e-9} if x64 else {"rtol": 1e-5, "atol": 1e-6}


# --- the objective -------------------------------------------------------------------------------


@pytest.mark.parametrize("x64", [True, False], ids=["float64", "float32"])
@pytest.mark.parametrize("case", range(3))
def test_objective_equals_noisymix_authors_code(golden, case, x64):
  data = golden("noisymix")
  with jax.enable_x64(x64):
    z = jnp.asarray(data[f"jsd/c{case}/logits_clean"])
    own, other = (
      jax.nn.one_hot(data[f"mixup_criterion/c{case}/labels_{n}"], z.shape[-1], dtype=z.dtype)
      for n in "ab"
    )
    lam = jnp.asarray(data[f"mixup_criterion/c{case}/lam"])
    objective = lambda z: methods.mixup_objective(z, own, other, lam)[0]
    value, grad = jax.jit(jax.value_and_grad(objective))(z)
    np.testing.assert_allclose(value, data[f"mixup_criterion/c{case}/value"], **tolerance(x64))
    expected = data[f"mixup_criterion/c{case}/grad_logits_clean"]
    np.testing.assert_allclose(grad, expected, **tolerance(x64))
    same, _, _ = methods.noisymix_objective(z[:, None], own, other, lam, jsd_weight=0.0)
    np.testing.assert_allclose(value, same, rtol=1e-6)


def smoothed(logits, targets):
  """Mass 0.9 on the target, 0.1 / (K - 1) on each other class."""
  targets = 0.9 * targets + 0.1 / (targets.shape[-1] - 1) * (1 - targets)
  return -jnp.sum(targets * jax.nn.log_softmax(logits), -1)


@pytest.mark.parametrize("x64", [True, False], ids=["float64", "float32"])
@pytest.mark.parametrize("criterion", ["ce", "label_smoothing_0p1"])
@pytest.mark.parametrize("case", range(2))
def test_weighted_objective_equals_multiplicative_reweighting_authors_code(
  golden, case, criterion, x64
):
  data = {k.removeprefix(f"batch/c{case}/"): v for k, v in golden("reweighting").items()}
  with jax.enable_x64(x64):
    z, lam = jnp.asarray(data["logits"]), jnp.asarray(data["mixup_lam"])
    partners = jnp.asarray(data["mixup_perm"])[None]
    targets = jax.nn.one_hot(data["labels"], z.shape[-1], dtype=z.dtype)
    weight = jnp.asarray(data["all_weights"])[data["index"]]
    taken = augment.take_partners(jnp.asarray(data["labels"]), partners)
    np.testing.assert_array_equal(taken, data["mixup_labels_b"])
    mixed = augment.mix(jnp.asarray(data["mixup_x"]), partners, lam)
    np.testing.assert_allclose(mixed, data["mixup_x_out"], **tolerance(x64))

    def objective(z):
      return methods.mixup_objective(
        z,
        targets,
        augment.take_partners(targets, partners),
        lam,
        weight=weight,
        partner_weight=augment.take_partners(weight, partners),
        **({} if criterion == "ce" else {"loss": smoothed}),
      )[0]

    value, grad = jax.jit(jax.value_and_grad(objective))(z)
    np.testing.assert_allclose(value, data[f"mixup/{criterion}/value"], **tolerance(x64))
    np.testing.assert_allclose(grad, data[f"mixup/{criterion}/grad_logits"], **tolerance(x64))


def test_the_loss_is_mixed_and_weights_come_in_pairs():
  """A loss that is not linear in its target: the mixture of the losses, not that of the target."""
  brier = lambda z, t: jnp.sum((jax.nn.softmax(z) - t) ** 2, -1)
  z, t = jax.random.normal(jax.random.key(0), (3, 4)), jnp.eye(4)[jnp.array([0, 2, 3])]
  value, own, metrics = methods.mixup_objective(z, t, t[::-1], 0.3, loss=brier)
  np.testing.assert_allclose(value, jnp.mean(0.3 * brier(z, t) + 0.7 * brier(z, t[::-1])), 1e-6)
  np.testing.assert_array_equal(own, brier(z, t))
  np.testing.assert_allclose(metrics["loss"][0] / metrics["loss"][1], value, rtol=1e-6)
  with pytest.raises(ValueError, match="give both or neither"):
    methods.mixup_objective(z, t, t, 0.3, weight=jnp.ones(3))


# --- one step ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [0, 1, 5])
def test_nfm_equals_authors_code_through_the_method(golden, monkeypatch, case):
  """Their draws in place of ours: the network sees their mixed and noised input."""
  prefix = f"noisy_mixup/c{case}/"
  stored = {k.removeprefix(prefix): v for k, v in golden("noisymix").items() if prefix in k}
  assert not stored["jsd"]
  level, seen = {k: float(stored[f"{k}_noise_level"]) for k in ("add", "mult")}, {}
  size, dense = len(stored["labels"]), lambda v: jnp.moveaxis(jnp.asarray(v, float), 0, 1)

  def noise(rng, shape, sparsity, dtype):
    kept = {k: stored.get(f"{k}_sparse_u", np.ones(1)) >= sparsity for k in level}
    zero = np.zeros((1, *stored["x"].shape))
    normal = stored.get("add_normal", zero) * kept["add"]
    uniform = (2.0 * stored.get("mult_uniform", zero) - 1.0) * kept["mult"]
    return dense(normal), dense(uniform)

  betas = [np.ravel(stored.get(f"{k}_beta", 0.0)) for k in level]
  with jax.enable_x64(True):
    monkeypatch.setattr(augment, "sample_partners", lambda *_: jnp.asarray(stored["perm"])[None])
    monkeypatch.setattr(augment, "sample_coefficient", lambda *_: jnp.asarray(stored["lam"]))
    monkeypatch.setattr(augment, "sample_levels", lambda *_: jnp.asarray(betas))
    monkeypatch.setattr(_mixing, "sparse_noise", noise)
    classes = int(max(stored["labels_a"])) + 1

    def apply(params, stats, image, *, tap, **_):
      seen["x"] = tap(0, image)
      return Output(jnp.zeros((size, classes)), stats, {})

    def loss(logits, targets):
      seen.setdefault("labels", []).append(jnp.argmax(targets, -1))
      return jnp.zeros(size)

    spec = Spec(num_train=size, num_classes=classes, image_shape=(8, 8, 3), batch_size=size)
    method = methods.nfm(
      Network(None, apply, 0), spec=spec, stages=(0,), loss=loss, add_noise=level["add"],
      mult_noise=level["mult"], sparsity=float(stored["sparse_level"]),
    )  # fmt: skip
    batch = {"image": jnp.asarray(stored["x"]), "label": jnp.asarray(stored["labels"])}
    method.loss_fn(TrainState.create(jax.random.key(0), {}, {}))({}, batch, jax.random.key(1))
  np.testing.assert_allclose(seen["x"], stored["x_out"], rtol=1e-7, atol=1e-7)
  np.testing.assert_array_equal(seen["labels"][0], stored["labels_a"])
  np.testing.assert_array_equal(seen["labels"][1], stored["labels_b"])


NFM = {"add_noise": 0.4, "mult_noise": 0.2, "sparsity": 0.0, "random_level": True}
STEPS = {
  "mixup": ("mixup", {"alpha": 0.7}, 0),
  "mixup reweighted": ("mixup", {"weight": WEIGHT}, 0),
  "manifold 1": ("manifold_mixup", {"stages": (1,), "weight": WEIGHT}, 1),
  "manifold 2": ("manifold_mixup", {"stages": (2,)}, 2),
  "nfm 0": ("nfm", {"stages": (0,), **NFM}, 0),
  "nfm 1": ("nfm", {"stages": (1,), "weight": WEIGHT, **NFM, "sparsity": 0.65}, 1),
  "nfm 2": ("nfm", {"stages": (2,), **NFM, "random_level": False}, 2),
}


@pytest.mark.parametrize("step", STEPS)
def test_method_equals_a_hand_written_step(step):
  """Value, per-example values and gradient, redone with plain arrays."""
  name, arguments, at = STEPS[step]
  arguments = dict(arguments)
  with jax.enable_x64(True):
    network, batch = toy_network(), toy_batch()
    state, key = make_state(network, batch), jax.random.key(5)
    w = arguments.pop("weight", None)
    if w is not None:
      batch["weight"] = jnp.asarray(w)
    w = np.ones(6) if w is None else w
    method = FACTORIES[name](network, spec=SPEC, **arguments)
    gradient = jax.jit(jax.value_and_grad(method.loss_fn(state), has_aux=True))
    (value, aux), grads = gradient(state.params, batch, key)

    perm = np.asarray(augment.sample_partners(fold(key, "partners"), 6))[0]
    alpha = arguments.get("alpha", {"manifold_mixup": 2.0}.get(name, 1.0))
    lam = float(augment.sample_coefficient(fold(key, "lam"), alpha))
    assert 0.02 < lam < 0.98, "the case would show little"
    y, rows = np.asarray(batch["label"]), np.arange(6)

    def tap(stage, h):
      if stage != at:
        return h
      mixed = lam * h + (1 - lam) * h[perm]
      if name != "nfm":
        return mixed
      levels = np.ones((2, 1))
      if arguments["random_level"]:
        levels = augment.sample_levels(fold(key, "levels"), 1)
      shape = (6, 1, *h.shape[1:])
      normal, uniform = augment.sparse_noise(
        fold(key, "noise"), shape, arguments["sparsity"], h.dtype
      )
      mult = arguments["mult_noise"] * levels[1, 0] * uniform[:, 0]
      return (1 + mult) * mixed + arguments["add_noise"] * levels[0, 0] * normal[:, 0]

    def by_hand(params):
      out = network.apply(params, state.batch_stats, batch["image"], train=True, tap=tap)
      ce = -jax.nn.log_softmax(out.logits)
      terms = lam * w * ce[rows, y] + (1 - lam) * w[perm] * ce[rows, y[perm]]
      return jnp.sum(terms) / w.sum(), ce[rows, y]

    by_hand = jax.jit(jax.value_and_grad(by_hand, has_aux=True))
    (expected, own), expected_grads = by_hand(state.params)
    np.testing.assert_allclose(value, expected, rtol=1e-9)
    np.testing.assert_allclose(aux.per_example, own, rtol=1e-9)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(expected_grads), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("name", FACTORIES)
def test_alpha_zero_is_erm_to_the_bit(name):
  """The same crops, dropout and loss; the mixing has nothing left to do."""
  network, batch, key = toy_network(), toy_batch(), jax.random.key(5)
  state = make_state(network, batch)
  erm = methods.erm(network, spec=SPEC, first=jitter)
  method = FACTORIES[name](network, spec=SPEC, alpha=0.0, first=jitter)
  (value, aux), grads = method.grad_fn(state)(state.params, batch, key)
  (expected, expected_aux), expected_grads = erm.grad_fn(state)(state.params, batch, key)
  assert value == expected
  np.testing.assert_array_equal(aux.per_example, expected_aux.per_example)
  for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(expected_grads), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_noise_stays_where_the_mixing_is_off():
  network, batch, key = toy_network(), toy_batch(), jax.random.key(5)
  state = make_state(network, batch)
  noisy = methods.nfm(network, spec=SPEC, alpha=0.0, stages=(0,)).loss_fn(state)
  plain = methods.erm(network, spec=SPEC).loss_fn(state)
  difference = noisy(state.params, batch, key)[0] - plain(state.params, batch, key)[0]
  assert abs(float(difference)) > 1e-3


def test_one_stage_is_mixed_and_all_are_equally_often():
  """A network that says at which of its stages rows were replaced."""
  rows = jnp.arange(6.0)[:, None]

  def apply(params, stats, image, *, tap, **_):
    changed = [jnp.any(tap(stage, rows) != rows) for stage in range(4)]
    return Output(jnp.broadcast_to(jnp.stack(changed), (6, 4)), stats, {})

  method = methods.manifold_mixup(
    Network(None, apply, 3), spec=SPEC, alpha=1.0, stages=(0, 1, 3),
    loss=lambda z, t: z @ jnp.array([1.0, 10.0, 100.0, 1000.0]),
  )  # fmt: skip
  loss_fn = method.loss_fn(TrainState.create(jax.random.key(0), {}, {}))
  keys = jax.random.split(jax.random.key(0), 3000)
  value = np.asarray(jax.jit(jax.vmap(lambda k: loss_fn({}, toy_batch(), k)[0]))(keys))
  share = {v: np.isclose(value, v).mean() for v in (1, 10, 1000)}
  # Never two at once, never stage 2; none where the permutation is the identity (1 in 720).
  assert abs(sum(share.values()) - 719 / 720) < 0.003
  assert all(abs(v - 1 / 3) < 0.035 for v in share.values()), share


def test_manifold_mixup_at_the_input_is_mixup():
  network, batch, key = toy_network(), toy_batch(), jax.random.key(3)
  state = make_state(network, batch)
  at_input = methods.manifold_mixup(network, spec=SPEC, alpha=1.0, stages=(0,))
  a, b = (m.loss_fn(state)(state.params, batch, key)[0] for m in (
    at_input, methods.mixup(network, spec=SPEC)))  # fmt: skip
  assert a == b


@pytest.mark.parametrize("alpha", [0.2, 1.0, 2.0])
def test_coefficient_has_the_moments_of_its_beta(alpha):
  keys = jax.random.split(jax.random.key(0), 4000)
  lam = np.asarray(jax.jit(jax.vmap(lambda k: augment.sample_coefficient(k, alpha)))(keys))
  assert lam.min() >= 0 and lam.max() <= 1
  np.testing.assert_allclose(lam.mean(), 0.5, atol=0.03)
  np.testing.assert_allclose(lam.var(), 1 / (4 * (2 * alpha + 1)), rtol=0.08)


@pytest.mark.parametrize("name", FACTORIES)
def test_policy_follows_first_and_image_gradients_flow(name):
  network, batch, key = toy_network(), toy_batch(), jax.random.key(3)
  state = make_state(network, batch)
  method = FACTORIES[name](
    network, spec=SPEC, first=lambda rng, x: x + 1.0, policy=lambda rng, x: x * 2.0
  )
  bare = FACTORIES[name](network, spec=SPEC)

  def of_image(image, method=method):
    return method.loss_fn(state)(state.params, {**batch, "image": image}, key)[0]

  moved = of_image((batch["image"] + 1.0) * 2.0, bare)
  np.testing.assert_allclose(of_image(batch["image"]), moved, rtol=1e-6)
  grad = jax.grad(of_image)(batch["image"])
  assert np.all(np.isfinite(grad)) and float(jnp.abs(grad).max()) > 0


@pytest.mark.parametrize("name", FACTORIES)
def test_groups_keep_partners_apart(name):
  """A change in one group of the batch leaves the rows of the other as they are."""
  network, batch, key = toy_network(), toy_batch(), jax.random.key(4)
  state = make_state(network, batch)
  loss_fn = FACTORIES[name](network, spec=SPEC, mix_groups=2).loss_fn(state)

  def first_half(image):
    aux = loss_fn(state.params, {**batch, "image": image}, key)[1]
    return jnp.sum(aux.per_example[:3])

  grad = jax.grad(first_half)(batch["image"])
  assert not np.any(grad[3:]) and np.any(grad[:3])


@pytest.mark.parametrize(
  ("name", "arguments", "message"),
  [
    ("mixup", {"alpha": -1.0}, "config.method.alpha is -1.0"),
    ("mixup", {"mix_groups": 4}, "config.method.mix_groups is 4, which does not divide"),
    ("mixup", {"loss": "cross_entropi"}, "did you mean 'cross_entropy'"),
    ("manifold_mixup", {"stages": (0, 3)}, "0 .the input. to 2"),
    ("manifold_mixup", {"stages": ()}, "config.method.stages is"),
    ("nfm", {"add_noise": -0.1}, "config.method.add_noise is -0.1"),
    ("nfm", {"mult_noise": -0.1}, "config.method.mult_noise is -0.1"),
    ("nfm", {"sparsity": 1.0}, "config.method.sparsity is 1.0"),
  ],
)
def test_bad_arguments(name, arguments, message):
  with pytest.raises(InputError, match=message):
    FACTORIES[name](toy_network(), spec=SPEC, **arguments)
