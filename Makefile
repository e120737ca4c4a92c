# Two commands do it all: `make repro`, then `make ui`. `make help` explains the rest.
SHELL := /bin/bash
PYTHON ?= python3
TORCH ?=
UV ?= $(shell command -v uv 2> /dev/null)
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export USER ?= $(shell id -u)
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# -- set-up -------------------------------------------------------------------------------------------

.PHONY: setup
setup: $(VENV)/.ready ## Make .venv and install the exact pins

# It checks, says what it installs, and continues after an interruption. TORCH=cpu: PyTorch for CPUs; TORCH=system: the one that is
# installed already (Colab, clusters). UV= : pip even where uv is installed.
$(VENV)/.ready: requirements.txt
	@$(PYTHON) tools/install.py requirements.txt --torch "$(TORCH)" --uv "$(UV)"
	@touch $@

$(VENV)/.ready-dev: requirements-dev.txt $(VENV)/.ready
	@$(PYTHON) tools/install.py requirements-dev.txt --torch "$(TORCH)" --uv "$(UV)"
	@touch $@

# -- the pipeline -------------------------------------------------------------------------------------

.PHONY: repro
repro: setup ## Run every stage that a change touches: stories, tokens, training, evaluation, samples, MLflow
	@python -m tools.mend
	dvc repro

# DATA: a Hub id, or a local file or folder with the same stories; a folder holds files named train* and validation*
DATA ?= roneneldan/TinyStories

# Measured with a prototype of the same step on one H200, five epochs of 1,988 steps: 2.387 nats per token (perplexity 10.9),
# where a rate of 0.0006 reached 2.469; dropout 0.1 with 0.0002 reached 2.396, so there is none. docs/measurements.md has it all.
.PHONY: gpt2-small
gpt2-small: setup ## The original experiment: GPT-2 small on 10,000 TinyStories from the Hub, or DATA=FOLDER (hours on a CPU)
	dvc exp run -n gpt2-small -S dataset="$(DATA)" -S n_embd=768 -S vocabulary=full \
	  -S learning_rate=0.0003 -S min_learning_rate=0.00006 -S warmup_steps=500

# Not measured yet as a whole. What speaks for it: one epoch of Muon at 0.0003 reached 2.663 nats, one of AdamW 3.042; and AdamW
# overfits from the fourth epoch on (training loss 1.72), which dropout and a stronger weight decay should delay.
.PHONY: gpt2-small-best
gpt2-small-best: setup ## The same stories and epochs with Muon, dropout and weight decay, or DATA=FOLDER (to be measured)
	dvc exp run -n gpt2-small-best -S dataset="$(DATA)" -S n_embd=768 -S vocabulary=full -S optimizer=muon \
	  -S learning_rate=0.0003 -S min_learning_rate=0.00003 -S warmup_steps=500 -S dropout=0.1 -S weight_decay=0.1

# -- the runs -----------------------------------------------------------------------------------------

.PHONY: ui
ui: setup ## Every run in the browser: MLflow on http://127.0.0.1:5000
	python -m tools.ui

.PHONY: explore
explore: setup ## Look inside the network of a run: make explore RUN=<MLflow run id or name>; no RUN: the one in data/
	@python -m tools.explore $(if $(RUN),"$(RUN)")

.PHONY: compare
compare: setup ## The experiments as a table: changed params, and results
	@dvc exp show --md --only-changed --hide-workspace --drop '.*\.py|data/.*|requirements.txt|model/.*|stages/.*' \
	  --keep 'perplexity|floor_ratio|val_loss' --sort-by data/evaluate/metrics.json:perplexity --no-pager
	@dvc exp list --name-only | grep -q . || echo "No experiments yet. Make one: dvc exp run -S temperature=0.7"

.PHONY: reproduce
reproduce: setup ## Run a recorded experiment again and compare every byte: make reproduce RUN=<MLflow run id or name>
	@python -m tools.reproduce "$(RUN)"

.PHONY: register
register: $(VENV)/.ready-dev ## Put a run's model into MLflow's registry: make register RUN=<MLflow run id or name>
	@python -m tools.register "$(RUN)"

.PHONY: drawings
drawings: setup ## Draw the figures of docs/how-a-gpt-2-works.md from the trained network
	@python -m docs.make.gpt2_figures

.PHONY: bench
bench: $(VENV)/.ready-dev ## Speed of training and generation beside transformers (about ten minutes; nothing else should run)
	python -m benchmarks.train
	@if python -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then set -x; python -m benchmarks.train --device cuda; fi
	python -m benchmarks.generate

# -- checks -------------------------------------------------------------------------------------------

# Three workers keep two cores busy: some tests wait. Each file has one worker, because its tests share a project.
PYTEST := python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: test
test: $(VENV)/.ready-dev ## The whole test suite
	$(PYTEST)

.PHONY: test-unit
test-unit: $(VENV)/.ready-dev ## The quick tests: each file by itself, and the rules of the source tree
	python -m pytest tests/unit tests/contract -m 'not slow and not extra'

.PHONY: test-gpu
test-gpu: $(VENV)/.ready-dev ## What only a GPU can show: the same bytes twice and after kill -9, no waits; skipped without one
	python -m pytest tests/gpu -v

.PHONY: faults
faults: $(VENV)/.ready-dev ## Bad input and faults, all of it: 20 moments of each kind in every stage; the table goes into docs/reliability.md
	$(PYTEST) tests -m kind --write-table docs/reliability.md

.PHONY: verify
verify: setup ## Run a tiny pipeline in two clean clones of HEAD and compare every file
	@python -m tools.verify

.PHONY: compare-code
compare-code: setup ## What a change of the code does: a small run of HEAD and of another commit: make compare-code BASE=main
	@python -m tools.compare_code "$(BASE)"

.PHONY: lint
lint: $(VENV)/.ready-dev ## Style, types, and the workflows of continuous integration
	ruff check .
	ruff format --check .
	check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	mypy

.PHONY: hooks
hooks: $(VENV)/.ready-dev ## Check style and types at each commit (pre-commit, with the tools of .venv)
	pre-commit install

.PHONY: audit
audit: $(VENV)/.ready-dev ## Known vulnerabilities in the pinned packages (needs the internet; says so without)
	@pip-audit --disable-pip --no-deps --requirement requirements.txt || echo "pip-audit: see above; without internet nothing was checked"
