# Everything a reader needs: `make quick`, `make figures`, `make test`. Variables: PROFILE=laptop, DEVICE= (cuda when present, else cpu), PYTHON=python3.
# Figures also: WORKERS=4, SCHEDULER=tcp://host:8786 or CLUSTER=slurm compute the sweeps (docs/cluster.md); JOBS=2 notebooks at a time.

PROFILE ?= laptop
DEVICE ?= auto
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
UTURN := $(BIN)/python -m uturn_lib
STAMP := $(VENV)/.ready
REVEAL := .cache/slides/node_modules/reveal.js/dist/reveal.js
BOOK := $(VENV)/.ready-book
BROWSER := $(VENV)/.ready-browser
FIGURES := $(basename $(notdir $(wildcard notebooks/fig*.ipynb notebooks/companions/p*.ipynb notebooks/beyond/b*.ipynb)))
GROUPS := paper companions beyond p2 p3 p4
SHORT := $(foreach name,$(FIGURES),$(firstword $(subst _, ,$(name))))
SPREAD := $(if $(WORKERS),--workers '$(WORKERS)') $(if $(SCHEDULER),--scheduler '$(SCHEDULER)') $(if $(CLUSTER),--cluster '$(CLUSTER)') $(if $(JOBS),--jobs '$(JOBS)')
# What only a cluster needs is installed when it is first asked for.
DASK := $(if $(WORKERS)$(SCHEDULER)$(CLUSTER),$(VENV)/.ready-cluster)
SCALE := --profile '$(PROFILE)' --device '$(if $(DEVICE),$(DEVICE),auto)'

# Waiting threads soon go to sleep (uturn_lib/__init__.py says why): here also for Jupyter, whose notebooks import torch first.
ifndef OMP_WAIT_POLICY
export GOMP_SPINCOUNT ?= 1000
endif

.DEFAULT_GOAL := help
.PHONY: help env quick figures $(SHORT) $(GROUPS) test faults lint lab course slides book test-book train bench gpu-hour cost notebooks reference clean distclean

help:  ## this list
	@echo "U-Turn diffusion: the paper as notebooks. Targets:"
	@grep -E '^[a-z$$()A-Z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo "  make fig08      a single figure: one of $(SHORT)"
	@echo "  make companions a group of them: $(GROUPS) (the sixteen figures; the three other papers; beyond the paper; each of the three)"
	@echo "Variables: PROFILE=$(PROFILE), DEVICE= (cuda when present, else cpu), PYTHON=$(PYTHON)"

env: $(STAMP)  ## create .venv with everything pinned (done by the other targets when missing)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "error: Python 3.10 or newer is needed, $(PYTHON) is $$($(PYTHON) --version)"; exit 2; }
	@echo "Creating the environment in $(VENV) (once; most of it is PyTorch)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)
	@echo "Environment ready"

quick: $(STAMP)  ## the method in a minute: 40 digits, their U-Turns, T_m and T_s
	@$(UTURN) quick $(SCALE)

figures: $(STAMP) $(DASK)  ## run all notebooks and write figures/PROFILE/
	@$(UTURN) figures $(SCALE) $(SPREAD)

$(SHORT) $(GROUPS): $(STAMP) $(DASK)
	@$(UTURN) figures $@ $(SCALE) $(SPREAD)

$(VENV)/.ready-cluster: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[cluster]'
	@touch $@

test: $(STAMP)  ## prove the code right: pytest, then nbval over the notebooks
	@echo "1/2 pytest: closed forms, orders of convergence, other implementations, bad input"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2
	@echo "2/2 nbval: runs the notebooks and compares the marked outputs (results that the same code has computed for 'make figures' are read)"
	@UTURN_PROGRESS=off UTURN_FIGURES=.cache/nbval/figures OMP_NUM_THREADS=1 \
	  $(BIN)/python -m pytest -q -n 2 --dist loadfile --nbval-lax --nbval-current-env --nbval-cell-timeout=1800 -p no:cacheprovider notebooks \
	  --ignore=notebooks/course/instructor --ignore-glob='notebooks/course/lesson*'

KILLS ?= 100
faults: $(STAMP)  ## the long form of the campaign against faults: an hour on two cores (KILLS=100, SECONDS=; docs/faults.md)
	@UTURN_FAULTS=long OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 tests/faults
	@UTURN_SCALE=smoke OMP_NUM_THREADS=1 $(BIN)/python tests/faults/kills.py --kills '$(KILLS)' --folder .cache/faults/figures \
	  $(if $(SECONDS),--seconds '$(SECONDS)') -- $(UTURN) figures fig08 --device cpu

lint: $(STAMP)  ## style and types: ruff check, ruff format, mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

lab: $(STAMP)  ## open the notebooks in JupyterLab, at a page with links to all of them
	@$(BIN)/python book/start_page.py
	@$(BIN)/jupyter lab start.ipynb

book: $(BOOK)  ## all pages as a book to read in a browser: book/_build/html/index.html
	@$(BIN)/python book/build.py

test-book: $(BROWSER)  ## open every page of the book in Chromium (after make book)
	@$(BIN)/python -m pytest -q -rs -s tests/book/in_a_browser.py

# What only the book needs is installed when it is first asked for.
$(BOOK): $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[book]'
	@touch $@

$(BROWSER): $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[browser]'
	@touch $@

course: $(STAMP)  ## write the student versions and solutions of the lessons (for maintainers)
	@$(UTURN) course

slides: $(STAMP) $(REVEAL)  ## slides of the lessons: slides/lesson1_....html, one file each that needs no network
	@$(UTURN) slides

$(REVEAL):
	@npm install --silent --no-fund --no-audit --prefix .cache/slides reveal.js@5.2.1 mathjax@3.2.2

train: $(STAMP)  ## train the networks of PROFILE again (resumes; state in runs/; MINUTES=30 stops after half an hour, THREADS=2, PART=noise-classifier)
	@$(UTURN) train $(SCALE) $(if $(MINUTES),--minutes '$(MINUTES)') $(if $(THREADS),--threads '$(THREADS)') $(if $(PART),--part '$(PART)')

bench: $(STAMP)  ## speed as ratios within one run, error against calls beside azula and diffusers; results in benchmarks/
	@$(BIN)/python benchmarks/bench.py --device '$(if $(DEVICE),$(DEVICE),auto)'

# Unlike elsewhere: CIFAR-10 and a card unless the command line says otherwise.
gpu-hour: PROFILE = cifar10
gpu-hour: DEVICE = cuda
gpu-hour: $(STAMP)  ## the first hour on a card: tests, bench, training, Figures 9 and 13; resumes (MINUTES=20 of training)
	@$(UTURN) gpu-hour --profile '$(PROFILE)' --device '$(DEVICE)' $(if $(MINUTES),--minutes '$(MINUTES)') $(STEPS)

cost: $(STAMP)  ## what the figures of PROFILE will cost: network calls, chunks, and hours at the speed measured here (with WORKERS=8)
	@$(UTURN) cost $(SCALE) $(if $(WORKERS),--workers $(WORKERS))

notebooks: $(STAMP)  ## refresh the outputs of the committed notebooks (for maintainers)
	@$(UTURN) refresh

reference: $(STAMP)  ## make the figures and claims of the last run the committed ones (for maintainers)
	@$(UTURN) reference --profile '$(PROFILE)'

clean:  ## remove cached results and executed copies (keeps .venv and figures)
	rm -rf .cache .pytest_cache book/_build
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean  ## also remove .venv and unfinished training
	rm -rf $(VENV) runs *.egg-info
