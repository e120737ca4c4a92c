# Two commands do it all: `make repro`, then `make ui`. `make help` explains the rest.
SHELL := /bin/bash
PYTHON ?= python3
TORCH ?= auto
VENV := .venv
READY := $(VENV)/.ready
DEV := $(VENV)/.ready-dev
SEARCH := $(VENV)/.ready-search
HOME_OF_PYTHON := $(CURDIR)/$(VENV)

# Without a .venv, an activated environment that has the pins is used as it is.
ACTIVE := $(if $(wildcard $(VENV)),,$(or $(VIRTUAL_ENV),$(CONDA_PREFIX)))
has_pins = $(shell "$(ACTIVE)/bin/python" -I -c 'import re, sys; from importlib.metadata import version; \
  pins = re.findall(r"(?m)^([\w.-]+)==([^\s;+]+)", open("$(1)").read()); \
  sys.exit(any(version(name).partition("+")[0] != pin for name, pin in pins))' 2> /dev/null && echo yes)
ifneq ($(and $(ACTIVE),$(call has_pins,requirements.txt)),)
HOME_OF_PYTHON := $(ACTIVE)
READY :=
DEV := dev-packages
SEARCH := search-packages
endif
export PATH := $(HOME_OF_PYTHON)/bin:$(PATH)
export USER ?= $(shell id -u)
export VIRTUAL_ENV := $(HOME_OF_PYTHON)
unexport PIP_TARGET PIP_PREFIX PIP_ROOT PIP_USER PIP_DRY_RUN PIP_PYTHON
unexport GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_COMMON_DIR GIT_PREFIX
.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# -- set-up -------------------------------------------------------------------------------------------

# TORCH=auto: uv, which is installed into .venv first, chooses the build of PyTorch that suits the machine, without CUDA's libraries
# where there is no NVIDIA GPU. Where uv cannot reach its indexes, pip is used, with its own configuration, and takes PyPI's build.
# TORCH=cpu, cu126, rocm7.2 ...: that build. TORCH=system: the PyTorch that $(PYTHON) has (Colab, clusters), and all else from the pins.
ifeq ($(TORCH),system)
venv_options := --system-site-packages --without-pip
needed := torch
install = $(VENV)/bin/python -m pip install --no-deps -r <(grep -v '^torch==\|^-r ' $(1))
else
needed := ensurepip
backend = $(if $(filter requirements.txt,$(1)),--torch-backend=$(TORCH))
or_pip = $(if $(filter auto,$(TORCH)),|| { echo "uv failed: installing with pip"; $(VENV)/bin/python -m pip install -r $(1); })
install = $(VENV)/bin/python -m pip install --quiet uv && $(VENV)/bin/uv pip install --python $(VENV) $(backend) -r $(1) $(or_pip)
endif
fail = { echo 'error: '$(1) >&2; exit 1; }
# an installer may end well and have installed nothing here; without the packages of PYTHONPATH (-I) that shows
lacks := "the installer ended without an error, but $(VENV) lacks packages (see above). Was it told to install elsewhere, or nothing? \
  Look at pip config list and PIP_*, delete $(VENV), and run the same command again"
check = $(VENV)/bin/python -I -c 'import datasets, dvc, mlflow, torch' || $(call fail,$(lacks))

.PHONY: setup
setup: $(READY) ## Install the pinned packages into .venv, unless the activated environment has them

# .ready is there from the end of an installation to the start of the next one. Without it .venv may be damaged and is recreated, from
# what pip and uv have kept of their downloads.
$(VENV)/.ready: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || $(call fail,"Python 3.11 or newer is needed. Use another interpreter: PYTHON=python3.12")
	@$(PYTHON) -c 'import $(needed)' 2> /dev/null || $(call fail,"$(PYTHON) lacks the module $(needed). \
	  $(if $(filter torch,$(needed)),Omit TORCH=system,On Debian and Ubuntu: sudo apt install python3-venv)")
	@rmdir $(VENV) 2> /dev/null; [ ! -e $(VENV) ] || [ -e $(VENV)/pyvenv.cfg ] \
	  || $(call fail,"$(VENV) exists but is not a virtual environment. Delete or rename it")
	@[ -e $@ ] || $(PYTHON) -m venv --clear $(venv_options) $(VENV)
	@rm -f $@
	@echo "Installing into $(VENV): some minutes, 2 GB of disk, with CUDA's libraries 7 GB"
	@$(call install,requirements.txt)
	@$(check)
	@touch $@

$(VENV)/.ready-dev: requirements-dev.txt $(VENV)/.ready
	@rm -f $(VENV)/.ready
	@$(call install,requirements-dev.txt)
	@$(check)
	@touch $(VENV)/.ready $@

.PHONY: dev-packages search-packages
dev-packages search-packages:
	@[ "$(call has_pins,requirements-$(@:-packages=).txt)" ] \
	  || $(call fail,"$(ACTIVE) lacks packages for this: pip install -r requirements-$(@:-packages=).txt")

# An interruption may damage .venv, so .ready goes first, here too; requirements-dev.txt need not be installed again afterwards.
$(VENV)/.ready-search: requirements-search.txt | $(VENV)/.ready
	@rm -f $(VENV)/.ready
	@echo "Installing what a search needs into $(VENV): 0.4 GB of disk"
	@$(call install,requirements-search.txt)
	@$(check) && $(VENV)/bin/python -I -c "import optuna, ray" || $(call fail,$(lacks))
	@touch $(VENV)/.ready $(wildcard $(VENV)/.ready-dev) $@

# CUDA's libraries are not pinned: they follow from the build of PyTorch that uv chooses for a machine.
compile := uv pip compile --quiet --upgrade --python-version 3.11 --no-header --no-annotate
.PHONY: pins
pins: setup ## Upgrade all pins to the newest versions that pyproject.toml allows (needs the internet)
	@command -v uv > /dev/null || $(call fail,"uv is missing: pip install uv")
	@mkdir -p build && rm -f build/*.pins build/*.sorted
	$(compile) pyproject.toml --group dev --group search --output-file build/all.pins
	@set -e; export LC_ALL=C; for group in run dev search; do \
	  $(compile) pyproject.toml $$([ $$group = run ] || echo --group $$group) -c build/all.pins --output-file build/$$group.pins; \
	  grep -Ev '^(cuda-|nvidia-(cu|nccl|nv)|pip=|triton=)' build/$$group.pins | sort > build/$$group.sorted; done; \
	{ grep '^#' requirements.txt; cat build/run.sorted; } > build/requirements.txt; for file in requirements-{dev,search}.txt; do \
	  name=$${file#*-}; { grep '^[#-]' $$file; comm -13 build/run.sorted build/$${name%.txt}.sorted; } > build/$$file; done
	@mv build/requirements*.txt . && git --no-pager diff --stat 'requirements*.txt'

# -- the pipeline -------------------------------------------------------------------------------------

.PHONY: repro
repro: setup ## Run the pipeline: every stage that your changes affect
	@python -m tools.mend
	dvc repro

# DATA: a Hub id, or a local file or folder with the same stories; a folder holds files named train* and validation*
DATA ?= roneneldan/TinyStories

# Measured with a prototype of the same step on one H200, five epochs of 1,988 steps: 2.387 nats per token (perplexity 10.9),
# where a rate of 0.0006 reached 2.469; dropout 0.1 with 0.0002 reached 2.396, so there is none. docs/measurements.md has it all.
# MODEL: a GPT-2 of the Hub, or a folder with one, such as data/train/model. Its shape, and settings that were tried
# (docs/fine-tune.md), are typed by tools/finetune.py.
MODEL ?= openai-community/gpt2
.PHONY: finetune
finetune: setup ## Train a GPT-2 on your own text: make finetune DATA=my.txt MODEL=openai-community/gpt2
	@$(if $(filter file,$(origin DATA)),$(call fail,'give your text: make finetune DATA=my.txt'),python -m tools.finetune "$(DATA)" "$(MODEL)")

.PHONY: gpt2-small
gpt2-small: setup ## GPT-2 small on 10,000 TinyStories from the Hub, or on DATA=FOLDER (hours on a CPU)
	dvc exp run -n gpt2-small -S dataset="$(DATA)" -S n_embd=768 -S vocabulary=full \
	  -S learning_rate=0.0003 -S min_learning_rate=1/5 -S warmup_steps=500 -S keep=best

# Not measured yet as a whole. What speaks for it: one epoch of Muon at 0.0003 reached 2.663 nats, one of AdamW 3.042; and AdamW
# overfits from the fourth epoch on (training loss 1.72), which dropout and a stronger weight decay should delay.
.PHONY: gpt2-small-muon
gpt2-small-muon: setup ## The same with Muon, dropout and weight decay (not measured yet)
	dvc exp run -n gpt2-small-muon -S dataset="$(DATA)" -S n_embd=768 -S vocabulary=full -S optimizer=muon \
	  -S learning_rate=0.0003 -S min_learning_rate=1/10 -S warmup_steps=500 -S dropout=0.1 -S weight_decay=0.1

# ARGS: the options of `python -m tools.search`, which docs/search.md explains; these are a small search to see how it goes
ARGS ?= -n try --trials 8 -S 'learning_rate=tag(log, interval(0.0003, 0.03))' -S 'n_embd=choice(48, 96)' \
  -S n_layer=2 -S n_head=4 -S max_samples=2000 -S epochs=1
.PHONY: search
search: $(SEARCH) ## Search the params, each trial an experiment: make search ARGS="-n lr --trials 20 -S ..."
	@python -m tools.search $(ARGS)

# -- the runs -----------------------------------------------------------------------------------------

.PHONY: ui
ui: setup ## Browse the runs: MLflow on http://127.0.0.1:5000, or another port: make ui PORT=5001
	python -m tools.ui $(if $(PORT),--port "$(PORT)")

.PHONY: explore
explore: setup ## Look inside the network in data/, or of a run: make explore RUN=<MLflow run id or name>
	@python -m tools.explore $(if $(RUN),"$(RUN)")

.PHONY: compare
compare: setup ## Compare the experiments: changed params and results
	@python -m tools.compare

.PHONY: reproduce
reproduce: setup ## Rerun a recorded experiment and compare every byte: make reproduce RUN=<MLflow run id or name>
	@$(if $(RUN),python -m tools.reproduce "$(RUN)",$(call fail,"RUN is missing: make reproduce RUN=<MLflow run id or name>"))

.PHONY: register
register: $(DEV) ## Register a run's model in MLflow: make register RUN=<MLflow run id or name>
	@$(if $(RUN),python -m tools.register "$(RUN)",$(call fail,"RUN is missing: make register RUN=<MLflow run id or name>"))

.PHONY: drawings
drawings: setup ## Draw the figures of docs/how-a-gpt-2-works.md from the trained network
	@python -m docs.make.gpt2_figures

.PHONY: references
references: setup ## Write docs/params.md and docs/metrics.md from params.yaml and the code
	@python -m docs.make.references

.PHONY: bench
bench: $(DEV) ## Measure training and generation against transformers (ten minutes; nothing else should run)
	python -m benchmarks.train
	@if python -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then set -x; python -m benchmarks.train --device cuda; fi
	python -m benchmarks.generate

# DATA=FOLDER: the original experiment's stories; NANOGPT=FOLDER: a clone of nanoGPT; SHAPES=tiny: to try the script on a CPU
.PHONY: gpu-report
gpu-report: $(DEV) ## Measure and test everything on one GPU, at most 8 minutes, no network: build/gpu-report/report.md
	@$(if $(NANOGPT),NANOGPT="$(NANOGPT)") python -m benchmarks.gpu_report $(if $(SHAPES),--shapes $(SHAPES)) \
	  $(if $(filter file,$(origin DATA)),,--data "$(DATA)")

# -- checks -------------------------------------------------------------------------------------------

# Three workers keep two cores busy: some tests wait. Each file has one worker, because its tests share a project.
PYTEST := python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: test
test: $(DEV) ## The whole test suite
	$(PYTEST)

.PHONY: test-unit
test-unit: $(DEV) ## The quick tests: unit tests, and the rules of the source tree
	$(PYTEST) tests/unit tests/contract -m 'not slow and not extra'

.PHONY: test-gpu
test-gpu: $(DEV) ## GPU tests: determinism, resume after kill -9, no host-device syncs (skipped without a GPU)
	python -m pytest tests/gpu -v

.PHONY: faults
faults: $(DEV) ## The full fault-injection suite (about an hour); the table is written to build/faults.md
	$(PYTEST) tests -m kind --write-table build/faults.md

.PHONY: verify
verify: setup ## Check DVC's cache; run a tiny pipeline in two clean clones of HEAD and compare every file
	@python -m tools.verify

.PHONY: compare-code
compare-code: setup ## Compare a small run of HEAD with one of BASE: make compare-code BASE=main
	@$(if $(BASE),python -m tools.compare_code "$(BASE)",$(call fail,"BASE is missing: make compare-code BASE=main"))

.PHONY: lint
lint: $(DEV) ## Check style, types and the CI workflows
	ruff check .
	ruff format --check .
	check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	mypy

.PHONY: hooks
hooks: $(DEV) ## Check style and types at each commit (pre-commit)
	pre-commit install

.PHONY: audit
audit: $(DEV) ## Look for known vulnerabilities in the pinned packages (needs the internet)
	@pip-audit --disable-pip --no-deps --requirement requirements.txt || echo "pip-audit: see above; without internet nothing was checked"
