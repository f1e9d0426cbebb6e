# Two commands set everything up by themselves: `make demo` and `make test`. Python >= 3.11 and make are enough.
# Everything installs into .venv from requirements.lock, with hashes. Only `components` and `components-check` touch more:
# they need a Rust toolchain, which they install as root or name the command for, and keep its library in ~/.cache.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
unexport PYTHONDONTWRITEBYTECODE # where it is set, each of the hundreds of processes of the tests compiles every module

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-stop demo-check test system sensors tpm simulation model hunt check format lint types imports protos protos-check components components-check \
        languages threats interop wkg conformance tuf-conformance fuzz fuzz-parsers soak coverage hammer bench sbom lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

setup: $(VENV)/.installed ## create .venv and install the locked packages

$(VENV)/.installed: requirements.lock pyproject.toml
	@echo "installing the locked packages into $(VENV)" >&2
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## a fleet of three nodes on this machine, deployed and running
	@$(BIN)/python examples/demo.py

demo-stop: ## stop the fleet that `make demo` left running
	@$(BIN)/python examples/demo.py --stop

demo-check: setup ## the same demo as a test: asserts what it shows, then stops the fleet
	@$(BIN)/python examples/demo.py --check

test: setup ## the default test suite, on up to four processors
	@$(BIN)/pytest --numprocesses=auto --maxprocesses=4

EXAMPLES ?= 300

system: setup ## attacks, random power cuts and operators' stories against fleets of real processes
	@$(BIN)/pytest tests/system tests/edge_agent/runner -m slow --numprocesses=auto --maxprocesses=4 --dist=loadfile

sensors: setup ## sources behind an MQTT broker, against a real Mosquitto (installed from Debian, as root, where it is missing)
	@$(BIN)/pytest tests/edge_agent/sensors tests/system/test_events.py -m slow

tpm: setup ## keys that a security chip holds, against a software TPM (installed from Debian, as root, where it is missing)
	@$(BIN)/pytest tests/edge_agent/test_tpm.py tests/system/test_tpm.py -m slow

simulation: setup ## runs of a simulated fleet that must not break a law, the same ones every time: make simulation EXAMPLES=5000
	@SIMULATION_EXAMPLES=$(EXAMPLES) $(BIN)/pytest tests/simulation -m slow

model: setup ## thefts of keys that must not make a node run what was not approved, the same ones every time: make model EXAMPLES=5000
	@EXAMPLES=$(EXAMPLES) $(BIN)/pytest tests/model -m slow

CASES ?= 5000
SEED ?= 1

fuzz: setup ## strange components against a real node's admission: make fuzz CASES=100000 SEED=7 PUBLISH=1
	@CASES=$(CASES) SEED=$(SEED) PUBLISH=$(PUBLISH) $(BIN)/pytest tests/endurance/test_admission_fuzz.py -m slow -s

fuzz-parsers: setup ## each parser of bytes from outside, guided by coverage; by chance: make fuzz-parsers SECONDS_EACH=60 PUBLISH=1
	@SECONDS_EACH=$(SECONDS_EACH) PUBLISH=$(PUBLISH) $(BIN)/pytest tests/endurance/test_parser_fuzz.py -m slow -s

HUNT := $(shell date +%s)

hunt: setup ## search at random where nobody looked before, for half an hour or more; one again: make hunt HUNT=17
	@echo "the seed of this hunt: HUNT=$(HUNT)" >&2
	@HUNT=$(HUNT) EXAMPLES=$(EXAMPLES) $(BIN)/pytest tests/model -m slow --hypothesis-seed=$(HUNT)
	@HUNT=$(HUNT) SIMULATION_EXAMPLES=$(EXAMPLES) $(BIN)/pytest tests/simulation -m slow --hypothesis-seed=$(HUNT)
	@CASES=$(CASES) SEED=$(HUNT) $(BIN)/pytest tests/endurance/test_admission_fuzz.py -m slow
	@SECONDS_EACH=60 $(BIN)/pytest tests/endurance/test_parser_fuzz.py -m slow
	@FLEET_TEST_SEED=$(HUNT) FLEET_TEST_CUTS=20 $(BIN)/pytest tests/system/test_random_power_cut.py -m slow

SOAK_SECONDS ?= 180

soak: setup ## 200 agents that die at random: make soak SOAK_SECONDS=3600 PUBLISH=1
	@SOAK_SECONDS=$(SOAK_SECONDS) PUBLISH=$(PUBLISH) $(BIN)/pytest tests/endurance/test_soak.py -m slow -s

check: setup lint types imports protos-check coverage test ## every gate but the long suites; run it before a commit

format: setup ## format the Python code
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

lint: setup
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check

types: setup
	@$(BIN)/mypy

imports: setup
	@$(BIN)/lint-imports

protos: setup ## regenerate the stubs under fleet/v1
	@$(BIN)/python protos/generate.py

protos-check: setup
	@$(BIN)/python protos/generate.py --check

languages: setup ## the language matrix: build the agent of each language and run it (needs Node.js, Go and Rust, and their registries)
	@$(BIN)/pytest tests/languages -m slow

threats: setup ## every test that docs/threats.md names: the attacks and what the victim sees
	@$(BIN)/pytest tests/threats -m "slow or not slow"

interop: setup ## what this project writes, read by the tools of others (needs Node.js, Go and openssl, and their registries)
	@$(BIN)/pytest tests/interop -m slow

wkg: setup ## bundles among the Bytecode Alliance's client (needs `wkg` and Go)
	@$(BIN)/pytest tests/wkg -m slow

conformance: setup ## the backend tests of the `onnx` package, called as an agent does
	@$(BIN)/pytest tests/conformance -m slow

SUITE ?=

tuf-conformance: setup ## the TUF client against a checkout of theupdateframework/tuf-conformance: make tuf-conformance SUITE=FOLDER PUBLISH=1
	@$(BIN)/python -m tests.conformance.tuf_suite "$(SUITE)" $(if $(PUBLISH),--publish)

coverage: setup ## tests of the pure modules, 100 % branch coverage; one seed, so that the gate repeats
	@$(BIN)/pytest tests/fleet --hypothesis-seed=0 --cov=fleet --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100

components: setup ## rebuild the sample components (needs a Rust toolchain)
	@$(BIN)/python components/build.py

components-check: setup ## rebuild the components elsewhere and compare with the committed files
	@$(BIN)/python components/build.py --check
	@$(BIN)/python components/ends-agent/c/build.py --check

CALLS ?= 1000000
HAMMER_S ?= 60

hammer: setup ## prove that calls leak nothing and threads share nothing: make hammer CALLS=1000000 HAMMER_S=60
	@$(BIN)/python -m bench.proofs --calls $(CALLS) --seconds $(HAMMER_S)

bench: setup ## run the benchmarks and rewrite bench/RESULTS.md
	@$(BIN)/python -m bench.run

sbom: setup ## what requirements.lock installs, as CycloneDX: build/sbom.cdx.json (its generator comes from PyPI, with hashes)
	@$(BIN)/python sbom/generate.py build/sbom.cdx.json

lock: setup ## resolve pyproject.toml again into requirements.lock
	@$(BIN)/pip-compile --quiet --extra coordinator --extra node --extra dev --allow-unsafe --generate-hashes --strip-extras --no-emit-index-url \
	  --no-emit-find-links --no-emit-trusted-host --output-file requirements.lock pyproject.toml

clean: ## remove the environment and everything generated
	@rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
