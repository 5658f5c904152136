"""The label audit on arrays: ranks, probabilities, suggestions, tables, files."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import data, evaluation, methods
from jaxnoise.core import InputError, Method, Spec, TrainState
from jaxnoise.training import sharding
from tests.toy import toy_network


def noisy(count=500, classes=5, rate=0.3, seed=0):
  """Labels, a third of them wrong, predictions that mostly know the truth, and two signals."""
  rng = np.random.default_rng(seed)
  true = rng.integers(classes, size=count)
  wrong = rng.uniform(size=count) < rate
  labels = np.where(wrong, (true + rng.integers(1, classes, size=count)) % classes, true)
  logits = 4.0 * np.eye(classes)[true] + rng.normal(size=(count, classes))
  p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  loss = np.where(wrong, 3.0, 0.6) + 0.5 * rng.normal(size=count)
  return labels, true, p, loss


def test_score_is_the_mean_of_midranks():
  p = np.array([[0.9, 0.1], [0.4, 0.6], [0.9, 0.1], [0.3, 0.7]])
  found = evaluation.audit_labels([0, 0, 0, 1], p, signals={"loss": [5.0, 7.0, 1.0, 1.0]})
  # 1 - p[y] = .1, .6, .1, .3; ranks 1.5, 4, 1.5, 3 and 3, 4, 1.5, 1.5, less a half, over 4.
  np.testing.assert_allclose(found.score, np.array([3.5, 7.0, 2.0, 3.5]) / 8)
  assert found.order.tolist() == [1, 0, 3, 2]
  assert found.suggested.tolist() == [1, 1, 1, 0]
  np.testing.assert_allclose(found.signals["views"], [0.1, 0.6, 0.1, 0.3])


def test_score_depends_on_no_unit_and_on_no_order():
  labels, _, p, loss = noisy(50)
  found = evaluation.audit_labels(labels, p, signals={"loss": loss})
  again = evaluation.audit_labels(labels, p, signals={"loss": np.exp(3 * loss)})
  np.testing.assert_allclose(found.score, again.score)
  order = np.random.default_rng(1).permutation(50)
  moved = evaluation.audit_labels(labels[order], p[order], signals={"loss": loss[order]})
  np.testing.assert_allclose(moved.score, found.score[order])
  np.testing.assert_allclose(moved.probability, found.probability[order], atol=1e-4)


def test_finds_wrong_labels_and_tells_how_many_there_are():
  labels, true, p, loss = noisy()
  audit = evaluation.audit_labels(labels, p, signals={"loss": loss})
  found = evaluation.audit_metrics(audit, labels, true)
  assert found["auroc"] > 0.99 and found["average_precision"] > 0.98
  assert found["precision_at_wrong"] > 0.95 and found["suggestion_accuracy"] > 0.9
  assert abs(found["expected"] - found["wrong"]) < 0.1 * found["wrong"] and found["brier"] < 0.03
  for row in found["reliability"]:
    assert row["count"] < 20 or abs(row["probability"] - row["wrong"]) < 0.1
  assert sum(row["count"] for row in found["reliability"]) == len(labels)


def test_probability_never_falls_with_the_score_even_where_a_mixtures_posterior_does():
  rng = np.random.default_rng(0)
  # A narrow component with a wide one: far below the narrow one's mean the wide one takes over.
  loss = np.concatenate([rng.normal(1, 0.05, 250), rng.normal(1.6, 0.9, 250)])
  found = evaluation.audit_labels(np.zeros(500, int), signals={"loss": loss})
  order = found.order[::-1]
  assert found.basis == ("loss",)  # nothing else is there
  assert np.all(np.diff(found.probability[order]) >= -1e-12)
  assert found.probability[np.argmin(loss)] < 0.3 and found.probability[np.argmax(loss)] > 0.95
  assert found.suggested.tolist() == [-1] * 500


def test_of_true_labels_the_hardest_are_not_called_wrong():
  labels, true, _, _ = noisy()
  rng = np.random.default_rng(2)
  logits = (1 + rng.exponential(3.0, size=500))[:, None] * np.eye(5)[true]
  p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  loss = rng.exponential(size=500)
  found = evaluation.audit_labels(true, p, signals={"loss": loss})
  assert found.basis == (evaluation.DISAGREEMENT,) and found.probability.sum() == 0
  # A network that has memorised noisy labels agrees with all: losses of another time do not.
  memorised = np.eye(5)[labels] * 0.96 + 0.008
  memorised += 1e-3 * rng.normal(size=(500, 1)) * (np.eye(5)[labels] - 0.2)
  loss = np.where(labels != true, 3.0, 0.6) + 0.5 * rng.normal(size=500)
  found = evaluation.audit_labels(labels, memorised, signals={"loss": loss})
  assert found.basis == ("loss",)
  assert abs(found.probability.sum() - (labels != true).sum()) < 30
  assert evaluation.audit_labels(true, p).probability.sum() == 0
  found = evaluation.audit_labels(labels, signals={"views": rng.uniform(size=500)})
  assert found.basis == ("views",) and np.all(found.suggested == -1)


def test_one_huge_value_is_no_component_of_its_own():
  labels, true, _, loss = noisy()
  loss[np.argmax(labels != true)] = 1e6
  found = evaluation.audit_labels(labels, signals={"loss": loss})
  assert 0.15 < found.probability.mean() < 0.45


def test_a_signal_may_not_know_an_example():
  labels, _, p, loss = noisy(60)
  part = loss.copy()
  part[:20] = np.nan
  found = evaluation.audit_labels(labels, p, signals={"loss": part})
  alone = evaluation.audit_labels(labels, p)
  np.testing.assert_allclose(found.score[:20], alone.score[:20])
  with pytest.raises(InputError, match="20 of 60 examples, the first at 0, have nan"):
    evaluation.audit_labels(labels, signals={"loss": part})


def test_a_signal_that_is_the_same_for_all_is_left_out():
  labels, _, p, _ = noisy(60)
  found = evaluation.audit_labels(labels, p, signals={"weight": np.ones(60)})
  assert list(found.signals) == ["views"]
  np.testing.assert_array_equal(found.score, evaluation.audit_labels(labels, p).score)


@pytest.mark.parametrize(
  "arguments, signals, words",
  [
    (([0.5, 1.0],), {}, "one integer class per example"),
    (([0, 1],), {}, "none was given"),
    (([0, 1],), {"loss": [1.0, 1.0]}, "tells the examples apart"),
    (([0, 1],), {"loss": [1.0]}, "'loss' has shape [1]"),
    (([0, 1],), {"loss": [1.0, np.inf]}, "infinite"),
    (([0, 2], [[0.5, 0.5], [0.1, 0.9]]), {}, "2 classes, 0 to 1"),
    (([0, 1], [[0.5, 0.5]]), {}, "for 2 labels"),
    (([0, 1], [[2.0, -1.0], [0.1, 0.9]]), {}, "softmax"),
    (([0, 1], [[0.5, 0.5], [0.1, 0.9]]), {"views": [0, 1]}, "rename"),
  ],
)
def test_refuses(arguments, signals, words):
  with pytest.raises(InputError) as error:
    evaluation.audit_labels(*arguments, signals=signals)
  assert words in str(error.value)


# --- what a run's state has to say ---------------------------------------------------------------


def test_tables_become_signals_by_their_shape_and_name():
  labels = np.array([0, 1, 2, 1])
  rows = np.array([[0.8, 0, 0], [0.1, 0.3, 0], [0, 0, 0], [0, 0.2, 0.2]])
  state = {
    "track_losses": {"loss_sum": jnp.array([3.0, 8, 0, 2]), "count": jnp.array([2.0, 4, 0, 1])},
    "multiplicative_reweighting": {"loss_sum": np.array([3.0, 8, 0, 2])},
    "elr": {"targets": rows},
    "dividemix": {"clean": {"net0": np.array([1, 0.5, 0, 0]), "net1": np.array([1, 0, 0, 1.0])}},
    "dynamic_bootstrap": {"posterior": np.array([0.1, 0.2, 0.3, 0.4]), "scale": np.ones(())},
    "other": {"visits": np.arange(4), "momentum": -rows, "rows": np.ones((3, 4))},
  }
  found = evaluation.table_signals(state, labels)
  nan = np.nan
  wanted = {
    "track_losses": [1.5, 2, nan, 2],
    "multiplicative_reweighting": [3, 8, 0, 2],
    "elr": [0, 0.25, nan, 0.5],
    "dividemix": [0, 0.75, 1, 0.5],
    "dynamic_bootstrap": [0.1, 0.2, 0.3, 0.4],
  }
  assert list(found) == list(wanted)
  for name, values in wanted.items():
    np.testing.assert_allclose(found[name], values, err_msg=name)


def test_rows_of_no_example_say_nothing():
  spec = Spec(num_train=16_385, num_classes=2, image_shape=(8, 8, 3))
  method = methods.elr(toy_network(), spec=spec)
  params, stats = toy_network().init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
  state = method.init_state(TrainState.create(jax.random.key(1), params, stats))
  table = state.method_state["elr"]["targets"] + jnp.array([[0.25, 0.75]])
  labels = np.zeros(16_385, int)
  labels[-1] = 1
  found = evaluation.table_signals({"elr": {"targets": table}}, labels)["elr"]
  assert found.shape == (16_385,)
  np.testing.assert_allclose(found[[0, -1]], [0.75, 0.25])


@pytest.mark.parametrize("average_epochs", [1, 3])
def test_dividemix_speaks_by_its_posteriors_alone(average_epochs):
  spec = Spec(num_train=4, num_classes=3, image_shape=(8, 8, 3), batch_size=2)
  method = methods.dividemix(toy_network(), spec=spec, average_epochs=average_epochs)
  params, stats = toy_network().init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
  state = method.init_state(TrainState.create(jax.random.key(1), params, stats))
  start = state.method_state
  labels = np.array([0, 1, 2, 1])
  # Until its warm-up ends all are clean, at a loss of 0: that is no opinion.
  assert evaluation.table_signals(start, labels) == {}
  mine = start["dividemix"]
  clean = {"net0": jnp.array([1.0, 0.5, 0.0, 0.25]), "net1": jnp.array([1.0, 0.0, 0.5, 0.25])}
  loss = jnp.array([0.5, 700.0, 3.0, 1.0])  # nats would drown the posteriors
  found = evaluation.table_signals({"dividemix": {**mine, "clean": clean, "loss": loss}}, labels)
  assert list(found) == ["dividemix"]
  np.testing.assert_allclose(found["dividemix"], [0, 0.75, 0.75, 0.75])
  # Posteriors that call all labels right leave the word to the losses.
  found = evaluation.table_signals({"dividemix": {**mine, "loss": loss}}, labels)
  np.testing.assert_allclose(found["dividemix"], loss)


def test_a_table_that_is_the_same_for_all_examples_is_no_signal():
  labels = np.array([0, 1, 1])
  nan = np.nan
  state = {
    "dynamic_bootstrap": {"posterior": np.full(3, 0.5)},
    "elr": {"targets": np.zeros((3, 2))},
    "track_losses": {"loss_sum": np.array([2.0, 0, 4]), "count": np.array([1.0, 0, 2])},
    "mine": {"loss": np.array([nan, 1.0, 2.0]), "targets": np.full((3, 2), 0.5)},
  }
  found = evaluation.table_signals(state, labels)
  assert list(found) == ["mine"]
  np.testing.assert_array_equal(found["mine"], [nan, 1, 2])


# --- views ---------------------------------------------------------------------------------------


def brighter(rng, image):
  return jnp.clip(image + jax.random.uniform(rng), 0, 1)


def test_views_are_averaged_and_do_not_depend_on_the_batch():
  source = data.generated(num_train=11, num_test=1, num_classes=3, size=8)
  predictors = lambda state: {"student": lambda x: 4 * x.mean(axis=(1, 2)) * state.params}
  method = Method("toy", lambda state: None, predictors)
  state = TrainState.create(jax.random.key(0), jnp.float32(2), {})
  mesh, key = sharding.make_mesh(jax.devices()[:2]), jax.random.key(3)
  predict = evaluation.make_view_predict(method, mesh, brighter)
  seen = []
  found = [
    evaluation.predict_views(
      predict, state, source.train, size, mesh, views=2, rng=key, on_view=seen.append
    )
    for size in (4, 11)
  ]
  np.testing.assert_allclose(found[0].probability, found[1].probability, atol=1e-6)
  assert seen == [1, 2, 1, 2]
  i = 7
  image = jnp.asarray(source.images[i]) / 255
  own = jax.random.fold_in(key, i)
  views = [brighter(jax.random.fold_in(own, v), image) for v in range(2)]
  each = [jax.nn.softmax(8 * view.mean((0, 1))) for view in views]
  np.testing.assert_allclose(found[0].probability[i], sum(each) / 2, atol=1e-6)
  np.testing.assert_allclose(np.exp(found[0].logits), found[0].probability, atol=1e-6)
  np.testing.assert_array_equal(found[0].label, source.labels)
  assert not np.allclose(each[0], each[1], atol=1e-3)


# --- files ---------------------------------------------------------------------------------------


def audited():
  images = np.random.default_rng(0).integers(256, size=(60, 8, 8, 3)).astype(np.uint8)
  labels, true, p, loss = noisy(60, classes=3)
  loss[4] = np.nan
  pool = data.Pool(images, labels, true, ids=np.array([f"img{i}" for i in range(60)]))
  return evaluation.audit_labels(labels, p, signals={"loss": loss}), pool, p


def test_labels_are_written_the_worst_first(tmp_path):
  audit, pool, p = audited()
  names = ("ant", "bee", "cat")
  path = evaluation.write_labels(tmp_path / "new" / "labels.csv", audit, pool, class_names=names)
  with open(path, newline="", encoding="utf-8") as file:
    rows = list(csv.DictReader(file))
  assert list(rows[0]) == [
    "index", "id", "given_label", "suggested_label", "score", "probability", "given_name",
    "suggested_name", "true_label", "signal_views", "signal_loss",
  ]  # fmt: skip
  assert sorted(int(row["index"]) for row in rows) == list(range(60))
  scores = [float(row["score"]) for row in rows]
  assert scores == sorted(scores, reverse=True) == audit.score[audit.order].tolist()
  for row in rows:
    i = int(row["index"])
    assert row["id"] == f"img{i}" and float(row["probability"]) == audit.probability[i]
    assert int(row["given_label"]) == pool.labels[i]
    assert int(row["true_label"]) == pool.clean_labels[i]
    others = np.delete(np.arange(3), pool.labels[i])
    assert int(row["suggested_label"]) == others[np.argmax(p[i, others])]
    assert row["given_name"] == names[pool.labels[i]]
    assert (row["signal_loss"] == "") == (i == 4)
  assert [p.name for p in path.parent.iterdir()] == ["labels.csv"]


def test_parquet_is_the_same_table(tmp_path):
  parquet = pytest.importorskip("pyarrow.parquet")
  audit, pool, _ = audited()
  path = evaluation.write_labels(tmp_path / "labels.parquet", audit, pool, about={"views": 3})
  table = parquet.read_table(path)
  assert table["index"].to_pylist() == audit.order.tolist()
  assert table["score"].to_pylist() == audit.score[audit.order].tolist()
  assert table["signal_loss"].null_count == 1
  assert b'"views": 3' in table.schema.metadata[b"jaxnoise"]


def test_table_of_a_page():
  audit, pool, _ = audited()
  table = evaluation.audit_table(audit, pool, top=5, about={"step": 7})
  assert [row["index"] for row in table["worst"]] == audit.order[:5].tolist()
  assert table["expected"] == pytest.approx(audit.probability.sum())
  assert sum(table["histogram"]) == 60 and table["likely"] == sum(table["histogram"][5:])
  likely = audit.probability >= 0.5
  first = table["pairs"][0]
  pair = (pool.labels == first["given"]) & (audit.suggested == first["suggested"]) & likely
  assert first["count"] == pair.sum() >= table["pairs"][-1]["count"]
  assert sum(row["count"] for row in table["pairs"]) == likely.sum()
  assert table["measured"]["wrong"] == (pool.labels != pool.clean_labels).sum()
  unknown = data.Pool(pool.images, pool.labels)
  assert evaluation.audit_table(audit, unknown, top=0)["measured"] is None


def test_refuses_other_files_and_other_sets(tmp_path):
  audit, pool, _ = audited()
  with pytest.raises(InputError, match="csv or parquet"):
    evaluation.write_labels(tmp_path / "labels.npz", audit, pool)
  with pytest.raises(InputError, match="60 labels, but the set has 2 images and no labels"):
    evaluation.write_labels(tmp_path / "labels.csv", audit, data.Pool(pool.images[:2]))
  assert not list(tmp_path.iterdir())
