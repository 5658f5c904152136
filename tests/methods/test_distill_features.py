"""Attention transfer, similarity preserving and RKD as methods, with "+Hinton" and "+FT"."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import augment, losses, methods, models
from jaxnoise.core import InputError, Spec, fold
from tests.methods.cases import SPEC, shift
from tests.methods.teachers import featured, taught_state
from tests.toy import toy_batch, toy_network

KEY = jax.random.key(5)
STAGES = ("stage1", "stage2")
FEATURES = (*STAGES, "pooled")
WEIGHT = jnp.array([0.2, 1.0, 0.0, 3.0, 0.5, 1.3])


def attention_of(s, t):
  return sum(losses.attention_transfer(s[name], t[name]) for name in STAGES)


# name -> (its own options, metric -> (weight, (features, features) -> [B]))
METHODS = {
  "attention_transfer": (
    {"layers": STAGES, "beta": 50.0},
    {"attention": (50.0, attention_of)},
  ),
  "similarity_preserving": (
    {"gamma": 30.0},
    {"similarity": (30.0, lambda s, t: losses.similarity_preserving(s["stage2"], t["stage2"]))},
  ),
  "rkd": (
    {"distance": 25.0, "angle": 50.0},
    {
      "distance": (25.0, lambda s, t: losses.rkd_distance(s["pooled"], t["pooled"])),
      "angle": (50.0, lambda s, t: losses.rkd_angle(s["pooled"], t["pooled"])),
    },
  ),
}
# id -> (options, (weight of CE, weight of tau^2 KL), the teacher's dropout rate)
MIXTURES = {
  "alone": ({}, (1.0, 0.0), 0.0),
  "+H": ({"alpha": 0.9}, (0.1, 0.9), 0.0),
  "+H, RepDistiller": ({"alpha": 1.0, "balance": "sum"}, (1.0, 1.0), 0.0),
  "+FT": ({"alpha": 0.9, "fickle": True}, (0.1, 0.9), 0.5),
}


def made(name, network=None, teacher=None, **options):
  network = network or featured()
  return getattr(methods, name)(
    network, spec=SPEC, teacher_network=teacher or network, first=shift, **options
  )


@functools.cache
def pieces():
  """By rate of the teacher: CE, tau^2 KL and the features of the two passes of a step with KEY."""
  state, network = taught_state(), featured()

  @functools.partial(jax.jit, static_argnums=1)
  def run(state, rate):
    image = augment.batched(shift)(fold(KEY, "augment"), toy_batch()["image"])
    s = network.apply(state.params, state.batch_stats, image, train=True, features=FEATURES)
    t = featured(rate).apply(
      state.teacher["params"],
      state.teacher["batch_stats"],
      image,
      rng=fold(KEY, "teacher_dropout"),
      features=FEATURES,
    )
    ce = losses.cross_entropy(s.logits, jax.nn.one_hot(toy_batch()["label"], 3))
    rows = {}
    for _, terms in METHODS.values():
      rows |= {metric: fn(s.features, t.features) for metric, (_, fn) in terms.items()}
    return ce, losses.hinton(s.logits, t.logits), rows

  return {rate: jax.tree.map(np.asarray, run(state, rate)) for rate in (0.0, 0.5)}


# What one method does with the logits, all do: they share the code.
FAST = [*(("attention_transfer", m) for m in MIXTURES), ("similarity_preserving", "+FT"),
        ("rkd", "+FT")]
REST = [(n, m) for n in METHODS for m in MIXTURES if (n, m) not in FAST]


@functools.cache
def compiled(fast):
  """(name, mixture) -> loss, aux, and the loss with weights; from one program."""
  state, built = taught_state(), {}
  for name, mixture in FAST if fast else REST:
    extra, _, rate = MIXTURES[mixture]
    built[name, mixture] = made(name, featured(), featured(rate), **METHODS[name][0], **extra)

  @jax.jit
  def run(state, weights):
    def one(weight):
      batch = {**toy_batch(), "weight": weight}
      return [m.loss_fn(state)(state.params, batch, KEY) for m in built.values()]

    return jax.vmap(one)(weights)

  out = jax.tree.map(np.asarray, run(state, jnp.stack([jnp.ones(6), WEIGHT])))
  return {
    key: (loss[0], aux.per_example[0], {k: v[0][0] for k, v in aux.metrics.items()}, loss[1])
    for key, (loss, aux) in zip(built, out, strict=True)
  }


@pytest.mark.parametrize(
  ("name", "mixture"), [*FAST, *(pytest.param(*key, marks=pytest.mark.slow) for key in REST)]
)
def test_equals_its_formula(name, mixture):
  """With weights: those of examples reach CE, KL and attention, but no mean over pairs."""
  loss, per_example, metrics, weighted = compiled((name, mixture) in FAST)[name, mixture]
  _, terms = METHODS[name]
  _, (b, alpha), rate = MIXTURES[mixture]
  ce, kd, rows = pieces()[rate]
  feature = sum(weight * rows[metric] for metric, (weight, _) in terms.items())
  assert feature.mean() > 1e-2
  values = b * ce + alpha * kd
  np.testing.assert_allclose(per_example, ce, rtol=1e-5)
  np.testing.assert_allclose(loss, np.mean(values + feature), rtol=1e-4)
  np.testing.assert_allclose(metrics["loss"] / 6, loss, rtol=1e-5)
  assert set(metrics) == {"loss", "label_loss", *terms, *(["distillation"] if alpha else [])}
  for metric in terms:
    np.testing.assert_allclose(metrics[metric], np.sum(rows[metric]), rtol=1e-4, atol=1e-6)
  w = np.asarray(WEIGHT) / np.sum(WEIGHT)
  if name == "attention_transfer":
    expected = np.sum(w * (values + feature))
  else:
    expected = np.sum(w * values) + np.mean(feature)
  np.testing.assert_allclose(weighted, expected, rtol=1e-4)


def test_fickle_features_differ_from_quiet_ones():
  """What the formula above could not tell apart if the masks did nothing."""
  quiet, live = pieces()[0.0][2], pieces()[0.5][2]
  for metric in quiet:
    assert abs(quiet[metric].mean() - live[metric].mean()) > 1e-3 * quiet[metric].mean(), metric


@pytest.mark.parametrize("name", METHODS)
def test_one_pass_of_each_network_and_what_it_asks_for(name):
  student, teacher = [], []
  options, _ = METHODS[name]
  method = made(
    name,
    featured(calls=student),
    featured(0.5, calls=teacher),
    **options,
    alpha=0.9,
    fickle=True,
  )
  state = taught_state()
  student.clear()
  teacher.clear()
  jax.eval_shape(method.loss_fn(state), state.params, toy_batch(), KEY)
  (own,), (taught,) = student, teacher
  wanted = {"attention_transfer": STAGES, "rkd": ("pooled",)}.get(name, ("stage2",))
  assert own["features"] == taught["features"] == wanted
  assert own["train"] and not taught.get("train") and taught["rng"] is not None


def test_no_gradient_reaches_the_teacher():
  state = taught_state()
  every = [
    made(name, featured(), featured(0.5), **options, alpha=0.9, fickle=True)
    for name, (options, _) in METHODS.items()
  ]

  def of(teacher):
    s = state.replace(teacher=teacher)
    return sum(m.loss_fn(s)(s.params, toy_batch(), KEY)[0] for m in every)

  grads = jax.jit(jax.grad(of))(state.teacher)
  assert not any(np.any(np.asarray(g)) for g in jax.tree.leaves(grads))


def test_a_teacher_like_its_student_leaves_the_labels():
  """Same parameters, and a student in evaluation mode: every term is 0."""
  quiet = toy_network()

  def apply(params, batch_stats, image, *, train=False, rng=None, features=(), **options):
    del train, rng
    return featured().apply(params, batch_stats, image, features=features, **options)

  network = quiet._replace(apply=apply)
  state = taught_state()
  state = state.replace(teacher={"params": state.params, "batch_stats": state.batch_stats})
  every = [
    getattr(methods, name)(network, spec=SPEC, teacher_network=network, **options)
    for name, (options, _) in METHODS.items()
  ]
  run = jax.jit(lambda p: [m.loss_fn(state)(p, toy_batch(), KEY) for m in every])
  for loss, aux in run(state.params):
    np.testing.assert_allclose(loss, np.mean(aux.per_example), rtol=1e-5)


def test_rkd_computes_what_has_a_weight():
  for options, expected in (
    ({"angle": 0.0}, {"distance"}),
    ({"distance": 0.0}, {"angle"}),
    ({}, {"distance", "angle"}),
  ):
    method, state = made("rkd", **options), taught_state()
    _, aux = jax.eval_shape(method.loss_fn(state), state.params, toy_batch(), KEY)
    assert set(aux.metrics) == {"loss", "label_loss", *expected}


def test_networks_whose_layers_differ():
  """Other channels, other sizes, other names: what fits is taken, what does not is named."""
  student = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
  teacher = models.network(models.cifar_resnet(3, depth=8))
  spec = Spec(num_train=4, num_classes=3, image_shape=(8, 8, 3), batch_size=2)
  build = functools.partial(methods.attention_transfer, student, spec=spec, teacher_network=teacher)
  assert build(layers=("stage1", "stage3"), teacher_layers=("stem", "stage2"))
  with pytest.raises(InputError) as error:
    build(layers=("stage1", "stage4"))
  assert str(error.value) == (
    "config.method.layers: the student does not fit (unknown name 'stage4'; did you mean 'stage3' "
    "or 'stage2' or 'stage1'?)"
  )
  with pytest.raises(InputError, match=r"the teacher does not fit.*teacher_layers"):
    build(layers="stage1", teacher_layers="stage5")


@pytest.mark.parametrize(
  ("build", "message"),
  [
    (
      lambda: made("attention_transfer", beta=-1.0, layers=STAGES),
      r"config\.method\.beta is -1\.0",
    ),
    (lambda: made("similarity_preserving", gamma=float("nan")), r"config\.method\.gamma is nan"),
    (lambda: made("rkd", distance=-25.0), r"config\.method\.distance is -25\.0"),
    (lambda: made("rkd", angle=float("inf")), r"config\.method\.angle is inf"),
    (lambda: made("rkd", alpha=1.5), r"config\.method\.alpha is 1\.5; it must lie in \[0, 1\]"),
    (lambda: made("rkd", alpha=-1.0, balance="sum"), r"config\.method\.alpha is -1\.0"),
    (lambda: made("rkd", balance="summ"), r"config\.method\.balance is 'summ'.*did you mean 'sum'"),
    (lambda: made("rkd", temperature=0.0), r"config\.method\.temperature is 0\.0"),
    (lambda: made("rkd", fickle=0.4), r"config\.method\.fickle is 0\.4.*teacher_dropout"),
    (lambda: made("rkd", teacher_dropout=0.4), r"teacher_dropout is 0\.4, but.*fickle is False"),
    (lambda: made("rkd", fickle=True), "rkd needs a teacher whose dropout is live"),
    (lambda: made("rkd", layer="stage3"), r"config\.method\.layer names 'stage3'.*the student"),
    (
      lambda: made("similarity_preserving", teacher=toy_network()),
      r"config\.method\.layer names 'stage2'.*the teacher.*config\.method\.teacher_layer",
    ),
    (
      lambda: made("attention_transfer", layers="pooled"),
      r"names 'pooled', but in the student that has shape \[B, 4\], which is no map",
    ),
    (
      lambda: made("attention_transfer", layers="stage1", teacher_layers="pooled"),
      r"in the teacher that has shape \[B, 4\], which is no map.*config\.method\.teacher_layers$",
    ),
    (
      lambda: made("attention_transfer", layers=STAGES, teacher_layers=("stage1",)),
      "names 2 layers and config.method.teacher_layers 1",
    ),
    (lambda: made("attention_transfer", layers=()), "names 0 layers"),
  ],
)
def test_bad_arguments(build, message):
  with pytest.raises(InputError, match=message):
    build()


def test_a_map_of_one_place_and_a_network_without_features_are_refused():
  spec = SPEC._replace(image_shape=(1, 1, 3))
  with pytest.raises(InputError, match=r"shape \[B, 1, 1, 4\], a single place.*earlier stages$"):
    methods.attention_transfer(featured(), spec=spec, teacher_network=featured(), layers="stage1")
  import flax.linen as nn

  plain = models.network(nn.Sequential([lambda x: x.reshape(len(x), -1), nn.Dense(3)]))
  with pytest.raises(InputError, match=r"config\.method\.layer: the teacher.*logits alone"):
    made("rkd", teacher=plain)
