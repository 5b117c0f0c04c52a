# Every target does its own set-up. `make` lists them.

# The first of these that runs and is new enough; 3.11 is what constraints.txt was tested with.
PYTHON ?= $(shell for each in python3.11 python3.12 python3.13 python3; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$each; break; }; done)
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PEERS  := $(VENV)/.peers
DOCS   := $(VENV)/.docs
PORT   ?= 8080

.DEFAULT_GOAL := help
.PHONY: help rfq rfq-aws rfq-activemq job-events test soak lint types bench docs build services clean

help:  ## list what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

rfq: $(READY)  ## run the RFQ service on the embedded transport; prints its URL
	$(BIN)/python -m examples.rfq --transport memory --port $(PORT)

rfq-aws: $(READY)  ## the same on SQS, SNS and DynamoDB: against a local moto server that it starts and ends
	$(BIN)/python scripts/rfq_local.py aws --port $(PORT)

rfq-activemq: $(READY) services  ## the same on queues and topics of a local ActiveMQ broker that it starts and ends
	$(BIN)/python scripts/rfq_local.py activemq --port $(PORT)

job-events: $(READY)  ## run the job events application, embedded, with a live view; ARGS="--rate 200"
	$(BIN)/python -m examples.job_events run $(ARGS)

test: $(READY) services  ## run all tests, against real services where they need them
	$(BIN)/python -m pytest -n 2 --dist worksteal

soak: $(READY) services  ## run the long tests
	$(BIN)/python -m pytest -m soak --timeout 1800

lint: $(READY)  ## check style and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(READY)  ## check types
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(PEERS)  ## a short tour of the benchmarks
	$(BIN)/python -m benchmarks.runtime --quick
	$(BIN)/python -m benchmarks.scatter_gather --quick
	$(BIN)/python -m benchmarks.rfq_load --quick
	$(BIN)/python -m benchmarks.matching --quick
	$(BIN)/python -m benchmarks.kinesis --quick
	$(BIN)/python -m benchmarks.iterator_age --quick
	$(BIN)/python -m benchmarks.sqs --quick
	$(BIN)/python -m benchmarks.cost --quick
	$(BIN)/python -m benchmarks.throughput --quick
	$(BIN)/python -m benchmarks.latency --quick
	$(BIN)/python -m benchmarks.activemq --quick

docs: $(DOCS)  ## build the documentation site into build/site, strictly
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "build/site/index.html"

build: $(READY)  ## build the wheel and the source distribution into dist/
	$(BIN)/python -m build

services:  ## install the Debian packages and the emulator that tests start (needs root or sudo)
	@sh scripts/install_services.sh

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "aioeip needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Setting up $(VENV) with $(PYTHON); this takes a minute or two ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1" "setuptools>=77" wheel
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable ".[aws,activemq,http,cli,otel,redis,postgres,zstd]" --group dev
	@touch $(READY)

$(PEERS): $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group bench
	@touch $(PEERS)

$(DOCS): $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group docs
	@touch $(DOCS)

clean:  ## remove what was built and set up
	rm -rf $(VENV) .services build dist *.egg-info artifacts .pytest_cache .mypy_cache .ruff_cache .hypothesis
