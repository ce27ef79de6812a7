# GNU make. `make help` lists the targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Debian keeps servers where only root's PATH looks.
export PATH := $(PATH):/usr/sbin:/sbin:/usr/lib/postgresql/15/bin

PYTHON ?= python3
BIN := .venv/bin
DEMO ?= out/demo
PYTEST ?=

.PHONY: help install demo test test-listener test-others test-e2e lint bench bench-growth bench-heat bench-phantom models second-spine quality picture-rates realism soak mutants viewers pages dist wheel-test peers clean

PACKAGES := core archive pipeline models worker listener deploy

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 12

install: .venv/.installed  ## everything into .venv; leaves .venv/bin/cauda

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Cauda needs Python 3.11 or newer; say which with PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install  ## start Cauda, push a synthetic study, show what comes back (out/demo)
	$(BIN)/cauda demo --out $(DEMO)

lint: install  ## ruff, mypy, import layers
	mkdir -p .typings
	ln -sfn .. .typings/cauda
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(addprefix -p cauda.,$(PACKAGES))
	$(BIN)/lint-imports

# Most tests with real peers wait more than they compute, so two parts run at a time. The unit suite runs once, on the wheel.
test: install peers tests/hydration/node_modules/.installed  ## lint, every test against real peers, the unit suite on the wheel
	$(MAKE) --jobs=2 --output-sync=target --keep-going test-listener test-others lint test-e2e wheel-test

test-listener: install
	$(BIN)/python -m pytest -m "not soak" tests/integration/test_listener_*.py $(PYTEST)

test-others: install
	$(BIN)/python -m pytest -m "not soak" tests/integration --ignore-glob='*/test_listener_*' $(PYTEST)

test-e2e: install
	$(BIN)/python -m pytest -m "not soak" tests/e2e $(PYTEST)

peers:
	@missing=""; for program in storescp storescu Orthanc dciodvfy redis-server psql strace tesseract mkfs.ext4 mkfs.xfs systemd-analyze node npm java; do \
	  command -v $$program >/dev/null || missing="$$missing $$program"; done; \
	test -z "$$missing" || { echo "not found:$$missing. On Debian: sudo .ci/peers"; exit 1; }

tests/hydration/node_modules/.installed: tests/hydration/package.json
	cd tests/hydration && npm install --no-package-lock --no-audit --no-fund --loglevel=error
	touch $@

dist: install  ## sdist and wheel into dist/
	rm -rf build dist
	$(BIN)/python -m build --outdir dist .

wheel-test: dist  ## the unit suite against the installed wheel
	$(BIN)/python tests/wheel.py dist $(PYTEST)

picture-rates: install  ## what the checks of axial images by picture catch and withhold (an hour; goes on where it was stopped)
	nice $(BIN)/python -m cauda.models.picture_rates

bench: install  ## acknowledgement speed beside DCMTK and Orthanc
	$(BIN)/python tests/bench/acknowledge.py

bench-growth: install  ## the same node with 10^3 to 2*10^5 images kept (a quarter of an hour; 2 GB of disk)
	nice $(BIN)/python tests/bench/growth.py

bench-phantom: install  ## how fast phantoms are drawn (two minutes)
	nice $(BIN)/python tests/bench/phantom.py

bench-heat: install  ## what the heat map page costs a study (a minute)
	nice $(BIN)/python tests/bench/heat_map.py

models: install  ## train the starter bundle (resumable)
	$(BIN)/python -m cauda.models.make

second-spine: install  ## the starter bundle's grades on anatomy it was not trained on (two minutes)
	nice $(BIN)/python -m tests.second_spine.score --bundle models/starter

quality: install  ## what quality withholds, by fault and true grade
	nice $(BIN)/python -m cauda.models.quality_rates

realism: install  ## how far phantom pictures are from SPIDER's (five minutes)
	nice $(BIN)/python -m cauda.models.realism

viewers: install peers tests/viewers/node_modules/.installed  ## our results in OHIF, with screenshots (out/viewers; minutes; needs Chromium)
	nice $(BIN)/python tests/viewers/see.py

pages: install tests/viewers/node_modules/.installed  ## our own pages as a browser shows them (out/pages; minutes; needs Chromium)
	nice $(BIN)/python tests/viewers/pages.py

tests/viewers/node_modules/.installed: tests/viewers/package.json
	cd tests/viewers && npm install --no-package-lock --no-audit --no-fund --loglevel=error
	cd tests/viewers/node_modules && mkdir -p ohif && \
	  tar -xzf "$$(npm pack --silent "$$(node -p "require('../package.json').viewer")")" -C ohif && rm -f ./*.tgz
	touch $@

soak: install peers  ## the long form of the fault tests
	$(BIN)/python -m pytest -m soak $(PYTEST)
	$(BIN)/python tests/soak/hostile.py --seed $${CAUDA_HOSTILE_SEED:-20261130} --work out/hostile

mutants: install peers  ## remove each safety guard once and see its test fail (an hour; goes on where it stopped)
	nice $(BIN)/python tests/mutants/run.py

clean:
	rm -rf build dist out .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
