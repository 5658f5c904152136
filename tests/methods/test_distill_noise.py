"""Fickle teacher, soft randomization, messy collaboration: what is live, and noisy for whom."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment, losses, methods
from jaxnoise.core import InputError, fold
from tests.methods.cases import SPEC, shift
from tests.methods.teachers import featured, taught_state
from tests.toy import toy_batch

KEY = jax.random.key(5)


def made(name, network=None, teacher=None, **options):
  network = network or featured()
  return getattr(methods, name)(
    network, spec=SPEC, teacher_network=teacher or network, first=shift, **options
  )


@functools.cache
def plain():
  """Loss and aux of distillation and of the three without their noise, from one program."""
  every = (
    made("knowledge_distillation"),
    made("fickle_teacher", teacher=featured(0.5), teacher_dropout=0.0),
    made("soft_randomization", sigma=0.0),
    made("messy_collaboration", rate=0.0),
  )
  run = jax.jit(lambda s: [m.loss_fn(s)(s.params, toy_batch(), KEY) for m in every])
  return jax.tree.map(np.asarray, run(taught_state()))


def test_without_their_noise_all_three_are_distillation_exactly():
  expected, *found = plain()
  for one in found:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(expected), strict=True):
      np.testing.assert_array_equal(a, b)


# --- fickle teacher ------------------------------------------------------------------------------


def test_fickle_teacher_has_live_dropout_and_frozen_statistics():
  """tau^2 KL against a pass with the step's own masks and the teacher's running statistics."""
  network, teacher = featured(), featured(0.5)
  # No augmentation: the masks are the only draw.
  method = methods.fickle_teacher(network, spec=SPEC, teacher_network=teacher)
  state, batch = taught_state(), toy_batch()

  @jax.jit
  def run(taught, key):
    loss_fn = method.loss_fn(state.replace(teacher=taught))
    image = batch["image"]
    t = teacher.apply(**taught, image=image, rng=fold(key, "teacher_dropout"))
    s = network.apply(state.params, state.batch_stats, image, train=True)
    kd = jnp.mean(losses.hinton(s.logits, t.logits))
    return *loss_fn(state.params, batch, key), kd, s.batch_stats

  loss, aux, expected, moved = run(state.teacher, KEY)
  kd, count = aux.metrics["distillation"]
  np.testing.assert_allclose(kd / count, expected, rtol=1e-5)
  np.testing.assert_allclose(loss, 0.1 * np.mean(aux.per_example) + 0.9 * expected, rtol=1e-5)
  # The student's statistics move, by its own pass only; the teacher's stay.
  np.testing.assert_allclose(aux.batch_stats["mean"], moved["mean"], rtol=1e-5)
  assert method.post_step(state, batch, aux, KEY) is state
  # A fresh mask in every step; the same key gives the same one.
  assert float(run(state.teacher, KEY)[0]) == float(loss)
  assert abs(float(run(state.teacher, jax.random.key(6))[0]) - float(loss)) > 1e-4

  # The teacher matters, and is given no gradient.
  other = jax.tree.map(lambda x: x + 0.5, state.teacher)
  assert abs(float(run(other, KEY)[0]) - float(loss)) > 1e-4
  of = lambda taught: method.loss_fn(state.replace(teacher=taught))(state.params, batch, KEY)[0]
  grads = jax.jit(jax.grad(of))(state.teacher)
  assert not any(np.any(np.asarray(g)) for g in jax.tree.leaves(grads))


def test_the_rate_of_the_teacher_or_another():
  calls = []
  teacher, state = featured(0.5, calls=calls), taught_state()
  for rate in (None, 0.3):
    method = made("fickle_teacher", featured(), teacher, teacher_dropout=rate)
    calls.clear()
    jax.eval_shape(method.loss_fn(state), state.params, toy_batch(), KEY)
    (call,) = calls  # one pass
    assert call["dropout"] == rate and call["rng"] is not None and not call.get("train")
  calls.clear()
  plain_method = made("knowledge_distillation", featured(), teacher)
  jax.eval_shape(plain_method.loss_fn(state), state.params, toy_batch(), KEY)
  assert calls[0].get("rng") is None and not calls[0].get("train")


# --- soft randomization --------------------------------------------------------------------------


def test_soft_randomization_is_noisy_for_the_student_alone():
  """One pass of a noisy student for both terms, of a clean teacher; without the teacher, it is
  Gaussian augmentation with the same noise."""
  sigma, state, seen, shown = 0.3, taught_state(), [], []
  student, teacher = featured(calls=seen), featured(calls=shown)
  policy = functools.partial(augment.gaussian_augment, std=sigma, clip=False)
  built = {
    "noisy": made("soft_randomization", student, teacher, sigma=sigma),
    "clipped": made("soft_randomization", student, teacher, sigma=sigma, clip=True),
    "alone": made("soft_randomization", student, teacher, sigma=sigma, alpha=0.0),
    "augmented": methods.erm(student, spec=SPEC, first=shift, policy=policy),
  }

  @jax.jit
  def run(state):
    out, images = {}, {}
    for name, method in built.items():
      seen.clear()
      out[name] = method.loss_fn(state)(state.params, toy_batch(), KEY)
      (call,) = seen
      images[name] = call["image"]
    clean = augment.batched(shift)(fold(KEY, "augment"), toy_batch()["image"])
    return out, images, clean, [call["image"] for call in shown]

  out, images, clean, shown_images = jax.tree.map(np.asarray, run(state))
  for image in shown_images:
    np.testing.assert_allclose(image, clean, atol=1e-6)
  noisy = images["noisy"]
  np.testing.assert_allclose(np.std(noisy - clean), sigma, rtol=0.1)
  assert noisy.min() < 0 and noisy.max() > 1
  np.testing.assert_allclose(images["clipped"], np.clip(noisy, 0, 1), atol=1e-6)
  np.testing.assert_allclose(images["augmented"], noisy, atol=1e-6)
  np.testing.assert_allclose(out["alone"][0], out["augmented"][0], rtol=1e-6)
  loss, aux = out["noisy"]
  np.testing.assert_allclose(aux.per_example, out["augmented"][1].per_example, rtol=1e-5)
  kd, count = aux.metrics["distillation"]
  np.testing.assert_allclose(loss, 0.1 * aux.per_example.mean() + 0.9 * kd / count, rtol=1e-5)


# --- messy collaboration -------------------------------------------------------------------------


def test_labels_are_redrawn_over_all_classes():
  labels = np.arange(30_000, dtype=np.int32) % 5
  draw = jax.jit(functools.partial(methods.redraw_labels, num_classes=5), static_argnames="rate")
  drawn = np.asarray(draw(KEY, labels, rate=0.4))
  assert drawn.dtype == np.int32 and set(drawn) == set(range(5))
  # Changed: r (K - 1) / K = 0.32. Standard error 0.0027.
  np.testing.assert_allclose(np.mean(drawn != labels), 0.32, atol=0.011)
  for c in range(5):
    after = np.bincount(drawn[labels == c], minlength=5) / np.sum(labels == c)
    np.testing.assert_allclose(after, np.where(np.arange(5) == c, 0.68, 0.08), atol=0.025)
  all_drawn = np.asarray(draw(KEY, labels, rate=1.0))
  np.testing.assert_allclose(np.bincount(all_drawn[labels == 0]) / 6000, 0.2, atol=0.025)
  np.testing.assert_array_equal(draw(KEY, labels, rate=0.0), labels)


def test_messy_labels_reach_cross_entropy_alone_and_average_to_smoothed_ones():
  """E CE(z, y') = (1 - r) CE(z, y) + r mean_c CE(z, c); tau^2 KL is that without noise."""
  rate, network = 0.5, featured()
  method = methods.messy_collaboration(network, spec=SPEC, teacher_network=network, rate=rate)
  state = taught_state()

  @jax.jit
  def run(keys):
    def one(key):
      loss, aux = method.loss_fn(state)(state.params, toy_batch(), key)
      return loss, aux.per_example, aux.metrics["distillation"][0]

    logits = network.apply(state.params, state.batch_stats, toy_batch()["image"], train=True).logits
    return logits, jax.vmap(one)(keys)

  logits, (loss, ce, kd) = jax.tree.map(np.asarray, run(jax.random.split(KEY, 2000)))
  assert np.ptp(kd) < 1e-4 * kd.mean()
  np.testing.assert_allclose(loss, 0.1 * ce.mean(axis=1) + 0.9 * kd / 6, rtol=1e-4)
  every = -np.asarray(jax.nn.log_softmax(logits))
  own = every[np.arange(6), toy_batch()["label"]]
  expected = (1 - rate) * own + rate * every.mean(axis=1)
  error = ce.std(axis=0) / np.sqrt(len(ce))
  assert np.all(error > 0) and np.all(np.abs(ce.mean(axis=0) - expected) < 4 * error)
  # Rows are drawn apart from each other.
  assert abs(np.corrcoef(ce[:, 0], ce[:, 3])[0, 1]) < 0.1


# --- reweighting and bad input -------------------------------------------------------------------


def test_reweighting_over_distillation():
  """Equal sums are the method itself; others weigh both terms of an example."""
  network = featured()
  method = methods.multiplicative_reweighting(
    made("knowledge_distillation", network), network, spec=SPEC, eta=0.5
  )
  state = method.init_state(taught_state())
  sums = np.linspace(0, 4, SPEC.num_train, dtype=np.float32)

  @jax.jit
  def run(loss_sum):
    s = state.with_method_state(method.wrappers[0], {"loss_sum": loss_sum})
    image = augment.batched(shift)(fold(KEY, "augment"), toy_batch()["image"])
    student = network.apply(s.params, s.batch_stats, image, train=True).logits
    kd = losses.hinton(student, network.apply(**s.teacher, image=image).logits)
    return *method.loss_fn(s)(s.params, toy_batch(), KEY), kd

  np.testing.assert_allclose(run(0 * sums + 3)[0], plain()[0][0], rtol=1e-5)
  loss, aux, kd = run(sums)
  values = 0.1 * aux.per_example + 0.9 * kd
  weight = np.exp(-0.5 * sums[np.asarray(toy_batch()["index"])])
  np.testing.assert_allclose(loss, np.sum(weight * values) / np.sum(weight), rtol=1e-5)


@pytest.mark.parametrize(
  ("build", "message"),
  [
    (lambda: made("fickle_teacher"), "fickle_teacher needs a teacher whose dropout is live"),
    (
      lambda: made("fickle_teacher", teacher=featured(0.5), teacher_dropout=1.0),
      r"config\.method\.teacher_dropout is 1\.0",
    ),
    (
      lambda: made("fickle_teacher", teacher=featured(0.5), temperature=-1.0),
      r"config\.method\.temperature is -1\.0",
    ),
    (lambda: made("fickle_teacher", alpha=2.0), r"config\.method\.alpha is 2\.0"),
    (lambda: made("soft_randomization", sigma=-0.1), r"config\.method\.sigma is -0\.1"),
    (lambda: made("soft_randomization", sigma=float("nan")), r"config\.method\.sigma is nan"),
    (
      lambda: made("soft_randomization", temperature=float("inf")),
      r"config\.method\.temperature is inf",
    ),
    (lambda: made("messy_collaboration", rate=1.2), r"config\.method\.rate is 1\.2"),
    (lambda: made("messy_collaboration", alpha=-0.1), r"config\.method\.alpha is -0\.1"),
  ],
)
def test_bad_arguments(build, message):
  with pytest.raises(InputError, match=message):
    build()


def test_a_teacher_is_needed_and_of_the_same_classes():
  state = taught_state()
  for name, teacher, options in (
    ("fickle_teacher", featured(0.5), {}),
    ("soft_randomization", None, {}),
    ("messy_collaboration", None, {}),
  ):
    method = made(name, teacher=teacher, **options)
    with pytest.raises(InputError, match=rf"config\.teacher is empty, but {name} needs a teacher"):
      method.init_state(state.replace(teacher=None))
    assert method.init_state(state) is state
  method = made("soft_randomization", teacher=featured(num_classes=4))
  other = jax.tree.map(lambda x: x, state.teacher)
  other["params"] = {**other["params"], "w3": jnp.ones((4, 4)), "b3": jnp.zeros(4)}
  with pytest.raises(InputError, match=r"config\.teacher is a network of 4 classes"):
    fn = method.loss_fn(state.replace(teacher=other))
    jax.eval_shape(fn, state.params, toy_batch(), KEY)
