"""NoisyMix: parity with the authors' code, and what only looking inside can show."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment, methods
from jaxnoise.core import InputError, Spec, TrainState, fold
from tests.toy import toy_batch, toy_network

SPEC = Spec(num_train=6, num_classes=3, image_shape=(4, 4, 3), batch_size=6)
QUIET = {"add_noise": 0.0, "mult_noise": 0.0}


def make_state(network, batch, seed=1):
  params, stats = network.init(jax.random.key(seed), batch["image"])
  return TrainState.create(jax.random.key(2), params, stats)


def jitter(rng, image):
  return image + 0.1 * jax.random.normal(rng, image.shape)


@pytest.mark.parametrize("x64", [True, False], ids=["float64", "float32"])
@pytest.mark.parametrize("case", range(3))
def test_objective_equals_authors_code(golden, case, x64):
  data = golden("noisymix")
  tolerance = {"rtol": 1e-7, "atol": 1e-9} if x64 else {"rtol": 1e-5, "atol": 1e-6}
  names = ("clean", "aug1", "aug2")
  with jax.enable_x64(x64):
    z = jnp.stack([jnp.asarray(data[f"jsd/c{case}/logits_{v}"]) for v in names], axis=1)
    own, other = (
      jax.nn.one_hot(data[f"mixup_criterion/c{case}/labels_{n}"], z.shape[-1], dtype=z.dtype)
      for n in "ab"
    )
    lam = jnp.asarray(data[f"mixup_criterion/c{case}/lam"])

    def objective(logits, jsd_weight):
      return methods.noisymix_objective(logits, own, other, lam, jsd_weight=jsd_weight)[0]

    value, grad = jax.value_and_grad(objective)(z, 12.0)
    np.testing.assert_allclose(value, data[f"total_loss/c{case}/value"], **tolerance)
    for v, name in enumerate(names):
      expected = data[f"total_loss/c{case}/grad_{name}"]
      np.testing.assert_allclose(grad[:, v], expected, **tolerance)
    value, grad = jax.value_and_grad(objective)(z, 0.0)
    np.testing.assert_allclose(value, data[f"mixup_criterion/c{case}/value"], **tolerance)
    expected = data[f"mixup_criterion/c{case}/grad_logits_clean"]
    np.testing.assert_allclose(grad[:, 0], expected, **tolerance)
    assert not np.any(grad[:, 1:]), "the label term sees the clean-derived branch only"


@pytest.mark.parametrize("case", range(6))
def test_noisy_mixup_equals_authors_code(golden, case):
  data = golden("noisymix")
  stored = {k.split("/")[-1]: v for k, v in data.items() if f"noisy_mixup/c{case}/" in k}
  views = 3 if stored["jsd"] else 1
  with jax.enable_x64(True):
    # Stored as V stacked thirds; here [B, V, C, H, W].
    split = lambda x: jnp.stack(jnp.split(jnp.asarray(x, float), views), axis=1)
    h = split(stored["x"])
    noise = {}
    for kind in ("add", "mult"):
      level = float(stored[f"{kind}_noise_level"])
      noise[f"{kind}_scale"], noise[f"{kind}_noise"] = jnp.zeros(views), jnp.zeros(())
      if f"{kind}_beta" in stored:
        factors = np.arange(1, views + 1) if kind == "add" else np.ones(views)
        draw = stored["add_normal"] if kind == "add" else 2 * stored["mult_uniform"] - 1.0
        kept = stored[f"{kind}_sparse_u"] >= float(stored["sparse_level"])
        noise[f"{kind}_scale"] = jnp.asarray(level * factors * stored[f"{kind}_beta"])
        noise[f"{kind}_noise"] = jnp.moveaxis(jnp.asarray(draw * kept, float), 0, 1)
    mixed = augment.mix(h, jnp.asarray(stored["perm"])[None], stored["lam"])
    out = augment.inject_noise(mixed, **noise)
    np.testing.assert_allclose(out, split(stored["x_out"]), rtol=1e-7, atol=1e-7)
    order = jnp.asarray(stored["perm"])[None]
    partners = augment.take_partners(jnp.asarray(stored["labels"]), order)
    np.testing.assert_array_equal(partners, stored["labels_b"])


def step_by_hand(
  network, state, batch, key, *, add_noise, mult_noise, sparsity, random_level, view_factors
):
  """(loss, CE of the own labels) with one coefficient, one permutation and noise at stage 1."""
  perm = np.asarray(augment.sample_partners(fold(key, "partners"), 6))[0]
  lam = float(augment.sample_coefficient(fold(key, "lam"), 1.0))
  levels = np.ones((2, 3))
  if random_level:
    levels = np.asarray(augment.sample_levels(fold(key, "levels"), 3))
  extra = augment.views(jitter, 2)(fold(fold(key, "augment"), "policy"), batch["image"])
  image = jnp.concatenate([batch["image"][:, None], extra], axis=1)

  def tap(stage, h):
    if stage != 1:
      return h
    mixed = lam * h + (1 - lam) * h[perm]
    normal, uniform = augment.sparse_noise(fold(key, "noise"), h.shape, sparsity, h.dtype)
    noisy = []
    for v in range(3):
      add, mult = add_noise * levels[0, v] * view_factors[v], mult_noise * levels[1, v]
      noisy.append((1 + mult * uniform[:, v]) * mixed[:, v] + add * normal[:, v])
    return jnp.stack(noisy, axis=1)

  z = network.apply(state.params, state.batch_stats, image, train=True, tap=tap).logits
  log_p = jax.nn.log_softmax(z)
  p = jnp.exp(log_p)
  y = np.asarray(batch["label"])
  rows = np.arange(6)
  label = -np.mean(lam * log_p[rows, 0, y] + (1 - lam) * log_p[rows, 0, y[perm]])
  mixture = jnp.log(jnp.mean(p, axis=1, keepdims=True))
  jsd = np.mean(np.sum(p * (log_p - mixture), axis=(1, 2)) / 3)
  return label + 12 * jsd, -log_p[rows, 0, y]


CODE = {
  "add_noise": 0.5, "mult_noise": 0.7, "sparsity": 0.65, "random_level": True,
  "view_factors": (1.0, 2.0, 3.0),
}  # fmt: skip
PAPER = {"sparsity": 0.0, "random_level": False, "view_factors": (1.0, 1.0, 1.0)}


@pytest.mark.parametrize(
  "changes",
  [
    {},
    QUIET,
    {"add_noise": 0.2},
    {"mult_noise": 0.2},
    {"sparsity": 0.3},
    {"random_level": False},
    {"view_factors": (1.0, 1.0, 1.0)},
    {"view_factors": (1.0, 1.0, 1.0), "random_level": False},
    PAPER,
  ],
  ids=lambda changes: " ".join(f"{k}={v}" for k, v in changes.items()) or "as the code has it",
)
def test_method_equals_a_hand_written_step(changes):
  """Redone with plain arrays; each setting of the noise reaches the loss, and as it should."""
  with jax.enable_x64(True):
    network, batch = toy_network(), toy_batch()
    state = make_state(network, batch)
    arguments = {**CODE, **changes}
    method = methods.noisymix(network, spec=SPEC, policy=jitter, stages=(1,), **arguments)
    key = jax.random.key(7)
    value, aux = method.loss_fn(state)(state.params, batch, key)
    loss, own = step_by_hand(network, state, batch, key, **arguments)
    np.testing.assert_allclose(value, loss, rtol=1e-9)
    np.testing.assert_allclose(aux.per_example, own, rtol=1e-9)
    if changes:
      base, _ = step_by_hand(network, state, batch, key, **CODE)
      assert abs(float(value) - base) > 1e-3, "the setting changes nothing here"


def test_stages_are_drawn_uniformly_and_mixing_stays_at_the_drawn_one():
  network, batch = toy_network(), toy_batch()
  state = make_state(network, batch)

  def jitted(stages):
    method = methods.noisymix(network, spec=SPEC, policy=jitter, stages=stages, **QUIET)
    return jax.jit(method.loss_fn(state))

  any_of, alone = jitted((0, 1, 2)), [jitted((k,)) for k in range(3)]
  drawn = []
  for seed in range(60):
    key = jax.random.key(seed)
    value = float(any_of(state.params, batch, key)[0])
    distance = [abs(float(fn(state.params, batch, key)[0]) - value) for fn in alone]
    assert min(distance) < 1e-5
    drawn.append(int(np.argmin(distance)))
  share = np.bincount(drawn, minlength=3) / len(drawn)
  assert np.all(share > 0.15), share


def test_noise_statistics_and_view_factors():
  shape = (64, 3, 16, 16, 1)
  h = jnp.zeros(shape)
  partners = jnp.arange(64)[None]
  arguments = {"sparsity": 0.65, "view_factors": (1.0, 2.0, 3.0)}
  out = augment.noisy_mix(
    jax.random.key(0), h, partners, 1.0, add_noise=0.5, mult_noise=0.0, **arguments
  )
  for v, factor in enumerate((1, 2, 3)):
    x = np.asarray(out[:, v]).ravel()
    assert abs(np.mean(x == 0) - 0.65) < 0.01
    assert abs(np.std(x[x != 0]) - 0.5 * factor) < 0.02 * factor
  ones = augment.noisy_mix(
    jax.random.key(0), h + 1, partners, 1.0, add_noise=0.0, mult_noise=0.5, **arguments
  )
  changed = np.asarray(ones)[np.asarray(ones) != 1] - 1
  assert abs(changed.size / ones.size - 0.35) < 0.01
  assert np.abs(changed).max() <= 0.5
  assert abs(np.std(changed) - 0.5 / np.sqrt(3)) < 0.01


def test_levels_are_beta_2_5_and_reach_each_view():
  levels = np.asarray(jax.vmap(lambda k: augment.sample_levels(k, 3))(
    jax.random.split(jax.random.key(0), 4000)
  ))  # fmt: skip
  assert levels.shape == (4000, 2, 3)
  np.testing.assert_allclose(levels.mean((0,)), 2 / 7, atol=0.01)
  np.testing.assert_allclose(levels.std((0,)), 0.1597, atol=0.006)
  third = np.mean((levels - levels.mean()) ** 3) / levels.std() ** 3
  assert abs(third - 0.5963) < 0.06  # the skewness of Beta(2, 5)
  out = augment.noisy_mix(
    jax.random.key(1), jnp.zeros((64, 3, 16, 16, 1)), jnp.arange(64)[None], 1.0, add_noise=1.0,
    mult_noise=0.0, sparsity=0.0, view_factors=(1.0, 1.0, 1.0),
    levels=jnp.array([[0.1, 0.2, 0.4], [9.0, 9.0, 9.0]]),
  )  # fmt: skip
  np.testing.assert_allclose(np.std(out, axis=(0, 2, 3, 4)), [0.1, 0.2, 0.4], rtol=0.03)


def test_partner_gradient_is_that_of_indexing():
  partners = augment.sample_partners(jax.random.key(0), 6, groups=2)
  flat = np.concatenate([partners[0], partners[1] + 3])
  x, weights = (jax.random.normal(jax.random.key(k), (6, 2)) for k in (1, 2))
  ours = jax.grad(lambda v: jnp.sum(weights * augment.take_partners(v, partners) ** 2))(x)
  plain = jax.grad(lambda v: jnp.sum(weights * v[flat] ** 2))(x)
  np.testing.assert_allclose(ours, plain, rtol=1e-6)
  of = lambda take: lambda v: jnp.sum(weights * take(v) ** 3)
  products = [
    jax.jvp(jax.grad(of(take)), (x,), (weights,))[1]
    for take in (lambda v: augment.take_partners(v, partners), lambda v: v[flat])
  ]
  np.testing.assert_allclose(*products, rtol=1e-5)


def test_image_gradient_flows():
  network, batch = toy_network(), toy_batch()
  state = make_state(network, batch)
  loss_fn = methods.noisymix(network, spec=SPEC, stages=(0, 1, 2)).loss_fn(state)

  def of_image(image):
    return loss_fn(state.params, {**batch, "image": image}, jax.random.key(0))[0]

  grad = jax.jit(jax.grad(of_image))(batch["image"])
  assert grad.shape == batch["image"].shape
  assert np.all(np.isfinite(grad)) and float(jnp.abs(grad).max()) > 0


def test_mixing_within_groups_stays_within_groups():
  partners = augment.sample_partners(jax.random.key(0), 8, groups=2)
  x = jnp.arange(8)
  taken = np.asarray(augment.take_partners(x, partners))
  assert sorted(taken[:4]) == [0, 1, 2, 3] and sorted(taken[4:]) == [4, 5, 6, 7]
  with pytest.raises(InputError, match="mix_groups is 3, which does not divide the batch of 8"):
    augment.sample_partners(jax.random.key(0), 8, groups=3)


def test_sparse_noise_in_bfloat16_is_drawn_in_float32():
  for draw in augment.sparse_noise(jax.random.key(0), (4096,), 0.65, jnp.bfloat16):
    assert draw.dtype == jnp.bfloat16 and np.all(np.isfinite(np.asarray(draw, np.float32)))
    assert len(np.unique(np.asarray(draw, np.float32))) > 300


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"alpha": -1.0}, "config.method.alpha is -1.0"),
    ({"add_noise": -0.1}, "config.method.add_noise is -0.1"),
    ({"sparsity": 1.0}, "config.method.sparsity is 1.0"),
    ({"stages": (0, 3)}, "0 .the input. to 2"),
    ({"stages": ()}, "config.method.stages is"),
    ({"view_factors": (1.0,), "stages": (0,)}, "3 views need 3"),
  ],
)
def test_bad_arguments(arguments, message):
  with pytest.raises(InputError, match=message):
    methods.noisymix(toy_network(), spec=SPEC, **{"stages": (0,), **arguments})
