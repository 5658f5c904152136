"""What must hold of any attack: the ball and the box, the draws, constants, bad input."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import attacks
from jaxnoise.core import InputError

SHAPE = (6, 4, 4, 3)
KEY = jax.random.key(3)
WEIGHT = np.asarray(jax.random.normal(jax.random.key(5), SHAPE))
NORMS = ("linf", "l2")


def images(seed=0):
  """Pixels across [0, 1] and many exactly on its ends."""
  return jnp.clip(1.4 * jax.random.uniform(jax.random.key(seed), SHAPE) - 0.2, 0.0, 1.0)


def linear(x):
  return jnp.sum(WEIGHT * x, axis=(1, 2, 3))


def wavy(x):
  return jnp.sum(jnp.sin(9.0 * WEIGHT * x), axis=(1, 2, 3))


@functools.partial(jax.jit, static_argnames=("loss_fn", "norm"))
def ascend(loss_fn, image, *, epsilon, step_size, num_steps, norm="linf", rng=None, start=None):
  """One program per loss, norm and kind of start; the numbers are traced."""
  settings = {"epsilon": epsilon, "step_size": step_size, "num_steps": num_steps}
  return attacks.pgd(loss_fn, image, **settings, norm=norm, rng=rng, start=start)


draw_start = jax.jit(attacks.uniform_start, static_argnames="norm")


def sizes(delta, norm):
  rows = np.asarray(delta, np.float64).reshape(len(delta), -1)
  return np.abs(rows).max(1) if norm == "linf" else np.sqrt((rows**2).sum(1))


@jax.jit
def both(image, rng, epsilon, step_size, num_steps):
  """Random starts, clipped and not, in both norms: one program for every setting below."""
  settings = {"epsilon": epsilon, "step_size": step_size, "num_steps": num_steps, "rng": rng}
  return {
    (norm, clip): attacks.pgd(wavy, image, **settings, norm=norm, clip_start=clip)
    for norm in NORMS
    for clip in (False, True)
  }


@pytest.mark.parametrize("epsilon", [0.0, 8 / 255, 0.7])
@pytest.mark.parametrize("step_size", [0.0, 0.05, 3.0])
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_the_result_is_in_the_ball_and_in_the_box(epsilon, step_size, steps):
  image = images()
  for (norm, _), found in both(image, KEY, epsilon, step_size, steps).items():
    assert sizes(found - image, norm).max() <= epsilon + 2e-7
    assert float(found.min()) >= 0.0 and float(found.max()) <= 1.0
    if epsilon == 0:
      np.testing.assert_array_equal(found, image)


def test_one_program_serves_every_radius_step_and_number_of_steps():
  assert both._cache_size() <= 1
  both(images(), KEY, 0.1, 0.1, 2)
  both(images(), KEY, 0.2, 0.1, 7)
  assert both._cache_size() == 1


@pytest.mark.parametrize("norm", NORMS)
def test_without_steps_the_start_is_returned(norm):
  image = images()
  settings = {"epsilon": 0.1, "step_size": 0.05, "num_steps": 0, "norm": norm}
  np.testing.assert_array_equal(ascend(wavy, image, **settings), image)
  start = jnp.clip(image + attacks.uniform_start(KEY, image, epsilon=0.1, norm=norm), 0.0, 1.0)
  np.testing.assert_allclose(
    ascend(wavy, image, **settings, rng=KEY), start, rtol=0, atol=1e-7
  )


def test_a_given_start_is_where_a_random_one_would_be():
  image = images()
  settings = {"epsilon": 0.1, "step_size": 0.05, "num_steps": 2}
  start = attacks.uniform_start(KEY, image, epsilon=0.1)
  np.testing.assert_allclose(
    ascend(wavy, image, **settings, start=start),
    ascend(wavy, image, **settings, rng=KEY),
    rtol=0,
    atol=1e-6,
  )


@pytest.mark.parametrize("norm", NORMS)
def test_pgd_equals_a_loop_in_numpy(norm):
  epsilon, step_size, steps = 0.3, 0.11, 5
  with jax.enable_x64(True):
    image = np.asarray(images(), np.float64)
    weight = WEIGHT.astype(np.float64)
    start = np.asarray(attacks.uniform_start(KEY, image, epsilon=epsilon, norm=norm))
    found = attacks.pgd(
      lambda x: jnp.sum(jnp.sin(9.0 * weight * x), axis=(1, 2, 3)),
      image,
      epsilon=epsilon,
      step_size=step_size,
      num_steps=steps,
      norm=norm,
      start=start,
    )
  x = np.clip(image + start, 0, 1)
  for _ in range(steps):
    for i in range(len(x)):
      gradient = 9.0 * weight[i] * np.cos(9.0 * weight[i] * x[i])
      if norm == "linf":
        delta = np.clip(x[i] + step_size * np.sign(gradient) - image[i], -epsilon, epsilon)
      else:
        delta = x[i] + step_size * gradient / np.linalg.norm(gradient) - image[i]
        delta *= min(1.0, epsilon / np.linalg.norm(delta))
      x[i] = np.clip(image[i] + delta, 0, 1)
  np.testing.assert_allclose(found, x, rtol=0, atol=1e-12)


def test_fast_fgsm_equals_its_formula():
  image, epsilon = images(), 0.1
  start = jnp.clip(image + attacks.uniform_start(KEY, image, epsilon=epsilon), 0, 1)
  stepped = start + 1.25 * epsilon * np.sign(9.0 * WEIGHT * jnp.cos(9.0 * WEIGHT * start))
  expected = jnp.clip(image + jnp.clip(stepped - image, -epsilon, epsilon), 0, 1)
  found = attacks.fgsm(wavy, image, epsilon=epsilon, step_size=1.25 * epsilon, rng=KEY)
  np.testing.assert_allclose(found, expected, rtol=0, atol=2e-7)


@pytest.mark.parametrize("norm", NORMS)
def test_a_linear_loss_rises_with_every_step_to_its_maximum_over_the_ball(norm):
  """max w.delta over the ball is epsilon ||w||_1 or epsilon ||w||_2, reached at step 4 of 0.025."""
  image, epsilon = jnp.full(SHAPE, 0.5), 0.1
  gains = [
    linear(ascend(linear, image, epsilon=epsilon, step_size=0.025, num_steps=n, norm=norm))
    - linear(image)
    for n in range(6)
  ]
  assert all(bool(jnp.all(b >= a - 1e-5)) for a, b in itertools.pairwise(gains))
  rows = WEIGHT.reshape(len(WEIGHT), -1)
  dual = np.abs(rows).sum(1) if norm == "linf" else np.sqrt((rows**2).sum(1))
  np.testing.assert_allclose(gains[3], 0.75 * epsilon * dual, rtol=1e-5)
  np.testing.assert_allclose(gains[5], epsilon * dual, rtol=1e-5)
  if norm == "linf":
    best = linear(attacks.fgsm(linear, image, epsilon=epsilon)) - linear(image)
    np.testing.assert_allclose(gains[5], best, rtol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_a_concave_loss_with_its_peak_outside_the_ball_never_falls(norm):
  image = jnp.full(SHAPE, 0.5)
  away = 0.5 + 0.4 * np.sign(WEIGHT)
  loss_fn = lambda x: -jnp.sum((x - away) ** 2, axis=(1, 2, 3))
  values = [
    loss_fn(ascend(loss_fn, image, epsilon=0.2, step_size=0.06, num_steps=n, norm=norm))
    for n in range(6)
  ]
  assert all(bool(jnp.all(b >= a - 1e-5)) for a, b in itertools.pairwise(values))
  assert bool(jnp.all(values[-1] > values[0]))


@pytest.mark.parametrize("norm", NORMS)
def test_no_gradient_does_not_move_and_a_faint_one_moves_a_whole_step(norm):
  scale = jnp.array([0.0, 1e-30, 1.0, 1.0, 1.0, 1.0])  # 1e-30 squared is 0 in float32
  loss_fn = lambda x: scale * linear(x)
  image = jnp.full(SHAPE, 0.5)
  found = ascend(loss_fn, image, epsilon=0.2, step_size=0.1, num_steps=1, norm=norm)
  moved = sizes(found - image, norm)
  np.testing.assert_allclose(moved, [0.0] + 5 * [0.1], rtol=0, atol=1e-6)
  alone = ascend(linear, image, epsilon=0.2, step_size=0.1, num_steps=1, norm=norm)
  np.testing.assert_allclose(found[1:], alone[1:], rtol=0, atol=1e-6)


def test_a_nan_is_not_hidden():
  broken = lambda x: linear(x) * jnp.array([jnp.nan, 1.0, 1.0, 1.0, 1.0, 1.0])
  found = attacks.pgd(broken, images(), epsilon=0.1, step_size=0.1, num_steps=2)
  assert np.isnan(np.asarray(found)).any(axis=(1, 2, 3)).tolist() == [True] + 5 * [False]


def test_the_random_starts_are_uniform_in_their_balls():
  image = jnp.zeros((4000, 1, 1, 3))
  cube, ball = (
    np.asarray(draw_start(KEY, image, epsilon=0.5, norm=norm)).reshape(-1, 3) for norm in NORMS
  )
  assert np.abs(cube).max() < 0.5 + 1e-6 and np.linalg.norm(ball, axis=1).max() <= 0.5 + 1e-6
  grid = (np.arange(4000) + 0.5) / 4000
  # Kolmogorov-Smirnov at a level of about 1e-5: 2.5 / sqrt(n).
  for share in (*(cube.T + 0.5), (np.linalg.norm(ball, axis=1) / 0.5) ** 3):
    assert np.abs(np.sort(share) - grid).max() < 2.5 / np.sqrt(4000)
  direction = ball / np.linalg.norm(ball, axis=1, keepdims=True)
  # On the sphere in three dimensions each coordinate is uniform (Archimedes).
  for coordinate in direction.T:
    assert np.abs(np.sort((coordinate + 1) / 2) - grid).max() < 2.5 / np.sqrt(4000)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_an_example_s_start_depends_on_its_index_alone(norm, impl):
  key, image = jax.random.key(0, impl=impl), images()
  draw = lambda rows: attacks.uniform_start(
    key, image[rows], epsilon=0.1, norm=norm, index=jnp.asarray(rows)
  )
  whole = draw(np.arange(6))
  np.testing.assert_array_equal(whole, attacks.uniform_start(key, image, epsilon=0.1, norm=norm))
  rows = np.array([4, 1])
  np.testing.assert_allclose(draw(rows), whole[rows], rtol=0, atol=1e-8)
  other = attacks.uniform_start(jax.random.key(1, impl=impl), image, epsilon=0.1, norm=norm)
  assert not np.allclose(whole, other) and not np.allclose(whole[0], whole[1])


@pytest.mark.parametrize("norm", NORMS)
def test_nothing_is_differentiated_through_an_attack(norm):
  image = images()

  def found(weight, image, epsilon, num_steps):
    loss_fn = lambda x: jnp.sum(jnp.sin(9.0 * weight * x), axis=(1, 2, 3))
    return attacks.pgd(
      loss_fn, image, epsilon=epsilon, step_size=0.05, num_steps=num_steps, norm=norm, rng=KEY
    )

  def adversarial(weight, num_steps, x=None):
    x = found(weight, image, 0.1, num_steps) if x is None else x
    return jnp.sum(jnp.sin(9.0 * weight * x))

  through = jax.jit(jax.grad(lambda *a: jnp.sum(found(*a, 3) ** 2), argnums=(0, 1, 2)))
  for gradient in through(WEIGHT, image, 0.1):
    np.testing.assert_array_equal(gradient, 0.0)
  # A number of steps that is traced is a while loop, which reverse mode could not pass.
  at_found = jax.jit(jax.grad(adversarial))(WEIGHT, 3)
  constant = jax.grad(adversarial)(WEIGHT, 3, found(WEIGHT, image, 0.1, 3))
  np.testing.assert_allclose(at_found, constant, rtol=1e-4, atol=1e-4)


def linear_predict(image):
  pooled = jnp.mean(image, axis=(1, 2))
  return 6.0 * (pooled - 0.5) @ jnp.array([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0], [-1.0, 0.0, 1.0]])


LABEL = jnp.arange(6) % 3


def test_untargeted_and_targeted_ascent():
  image = jnp.full(SHAPE, 0.5) + 0.05 * jax.random.normal(KEY, SHAPE)
  settings = {"epsilon": 0.2, "step_size": 0.05, "num_steps": 6}
  away = attacks.pgd(attacks.cross_entropy_ascent(linear_predict, LABEL), image, **settings)
  assert not bool(jnp.any(jnp.argmax(linear_predict(away), -1) == LABEL))
  target = (LABEL + 1) % 3
  towards = attacks.cross_entropy_ascent(linear_predict, target)
  found = attacks.pgd(lambda x: -towards(x), image, **settings)
  assert bool(jnp.all(jnp.argmax(linear_predict(found), -1) == target))


def test_the_margin_is_positive_exactly_where_the_prediction_is_wrong():
  image = images()
  margin = attacks.margin_ascent(linear_predict, LABEL)(image)
  logits = np.asarray(linear_predict(image))
  expected = [
    max(z for k, z in enumerate(row) if k != y) - row[y] for row, y in zip(logits, LABEL)
  ]
  np.testing.assert_allclose(margin, expected, rtol=1e-6)
  wrong = logits.argmax(-1) != np.asarray(LABEL)
  assert 0 < wrong.sum() < 6 and ((np.asarray(margin) > 0) == wrong).all()


def test_the_margin_moves_where_the_cross_entropy_of_a_sure_network_does_not():
  image = jnp.full(SHAPE, 0.5).at[..., 0].set(0.9)
  sure = lambda x: 1e3 * linear_predict(x)
  label = jnp.zeros(6, jnp.int32)
  for ascent, moves in ((attacks.cross_entropy_ascent, False), (attacks.margin_ascent, True)):
    found = attacks.fgsm(ascent(sure, label), image, epsilon=0.1)
    assert bool(jnp.any(found != image)) == moves


def test_a_batch_split_over_devices_stays_split_and_gives_the_same():
  mesh = jax.make_mesh((6,), ("data",), axis_types=(jax.sharding.AxisType.Auto,),
                       devices=jax.devices()[:6])
  split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
  attack = jax.jit(
    lambda image, rng: attacks.pgd(
      attacks.cross_entropy_ascent(linear_predict, LABEL),
      image, epsilon=0.3, step_size=0.1, num_steps=3, norm="l2", rng=rng,
    )
  )
  found = attack(jax.device_put(images(), split), KEY)
  assert found.sharding.is_equivalent_to(split, 4)
  np.testing.assert_allclose(found, attack(images(), KEY), rtol=0, atol=1e-6)


GOOD = {"epsilon": 0.1, "step_size": 0.1, "num_steps": 1}


@pytest.mark.parametrize(
  "change, words",
  [
    ({"image": np.zeros(SHAPE, np.uint8)}, "uint8.*divide 8-bit images by 255"),
    ({"image": jnp.zeros(SHAPE, jnp.bfloat16)}, "bfloat16.*cast half precision up"),
    ({"image": jnp.zeros(SHAPE, jnp.float16)}, "float16.*float32"),
    ({"image": jnp.zeros(3)}, r"\(3,\).*batch"),
    ({"loss_fn": lambda x: jnp.mean(linear(x))}, "one value per example"),
    ({"epsilon": -0.1}, "epsilon is -0.1"),
    ({"epsilon": float("nan")}, "epsilon is nan"),
    ({"epsilon": np.full(3, 0.1)}, "one number"),
    ({"step_size": -1.0}, "step_size is -1"),
    ({"num_steps": -1}, "num_steps is -1"),
    ({"num_steps": 2.5}, "num_steps is 2.5"),
    ({"norm": "l_2"}, "did you mean 'l2'"),
    ({"low": 1.0, "high": 0.0}, "low < high"),
    ({"rng": KEY, "start": np.zeros(SHAPE)}, "drop one"),
    ({"start": np.zeros((4, 4, 3))}, "one perturbation per image"),
    ({"rng": KEY, "index": np.arange(5)}, "one integer per image"),
    ({"loss_fn": attacks.cross_entropy_ascent(linear_predict, LABEL[:5])}, "one integer label"),
    ({"loss_fn": attacks.margin_ascent(linear_predict, np.eye(6, 3))}, "one integer label"),
  ],
)
def test_bad_input_is_refused_in_one_sentence(change, words):
  arguments = {"loss_fn": linear, "image": images(), **GOOD, **change}
  with pytest.raises(InputError, match=words) as raised:
    attacks.pgd(**arguments)
  assert "\n" not in str(raised.value)


def test_a_start_in_an_unknown_norm_is_refused():
  with pytest.raises(InputError, match="did you mean 'linf'"):
    attacks.uniform_start(KEY, images(), epsilon=0.1, norm="l_inf")
