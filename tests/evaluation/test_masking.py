"""The check for masked gradients: what it measures, and which networks it catches."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import attacks, data, evaluation, methods
from jaxnoise.core import Network, Output, Spec, TrainState
from jaxnoise.training import sharding

SPEC = Spec(num_train=48, num_classes=3, image_shape=(8, 8, 3))
KEY = jax.random.key(5)
SOURCE = data.generated(num_train=48, num_test=21, num_classes=3, size=8)
IMAGES, TEST_IMAGES = (
  (128 + 0.15 * (x.astype(np.float32) - 128)).round().astype(np.uint8)  # of little contrast
  for x in (SOURCE.images, SOURCE.test_images)
)
CHECKS = ("reach", "radius", "steps", "transfer", "noise")


def nearest_mean(step: float):
  """Scores by the distance to each class's mean; a step > 0 rounds pixels: no gradient is left."""

  def init(rng, image):
    raise NotImplementedError

  def apply(params, stats, image, *, train=False, rng=None, dropout=None, norm_branch="main",
            tap=None, features=()):
    del train, rng, dropout, norm_branch, tap, features
    image = jnp.round(image / step) * step if step else image
    flat = image.reshape(len(image), -1)
    logits = 2 * flat @ params.T - jnp.sum(params**2, axis=1)[None]
    return Output(logits, stats, {})

  return Network(init, apply, 0)


def means(rows):
  image = IMAGES[rows].reshape(len(IMAGES[rows]), -1) / np.float32(255)
  label = SOURCE.labels[rows]
  return jnp.stack([image[label == k].mean(axis=0) for k in range(3)])


def state_of(params, mesh):
  state = TrainState.create(jax.random.key(0), params, {})
  return jax.device_put(state, sharding.replicated(mesh))


def part_of(step, other=True):
  mesh = sharding.make_mesh(jax.devices()[:1])
  plain = methods.erm(nearest_mean(0.0), spec=SPEC)
  method = methods.erm(nearest_mean(step), spec=SPEC) if step else plain
  surrogate = None
  if other:
    surrogate = evaluation.Surrogate("half", "half", plain, [state_of(means(slice(24)), mesh)])
  test = data.Pool(TEST_IMAGES, SOURCE.test_labels)
  subject = evaluation.Subject(method, [state_of(means(slice(None)), mesh)], mesh, test, None, 21)
  return evaluation.masking_part(subject, KEY, surrogate=surrogate), subject


def measured(part):
  found = part.summarise({cell: part.measure(cell) for cell in part.cells})["student"]
  return found, {row["check"]: row for row in found.pop("verdicts")}


def test_an_ordinary_network_passes_every_check():
  part, subject = part_of(0.0)
  found, verdicts = measured(part)
  assert tuple(verdicts) == CHECKS and all(row["passed"] is True for row in verdicts.values())
  assert found["clean"][0] > 0.9 and found["pgd-20 linf 128/255"] == [0.0]
  # Transferred: found on the surrogate, judged by the network, not the other way round.
  own = subject.method.predictors(subject.states[0])["student"]
  half = lambda x: nearest_mean(0.0).apply(means(slice(24)), {}, x).logits
  image, label = jnp.asarray(TEST_IMAGES / np.float32(255)), jnp.asarray(SOURCE.test_labels)

  def stands(crafted_on, judged):
    made = attacks.pgd(
      attacks.cross_entropy_ascent(crafted_on, label), image, epsilon=8 / 255,
      step_size=2 / 255, num_steps=20, rng=jax.random.fold_in(KEY, 0), index=jnp.arange(21),
    )  # fmt: skip
    clean = np.asarray(judged(image)).argmax(-1) == label
    return np.mean((np.asarray(judged(made)).argmax(-1) == label) & clean)

  transferred = stands(half, own)
  assert found["transfer"] == [pytest.approx(transferred)]
  assert abs(stands(own, half) - transferred) > 0.01


def test_a_network_without_gradients_is_caught():
  part, _ = part_of(0.02)
  found, verdicts = measured(part)
  failed = [check for check, row in verdicts.items() if row["passed"] is False]
  assert failed == ["reach", "transfer"]
  assert found["pgd-100 linf 8/255"] == found["noise linf 8/255"]  # it never moves


def test_one_network_alone_has_no_transfer():
  part, subject = part_of(0.0, other=False)
  assert not any("transfer" in cell for cell in part.cells) and part.notes == {"surrogate": ""}
  pair = dataclasses.replace(subject, states=subject.states * 2)
  of_two = evaluation.masking_part(pair, KEY)
  assert "transfer from the next seed" in of_two.cells
  # Another surrogate is another cell, and everything else is kept.
  assert part.settings == of_two.settings == part_of(0.0)[0].settings


HONEST = {
  "clean": 0.9, "noise linf 8/255": 0.88, "transfer": 0.6,
  **{f"pgd-20 linf {k}/255": v for k, v in zip(
    (2, 4, 8, 16, 32, 64, 128), (0.7, 0.5, 0.3, 0.1, 0.0, 0.0, 0.0), strict=True)},
  **{f"pgd-{n} linf 8/255": v for n, v in zip(
    (1, 2, 5, 10, 20, 50, 100), (0.7, 0.5, 0.4, 0.31, 0.3, 0.3, 0.3), strict=True)},
}  # fmt: skip


def judged(changes, count=100, seeds=1):
  accuracy = {cell: [value] * seeds for cell, value in HONEST.items()}
  for cell, value in changes.items():
    accuracy[cell] = [HONEST[cell]] * (seeds - 1) + [value]
  rows = evaluation.masking_verdicts(accuracy, count)
  return {row["check"]: row for row in rows}


@pytest.mark.parametrize(
  ("changes", "failed"),
  [
    ({}, []),
    ({"pgd-20 linf 128/255": 0.2}, ["reach", "radius"]),
    ({"pgd-20 linf 4/255": 0.95}, ["radius"]),
    ({"pgd-100 linf 8/255": 0.5}, ["steps"]),
    ({"pgd-1 linf 8/255": 0.1}, ["steps"]),
    ({"transfer": 0.1}, ["transfer"]),
    ({"transfer": 0.29}, []),
    ({"noise linf 8/255": 0.1}, ["noise"]),
  ],
)
@pytest.mark.parametrize("seeds", [1, 2])
def test_each_check_fails_on_its_own_sign_and_for_every_seed(changes, failed, seeds):
  rows = judged(changes, seeds=seeds)
  assert [check for check, row in rows.items() if not row["passed"]] == failed
  assert all(len(row["value"]) == len(row["tolerance"]) == seeds for row in rows.values())


def test_the_tolerance_is_two_standard_errors_of_the_mean_share():
  rows = judged({"transfer": 0.22})
  assert rows["transfer"]["value"] == [pytest.approx(0.08)]
  assert rows["transfer"]["tolerance"] == [pytest.approx(2 * np.sqrt(0.26 * 0.74 / 100))]
  assert rows["reach"]["tolerance"] == [pytest.approx(2 * np.sqrt(0.01 * 0.99 / 100))]
  assert rows["transfer"]["passed"]
  assert not judged({"transfer": 0.22}, count=10_000)["transfer"]["passed"]


@pytest.mark.parametrize("count", [5, 15, 100, 1000])
def test_one_image_alone_fails_no_check(count):
  rows = judged({"pgd-20 linf 128/255": 1 / count, "pgd-100 linf 8/255": 0.3 + 1 / count}, count)
  assert all(row["passed"] for row in rows.values())
