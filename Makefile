# Everything that is done with this project, on a machine with only Python >= 3.11 and make.
# `make` alone prints the targets.
#
# A stamp file in .venv records each install and depends on setup.py, so pip runs only when the
# dependencies may have changed: an installed `make run` starts the gateway and nothing else.

PYTHON ?= python3
# Port of `make run`; empty: the gateway's own default.
PORT   ?=
# Handed on as they are, e.g. make test-unit PYTEST_ARGS='-k routes -x'.
PYTEST_ARGS ?=
BENCH_ARGS  ?=
LOCUST_ARGS ?=
PROFILE_ARGS ?=
# URL of the deployment that `make locust` loads; empty: a dev gateway of its own.
HOST ?=
# Damaged messages that `make fuzz` tries.
FUZZ_CASES  ?= 1000000

PROTOS := siger_gateway/grpc/protos
VENV := .venv
PY   := $(VENV)/bin/python
BIN  := $(VENV)/bin
PIP  := $(PY) -m pip --disable-pip-version-check
RUN_STAMP := $(VENV)/.installed-run
DEV_STAMP := $(VENV)/.installed-dev
BENCH_STAMP := $(VENV)/.installed-bench

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install run test test-unit fuzz campaign audit check format bench bench-quick locust \
	profile compiled test-compiled wheel proto clean

help: ## this list
	@echo 'Usage: make TARGET [PYTHON=python3.12]'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(RUN_STAMP) ## create .venv and install the gateway with its embedded nats-server

# exec: the gateway takes the place of the recipe's shell, so Ctrl-C reaches it once, from the
# terminal, and a SIGTERM that make passes on reaches it too.
run: $(RUN_STAMP) ## start everything on this machine (PORT=9000 for another port)
	@exec $(PY) -m siger_gateway dev $(if $(PORT),--port $(PORT))

test: $(DEV_STAMP) ## all tests; fetches the servers that they need into .cache
	@$(PY) tests/install_servers.py
	@$(PY) -m pytest -n 2 --dist loadfile tests $(PYTEST_ARGS)

test-unit: $(DEV_STAMP) ## the tests that need no server
	@$(PY) -m pytest tests/unit $(PYTEST_ARGS)

fuzz: $(DEV_STAMP) ## FUZZ_CASES damaged messages (a million: about 20 minutes) through the wire's real parts
	@SIGER_FUZZ_CASES=$(FUZZ_CASES) $(PY) -m pytest -s tests/protocol/test_fuzz.py $(PYTEST_ARGS)

campaign: $(DEV_STAMP) ## the acceptance figures in full, printed; takes minutes
	@$(PY) tests/install_servers.py slowhttptest
	@$(PY) -m pytest tests/campaign $(PYTEST_ARGS)

audit: $(DEV_STAMP) ## known vulnerabilities in the packages that users get; needs the network
	@$(PY) tests/audit.py

check: $(DEV_STAMP) ## lint, formatting, types, floors, spelling
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo 'not formatted: run make format' >&2; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/codespell

format: $(DEV_STAMP) ## put the code into its format, fix what can be fixed
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

bench-quick: $(DEV_STAMP) ## CPU per proxied request beside nginx, in under a minute
	@exec $(PY) -m benchmarks.quick $(BENCH_ARGS)

bench: $(BENCH_STAMP) compiled ## Siger beside its peers, under every workload: docs/performance.md; three quarters of an hour
	@$(PY) tests/install_servers.py
	@$(PY) -m benchmarks.compare $(BENCH_ARGS)
	@$(PY) -m benchmarks.jobs
	@$(PY) -m benchmarks.grpc
	@$(PY) -m benchmarks.growth
	@$(PY) -m benchmarks.report

locust: $(BENCH_STAMP) ## a load suite with thresholds (HOST=https://... for a deployment)
	@exec $(PY) -m benchmarks.locust $(if $(HOST),--host '$(HOST)') $(LOCUST_ARGS)

profile: $(BENCH_STAMP) ## flame graph of the gateway under load, in build/profile
	@exec $(PY) -m benchmarks.profile $(PROFILE_ARGS)

# A copy of the checkout, so that what was compiled is never taken for the source beside it.
compiled: $(DEV_STAMP) ## build/compiled: the same code, its hot path compiled by mypyc; needs a C compiler
	@mkdir -p build/compiled
	@git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents --update --target-directory=build/compiled
	@ln -sfn ../../.cache build/compiled/.cache
	@find build/compiled -name '*.so' -delete
	@cd build/compiled && SIGER_COMPILE=1 ../../$(PY) setup.py --quiet build_ext --inplace

test-compiled: compiled ## all tests, on the compiled code
	@$(PY) tests/install_servers.py
	@cd build/compiled && ../../$(PY) -m pytest -n 2 --dist loadfile tests $(PYTEST_ARGS)

wheel: $(DEV_STAMP) ## dist/: a wheel for any machine, and one compiled for this kind
	@$(PIP) wheel -qq --no-deps --no-build-isolation --wheel-dir dist .
	@SIGER_COMPILE=1 $(PIP) wheel -qq --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist

proto: $(DEV_STAMP) ## generate the code of siger_gateway/grpc/protos anew, after a change of a .proto
	@cd $(PROTOS) && $(CURDIR)/$(PY) -m grpc_tools.protoc -I. --python_out=. --pyi_out=. \
	    $$(find . -name '*.proto')

clean: ## remove what these targets made; data/ stays
	rm -rf $(VENV) .cache build dist *.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find siger_gateway tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# ---------------------------------------------------------------------------------------------

$(RUN_STAMP): setup.py | $(PY)
	@echo 'installing the gateway into $(VENV)'
	@$(PIP) install -qq --editable '.[embedded]'
	@touch $@

# The dev extra holds all that the embedded one does.
$(DEV_STAMP): setup.py | $(PY)
	@echo 'installing the gateway and the development tools into $(VENV)'
	@$(PIP) install -qq --editable '.[dev]'
	@touch $@ $(RUN_STAMP)

$(BENCH_STAMP): setup.py | $(PY)
	@echo 'installing the gateway and the load tools into $(VENV)'
	@$(PIP) install -qq --editable '.[dev,bench]'
	@touch $@ $(DEV_STAMP) $(RUN_STAMP)

# Debian and Ubuntu ship Python without ensurepip (package python3-venv), where `python -m venv`
# fails. Then, in this order: virtualenv; the system's pip, working on a venv that has none; as
# root, Debian's package; or a message that says what to install.
$(PY):
	@command -v '$(PYTHON)' >/dev/null || { \
	    echo "Siger needs Python 3.11 or newer, and there is no '$(PYTHON)' here." >&2; \
	    echo "Install one, or name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Siger needs Python 3.11 or newer; '$(PYTHON)' is $$('$(PYTHON)' --version 2>&1)." >&2; \
	    echo "Name a newer one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@rm -rf $(VENV)
	@set -u; \
	with_ensurepip() { '$(PYTHON)' -c 'import ensurepip, venv' 2>/dev/null && \
	    '$(PYTHON)' -m venv $(VENV); }; \
	with_virtualenv() { '$(PYTHON)' -c 'import virtualenv' 2>/dev/null && \
	    '$(PYTHON)' -m virtualenv --quiet $(VENV); }; \
	with_system_pip() { '$(PYTHON)' -c 'import pip, venv' 2>/dev/null && \
	    '$(PYTHON)' -m venv --without-pip $(VENV) && \
	    '$(PYTHON)' -m pip --disable-pip-version-check --python $(PY) install --quiet pip; }; \
	package="$$('$(PYTHON)' -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"; \
	with_apt() { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	    echo "installing $$package" && export DEBIAN_FRONTEND=noninteractive && \
	    { apt-get install -qq -y "$$package" >/dev/null 2>&1 || \
	      { apt-get update -qq && apt-get install -qq -y "$$package" >/dev/null; }; } && \
	    with_ensurepip; }; \
	with_ensurepip || with_virtualenv || with_system_pip || with_apt || { \
	    rm -rf $(VENV); \
	    echo "'$(PYTHON)' cannot create virtual environments: ensurepip is missing." >&2; \
	    echo "On Debian or Ubuntu: sudo apt-get install $$package" >&2; exit 1; }
