"""`config.first` and `config.policy`: what a method is given as its two transforms."""

import jax
import jax.numpy as jnp
import pytest

from jaxnoise import augment, core, main, methods
from jaxnoise.training import method as method_lib
from jaxnoise.training import schema
from tests.toy import toy_network

SPEC = core.Spec(num_train=4, num_classes=3, image_shape=(8, 8, 3))
KEY = jax.random.key(3)
IMAGE = jnp.zeros((8, 8, 3))
CROP = {"name": "random_crop", "padding": 2, "fill": 1.0}


def transforms(**config):
  """(first, policy) as a method's factory is given them."""
  given = {}

  def factory(network, *, spec, first, policy):
    given.update(first=first, policy=policy)
    return methods.erm(network, spec=spec)

  method_lib.make_method(schema.check(config), toy_network(), SPEC, method=factory)
  return given["first"], given["policy"]


def assert_same_program(transform, expected):
  """The same operations on the same keys, without compiling either."""
  programs = [str(jax.make_jaxpr(f)(KEY, IMAGE)) for f in (transform, expected)]
  assert programs[0] == programs[1]


def test_no_name_is_no_policy():
  assert transforms()[1] is None
  assert transforms(policy={"name": "", "then": {"name": ""}})[1] is None


def test_one_step_is_given_the_view_s_own_key():
  _, policy = transforms(policy=CROP)
  assert_same_program(policy, lambda rng, image: augment.random_crop(rng, image, 2, fill=1.0))


def test_a_chain_runs_in_the_order_of_the_config_with_a_key_for_each_step():
  last = {"name": "", "then": {"name": "random_crop", "padding": 3}}  # no name is no step
  _, policy = transforms(policy={**CROP, "then": {"name": "random_flip", "then": last}})

  def expected(rng, image):
    image = augment.random_crop(jax.random.fold_in(rng, 0), image, 2, fill=1.0)
    image = augment.random_flip(jax.random.fold_in(rng, 1), image)
    return augment.random_crop(jax.random.fold_in(rng, 2), image, 3)

  assert_same_program(policy, expected)


def test_the_first_transform_is_what_it_was():
  first, _ = transforms(first={"padding": 2, "flip": True}, policy={**CROP, "then": CROP})

  def expected(rng, image):
    image = augment.random_flip(jax.random.fold_in(rng, 0), image)
    return augment.random_crop(jax.random.fold_in(rng, 1), image, 2)

  assert_same_program(first, expected)


@pytest.mark.parametrize("flip", [False, True])
def test_a_resized_crop_and_a_flip(flip):
  box = {"scale": (0.3, 0.6), "ratio": (0.5, 2.0)}
  first, _ = transforms(first={"resized_crop": 6, "flip": flip, **box})

  assert jax.eval_shape(first, KEY, IMAGE).shape == (6, 6, 3)
  assert_same_program(
    first, lambda rng, image: augment.random_resized_crop(rng, image, size=6, flip=flip, **box)
  )


def test_the_defaults_of_the_resized_crop_are_the_usual_ones():
  first = schema.default()["first"]
  assert (first["scale"], first["ratio"]) == ((0.08, 1.0), (3 / 4, 4 / 3))


def test_each_step_is_tried_on_what_the_one_before_it_returns(monkeypatch):
  seen = []

  def probe(rng, image):
    seen.append(image.shape)
    return jnp.concatenate([image, image])

  monkeypatch.setattr(augment, "probe", probe, raising=False)
  transforms(first={"resized_crop": 6}, policy={"name": "probe", "then": {"name": "probe"}})
  assert seen == [(6, 6, 3), (12, 6, 3)]


@pytest.mark.parametrize(
  ("config", "message"),
  [
    ({"policy": {"name": "random_fliip"}}, r"config\.policy\.name is .*did you mean 'random_flip'"),
    (
      {"policy": {**CROP, "then": {"name": "random_fliip"}}},
      r"config\.policy\.then\.name is .*did you mean 'random_flip'",
    ),
    (
      {"policy": {**CROP, "then": {**CROP, "then": {"name": "random_crop", "paddin": 1}}}},
      r"config\.policy\.then\.then\.paddin is no argument of random_crop.*'padding'",
    ),
    (
      {"policy": {**CROP, "then": {"name": "random_crop"}}},
      r"config\.policy\.then\.padding is missing, but random_crop needs it",
    ),
    ({"policy": {**CROP, "then": "cutout"}}, r"config\.policy\.then is 'cutout'; it must be a sec"),
    ({"policy": {**CROP, "then": {"name": "augmix", "severity": 20.0}}}, r"^config\.policy\.then:"),
    ({"first": {"padding": 4, "resized_crop": 6}}, r"resized_crop is 6 and config\.first\.padding"),
    ({"first": {"resized_crop": -1}}, r"config\.first\.resized_crop is -1"),
    ({"first": {"resized_crop": 6, "scale": (0.5, 2.0)}}, r"^config\.first: "),
    ({"first": {"resized_crop": 6, "ratio": (0.0, 2.0)}}, r"^config\.first: "),
  ],
)
def test_bad_transforms_are_named_before_anything_runs(config, message):
  with pytest.raises(core.InputError, match=message):
    transforms(**config)


def test_the_command_line_reaches_every_step():
  given = ["main", "--config=configs/noisymix_digits.py", "--config.first.resized_crop=8"]
  given += ["--config.policy.then.name=cutout", "--config.policy.then.size=4"]
  config = main.parse(given)[0]["config"]
  assert config["policy"]["name"] == "augmix" and config["first"]["resized_crop"] == 8
  assert config["policy"]["then"] == {"name": "cutout", "size": 4}
  other = schema.merge(config, {"policy": {"then": {"name": "random_flip"}}})
  assert other["policy"]["then"] == {"name": "random_flip"}
  assert schema.merge(config, {"policy": {"then": {"size": 2}}})["policy"]["then"]["size"] == 2
