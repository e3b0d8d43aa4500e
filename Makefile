# quickstart and test need nothing but make and Python 3.11+.
#   make quickstart   a rollout from blue to green on this machine, live
#   make test         everything, against the built wheel
#   make check        lint, types, floors and unit tests, in under a minute
#   make test-statistics  how often the gates are wrong at the edge of a tolerance: minutes, a table
#   make bench        the benchmarks
#   make tools        Prometheus, for the tests that ask a real one (`make test` fetches it, too)
#   make bench-gates  the gates against other rules: minutes, writes docs/benchmarks/gates.md
#   make docs         the documentation as a site, in build/docs
#   make clean        removes what these made

# The newest Python that really runs: a name on the PATH may be a shim of a version that is not installed.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
            "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)

SOURCES := $(shell find plans providers orchestrator -not -path '*__pycache__*' 2>/dev/null)
PIP     := -m pip --disable-pip-version-check
WORKERS ?= 2
ROLLOUTS ?= 20000

QUICKSTART_HOME := $(CURDIR)/.quickstart
QUICKSTART_PLAN ?= examples/quickstart/plan.yml
# A home of its own, whatever the user's settings say.
QUICKSTART      := env -u ROLLOUT_STORE ROLLOUT_HOME="$(QUICKSTART_HOME)" .venv/bin/rollout

.DEFAULT_GOAL := help
.PHONY: help python quickstart quickstart-down tools test test-statistics lint check docs dev bench bench-gates clean

help:
	@sed -n 's/^#   //p' Makefile

python:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "rollout needs Python 3.11 or newer, and $(if $(PYTHON),\"$(PYTHON)\" is not,none was found on the PATH); install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1; }

# ---- quickstart

.venv/.installed: pyproject.toml | python
	@test -x .venv/bin/python || "$(PYTHON)" -m venv .venv
	@echo "Installing rollout into .venv ..."
	@.venv/bin/python $(PIP) install --quiet --editable .
	@touch $@

quickstart: .venv/.installed quickstart-down
	$(QUICKSTART) run $(QUICKSTART_PLAN)
	@printf '\nThe endpoint is up and serves the new version. Try:\n\n  export ROLLOUT_HOME="%s"\n' '$(QUICKSTART_HOME)'
	@printf '  .venv/bin/rollout history\n  .venv/bin/rollout endpoint invoke diabetes --request examples/quickstart/sample-request.json\n'
	@printf '  .venv/bin/rollout endpoint delete diabetes --yes\n\n'

# The endpoint of an earlier run goes first, so that every run starts from nothing; a rollout that was cut short still
# owns its endpoint and is aborted before that.
quickstart-down:
	@if [ -e "$(QUICKSTART_HOME)" ] && [ -x .venv/bin/rollout ]; then \
	  $(QUICKSTART) endpoint delete diabetes --yes >"$(QUICKSTART_HOME)/down.log" 2>&1 || \
	  { $(QUICKSTART) abort >>"$(QUICKSTART_HOME)/down.log" 2>&1; $(QUICKSTART) endpoint delete diabetes --yes; }; fi

# ---- development

dev: .venv/.dev

.venv/.dev: .venv/.installed pyproject.toml
	@echo "Installing the development tools into .venv ..."
	@.venv/bin/python $(PIP) install --quiet --editable '.[test,docs]'
	@touch $@

lint: .venv/.dev
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

check: lint
	.venv/bin/pytest -q -n $(WORKERS) tests/unit

bench: .venv/.dev
	@for b in benchmarks/bench_*.py; do echo "== $$b"; .venv/bin/python "$$b" || exit 1; done

bench-gates: .venv/.dev
	.venv/bin/python benchmarks/gates.py --seed 4 --write
	.venv/bin/python benchmarks/gates.py --speed

# A warning is an error: a link that leads nowhere is one.
docs: .venv/.dev
	.venv/bin/python docs/generate.py
	.venv/bin/python -m sphinx -b html -W --keep-going -q -d build/docs-trees docs build/docs
	@echo "build/docs/index.html"

# ---- tests against the built wheel

# build/ goes first: setuptools would put modules into the wheel that were deleted since.
.venv-test/.installed: pyproject.toml $(SOURCES) | python
	@test -x .venv-test/bin/python || "$(PYTHON)" -m venv .venv-test
	@rm -rf build dist
	@echo "Building the wheel and installing it into .venv-test ..."
	@.venv-test/bin/python $(PIP) wheel --quiet --no-deps --wheel-dir dist .
	@rm -rf build
	@.venv-test/bin/python $(PIP) uninstall --quiet --yes rollout-orchestrator
	@.venv-test/bin/python $(PIP) install --quiet "$$(echo dist/*.whl)[test,docs]"
	@touch $@

# Prometheus for the tests of the metric, from Debian's package: unpacked and never installed, so that no service starts
# and nobody need be root, unless apt has no lists yet. Elsewhere put one on the PATH; without any, its tests are skipped.
tools: .tools/prometheus

.tools/prometheus:
	@command -v prometheus >/dev/null || ! command -v apt-get >/dev/null || { \
	  echo "Unpacking Prometheus into .tools ..."; mkdir -p .tools/deb && cd .tools/deb && \
	  { apt-get download -qq prometheus 2>/dev/null || { apt-get update -qq && apt-get download -qq prometheus; }; } && \
	  dpkg -x prometheus_*.deb . && mv usr/bin/prometheus ../prometheus && cd .. && rm -rf deb; } || \
	  echo "Prometheus could not be fetched: the tests that need it are skipped, or fail where CI=true." >&2

# Beyond Prometheus the tests need no part of the system but what pip brings: Envoy's binary comes as a wheel.
# PYTHONSAFEPATH keeps the checkout off sys.path, for the processes that the tests start, too. The component "wheel" makes
# a run fail that imports from the checkout all the same.
test: .venv-test/.installed tools
	PYTHONSAFEPATH=1 ROLLOUT_REQUIRED_COMPONENTS=wheel .venv-test/bin/pytest -q -n $(WORKERS) $(TESTS)

# The tests do the same with fewer rollouts. Fails where a level that is promised is broken.
test-statistics: .venv/.dev
	.venv/bin/python -m tests.unit.edges --rollouts $(ROLLOUTS)

clean: quickstart-down
	rm -rf .venv .venv-test .quickstart .tools build dist *.egg-info
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
