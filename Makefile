# make train   set up, train SAC on HalfCheetah-v4 for a short budget, write video and curve
# make test    set up, run the whole default test suite
# make check   lint, format, types
# make .venv   the set-up alone

PYTHON ?= $(shell command -v python3.11 || command -v python3)
ARGS ?= sac HalfCheetah-v4 --total-steps 70000
BIN := .venv/bin

.PHONY: train test check .venv

train: .venv
	$(BIN)/python scripts/train_agent.py $(ARGS)

test: .venv
	$(BIN)/python -m pytest

check: .venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy agents envs sim2real supervised scripts tests

.venv: .venv/installed

# torch goes first and alone: with it installed, nothing else pulls in another build of it.
.venv/installed: requirements.lock pyproject.toml
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$(grep '^torch==' requirements.lock)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@
