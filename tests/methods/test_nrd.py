"""NRD: the authors' training steps and averages, and a teacher that no gradient reaches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment, losses, methods
from jaxnoise.core import Aux, InputError, TrainState, fold
from tests.methods.cases import SPEC, teacher_of
from tests.methods.golden_steps import SPEC as STEP_SPEC
from tests.methods.golden_steps import block, take_steps, torch_network
from tests.methods.test_gjs import KEY, hand, make_state, program, run, shift, stored_views
from tests.toy import toy_batch, toy_network

QUIET = {"teacher_policy": None}  # both views are the image itself
nrd = functools.partial(methods.nrd, spec=SPEC)


def leaves_close(tree, other, **tolerance):
  for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
    np.testing.assert_allclose(a, b, **tolerance)


# --- the authors' numbers ------------------------------------------------------------------------


def distilled(data, name):
  """alpha CE + (1 - alpha) T^2 CE(teacher, student) at temperature T, the older routines' loss."""
  alpha, tau = (float(data[f"step/{name}/{key}"]) for key in ("alpha", "temperature"))

  def objective(student, taught, targets):
    student = student[:, 0]
    soft = losses.cross_entropy(student / tau, jax.nn.softmax(taught / tau))
    return alpha * losses.cross_entropy(student, targets) + (1 - alpha) * tau**2 * soft

  return objective


SELF = {"teacher": "self", "teacher_mode": "eval"}
STEPS = {
  "jsd_self_teacher": {**SELF, "student_views": 2},
  "jsd_self_teacher_unscaled": {**SELF, "student_views": 2, "scale": "none"},
  "jsd_self_teacher_one_view": SELF,
  "ce_self_teacher": {"teacher": "self", "objective": distilled},
  "ce_ema_teacher": {"ema_schedule": "ema_pytorch", "objective": distilled},
  "ce_ema_teacher_every_step": {
    "ema_schedule": "ema_pytorch", "update_after": 0, "update_every": 1, "objective": distilled,
  },
}  # fmt: skip


SLOW = ("jsd_self_teacher_unscaled", "jsd_self_teacher_one_view", "ce_ema_teacher")


@pytest.mark.parametrize(
  "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in STEPS]
)
def test_steps_equal_the_authors(golden, monkeypatch, name):
  """Losses, gradients, running statistics and the average, through four updates."""
  data, options = golden("nrd"), dict(STEPS[name])
  views = options.get("student_views", 1)
  if views > 1:
    monkeypatch.setattr(augment, "views", stored_views)
  stored = [f"x_student_v{v}" for v in range(views)] + ["x_teacher"]
  if "objective" in options:
    options["objective"] = distilled(data, name)
  else:
    pi = data[f"step/{name}/pi"]
    options["weights"] = (float(pi[0]), float(sum(pi[1:-1])), float(pi[-1]))
  with jax.enable_x64(True):
    method = methods.nrd(
      torch_network(),
      spec=STEP_SPEC,
      policy=lambda rng, image: image[..., : 3 * views],
      teacher_policy=block(views),
      **options,
    )
    take_steps(data, name, method, stored)


@pytest.mark.parametrize("setting", range(4))
def test_average_equals_the_package_of_the_authors(golden, setting):
  """Copies, waits and averages at the right updates; statistics are averaged like parameters."""
  read = lambda key: golden("nrd")[f"ema/{key}"]
  with jax.enable_x64(True):
    options = {
      "decay": float(read(f"h{setting}/beta")),
      "update_after": int(read(f"h{setting}/update_after_step")),
      "update_every": int(read(f"h{setting}/update_every")),
    }
    method = nrd(toy_network(), ema_schedule="ema_pytorch", **options)
    params, buffers = replayed(method, read, 160)
    tolerance = {"rtol": 1e-7, "atol": 1e-9}
    np.testing.assert_allclose(params, read(f"h{setting}/ema_params"), **tolerance)
    np.testing.assert_allclose(buffers, read(f"h{setting}/ema_buffers"), **tolerance)


def test_average_equals_the_paper_s_rule(golden):
  read = lambda key: golden("nrd")[f"ema/{key}"]
  with jax.enable_x64(True):
    method = nrd(toy_network(), decay=float(read("paper_rule/beta")))
    params, buffers = replayed(method, read, 3)
    np.testing.assert_allclose(params, read("paper_rule/ema_params"), rtol=1e-7)
    np.testing.assert_allclose(buffers, read("paper_rule/ema_buffers_if_averaged"), rtol=1e-7)


def replayed(method, read, calls):
  """The averages after each of the calls, on the stored trajectory."""
  start = [jnp.asarray(read(f"{part}_init")) for part in ("params", "buffers")]
  state = method.init_state(TrainState.create(jax.random.key(0), *start))

  def one(state, after):
    params, buffers = after
    state = state.replace(step=state.step + 1, params=params, batch_stats=buffers)
    state = method.post_step(state, {}, Aux(buffers, jnp.zeros(1)), KEY)
    return state, (state.ema_params, state.ema_batch_stats)

  trajectory = [jnp.asarray(read(f"{part}_after_sgd")[:calls]) for part in ("params", "buffers")]
  return jax.lax.scan(one, state, tuple(trajectory))[1]


# --- views ---------------------------------------------------------------------------------------


def faded(rng, image):
  """Does not commute with `shift`."""
  return 0.5 * shift(rng, image)


@pytest.mark.parametrize("policy_first", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_student_and_teacher_see_views_of_their_own(policy_first):
  """All are drawn from the raw image, crop included; the student's two in one pass, sharing its
  weight; of the teacher's three, in evaluation mode, the probabilities are averaged."""
  network, batch = toy_network(), toy_batch()
  made = functools.partial(
    nrd, network, first=shift, policy=shift, teacher_policy=faded, teacher_mode="eval",
    student_views=2, teacher_views=3, teacher_policy_first=policy_first, scale="none",
  )  # fmt: skip
  method = made(weights=(0.25, 0.5, 0.25))
  state = method.init_state(make_state(network)).replace(
    ema_params=teacher_of(network)["params"], ema_batch_stats={"mean": 0.3 * jnp.ones(4)}
  )
  loss, aux = run(method, state)
  order = (faded, shift) if policy_first else (shift, faded)

  @jax.jit
  def by_hand(image):
    student, novel = (
      augment.views(augment.compose(*steps), count)(fold(KEY, name), image)
      for steps, count, name in (((shift, shift), 2, "augment"), (order, 3, "teacher"))
    )
    out = network.apply(state.params, state.batch_stats, student, train=True)
    z_t = network.apply(state.ema_params, state.ema_batch_stats, novel).logits
    return out, jnp.log(jnp.mean(jax.nn.softmax(z_t), axis=1, keepdims=True))

  out, log_p = by_hand(batch["image"])
  z = np.concatenate([out.logits, log_p], axis=1)
  expected = hand(z, batch["label"], (0.25, 0.25, 0.25, 0.25), scaled=False)
  np.testing.assert_allclose(aux.per_example, expected, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(loss, expected.mean(), rtol=1e-4)
  np.testing.assert_allclose(aux.batch_stats["mean"], out.batch_stats["mean"], rtol=1e-5)
  agree, count = aux.metrics["teacher_agreement"]
  assert (agree, count) == (np.sum(np.argmax(z[:, 2], 1) == batch["label"]), 6)
  assert program(method, state) == program(made(weights=(0.25,) * 4), state)


# --- the teacher ---------------------------------------------------------------------------------


def test_no_gradient_reaches_the_averaged_teacher_and_the_loss_depends_on_it():
  network, batch = toy_network(), toy_batch()
  method = nrd(network, **QUIET)
  state = method.init_state(make_state(network))

  @jax.jit
  @functools.partial(jax.value_and_grad, argnums=(0, 1))
  def of_teacher(ema_params, ema_batch_stats):
    now = state.replace(ema_params=ema_params, ema_batch_stats=ema_batch_stats)
    return method.loss_fn(now)(state.params, batch, KEY)[0]

  other = teacher_of(network)["params"]
  values = []
  for params in (state.ema_params, other):
    value, grads = of_teacher(params, state.ema_batch_stats)
    assert not any(np.any(np.asarray(g)) for g in jax.tree.leaves(grads))
    values.append(float(value))
  assert abs(values[0] - values[1]) > 1e-3


def test_the_self_teacher_is_a_constant_of_the_gradient():
  """The same network teaches and learns: only the path through the student is differentiated."""
  network, batch = toy_network(), toy_batch()
  method = nrd(network, teacher="self", teacher_mode="eval", **QUIET)
  state = method.init_state(make_state(network))
  assert state.ema_params is None
  assert list(method.predictors(state)) == ["student"]
  targets = jax.nn.one_hot(batch["label"], 3)

  def by_hand(params, teacher):
    out = network.apply(params, state.batch_stats, batch["image"], train=True)
    taught = network.apply(teacher, out.batch_stats, batch["image"]).logits
    logits = jnp.stack([out.logits, taught], axis=1)
    return jnp.mean(losses.gjs(logits, targets, weights=(0.2, 0.6, 0.2)))

  grad = jax.jit(jax.grad(lambda p: method.loss_fn(state)(p, batch, KEY)[0]))(state.params)
  right, through = jax.jit(jax.grad(by_hand, argnums=(0, 1)))(state.params, state.params)
  leaves_close(grad, right, rtol=1e-4, atol=1e-6)
  assert np.max(np.abs(through["w3"])) > 1e-3, "a gradient that reached the teacher would be seen"


def test_the_average_follows_the_update_and_the_teacher_s_own_pass():
  """theta' <- d theta' + (1 - d) theta with theta after its step; so for the statistics, which the
  pass of the teacher has moved first."""
  network, batch = toy_network(), toy_batch()
  method = nrd(network, decay=0.9, **QUIET)
  state = method.init_state(make_state(network))
  state = state.replace(ema_batch_stats={"mean": jnp.full(4, 2.0)})

  @jax.jit
  def step(state, image):
    (_, aux), grads = method.grad_fn(state)(state.params, batch, KEY)
    stepped = state.replace(
      step=state.step + 1,
      params=jax.tree.map(lambda p, g: p - 5.0 * g, state.params, grads),
      batch_stats=aux.batch_stats,
    )
    moved = network.apply(state.ema_params, state.ema_batch_stats, image, train=True).batch_stats
    return stepped, method.post_step(stepped, batch, aux, KEY), moved

  stepped, after, moved = step(state, batch["image"])
  assert np.min(np.abs(moved["mean"] - 2.0)) > 0.05
  expected = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, state.params, stepped.params)
  leaves_close(after.ema_params, expected, rtol=1e-5, atol=1e-7)
  assert np.max(np.abs(after.ema_params["w3"] - state.params["w3"])) > 1e-3
  expected = 0.9 * moved["mean"] + 0.1 * stepped.batch_stats["mean"]
  np.testing.assert_allclose(after.ema_batch_stats["mean"], expected, rtol=1e-5)
  leaves_close(after.params, stepped.params)
  named = method.predictors(after)
  assert list(named) == ["student", "ema"]
  logits = network.apply(after.ema_params, after.ema_batch_stats, batch["image"]).logits
  np.testing.assert_allclose(named["ema"](batch["image"]), logits, rtol=1e-5)


def test_a_frozen_teacher_is_that_of_the_state():
  """One round of eq. (23): the network of the round before teaches and stays as it is."""
  network, batch = toy_network(), toy_batch()
  method = nrd(network, teacher="frozen", teacher_network=network, teacher_mode="eval", **QUIET)
  with pytest.raises(InputError, match=r"config\.teacher is empty"):
    method.init_state(make_state(network))
  teacher = teacher_of(network)
  state = method.init_state(make_state(network).replace(teacher=teacher))
  _, aux = run(method, state)
  z = network.apply(state.params, state.batch_stats, batch["image"], train=True).logits
  z_t = network.apply(teacher["params"], teacher["batch_stats"], batch["image"]).logits
  expected = hand(jnp.stack([z, z_t], axis=1), batch["label"], (0.2, 0.6, 0.2))
  np.testing.assert_allclose(aux.per_example, expected, rtol=1e-4, atol=1e-6)
  assert method.post_step(state, batch, aux, KEY) is state


def test_one_owner_of_the_average():
  network = toy_network()
  with pytest.raises(InputError, match="with_ema cannot wrap nrd: ema_params has an owner"):
    methods.with_ema(nrd(network)).init_state(make_state(network))
  with pytest.raises(InputError, match="nrd keeps its teacher in ema_params"):
    nrd(network).init_state(make_state(network).replace(ema_params={}))
  both = methods.with_ema(nrd(network, teacher="self"))
  assert list(both.predictors(both.init_state(make_state(network)))) == ["student", "ema"]


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"weights": (0.2, 0.6, 0.3)}, "sum to 1, not to 1.1"),
    ({"weights": (0.2, 0.3, 0.3, 0.2)}, "must hold 3 numbers"),
    ({"weights": (0.3, 1.0, -0.3)}, "is no distribution"),
    ({"weights": (0.5, 0.0, 0.5)}, "the student's must be larger than 0"),
    ({"weights": (0.0, 0.5, 0.5)}, "the first, the label's"),
    ({"scale": "gsj"}, "scale is 'gsj', no such choice: did you mean 'gjs'"),
    ({"teacher": "emma"}, "teacher is 'emma', no such choice"),
    ({"teacher_mode": "evaluate"}, "teacher_mode is 'evaluate'"),
    ({"ema_schedule": "none"}, "ema_schedule is 'none'"),
    ({"decay": 1.0}, "decay is 1.0"),
    ({"update_every": 0}, "update_every is 0"),
    ({"student_views": 0}, "student_views is 0"),
    ({"teacher": "frozen"}, r"config\.teacher is empty"),
    ({"teacher_network": toy_network()}, r"config\.teacher is set, but config\.method\.teacher"),
  ],
)
def test_bad_arguments(options, message):
  with pytest.raises(InputError, match=message):
    nrd(toy_network(), **options)
