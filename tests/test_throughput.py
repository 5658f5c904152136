"""benchmarks/throughput.py: its count of flops, its table of passes, a row."""

import importlib
import pathlib
import sys

import jax
import jax.numpy as jnp
import pytest

from jaxnoise import data
from jaxnoise.training import loop

BENCHMARKS = pathlib.Path(__file__).resolve().parents[1] / "benchmarks"
TINY = {"name": "wide_resnet", "depth": 10, "widen_factor": 1}
METHODS = (
  "erm", "mixup", "elr", "noisymix", "nrd", "gjs", "multiplicative_reweighting",
  "knowledge_distillation", "pgd_at", "trades", "manifold_mixup", "nfm", "cutmix", "puzzlemix",
  "augmix", "augmax", "js", "elr_plus", "dividemix", "co_teaching", "dynamic_bootstrap",
  "meta_weight_net", "glc", "random_weighting", "with_ema", "free_at", "fast_at", "fickle_teacher",
  "soft_randomization", "messy_collaboration", "attention_transfer", "similarity_preserving", "rkd",
  "self_distillation",
)  # fmt: skip


def load(monkeypatch, name):
  monkeypatch.syspath_prepend(BENCHMARKS)
  module = importlib.import_module(name)
  for loaded in ("rows", "throughput", "throughput_programs"):
    monkeypatch.delitem(sys.modules, loaded, raising=False)
  return module


def test_flops_of_products_and_convolutions(monkeypatch):
  flops = load(monkeypatch, "throughput_programs").flops

  def fn(image, kernel, matrix):
    h = jax.lax.conv_general_dilated(
      image, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    h = jax.jit(lambda x: x.reshape(2, -1) @ matrix)(h)
    return jax.lax.scan(lambda x, _: (x @ jnp.ones((5, 5)), None), h, length=3)[0]

  shapes = ((2, 8, 6, 3), (3, 3, 3, 4), (48, 5))
  jaxpr = jax.make_jaxpr(fn)(*(jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes)).jaxpr
  conv, dense, repeated = 2 * (2 * 4 * 3 * 4) * (9 * 3), 2 * 2 * 48 * 5, 3 * 2 * 2 * 5 * 5
  assert flops(jaxpr) == conv + dense + repeated


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_passes_are_those_of_the_step(monkeypatch, method):
  programs_lib = load(monkeypatch, "throughput_programs")
  assert tuple(programs_lib.METHODS) == METHODS
  passes = programs_lib.METHODS[method][0]
  source = data.generated(num_train=32, num_test=4, num_classes=10, size=32)
  run = programs_lib.assemble(method, TINY, "float32", 16, source)
  programs = loop.Programs(run)
  state, arrays = programs.init_shapes(), run.host_data()
  orders = jax.eval_shape(lambda s: programs.epoch_orders(s, arrays, 0), state)
  totals = programs.total_shapes(state, arrays, orders)
  step = programs_lib.flops(jax.make_jaxpr(programs.step)(state, arrays, orders, totals).jaxpr)
  if programs.example_pass is not None:
    step += programs_lib.flops(jax.make_jaxpr(programs.example_pass)(state, arrays).jaxpr) / 2
  each = step / 16 / programs_lib.forward_flops(run, state)
  repeated = method == "trades"  # a pass for its running averages alone
  assert each == pytest.approx(passes.cost + repeated, rel=0.02)


def test_a_program_on_another_device_is_not_compared(monkeypatch):
  unlike = load(monkeypatch, "throughput").unlike
  assert unlike({"parameters": 5, "device": "cpu"}, 5) == ""
  assert unlike({"parameters": 6, "device": "cpu"}, 5) == "6 parameters, ours 5"
  assert "it runs on one cuda, ours on 8 x cpu" in unlike({"parameters": 5, "device": "cuda"}, 5)
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  assert "it runs on one cpu" in unlike({"parameters": 5, "device": "cpu"}, 5)
  assert "ours on 8 x cuda" in unlike({"parameters": 5, "device": "cuda"}, 5)


@pytest.mark.slow
def test_a_row(monkeypatch):
  throughput = load(monkeypatch, "throughput")
  row = throughput.measure("multiplicative_reweighting", TINY, 8, "float32", 8, 1)
  forward = row["forward_mflops"] * 1e6
  assert row["images_per_second"] == pytest.approx(8e3 / row["step_ms"], rel=0.01)
  used = 4 * forward * 8 / (row["step_ms"] / 1e3 * row["peak_tflops"] * 1e12)
  assert row["utilisation"] == pytest.approx(used, rel=0.1)
  for name in ("own", "supervised"):
    assert row[f"over_{name}"] == pytest.approx(row["step_ms"] / row[f"{name}_ms"], rel=0.01)
  named = {"model": "tiny", "batch": 8, "method": "mr", "precision": "float32", "rounds": 1}
  assert throughput.told({**row, **named}).count("|") == throughput.HEAD.count("|")
