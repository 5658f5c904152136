"""ELR+: the objective against the authors' numbers, then who sees what, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment, losses, methods
from jaxnoise.core import InputError, TrainState
from jaxnoise.core.rng import fold
from jaxnoise.methods.elr_plus import sigmoid_ramp
from tests.methods.cases import SPEC
from tests.methods.linear import linear_network
from tests.toy import toy_batch, toy_network


@pytest.mark.parametrize("case", ["c0", "c1"])
def test_three_steps_golden(golden, case):
  prefix = f"elr_plus/{case}/"
  data = {k[len(prefix) :]: v for k, v in golden("elr").items() if k.startswith(prefix)}
  classes = int(data["num_classes"])

  @jax.jit
  def step(table, logits, targets, said, index, perm, lam, t):
    rows = losses.elr_update(table[index], said, beta=float(data["beta"]), clip=None)
    q = augment.mix(rows, perm[None], lam)

    def loss(z):
      ramp = sigmoid_ramp(t, int(data["coef_step"]))
      weight, refine = float(data["lambda"]), classes == 100
      return methods.elr_plus_objective(
        z, targets, q, elr_weight=weight, ramp=ramp, refine=refine
      )[0]

    return table.at[index].set(rows), q, *jax.value_and_grad(loss)(logits)

  with jax.enable_x64(True):
    table = jnp.zeros((int(data["num_examples"]), classes))
    names = ("logits", "soft_labels", "history_logits", "index", "mix_perm", "mix_lambda")
    for k in range(3):
      rows = (jnp.asarray(data[name][k]) for name in names)
      table, q, loss, grad = step(table, *rows, jnp.asarray(data["iteration"][k]))
      np.testing.assert_allclose(table, data["pred_hist_after"][k], rtol=1e-9, atol=1e-15)
      np.testing.assert_allclose(q, data["q_mixed_target"][k], rtol=1e-9)
      np.testing.assert_allclose(loss, data["loss"][k], rtol=1e-9)
      np.testing.assert_allclose(grad, data["grad_logits"][k], rtol=1e-7, atol=1e-12)


def test_refinement_without_overlap_keeps_the_label():
  """Label and history that share no class would divide 0 by 0."""
  hot = np.eye(3, dtype=np.float32)
  fn = jax.jit(lambda h: methods.elr_plus_objective(0 * h, hot[:1], h, refine=True)[0])
  np.testing.assert_allclose(fn(hot[1:2]), np.log(3) + 3 * np.log(2 / 3), rtol=1e-5)


def made(**changes):
  network = linear_network()
  method = methods.elr_plus(network, spec=SPEC, **changes)
  params, stats = network.init(jax.random.key(1), toy_batch()["image"])
  state = method.init_state(TrainState.create(jax.random.key(2), params, stats))
  # Every part of the state differs from every other, so that a swap shows.
  moved = {n: jax.tree.map(lambda x, k=k: x + 0.3 * k, state.params[n])
           for n, k in (("net0", 1.0), ("net1", -1.0))}
  state = state.replace(
    ema_params=moved, batch_stats={"net0": {"mean": np.ones(3)}, "net1": {"mean": -np.ones(3)}}
  )
  draw = np.random.default_rng(8).uniform
  history = {n: jnp.asarray(draw(size=(12, 3)) / 3, jnp.float32) for n in ("net0", "net1")}
  return network, method, state.with_method_state("elr_plus", history)


def test_each_network_is_held_to_the_average_of_the_other_on_the_unmixed_batch():
  network, method, state = made(beta=0.9, coef_steps=8, refine=True, elr_weight=2.0)
  state = state.replace(step=jnp.int32(3))
  batch, key = {**toy_batch(), "index": jnp.array([11, 3, 0, 7, 5, 2])}, jax.random.key(5)
  (loss, aux), grads = jax.jit(method.grad_fn(state))(state.params, batch, key)

  @jax.jit
  def by_hand():
    hot, total, ce, kept = jax.nn.one_hot(batch["label"], 3), 0.0, [], {}
    for net, other in (("net0", "net1"), ("net1", "net0")):
      own = fold(key, net)
      perm = augment.sample_partners(fold(own, "partners"), 6)[0]
      lam = jax.random.uniform(fold(own, "lam"))
      lam = jnp.maximum(lam, 1 - lam)
      mix = lambda x, perm=perm, lam=lam: lam * x + (1 - lam) * x[perm]
      image, stats = batch["image"], state.batch_stats
      z = network.apply(state.params[net], stats[net], mix(image), train=True).logits
      said = network.apply(state.ema_params[other], stats[other], image, train=True).logits
      before = state.method_state["elr_plus"][net][batch["index"]]
      kept[net] = 0.9 * before + 0.1 * jax.nn.softmax(said)
      q, y = mix(kept[net]), mix(hot)
      y = y * q / jnp.sum(y * q, axis=1, keepdims=True)
      log_p = jax.nn.log_softmax(z)
      term = jnp.log(1 - jnp.sum(q * jnp.exp(log_p), axis=1))
      ramp = np.exp(-5 * (1 - 4 / 8) ** 2)
      total += jnp.mean(-jnp.sum(y * log_p, axis=1) + ramp * 2 * term)
      ce.append(-jnp.sum(hot * log_p, axis=1))
    return total, (ce[0] + ce[1]) / 2, kept

  total, ce, kept = by_hand()
  np.testing.assert_allclose(loss, total, rtol=1e-5)
  np.testing.assert_allclose(aux.per_example, ce, rtol=1e-5)
  assert jax.tree.structure(grads) == jax.tree.structure(state.params)
  assert all(np.any(np.asarray(g)) for g in jax.tree.leaves(grads))

  after = method.post_step(state, batch, aux, key)
  assert jax.tree.structure(after) == jax.tree.structure(state)
  for net, table in after.method_state["elr_plus"].items():
    np.testing.assert_allclose(table[batch["index"]], kept[net], rtol=1e-5)
    np.testing.assert_array_equal(table[1], state.method_state["elr_plus"][net][1])


@pytest.mark.parametrize(
  ("arguments", "decay"),
  [
    # The second update, t = 2.
    ({"ema_decay": 0.9, "ema_steps": 4}, 0.9 * np.exp(-5 * 0.25)),
    ({"ema_decay": 0.9, "ema_steps": 0}, 0.9),
    ({"ema_decay": 0.9, "ema_steps": None}, 2 / 3),
    ({"ema_decay": 0.5, "ema_steps": None}, 0.5),
  ],
)
def test_averages_move_by_their_rule_and_statistics_stay(arguments, decay):
  _, method, state = made(**arguments)
  new = state.replace(step=jnp.int32(2), params=jax.tree.map(lambda x: x + 1, state.params))
  aux_rows = {n: jnp.zeros((6, 3)) for n in ("net0", "net1")}
  aux = type("Aux", (), {"extra": aux_rows})
  after = method.post_step(new, toy_batch(), aux, jax.random.key(0))
  expected = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, state.ema_params, new.params)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.ema_params, expected)
  assert after.ema_batch_stats is None
  jax.tree.map(np.testing.assert_array_equal, after.batch_stats, state.batch_stats)


def test_predictors_are_the_networks_and_weights_are_refused():
  network, method, state = made()
  image = toy_batch()["image"]
  named = method.predictors(state)
  assert list(named) == ["mean", "net0", "net1"]
  alone = [network.apply(state.params[n], state.batch_stats[n], image).logits
           for n in ("net0", "net1")]
  np.testing.assert_allclose(named["mean"](image), (alone[0] + alone[1]) / 2, rtol=1e-6)
  with pytest.raises(InputError, match="random_weighting cannot wrap elr_plus"):
    methods.random_weighting(method)
  fresh = TrainState.create(jax.random.key(0), *network.init(jax.random.key(1), image))
  with pytest.raises(InputError, match="with_ema cannot wrap elr_plus: ema_params has an owner"):
    methods.with_ema(method).init_state(fresh)
  assert jax.tree.structure(method.init_state(fresh)) == jax.tree.structure(state)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"elr_weight": -1.0}, "elr_weight is -1.0"),
    ({"beta": -0.1}, "beta is -0.1"),
    ({"alpha": -1.0}, "alpha is -1.0"),
    ({"coef_steps": -1}, "coef_steps is -1"),
    ({"ema_decay": 1.0}, "ema_decay is 1.0"),
    ({"ema_steps": -2}, "ema_steps is -2"),
    ({"mix_groups": 4}, "mix_groups is 4"),
  ],
)
def test_bad_arguments(arguments, message):
  with pytest.raises(InputError, match=message):
    methods.elr_plus(toy_network(), spec=SPEC, **arguments)
