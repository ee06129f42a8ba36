# `make demo` and `make test` are all that a newcomer needs; CONTRIBUTING.md explains the rest.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed
PARTS  := cli client operator sandbox signer

.PHONY: demo test test-fast e2e images cluster lint bench bench-operator fuzz format generate requirements clean
.DELETE_ON_ERROR:

demo: $(READY)
	@$(BIN)/byokctl sandbox --demo

# In four processes, however few the processors: the tests on control planes wait more than they work.
PYTEST := $(BIN)/python -m pytest --quiet --numprocesses 4 --dist loadfile --no-loadscope-reorder

test: lint
	@$(PYTEST)

# Without the tests that need a control plane, helm or promtool, which are built once from Go modules and then cached.
test-fast: lint
	@$(PYTEST) --ignore=tests/cluster --ignore=tests/chart

# The four images, by Docker or without; prints where the archives are.
images: $(READY)
	@PYTHON=$(BIN)/python hack/build-images

# The images on a real node, as root: of its own, or the cluster of `make e2e KUBECONFIG=...` (tests/e2e/conftest.py).
E2E_KUBECONFIG = $(if $(filter command,$(origin KUBECONFIG)),$(KUBECONFIG),$(BYOK_E2E_KUBECONFIG))
e2e: $(READY)
	@BYOK_E2E_KUBECONFIG="$(E2E_KUBECONFIG)" $(BIN)/python -m pytest --quiet tests/e2e

# A real control plane, emulated KMS, signer and operator on this machine, until Ctrl-C.
cluster: $(READY)
	@$(BIN)/python -m tests.testenv.cluster

lint: $(READY)
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/ruff check --quiet
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache --no-logo
	@$(BIN)/python -m byok_api.generate --check
	@$(BIN)/python -m tests.chart.generate --check

# About ten minutes; writes docs/benchmarks.md.
bench: $(READY)
	@$(BIN)/python -m benchmarks

# On a real control plane; writes docs/benchmarks-operator.md.
bench-operator: $(READY)
	@$(BIN)/python -m benchmarks.reconciling

# About two minutes; `make fuzz FUZZ_SECONDS=600` gives each target ten.
FUZZ_SECONDS ?= 40
fuzz: $(READY)
	@$(BIN)/python -m fuzz --seconds $(FUZZ_SECONDS)

format: $(READY)
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

generate: $(READY)
	@$(BIN)/python -m byok_api.generate
	@$(BIN)/python -m tests.chart.generate

$(READY): requirements/dev.txt pyproject.toml
	@echo "installing the pinned requirements into $(VENV) (first time: about a minute)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# The only command that refreshes the pins: newest versions that pyproject.toml allows, every part agreeing with dev.txt.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header
requirements: $(READY)
	@$(COMPILE) --upgrade --all-extras --group dev pyproject.toml -o requirements/dev.txt
	@$(COMPILE) --upgrade --constraint requirements/dev.txt requirements/build.in -o requirements/build.txt
	@for part in $(PARTS); do $(COMPILE) --constraint requirements/dev.txt --extra $$part pyproject.toml -o requirements/$$part.txt; done

clean:
	rm -rf $(VENV) .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
