"""Bad input to `jaxnoise.main`: one sentence, exit code 2, nothing written."""

import numpy as np
import pytest

from jaxnoise import main as main_lib

SMOKE = "--config=configs/smoke.py"
DIGITS = "--config=configs/noisymix_digits.py"
MR = "multiplicative_reweighting"


def wrapped(*names):
  return [SMOKE, f"--config.wrappers={names!r}"]


def attacked(method, epsilon):
  no_policy = "--config.policy.name="
  return [SMOKE, no_policy, f"--config.method.name={method}", f"--config.method.epsilon={epsilon}"]


def npz(folder, **changes):
  rng = np.random.default_rng(0)
  arrays = {
    "train_images": rng.integers(0, 256, (40, 8, 8, 3), np.uint8),
    "train_labels": np.arange(40, dtype=np.uint8) % 4,
    "test_images": rng.integers(0, 256, (8, 8, 8, 3), np.uint8),
    "test_labels": np.arange(8, dtype=np.uint8) % 4,
    **changes,
  }
  path = folder / "data.npz"
  np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
  return [SMOKE, "--config.data.name=npz", f"--config.data.path={path}"]


# (id, arguments after the program's name or a function of a folder, what the message must say)
CASES = [
  ("no_config", [], "--config is missing"),
  ("no_such_file", ["--config=configs/nosuch.py"], "configs/nosuch.py"),
  ("stray_word", [SMOKE, "epochs=3"], "'epochs=3' is not an option"),
  ("unknown_flag", [SMOKE, "--wrkdir=x"], "wrkdir"),
  ("unknown_section", [SMOKE, "--config.optin.lr=1"], "did you mean 'optim'?"),
  ("unknown_field", [SMOKE, "--config.optim.lrr=1"], "did you mean 'lr'"),
  ("unknown_method_field", [SMOKE, "--config.method.alfa=1.0"], "did you mean 'alpha'?"),
  ("config_argument", [DIGITS + ":method=noisymx"], "did you mean 'noisymix'?"),
  ("config_argument_key", [DIGITS + ":methd=erm"], "did you mean 'method'?"),
  ("word_for_number", [SMOKE, "--config.optim.lr=fast"], "config.optim.lr is 'fast'"),
  ("fraction_for_count", [SMOKE, "--config.seeds=1.5"], "config.seeds is '1.5'"),
  ("number_for_word", [SMOKE, "--config.method.name=3"], "config.method.name is 3"),
  ("unknown_method", [SMOKE, "--config.method.name=noisymx"], "did you mean 'noisymix'?"),
  ("unknown_model", [SMOKE, "--config.model.name=wide_renset"], "did you mean 'wide_resnet' or"),
  ("unknown_policy", [SMOKE, "--config.policy.name=augmx"], "did you mean 'augmix'"),
  ("unknown_data", [SMOKE, "--config.data.name=digit"], "did you mean 'digits'?"),
  ("unknown_schedule", [SMOKE, "--config.optim.schedule=cosin"], "did you mean 'cosine'?"),
  ("unknown_corruption", [SMOKE, "--config.evaluate.corruptions=('fogg',)"], "'fog'"),
  ("severity", [SMOKE, "--config.evaluate.severities=(6,)"], "config.evaluate.severities"),
  ("unknown_wrapper", [SMOKE, "--config.wrappers=('with_emma',)"], "did you mean 'with_ema'?"),
  ("duration", [SMOKE, "--config.total=30"], "config.total is '30'"),
  ("duration_unit", [SMOKE, "--config.evaluate.every=2 weeks"], "config.evaluate.every"),
  ("negative_lr", [SMOKE, "--config.optim.lr=-0.1"], "config.optim.lr is -0.1"),
  ("zero_seeds", [SMOKE, "--config.seeds=0"], "config.seeds is 0"),
  ("batch_too_large", [SMOKE, "--config.batch_size=1000"], "config.batch_size is 1000"),
  ("odd_batch", [SMOKE, "--config.batch_size=12"], "8 devices cannot share evenly"),
  ("alpha", [SMOKE, "--config.method.alpha=-1.0"], "config.method.alpha is -1.0"),
  ("depth", [SMOKE, "--config.model.depth=11"], "config.model: depth"),
  ("precision", [SMOKE, "--config.precision=float16"], "config.precision is 'float16'"),
  ("remainder", [SMOKE, "--config.data.remainder=wrap"], "config.data.remainder is 'wrap'"),
  ("holdout_too_large", [SMOKE, "--config.data.holdout=1000"], "holdout"),
  (
    "teacher_missing",
    [SMOKE, "--config.method.name=knowledge_distillation", "--config.policy.name="],
    "config.teacher is empty",
  ),
  ("policy_unused", [SMOKE, "--config.method.name=free_at"], "policy.name is set, but free_at"),
  ("policy_value", [SMOKE, "--config.policy.severity=20.0"], "config.policy: "),
  ("policy_is_no_transform", [SMOKE, "--config.policy.name=sparse_noise"], "no such name"),
  ("loss_of_other_arguments", [DIGITS + ":method=erm", "--config.method.loss=hinton"], "no such"),
  ("no_severities", [SMOKE, "--config.evaluate.severities=()"], "severities is empty"),
  ("keep_nothing", [SMOKE, "--config.checkpoint.keep=0"], "config.checkpoint.keep is 0"),
  ("no_steps", [SMOKE, "--config.total=0 epochs"], "config.total is '0 epochs'"),
  ("negative_seed", [SMOKE, "--config.seed=-1"], "config.seed is -1"),
  ("padding", [SMOKE, "--config.first.padding=-1"], "config.first: padding"),
  ("mix_groups", [SMOKE, "--config.method.mix_groups=3"], "config.method.mix_groups is 3"),
  ("wrapper_args", [SMOKE, "--config.wrapper_args.with_ema.decay=0.9"], "config.wrapper_args"),
  ("eta", [*wrapped(MR), f"--config.wrapper_args.{MR}.eta=-0.1"], f"args.{MR}: {MR}'s eta is -0.1"),
  ("wrapped_twice", wrapped(MR, "with_ema", MR), f"{MR} wraps noisymix twice"),
  ("drawn_twice", wrapped("random_weighting", "random_weighting"), "wraps noisymix twice"),
  ("averaged_twice", wrapped("with_ema", MR, "with_ema"), "twice; name it once in config.wrappers"),
  (
    "two_averages",
    [*wrapped("with_ema"), "--config.method.name=nrd", "--config.policy.name="],
    "with_ema cannot wrap nrd",
  ),
  (
    "no_labelled_term",
    [*wrapped(MR), "--config.policy.name=", "--config.method.name=elr_plus"],
    f"{MR} cannot wrap elr_plus",
  ),
  ("free_at_epsilon", attacked("free_at", 8.0), "config.method.epsilon is 8.0; pixels lie in [0,"),
  ("pgd_at_epsilon", attacked("pgd_at", -0.1), "config.method.epsilon is -0.1"),
  ("trades_epsilon", attacked("trades", 1.5), "config.method.epsilon is 1.5"),
  ("teacher_is_no_run", [SMOKE, "--config.teacher=nowhere"], "nowhere"),
  ("init_is_no_run", [SMOKE, "--config.init_from=nowhere"], "nowhere"),
  ("init_is_no_file", [SMOKE, "--config.init_from=no.safetensors"], "config.init_from is no.safe"),
  ("new_head", [SMOKE, "--config.new_head=True"], "config.init_from is empty"),
  ("freeze_level", [SMOKE, "--config.optim.freeze_level=9"], "config.optim.freeze_level: "),
  ("sampling", [SMOKE, "--config.data.sampling=balancd"], "did you mean 'balanced'?"),
  ("accumulate", [SMOKE, "--config.accumulate=3"], "config.accumulate is 3, which does not divide"),
  ("micro_batch", [SMOKE, "--config.accumulate=4"], "micro-batches of 4 (config.accumulate is 4)"),
  ("corrupted_path", [SMOKE, "--config.evaluate.corrupted_path=nowhere"], "not found at 'nowhere'"),
  ("planned", [SMOKE, "--dry_run", "--config.seeds=0"], "config.seeds is 0"),
  ("human_labels", [SMOKE, "--config.data.labels=worst_label"], "config.data.labels"),
  ("cifar_missing", ["--config=configs/noisymix.py", "--config.data.path=nowhere"], "cifar10"),
  ("npz_missing", [SMOKE, "--config.data.name=npz", "--config.data.path=no.npz"], "no.npz"),
  ("npz_float", lambda d: npz(d, train_images=np.zeros((40, 8, 8, 3))), "train_images"),
  (
    "npz_grey_with_corruptions",
    lambda d: [
      *npz(
        d,
        train_images=np.zeros((40, 8, 8, 1), np.uint8),
        test_images=np.zeros((8, 8, 8, 1), np.uint8),
      ),
      "--config.evaluate.corruptions=('all',)",
    ],
    "channel",
  ),
  (
    "label_out_of_range",
    lambda d: [*npz(d, train_labels=np.full(40, 12, np.uint8)), "--config.data.name=cifar10"],
    "train_labels: found 12",
  ),
  ("npz_rank", lambda d: npz(d, train_images=np.zeros((40, 8, 8), np.uint8)), "train_images"),
  ("npz_shapes", lambda d: npz(d, test_images=np.zeros((8, 9, 9, 3), np.uint8)), "test_images"),
  ("npz_length", lambda d: npz(d, train_labels=np.zeros(39, np.uint8)), "train_labels"),
  ("npz_negative", lambda d: npz(d, train_labels=np.full(40, -1)), "train_labels"),
  ("npz_no_test", lambda d: npz(d, test_images=None), "test_images"),
]


@pytest.mark.parametrize(("arguments", "says"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_one_sentence_exit_code_2_nothing_written(arguments, says, tmp_path, capsys):
  if callable(arguments):
    arguments = arguments(tmp_path)
  workdir = tmp_path / "run"
  code = main_lib.main(["main", *arguments, f"--workdir={workdir}"])
  error = capsys.readouterr().err.strip()
  assert code == 2, error
  assert says in error
  assert error.startswith("jaxnoise: ") and "\n" not in error and len(error) < 900, error
  assert "Traceback" not in error
  assert not workdir.exists()


def test_workdir_that_holds_something_else(tmp_path, capsys):
  (tmp_path / "notes.txt").write_text("mine")
  assert main_lib.main(["main", SMOKE, f"--workdir={tmp_path}"]) == 2
  assert "is no run of jaxnoise" in capsys.readouterr().err
  assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_open_sections_take_any_argument_of_their_factory():
  parsed = main_lib.parse(
    ["main", DIGITS, "--config.method.name=free_at", "--config.method.epsilon", "0.03",
     "--config.policy.name=", "--config.wrappers=('with_ema',)",
     "--config.wrapper_args.with_ema.decay=0.9", "--config.optim.lr", "0.05"]
  )[0]["config"]  # fmt: skip
  assert parsed["method"] == {"name": "free_at", "epsilon": 0.03}
  assert parsed["wrapper_args"] == {"with_ema": {"decay": 0.9}}
  assert parsed["wrappers"] == ("with_ema",) and parsed["optim"]["lr"] == 0.05
  kept = main_lib.parse(["main", DIGITS, "--config.method.alpha=2.0"])[0]["config"]["method"]
  assert kept["alpha"] == 2.0 and kept["add_noise"] == 0.5


def test_the_default_workdir_is_the_resolved_config_s():
  first, again, other = (
    main_lib.parse(["main", SMOKE, *extra])[1]
    for extra in ([], ["--config.seed=0"], ["--config.seed=1"])
  )
  assert first == again and first != other
  assert str(first).startswith("runs/smoke-")
