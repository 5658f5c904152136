"""`input_size`: the resize that every network here can begin with."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxnoise import core, models
from jaxnoise.models._inception_resnet import InceptionResNet

FACTORIES = {
  name: factory
  for name, factory in vars(models).items()
  if inspect.isfunction(factory) and "num_classes" in inspect.signature(factory).parameters
}
NEEDED = {"wide_resnet": {"depth": 10, "widen_factor": 1}, "cifar_resnet": {"depth": 8}}


def images(*shape):
  return np.random.default_rng(0).random(shape, np.float32)


def pillow(image, side):
  channels = [
    Image.fromarray(channel).resize((side, side), Image.Resampling.BILINEAR)
    for channel in np.moveaxis(image, -1, 0)
  ]
  return np.stack([np.asarray(channel) for channel in channels], axis=-1)


# Larger; smaller, where every pixel must count (four taps are off by a tenth); stretched.
@pytest.mark.parametrize(("shape", "side"), [((4, 4, 3), 7), ((9, 9, 3), 2), ((5, 8, 3), 6)])
def test_resized_equals_pillow_on_floats(shape, side):
  x = images(2, *shape)
  expected = np.stack([pillow(image, side) for image in x])
  np.testing.assert_allclose(models.resized(x, side), expected, atol=2e-6)
  np.testing.assert_allclose(models.resized(x[:, None], side)[:, 0], expected, atol=2e-6)


def test_an_image_of_that_size_is_returned_as_it_is():
  x = images(1, 4, 4, 3)
  assert models.resized(x, 4) is x and models.resized(x, (6, 4)) is x
  assert models.resized(x, None) is x


def test_a_pair_resizes_to_the_first_and_crops_to_the_second():
  x = images(2, 4, 5, 3)
  # torchvision's CenterCrop begins at (8 - 5) / 2, rounded to even: 2; the halves here go down.
  for pair, start in (((9, 5), 2), ((8, 6), 1), ((8, 5), 1)):
    stop = start + pair[1]
    expected = models.resized(x, pair[0])[:, start:stop, start:stop]
    np.testing.assert_array_equal(models.resized(x, pair), expected)
  assert not np.allclose(models.resized(x, (9, 5)), models.resized(x, 5), atol=1e-2)


def test_the_gradient_is_the_transpose():
  x, y = images(1, 3, 3, 1), images(1, 8, 8, 1)
  (back,) = jax.vjp(lambda image: models.resized(image, 8), jnp.asarray(x))[1](jnp.asarray(y))
  np.testing.assert_allclose(np.sum(back * x), np.sum(models.resized(x, 8) * y), rtol=1e-5)
  assert np.all(back > 0)


@pytest.mark.parametrize("name", FACTORIES)
def test_every_network_takes_an_input_size(name):
  factory, needed = FACTORIES[name], NEEDED.get(name, {})
  assert factory(3, **needed).input_size is None
  assert factory(3, **needed, input_size=96).input_size == (96, 96)
  assert factory(3, **needed, input_size=[128, 96]).input_size == (128, 96)
  for wrong in (0, 2.0, True, "big", (96, 128), (1, 2, 3)):
    with pytest.raises(core.InputError, match=r"input_size: .*side in pixels"):
      factory(3, **needed, input_size=wrong)


@pytest.mark.parametrize(
  ("make", "side", "given"),
  [
    # Sizes that each refuses without the resize.
    (lambda size: models.wide_resnet(3, depth=10, widen_factor=1, input_size=size), 8, 5),
    (lambda size: models.cifar_resnet(3, depth=8, input_size=size), 8, 5),
    (lambda size: InceptionResNet(3, (1, 1, 1), divisor=64, input_size=size), 75, 5),
  ],
  ids=["preact", "resnet", "inception"],
)
def test_parameters_are_the_same_and_sizes_become_free(make, side, given):
  plain, sized = (models.network(make(size)) for size in (None, side))
  image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
  small = jax.ShapeDtypeStruct((1, given, given, 3), jnp.float32)
  key = jax.random.key(0)
  variables = jax.eval_shape(plain.init, key, image)
  assert jax.tree.map(jnp.shape, variables) == jax.tree.map(
    jnp.shape, jax.eval_shape(sized.init, key, small)
  )
  seen = {}

  def tap(stage, h):
    seen[stage] = h.shape
    return h

  out = jax.eval_shape(lambda *v: sized.apply(*v, tap=tap), *variables, small)
  assert out.logits.shape == (1, 3) and seen[0] == (1, side, side, 3)
  with pytest.raises(core.InputError, match="image: 5x5"):
    jax.eval_shape(plain.apply, *variables, small)


def test_the_network_resizes_then_normalises():
  options = {"depth": 10, "widen_factor": 1, "mean": (0.4,) * 3, "std": (0.2,) * 3}
  network = models.network(models.wide_resnet(3, **options, input_size=8))
  x = jnp.asarray(images(2, 4, 4, 3))
  shapes = jax.eval_shape(network.init, jax.random.key(0), x)
  params, stats = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

  @jax.jit  # what is not returned, the rest of the network, is not compiled either
  def input_of(image):
    seen = {}

    def tap(stage, h):
      seen[stage] = h
      return h

    network.apply(params, stats, image, tap=tap)
    return seen[0]

  np.testing.assert_allclose(input_of(x), (models.resized(x, 8) - 0.4) / 0.2, rtol=1e-4, atol=1e-5)
