# `make help` lists what can be done. GNU make; every target works from a fresh clone.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
SHELL := /bin/sh

BIN := .venv/bin
RUNTIME := .venv/.installed-runtime
DEVELOP := .venv/.installed-develop
# Most tests wait for elections, syncs and Ansible, so there are two for each core of a small machine.
JOBS ?= 4
PYTEST := $(BIN)/pytest
SPREAD := -n $(JOBS)

# Ansible wants a UTF-8 locale; the one named here is on every Debian and Ubuntu.
export LC_ALL := C.UTF-8
export PATH := $(CURDIR)/$(BIN):$(or $(PATH),/usr/local/bin:/usr/bin:/bin)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg

.PHONY: help venv lint test test-core test-live test-playbooks molecule soak bench demo demo-stop clean

help:  ## List the targets
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## / {printf "  make %-16s%s\n", $$1, $$2}' Makefile

venv: $(DEVELOP)  ## Make .venv with everything for working on Slotwright

$(RUNTIME): pyproject.toml tools/venv.sh
	@tools/venv.sh
	@touch $@

$(DEVELOP): pyproject.toml tools/venv.sh
	@tools/venv.sh test,lint
	@touch $@ $(RUNTIME)

lint: $(DEVELOP)  ## Check style, types, YAML and Ansible
	ruff check .
	ruff format --check .
	mypy
	yamllint --strict .
	ansible-lint

test: lint  ## Everything that must pass: lint, core, live, playbooks (under 15 minutes on 2 cores)
	$(PYTEST) $(SPREAD) --durations=10

test-core: $(DEVELOP)  ## Pure tests of the planner: no server, seconds
	$(PYTEST) $(SPREAD) tests/core

test-live: $(DEVELOP)  ## Tests with real redis-server processes on loopback addresses
	$(PYTEST) $(SPREAD) tests/live

test-playbooks: $(DEVELOP)  ## Tests that run the playbooks, and the demo
	$(PYTEST) tests/playbooks

molecule: $(DEVELOP)  ## Roles on hosts with systemd, in Docker: all scenarios, or SCENARIO=default (installs Docker)
	tools/with_docker.sh $(BIN)/python tools/molecule.py $(SCENARIO)

soak: $(DEVELOP)  ## The long tests, and far more random examples (hours)
	SLOTWRIGHT_SOAK=1 $(PYTEST) $(SPREAD) -o timeout=14400

bench: $(DEVELOP)  ## Measure creation against redis-cli on the same nodes
	$(BIN)/python -m benchmarks.create

demo: $(RUNTIME)  ## Deploy a cluster of 6 nodes in 3 zones on this machine (no root needed)
	@$(BIN)/python tools/demo.py start

demo-stop: $(RUNTIME)  ## End the demo and leave nothing of it
	@$(BIN)/python tools/demo.py stop

clean:  ## End the demo; remove .venv, .cache and every tool's cache
	@[ ! -x $(BIN)/python ] || $(BIN)/python tools/demo.py stop
	rm -rf .venv .cache .ansible .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
