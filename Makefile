# `make` lists the targets. Everything is installed into .venv from hash-locked files; nothing else on the
# machine is changed, except that `setup-dev` adds the Debian packages that some tests need, and `bench` wrk.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MUSICGEN := .venv-musicgen
STAMPS := $(VENV)/.stamps
UV := VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(BIN)/uv
LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header $(if $(UPGRADE),--upgrade)

# Three workers for the two cores of a small CI machine: much of the time goes by waiting. `loadgroup` keeps the image tests, which share one build,
# on one of them.
TEST_WORKERS ?= 3
TESTS ?= tests
PYTEST := $(BIN)/python -m pytest -p tests.no_skips -n $(TEST_WORKERS) --dist loadgroup

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev run test soak lint check policy lock previous bench image clean force

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMPS)/setup ## Create .venv with the gateway and what it needs to run.

setup-dev: $(STAMPS)/setup-dev $(STAMPS)/system $(STAMPS)/musicgen ## Add what tests and linters need.

run: setup ## Start a complete gateway on this machine, with an emulator in place of Vertex AI.
	@exec $(BIN)/gateway demo

test: setup-dev ## Run all tests, with the coverage gate.
	@$(PYTEST) --cov --cov-report=term $(TESTS)

# The short form of it is one of the tests. SOAK="--seed 7 --tasks 500" repeats a run; it ends by itself.
soak: setup-dev ## Break three gateways for a quarter of an hour and count afterwards (tests/chaos).
	$(BIN)/python -m tests.chaos $(SOAK)

lint: setup-dev ## Format, lint, types, layers, Dockerfile, workflows, shell.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile deploy/musicgen/Dockerfile deploy/litestream/Dockerfile
	$(BIN)/zizmor --offline --quiet .github/workflows
	$(BIN)/shellcheck .ci/run

# Two calls, so that `make -j check` cannot mix their output: CI reads the test runner's closing line.
check: ## What CI runs: lint, then test.
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory test

# Apart from `check`, because it installs 250 MB and looks for what changes once a year.
policy: $(STAMPS)/venv ## Hold deploy/terraform against Checkov's policies.
	@[ -x .bench/checkov/bin/python ] || $(BIN)/uv venv --quiet --python $(BIN)/python .bench/checkov
	@$(BIN)/uv pip install --quiet --python .bench/checkov --require-hashes -r tests/requirements-checkov.txt
	@.bench/checkov/bin/checkov --directory deploy/terraform --framework terraform --skip-download --quiet --compact

# The development set is solved first and constrains the others, so that what is tested is what ships.
lock: $(STAMPS)/venv ## Re-create the requirement files; UPGRADE=1 takes newer versions.
	$(LOCK) -o requirements-dev.txt pyproject.toml --extra dev
	$(LOCK) -o requirements.txt pyproject.toml --constraints requirements-dev.txt
	$(LOCK) -o requirements-cloudsql.txt pyproject.toml --extra cloudsql --constraints requirements-dev.txt
	$(LOCK) -o requirements-build.txt --group build --constraints requirements-dev.txt
	$(LOCK) -o tests/bench/requirements-litellm.txt tests/bench/requirements-litellm.in
	$(LOCK) --python-version 3.11 -o deploy/musicgen/requirements.txt deploy/musicgen/requirements.in
	$(LOCK) -o tests/requirements-checkov.txt tests/requirements-checkov.in

previous: ## Keep the code of the commit REF as the version before, which tests run on today's schema.
	@python3 -m tests.previous $(REF)

bench: setup-dev $(STAMPS)/wrk ## Measure throughput, latency, memory and start (tests/bench/README.md).
	$(BIN)/python -m tests.bench $(BENCH)

image: ## Build the container image with Docker, Podman or Buildah, whichever is there.
	@engine=$$(command -v docker || command -v podman || command -v buildah) \
		|| { echo "make image needs docker, podman or buildah" >&2; exit 1; }; \
	exec "$$engine" build --tag gateway .

clean: ## Remove the environment and every cache; ./data stays.
	rm -rf $(VENV) $(MUSICGEN) .bench dist htmlcov .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache \
		.pytest_cache .ruff_cache
	find gateway tests deploy -type d -name __pycache__ -prune -exec rm -rf {} +

# A stamp is written last, so an interrupted step is simply done again. An environment is kept if it works; it does
# not when its Python is gone, when pip is missing, or when it was made under another path.
HERE := [ "$$(cat $(STAMPS)/venv 2>/dev/null)" = "$(CURDIR)" ]
INTACT := $(shell $(BIN)/python -c 0 2>/dev/null && $(HERE) && echo yes)
$(STAMPS)/venv: requirements-build.txt $(if $(INTACT),,force)
	@command -v $(PYTHON) >/dev/null \
		|| { echo "No $(PYTHON) here: install Python 3.11 or newer, or say make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) -V 2>&1). Say, for instance," \
			"make PYTHON=python3.13" >&2; exit 1; }
	@echo "Installing into $(VENV), from PyPI ..."
	@{ [ ! -e $(STAMPS)/venv ] || $(HERE); } \
		&& $(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| $(PYTHON) -m venv --clear $(VENV) \
		|| { echo "$(PYTHON) cannot make environments: on Debian, apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-build.txt
	@mkdir -p $(STAMPS) && printf '%s\n' "$(CURDIR)" >$@

$(STAMPS)/setup: $(STAMPS)/venv requirements.txt pyproject.toml
	@$(UV) pip install --quiet --compile-bytecode --require-hashes -r requirements.txt
	@$(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q gateway
	@touch $@

$(STAMPS)/setup-dev: $(STAMPS)/setup requirements-dev.txt
	@$(UV) pip install --quiet --require-hashes -r requirements-dev.txt
	@touch $@

# What the MusicGen container runs on, for its tests: torch must not enter the gateway's environment. The CPU build of
# torch where pip finds it (tests/musicgen/torch-cpu.txt), and then none of CUDA; else all that ships.
$(STAMPS)/musicgen: $(STAMPS)/venv deploy/musicgen/requirements.txt tests/musicgen/torch-cpu.txt \
		$(if $(wildcard $(MUSICGEN)/bin/python),,force)
	@echo "Installing into $(MUSICGEN): torch and transformers ..."
	@$(BIN)/python -m venv --clear --without-pip $(MUSICGEN)
	@without=none; ! $(BIN)/python -m pip --python $(MUSICGEN) install -qq --disable-pip-version-check --no-compile \
			--no-deps --require-hashes -r tests/musicgen/torch-cpu.txt 2>/dev/null \
		|| without='torch=|triton=|cuda-|nvidia-'; \
	awk -v without="^($$without)" '/^[a-z]/ { kept = $$0 !~ without } kept' deploy/musicgen/requirements.txt \
		>$(MUSICGEN)/requirements.txt
	@VIRTUAL_ENV="$(CURDIR)/$(MUSICGEN)" $(BIN)/uv pip install --quiet --require-hashes --no-deps \
		-r $(MUSICGEN)/requirements.txt
	@touch $@

# Installs Debian packages: $(1) are their names, $(2) says who needs them, $(3) what becomes of those without.
define INSTALL_PACKAGES
if ! command -v apt-get >/dev/null; then \
	echo "$(2) $(1), from Debian: $(3)." >&2; \
	exit 0; \
elif [ "$$(id -u)" = 0 ]; then sudo=; \
elif sudo -n true 2>/dev/null; then sudo="sudo -n"; \
else \
	echo "$(2): sudo apt-get install $(1). Without, $(3)." >&2; \
	exit 0; \
fi; \
$$sudo apt-get update -qq; \
$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1) >/dev/null
endef

# The image tests build the Dockerfile for real, the abuse guard's count in a real Redis, alert rules are those of a
# real Prometheus, and a real Chromium looks at the dashboard. Where that cannot be (no apt-get, no rights) the other tests still run, and those say what they
# miss. Where systemd runs, Debian would leave a Prometheus listening on all addresses: one that was not there is ended.
SYSTEM_PACKAGES := buildah debootstrap debian-archive-keyring redis-server prometheus chromium
SYSTEM_COMMANDS := buildah debootstrap redis-server prometheus chromium
$(STAMPS)/system: Makefile
	@set -e; mkdir -p $(STAMPS); \
	missing=; for name in $(SYSTEM_COMMANDS); do command -v $$name >/dev/null || missing=$$name; done; \
	if [ -z "$$missing" ]; then touch $@; exit 0; fi; \
	had=$$(command -v prometheus || :); \
	$(call INSTALL_PACKAGES,$(SYSTEM_PACKAGES),Some tests need,they will not run); \
	if [ -z "$$had" ] && [ -d /run/systemd/system ]; then $$sudo systemctl disable --quiet --now prometheus || :; fi; \
	touch $@

# The load generator. Without it the benchmark says which measurements are left.
$(STAMPS)/wrk: Makefile
	@set -e; mkdir -p $(STAMPS); \
	if command -v wrk >/dev/null; then touch $@; exit 0; fi; \
	$(call INSTALL_PACKAGES,wrk,The benchmark needs,most of it will not run); \
	touch $@
