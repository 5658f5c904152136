# Set-up and checks. `make` lists the targets; each sets up what it needs, once, in $(VENV).

VENV ?= .venv
EXTRAS ?= dev,notebooks

BIN := $(VENV)/bin
ALL_EXTRAS := tfds,tensorboard,dev,notebooks

# Prints 311 or 312 in a Python that jaxnoise is tested on and that can make environments.
PROBE := import ensurepip, sys; v = sys.version_info[:2]; (3, 11) <= v < (3, 13) and print("%d%d" % v)

# An environment that exists keeps its Python. Candidates are run: a pyenv shim may exist and fail.
ifeq ($(PYTHON),)
PYTHON := $(shell for p in $(BIN)/python python3.12 python3.11 python3; do \
  [ -n "$$("$$p" -c '$(PROBE)' 2>/dev/null)" ] && { echo "$$p"; break; }; done)
endif
MINOR := $(shell "$(PYTHON)" -c '$(PROBE)' 2>/dev/null)

CONSTRAINTS := constraints/py$(MINOR).txt
INPUTS := setup.cfg pyproject.toml $(wildcard $(CONSTRAINTS))
# Named by Python version, so that PYTHON=... with another version makes the environment anew.
BASE := $(VENV)/.stamp-$(MINOR)
DEV := $(VENV)/.stamp-$(MINOR)-dev

PIP := -m pip -qq --disable-pip-version-check --no-input
NO_PYTHON = jaxnoise needs a Python 3.11 or 3.12 that runs and has its venv module (tried: \
  $(or $(PYTHON),python3.12 python3.11 python3)); name one, for example: make PYTHON=python3.12 demo

# $(call install,EXTRAS): makes the environment if there is none of this version, then installs into it.
define install
@$(if $(MINOR),,$(error $(NO_PYTHON)))
@if [ -f "$(VENV)/pyvenv.cfg" ] && [ "$$("$(BIN)/python" -c '$(PROBE)' 2>/dev/null)" != $(MINOR) ]; \
  then rm -rf "$(VENV)"; fi
@"$(BIN)/python" -c 'import pip' 2>/dev/null || { \
  echo "Making $(VENV) with $$("$(PYTHON)" --version)"; "$(PYTHON)" -m venv "$(VENV)"; }
@echo "Installing jaxnoise$1 into $(VENV) (a minute or two, once)"
@"$(BIN)/python" $(PIP) install -c $(CONSTRAINTS) -e '.$1'
endef

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo setup test test-slow soak notebooks lint lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

demo: $(BASE)  ## train, compare and report on a small set, in a few minutes on a CPU
	@"$(BIN)/python" benchmarks/demo.py --out runs/demo

setup: $(BASE)  ## only make the environment that the demo and training need
	@:

test: $(DEV)  ## lint, then all tests but the slow ones
	@"$(BIN)/python" -m ruff check .
	@JAX_PLATFORMS=cpu "$(BIN)/python" -m pytest -q -n 2 --dist worksteal

# What is held against golden values, compiled as a user's programs are.
GOLDEN_TESTS := $(addprefix tests/,losses metrics augment corruptions attacks models)

test-slow: $(DEV)  ## the slow tests, and those of golden values with every optimisation
	@JAX_PLATFORMS=cpu "$(BIN)/python" -m pytest -q -m slow
	@JAX_PLATFORMS=cpu JAXNOISE_TEST_OPTIMISED=1 "$(BIN)/python" -m pytest -q -n 2 --dist worksteal $(GOLDEN_TESTS)

soak: $(BASE)  ## kill runs at random moments, resume them, compare them with undisturbed ones
	@JAX_PLATFORMS=cpu "$(BIN)/python" benchmarks/soak.py --out=runs/soak

notebooks: $(DEV)  ## make the notebooks from their .py sources and execute them
	@"$(BIN)/python" notebooks/build.py

lint: $(DEV)  ## lint only
	@"$(BIN)/python" -m ruff check .

lock:  ## renew the constraints of this Python: the newest versions that work together
	@$(if $(MINOR),,$(error $(NO_PYTHON)))
	@echo "Resolving the newest versions for $$("$(PYTHON)" --version)"
	@rm -rf .venv-lock && "$(PYTHON)" -m venv .venv-lock
	@.venv-lock/bin/python $(PIP) install -e '.[$(ALL_EXTRAS)]'
	@.venv-lock/bin/python -m pip check
	@{ echo "# Versions for Python $$(echo $(MINOR) | sed 's/^3/3./'), made by \`make lock\`; the tests run with them."; \
	  .venv-lock/bin/python $(PIP) freeze --exclude-editable | grep -v -e '^-' -e ' @ ' -e '://'; \
	} > .venv-lock/constraints.txt
	@mkdir -p constraints && mv .venv-lock/constraints.txt $(CONSTRAINTS) && rm -rf .venv-lock
	@echo "Wrote $(CONSTRAINTS); the other Python's file is renewed by make PYTHON=... lock"

clean:  ## remove environments, builds and caches; runs/ stays
	@rm -rf "$(VENV)" .venv-* build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BASE): $(INPUTS)
	$(call install)
	@touch $@

$(DEV): $(INPUTS)
	$(call install,[$(EXTRAS)])
	@touch $(BASE) $@
