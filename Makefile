# Trivium: `make train` and `make test` set everything up by themselves.
PYTHON ?= python3
PY = .venv/bin/python
ARGS ?=
CORES = -n auto --maxprocesses 8 --dist worksteal

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

train: .venv/ready  ## train GPT-2 on English text with proved kernels; ARGS="--steps 2000"
	@$(PY) train.py $(ARGS)

test: .venv/tests  ## prove what changed since the committed evidence, a sample of the rest, all else
	@$(PY) -m pytest $(CORES) $(ARGS)

test-all: .venv/tests  ## prove every version of every operation, and all else
	@$(PY) -m pytest $(CORES) --all $(ARGS)

verify: .venv/ready  ## prove one version, KERNEL=layernorm_forward_02, or a file of yours, FILE=my.cu OP=layernorm_forward
	@$(PY) -m checks.verify --kernel "$(KERNEL)" --file "$(FILE)" --op "$(OP)" $(ARGS)

compare: .venv/ready  ## the ported trainer against stock PyTorch: table, picture, verdict
	@$(PY) compare.py $(ARGS)

bench: .venv/ready  ## time every version, and a training step of GPT-2 124M, against PyTorch
	@$(PY) -m checks.bench $(ARGS)

profile: .venv/ready  ## where a step's time goes and what bounds it; ARGS="--device cuda --model gpt2 ..."
	@$(PY) -m checks.profiling $(ARGS)

tune: .venv/ready  ## measure every proved version at train.py's shapes; the trainer then chooses by it
	@$(PY) -m checks.bench --tune $(ARGS)

mutants: .venv/tests  ## the kill matrix: seed wrong kernels, trainers, timings; see which check refuses each
	@$(PY) -m checks.matrix $(ARGS)

cuda: .venv/cuda  ## set up what --device cuda needs besides a GPU, its driver and CUDA 13's toolkit

sanitize: .venv/cuda  ## compute-sanitizer's four tools over the CUDA kernels; needs a GPU
	@$(PY) -m checks.sanitize $(ARGS)

evidence: .venv/ready  ## prove what is not and write the committed evidence; ARGS="--device emulated"
	@$(PY) -m checks.prove --all --write $(ARGS)

docs: .venv/ready  ## write README's generated tables and map anew
	@$(PY) -m checks.docs --write

lint: .venv/ready  ## ruff
	@$(PY) -m ruff check .

clean:  ## remove .venv and what tests left; runs/ and the cache stay
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis

# The project runs from its clone: only its dependencies are installed, into .venv.
.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"Trivium needs Python 3.11 or newer; $(PYTHON) is {v[0]}.{v[1]}. Try: make PYTHON=python3.12")'
	@echo "setting up .venv (once, about a minute, some 450 MB to download)"
	@$(PYTHON) -m venv .venv || { echo "venv failed; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@$(PY) -c 'import tomllib; print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]))' > .venv/base.txt
	@.venv/bin/pip install -q --disable-pip-version-check -r .venv/base.txt
	@touch $@

.venv/%.txt: .venv/ready  # the packages of an extra
	@$(PY) -c 'import tomllib; print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["$*"]))' > $@

.venv/tests: .venv/tests.txt  # what the suite needs besides
	@.venv/bin/pip install -q --disable-pip-version-check -r $<
	@touch $@

# PyCUDA is built from source: CUDA's headers and a libcuda to link with lie where nvcc says.
.venv/cuda: .venv/cuda.txt
	@echo "building PyCUDA (once, three to four minutes), and installing the vendors' libraries"
	@include=$$($(PY) -c 'from ported.device.cuda_code import include_directory; print(include_directory())') && \
	CPATH="$$include" LIBRARY_PATH="$$include/../lib/stubs:$$include/../lib64/stubs:$$LIBRARY_PATH" .venv/bin/pip install -q \
	--disable-pip-version-check -C--build-option=--conf:CUDA_ENABLE_CURAND=False "$$(grep ^pycuda $<)"
	@.venv/bin/pip install -q --disable-pip-version-check -r $<
	@touch $@

.PHONY: help train test test-all verify compare bench profile tune mutants cuda sanitize \
	evidence docs lint clean
