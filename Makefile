# Every target does its own set-up. `make` lists them.

# The first of these that runs and is new enough; 3.11 is what constraints.txt was tested with.
PYTHON ?= $(shell for each in python3.11 python3.12 python3.13 python3; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$each; break; }; done)
# The peers of `make bench` have an environment of their own; one with a core in Rust needs Python 3.12.
BENCH_PYTHON ?= $(shell for each in python3.12 "$$(pyenv prefix 3.12 2>/dev/null)/bin/python" python3.13 "$(PYTHON)"; do \
	$$each -c pass 2>/dev/null && { echo $$each; break; }; done)
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --disable-pip-version-check
RUNS   := $(VENV)/.runs
READY  := $(VENV)/.ready
BENCH  := .venv-bench
DOCS   := $(VENV)/.docs
# A current botocore, which aioboto3 does not allow.
NEWEST := .venv-aiobotocore
# The pip whose way of trying versions was slowest.
OLDPIP := .venv-pip-23.2
PORT   ?= 8080
FUZZ   ?= 20000

# A comma for the arguments of `call`.
, := ,
# Every extra, with commas: of the SDK's two the one that is asked for.
OTHERS := activemq,http,sns-http,cli,otel,redis,postgres,psycopg,sqlalchemy,zstd,jwt,cron,prometheus,settings,console,plot
EXTRAS := aws,aiobotocore,$(OTHERS)

# What constraints.txt pins was tested with one Python; where it does not fit another, the newest versions are taken.
define install
	@$(PIP) $(2) --constraint constraints.txt $(1) || { \
		echo "constraints.txt does not fit this Python: installing the newest versions instead"; $(PIP) $(2) $(1); }
endef

.DEFAULT_GOAL := help
.PHONY: help rfq rfq-aws rfq-activemq job-events happy-path invoices partner-events replay mq-drain examples
.PHONY: test test-aiobotocore test-aws test-resolve fuzz chaos soak lint types
.PHONY: bench bench-check docs build services clean

help:  ## list what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

rfq: $(RUNS)  ## run the RFQ service on the embedded transport; prints its URL; PORT=8081
	$(BIN)/python -m examples.rfq --transport memory --port $(PORT)

rfq-aws: $(READY)  ## the same on SQS, SNS and DynamoDB: against a local moto server that it starts and ends
	$(BIN)/python scripts/rfq_local.py aws --port $(PORT)

rfq-activemq: $(READY) services  ## the same on queues and topics of a local ActiveMQ broker that it starts and ends
	$(BIN)/python scripts/rfq_local.py activemq --port $(PORT)

job-events: $(READY)  ## run the job events application, embedded, with a live view; ARGS="--rate 200"
	$(BIN)/python -m examples.job_events run $(ARGS)

happy-path: $(READY)  ## run the photos of places, embedded; prints its URL; PORT=8081
	$(BIN)/python -m examples.happy_path --port $(PORT) $(ARGS)

invoices: $(READY)  ## run the reading of scanned invoices, embedded; prints its URL; PORT=8081
	$(BIN)/python -m examples.invoices --port $(PORT) $(ARGS)

replay: $(READY)  ## hydrate a test environment and load a new feature from an archive, embedded; ARGS="load --orders 5000"
	$(BIN)/python -m examples.replay $(ARGS)

partner-events: $(READY)  ## run the events of a partner on their way into an order system, embedded; PORT=8081
	$(BIN)/python -m examples.partner_events --port $(PORT) $(ARGS)

mq-drain: $(READY)  ## drain 100,000 plain texts in batches of 100, simulated; ARGS="--broker stomp://user:password@host:61613"
	$(BIN)/python -m examples.mq_drain $(ARGS)

examples: $(READY)  ## run each example briefly; ARGS="patterns rfq"
	$(BIN)/python -m examples $(ARGS)

# Workers and the hundreds of processes that tests start share what one of them compiled, whatever the caller's setting.
test: export PYTHONDONTWRITEBYTECODE =
test: $(READY) services  ## run all tests, against real services where they need them
	$(BIN)/python -m pytest -n 4 --dist worksteal

test-aiobotocore: $(NEWEST)/.ready services  ## run the tests of Amazon's services on aiobotocore 3, without aioboto3
	$(NEWEST)/bin/python -m pytest tests/transports/aws tests/stores/test_dynamodb.py tests/stores/test_s3.py \
		tests/stores/test_borders.py tests/test_topology.py tests/test_topology_buses.py

test-aws: $(READY)  ## run the tests on a real account, which costs cents: EIP_TEST_AWS_ACCOUNT=its number; cleans up
	@test -n "$(EIP_TEST_AWS_ACCOUNT)" || { echo "set EIP_TEST_AWS_ACCOUNT to the number of the account to use"; exit 1; }
	EIP_TEST_AWS_ACCOUNT=$(EIP_TEST_AWS_ACCOUNT) $(BIN)/python -m pytest tests/account

test-resolve:  ## see that pip 23.2 resolves all extras with boto3 and moto[server] in a minute of CPU
	@$(PYTHON) -m venv $(OLDPIP)
	@$(OLDPIP)/bin/python -m pip install --quiet pip==23.2
	@begun=$$(date +%s); \
		(ulimit -t 60; timeout 600 $(OLDPIP)/bin/python -m pip install --dry-run --quiet ".[$(EXTRAS)]" boto3 "moto[server]") && \
		echo "resolved in $$(($$(date +%s) - begun)) s"

fuzz: $(READY)  ## feed odd input to every reader for long; FUZZ=20000 examples of each test
	FUZZ=$(FUZZ) $(BIN)/python -m pytest tests/fuzz -v --timeout 3600

chaos: $(READY) services  ## kill consumers, relays, broker and database on six paths, a few minutes; ARGS="--seconds 60"
	$(BIN)/python -m tests.chaos $(ARGS)

soak: $(READY) services  ## run the long tests
	$(BIN)/python -m pytest -m soak --timeout 1800

lint: $(READY)  ## check style and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(READY)  ## check types
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(BENCH)/.ready services  ## run all benchmarks briefly, with the peers in .venv-bench; BENCH_PYTHON=python3.12
	$(BENCH)/bin/python -m benchmarks $(ARGS)

bench-check: $(READY)  ## compare the CPU of the hot paths with the record, as ratios to a floor of the same run
	$(BIN)/python -m benchmarks.check

docs: $(DOCS)  ## build the documentation site into build/site, strictly
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "build/site/index.html"

build: $(READY)  ## build the wheel and the source distribution into dist/
	$(BIN)/python -m build

services:  ## install the Debian packages and the emulator that tests start (needs root or sudo)
	@sh scripts/install_services.sh

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "aioeip needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Making $(VENV) with $(PYTHON) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --quiet --upgrade "pip>=25.1" "setuptools>=77" wheel

$(RUNS): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Setting up what the service needs in $(VENV); this takes a moment, once ..."
	$(call install,--editable ".[http]" structlog,--no-build-isolation)
	@touch $(RUNS)

$(READY): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Setting up $(VENV) with $(PYTHON); this takes a minute or two ..."
	$(call install,--editable ".[$(EXTRAS)]" --group dev,--quiet)
	@touch $(RUNS) $(READY)

$(NEWEST)/.ready: pyproject.toml constraints.txt | $(BIN)/python
	@$(BIN)/python -m venv $(NEWEST)
	@grep -vE '^(aioboto3|aiobotocore|boto3|botocore|s3transfer)==' constraints.txt > $(NEWEST)/constraints.txt
	$(NEWEST)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(NEWEST)/bin/python -m pip install --quiet --constraint $(NEWEST)/constraints.txt --editable ".[aiobotocore,$(OTHERS)]" \
		--group dev boto3 "aiobotocore>=3"
	@touch $(NEWEST)/.ready

$(BENCH)/.ready: PIP := $(BENCH)/bin/python -m pip install --disable-pip-version-check
$(BENCH)/.ready: pyproject.toml constraints.txt
	@echo "Setting up $(BENCH) with $(BENCH_PYTHON): the benchmarks' peers, in the versions of constraints.txt ..."
	@$(BENCH_PYTHON) -m venv $(BENCH)
	@$(PIP) --quiet --upgrade "pip>=25.1" "setuptools>=77" wheel
	$(call install,--editable ".[$(EXTRAS)]" --group dev --group bench,--quiet)
	@touch $@

$(DOCS): $(READY)
	$(call install,--group docs,--quiet)
	@touch $(DOCS)

clean:  ## remove what was built and set up
	rm -rf $(VENV) $(BENCH) $(NEWEST) $(OLDPIP) .services build dist *.egg-info artifacts .pytest_cache .mypy_cache .ruff_cache .hypothesis
