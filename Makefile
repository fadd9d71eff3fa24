# Trivium: `make train` and `make test` set everything up by themselves.
PYTHON ?= python3
PY = .venv/bin/python
ARGS ?=

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

train: .venv/ready  ## train GPT-2 on English text with proved kernels; ARGS="--steps 2000"
	@$(PY) train.py $(ARGS)

test: .venv/interop  ## prove what changed since the committed evidence, a sample of the rest, all else
	@$(PY) -m pytest $(ARGS)

test-all: .venv/interop  ## prove every version of every operation, and all else
	@$(PY) -m pytest --all $(ARGS)

verify: .venv/ready  ## prove one version: make verify KERNEL=layernorm_forward_02
	@$(PY) -m checks.prove --kernel "$(KERNEL)" $(ARGS)

compare: .venv/ready  ## the ported trainer against stock PyTorch: table, picture, verdict
	@$(PY) compare.py $(ARGS)

bench: .venv/ready  ## time every version, and a training step of GPT-2 124M, against PyTorch
	@$(PY) -m checks.bench $(ARGS)

profile: .venv/ready  ## where a step's time goes and what bounds it; ARGS="--device cuda --model gpt2 ..."
	@$(PY) -m checks.profiling $(ARGS)

tune: .venv/ready  ## measure every proved version at train.py's shapes; the trainer then chooses by it
	@$(PY) -m checks.bench --tune $(ARGS)

golden: .venv/ready  ## write the golden tensors and curves anew, from float64 stock PyTorch
	@$(PY) -m checks.golden $(ARGS)

evidence: .venv/ready  ## prove every version and write the committed evidence
	@$(PY) -m checks.prove --all --write $(ARGS)

docs: .venv/ready  ## write README's generated table and map anew
	@$(PY) -m checks.docs --write

lint: .venv/ready  ## ruff
	@$(PY) -m ruff check .

clean:  ## remove .venv and what tests left; runs/ and the cache stay
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis

# The project runs from its clone: only its dependencies are installed, into .venv.
.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"Trivium needs Python 3.11 or newer; $(PYTHON) is {v[0]}.{v[1]}. Try: make PYTHON=python3.12")'
	@echo "setting up .venv (once, about a minute, some 200 MB to download)"
	@$(PYTHON) -m venv .venv || { echo "venv failed; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@$(PY) -c 'import tomllib; print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]))' > .venv/base.txt
	@.venv/bin/pip install -q --disable-pip-version-check -r .venv/base.txt
	@touch $@

.venv/interop: .venv/ready  # what single tests need besides
	@$(PY) -c 'import tomllib; print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["interop"]))' > .venv/interop.txt
	@.venv/bin/pip install -q --disable-pip-version-check -r .venv/interop.txt
	@touch $@

.PHONY: help train test test-all verify compare bench profile tune golden evidence docs lint clean
