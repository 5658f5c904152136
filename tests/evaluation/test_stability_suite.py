"""The suite "stability": its parts equal the Jacobian written out, on every device and batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import data, evaluation, methods
from jaxnoise.core import InputError, Network, Output, Spec, TrainState
from jaxnoise.evaluation import _gradient_norm
from jaxnoise.training import sharding
from tests.toy import toy_network

SPEC = Spec(num_train=13, num_classes=3, image_shape=(8, 8, 3))
KEY = jax.random.key(3)
SOURCE = data.generated(num_train=13, num_test=6, num_classes=3, size=8)


def subject(network=None, *, wrap=lambda method: method, devices=1, batch_size=4, seeds=1):
  network = toy_network() if network is None else network
  mesh = sharding.make_mesh(jax.devices()[:devices])
  method = wrap(methods.erm(network, spec=SPEC))
  states = []
  for seed in range(seeds):
    params, stats = network.init(jax.random.key(seed), jnp.zeros((1, 8, 8, 3)))
    state = method.init_state(TrainState.create(jax.random.key(9), params, stats))
    states.append(jax.device_put(state, sharding.replicated(mesh)))
  return evaluation.Subject(method, states, mesh, SOURCE.test, None, batch_size)


def gradient_norm(predict, params, images):
  """(1/N) sum_i ||J_i||_F^2 the slow way."""
  image = jnp.asarray(images / np.float32(255))
  whole = jax.jit(jax.jacobian(lambda p: predict(p, image)))(params)
  return sum(float(np.square(leaf).sum()) for leaf in jax.tree.leaves(whole)) / len(images)


def test_exact_of_every_predictor_with_its_own_parameters():
  """13 images in batches of 4 on two devices: the last has one row and three of padding."""
  of = subject(wrap=lambda m: methods.with_ema(m, decay=0.9), devices=2, seeds=2)
  moved = [
    state.replace(ema_params=jax.tree.map(lambda x: 0.5 * x, state.params)) for state in of.states
  ]
  of = evaluation.Subject(of.method, moved, of.mesh, of.test, None, of.batch_size)
  part = evaluation.gradient_norm_part(of, SOURCE.train, KEY, estimator="exact")
  assert part.cells == ("train", "test")
  assert part.settings == {"estimator": "exact", "images": {"train": 13, "test": 6}}
  size = sum(leaf.size for leaf in jax.tree.leaves(of.states[0].params))
  assert part.notes["parameters"] == {"student": size, "ema": size}
  assert part.notes["outputs"] == {"student": 3, "ema": 3}
  found = part.summarise({"train": part.measure("train")})
  predict = lambda state: lambda p, x: toy_network().apply(p, state.batch_stats, x).logits
  for s, state in enumerate(moved):
    for name, params in (("student", state.params), ("ema", state.ema_params)):
      expected = gradient_norm(predict(state), params, SOURCE.images)
      assert found[name]["train"][s] == pytest.approx(expected, rel=1e-5)
      assert "train_error" not in found[name]


def test_hutchinson_is_near_the_exact_and_does_not_depend_on_batches_or_devices():
  measured = {}
  for batch_size, devices in ((4, 1), (13, 2)):
    of = subject(batch_size=batch_size, devices=devices)
    part = evaluation.gradient_norm_part(of, SOURCE.train, KEY, samples=8)
    (measured[batch_size],) = part.measure("train")["student"]
  assert part.settings["samples"] == 8
  assert measured[4] == pytest.approx(measured[13], rel=1e-5)
  row, state = measured[4], of.states[0]
  predict = lambda p, x: toy_network().apply(p, state.batch_stats, x).logits
  exact = gradient_norm(predict, state.params, SOURCE.images)
  assert 0 < row["error"] < 0.3 * exact
  assert abs(row["gradient_norm"] - exact) < 4 * row["error"]
  assert part.summarise({"test": {"student": [row]}}) == {
    "student": {"test": [row["gradient_norm"]], "test_error": [row["error"]]}
  }


def test_a_predictor_of_one_of_two_networks_has_its_parameters_only():
  network = toy_network()
  of = subject(network, wrap=lambda m: methods.co_teaching(network, spec=SPEC, noise_rate=0.2))
  state = of.states[0]
  one = sum(leaf.size for leaf in jax.tree.leaves(state.params["net0"]))
  found = {
    name: _gradient_norm.trained_parameters(of.method, name, state, (8, 8, 3))
    for name in of.predictors
  }
  assert {name: theta.size for name, theta in found.items()} == {
    "mean": 2 * one, "net0": one, "net1": one,
  }  # fmt: skip
  assert set(found["mean"].places) == {*found["net0"].places, *found["net1"].places}
  assert not {*found["net0"].places} & {*found["net1"].places}


def linear_network():
  """Logits that are linear in the parameters, and a parameter that no logit depends on."""

  def init(rng, image):
    width = int(np.prod(image.shape[1:]))
    return {"b": jnp.zeros(3), "idle": jnp.ones(5), "w": jax.random.normal(rng, (width, 3))}, {}

  def apply(params, stats, image, *, train=False, rng=None, dropout=None, norm_branch="main",
            tap=None, features=()):
    del train, rng, dropout, norm_branch, tap, features
    flat = image.reshape(len(image), -1)
    return Output(flat @ params["w"] + params["b"][None], stats, {})

  return Network(init, apply, 0)


def test_moved_parameters_move_the_logits_as_the_gradient_norm_says():
  rows = {}
  for batch_size in (2, 6):
    of = subject(linear_network(), batch_size=batch_size)
    part = evaluation.perturbation_part(of, KEY, estimator="exact")
    rows[batch_size] = {cell: part.measure(cell)["student"][0] for cell in part.cells}
  assert part.notes["parameters"] == {"student": 3 * (8 * 8 * 3 + 1)}
  found = rows[6]
  flat = (SOURCE.test_images / 255).reshape(6, -1)
  exact = 3 * (np.square(flat).sum(axis=1) + 1).mean()
  assert found["gradient norm"]["gradient_norm"] == pytest.approx(exact, rel=1e-5)
  for scale in evaluation.PERTURBATION_SCALES:
    row = found[evaluation.scale_cell(scale)]
    assert abs(row["change"] - scale**2 * exact) < 4 * row["error"] < scale**2 * exact
    # The same directions for every image, batch and scale.
    assert row == pytest.approx(rows[2][evaluation.scale_cell(scale)], rel=1e-3)
    largest = found["scale 0.1"]["change"] * (scale / 0.1) ** 2
    assert row["change"] == pytest.approx(largest, rel=1e-2)
  summary = part.summarise({"scale 0.1": {"student": [{"change": 2.0, "error": 0.5}]}})
  assert summary == {"student": {"scale 0.1": [2.0], "scale 0.1 error": [0.5]}}


def test_images_are_spread_over_a_set_in_the_order_of_its_classes():
  labels = np.repeat(np.arange(3), 4)
  pool = data.Pool(np.arange(12, dtype=np.uint8).reshape(12, 1, 1, 1), labels)
  few = evaluation.evenly_spaced(pool, 6)
  assert np.bincount(few.labels).tolist() == [2, 2, 2]
  assert few.images.ravel().tolist() == [0, 2, 4, 6, 8, 10]
  assert evaluation.evenly_spaced(pool, 0) is pool and evaluation.evenly_spaced(pool, 12) is pool


@pytest.mark.parametrize(
  ("options", "words"),
  [
    ({"estimator": "hutchison"}, "did you mean 'hutchinson'"),
    ({"samples": 1}, "samples is 1; it must be 2 or larger"),
  ],
)
def test_estimators_that_do_not_exist_are_refused_before_anything_is_traced(options, words):
  of = evaluation.Subject(None, (), None, SOURCE.test, None, 4)
  for make in (
    lambda: evaluation.gradient_norm_part(of, SOURCE.train, KEY, **options),
    lambda: evaluation.perturbation_part(of, KEY, **options),
  ):
    with pytest.raises(InputError) as caught:
      make()
    assert words in str(caught.value)
