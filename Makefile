# Everything a checkout needs; each target does its own set-up first. Windows: scripts/setup.ps1.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-faults test-unit fuzz test-wine test-trixie lint bench clean

PY := .venv/bin/python

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: ## system packages and .venv, with what tests and linters need
	@scripts/setup.sh test

demo: ## from nothing to a web service in a container, reached from this computer
	@scripts/setup.sh run
	@$(PY) examples/demo.py

test: setup lint ## everything: linters, unit tests, then real guests
	@scripts/test.sh

test-slow: setup ## tests with real guests that take minutes
	@scripts/test.sh -m slow

test-faults: setup ## kills by rounds, 5 of each, and 30 power cuts (or HOSTVM_FAULT_ROUNDS of all); writes build/faults.json
	@scripts/test.sh -m faults

test-unit: setup ## no process, no network; seconds
	@$(PY) -m pytest tests/unit

fuzz: setup ## every parser of what guests and networks send, FUZZ_SECONDS each (default 60)
	@scripts/fuzz.sh

test-wine: ## Windows' side under Wine, with CPython and QEMU for Windows (Debian 12; 150 MB)
	@scripts/setup.sh wine
	@scripts/wine.sh
	@$(PY) -m pytest tests/wine

test-trixie: ## tests with real guests under Debian trixie's QEMU 10 and libvirt 11.3 (root; 1.5 GB); ARGS="-k suspend" chooses
	@scripts/setup.sh trixie
	@scripts/trixie.sh $(ARGS)

lint: setup ## ruff, mypy for three platforms, the layers, the Vagrantfile
	@scripts/lint.sh

bench: ## boot, command and port figures beside reference points; writes docs/benchmarks.md
	@scripts/setup.sh bench
	@$(PY) benchmarks/boot.py
	@$(PY) benchmarks/cli.py
	@$(PY) benchmarks/lifecycle.py
	@$(PY) benchmarks/idle.py
	@$(PY) benchmarks/ports.py
	@$(PY) benchmarks/shares.py
	@$(PY) benchmarks/artefacts.py
	@$(PY) benchmarks/engine.py

clean: ## the virtual environment, tools and caches of this checkout
	rm -rf .venv .tools build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
