# Two commands do everything on a fresh machine with Python 3.11 or newer:
#   make demo     the main job on a real training run
#   make test     the tests, against the built wheel
#
# PYTHON       which Python makes the virtual environment
# TORCH_INDEX  a package index to take torch from, for another build of it (CPU-only, a CUDA
#              version, ROCm); left empty, torch comes from pip's own configuration

PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
SOURCES := $(shell find sentinel trainer rules -type f -not -name '*.pyc' -not -name '*.so') \
    pyproject.toml hatch_build.py README.md

.PHONY: demo test test-slow test-alone test-browser fuzz trainers-check trainers-supervised corpus
.PHONY: bench bench-scale bench-daemon bench-trainer lint format docs site clean bench-pages

demo: $(VENV)/.installed
	$(BIN)/sentinel demo

test: $(VENV)/.installed
	$(BIN)/pytest -m "not slow and not browser" -n 2

test-slow: $(VENV)/.installed
	$(BIN)/pytest -m "slow and not browser"

# Pages in a real browser (the system's Chromium: CHROMIUM names another), read by axe-core too.
CHROMIUM ?=
test-browser: $(VENV)/.installed
	$(PIP) install -c constraints.txt $$($(BIN)/python .ci/requirements.py browser)
	$(if $(CHROMIUM),CHROMIUM=$(CHROMIUM) )$(BIN)/pytest -m browser

# Every reader of a stranger's bytes under atheris (Linux only), so many runs a target.
RUNS ?= 20000
fuzz: $(VENV)/.installed
	$(BIN)/python tests/fuzz/fuzz.py all --runs $(RUNS)

# The wheel by itself, without the training libraries: scans, its rules included.
test-alone:
	PYTHON=$(PYTHON) sh tests/wheel_alone.sh

# Runs the savers and configuration parsers of trainers that are no packages, from checkouts below
# TRAINERS_DIR (OneTrainer, SimpleTuner, sd-scripts, ...), and renews tests/trainers/facts/.
trainers-check: $(VENV)/.installed
	$(BIN)/python tests/trainers/check.py $(TRAINERS_DIR)

# Whole trainings by those trainers under `sentinel run`, each with a fault, on a CPU; renews
# tests/trainers/facts/supervised_*.json. KEEP=DIR keeps the trainings' files.
trainers-supervised: $(VENV)/.installed
	$(BIN)/python tests/trainers/supervised/run.py $(TRAINERS_DIR) $(if $(KEEP),--keep $(KEEP))

# Writes every layout with its own library, healthy and faulty, scans all of it, and renews the
# figures. CORPUS_DIR keeps the files; left empty they go when they are counted.
corpus: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python tests/corpus/run.py $(CORPUS_DIR) --results benchmarks/corpus.md

# Sentinel's speed as ratios of paired runs; renews benchmarks/RESULTS.md. BENCH holds options.
BENCH ?=
bench: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/speed/run.py $(BENCH)

# The health log after so many checkpoints, by default 100,000 of 500 tensors (half an hour, 12 GB);
# renews benchmarks/results/scale.md. SCALE_BENCH holds options.
SCALE_BENCH ?=
bench-scale: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/scale/run.py $(SCALE_BENCH)

# What `sentinel watch` takes from a training beside it; renews benchmarks/results/daemon.md.
# DAEMON_BENCH holds options.
DAEMON_BENCH ?=
bench-daemon: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/daemon/run.py $(DAEMON_BENCH)

# sentinel-train next to TRL's SFTTrainer and with `sentinel watch` beside it, in paired runs; renews
# benchmarks/results/trainer.md. TRL names an environment with TRL, made when it is not there; left
# empty, only `sentinel watch` is measured. TRAINER_BENCH holds options.
TRL ?=
TRAINER_BENCH ?=
bench-trainer: $(VENV)/.installed
	$(BIN)/python benchmarks/trainer/run.py $(if $(TRL),--trl $(TRL)) $(TRAINER_BENCH) \
	    --results benchmarks/results/trainer.md

# How long the live page takes over a run of 20,000 checkpoints; docs/ui.md has the figures.
# PAGES_BENCH holds options.
PAGES_BENCH ?=
bench-pages: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/pages/run.py $(PAGES_BENCH)

lint: $(VENV)/.dependencies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --cache-dir .import_linter_cache

format: $(VENV)/.dependencies
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What is generated from code: the rule catalogue, its JSON Schema, the command line reference,
# what was tested.
docs: $(VENV)/.installed
	$(BIN)/python docs/generate.py

# The documentation as a site, in site/; a page that is not in it or a link to nowhere ends it.
site: $(VENV)/.dependencies
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

clean:
	rm -rf $(VENV) dist site

$(VENV)/.dependencies: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@echo "installing torch (the build that fits the machine) ..."
	$(PIP) install -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	@echo "installing the other dependencies ..."
	$(PIP) install -c constraints.txt build $$($(BIN)/python .ci/requirements.py)
	touch $@

# The wheel is built and installed, so what runs is what a user gets.
$(VENV)/.installed: $(VENV)/.dependencies $(SOURCES)
	rm -rf dist
	$(BIN)/python -m build --wheel --outdir dist . > $(VENV)/build.log || (cat $(VENV)/build.log; exit 1)
	$(PIP) install --no-deps --force-reinstall dist/*.whl
	touch $@
