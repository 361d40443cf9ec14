# Every target brings what it needs into .venv; all that must be there is Python 3.11 or later with its venv module.
#
#   make demo        proxy, sidecar, launcher and an application on this machine, and pushes to it
#   make test        the test suite, at most five minutes   (make test ARGS="-k launcher")
#   make acceptance  real applications, MCP clients and tools from the registries
#   make histories   this project's own history, pushed commit by commit   (make histories ARGS="-n 50")
#   make lint        ruff check, ruff format --check, mypy --strict
#   make bench       the engine beside rsync, rdiff, xdelta3 and git, at most 15 minutes   (make bench ARGS="--svg bench.svg")
#   make bench-full  1 GB, awkward inputs and growth as well
#   make fuzz        damaged and hostile bytes for whatever reads any, ten minutes   (make fuzz FUZZ=60 ARGS="delta batch")
#   make clean       remove what the other targets made

.SILENT:
.DELETE_ON_ERROR:
.PHONY: demo test acceptance histories lint bench bench-full fuzz clean

PYTHON := .venv/bin/python
PIP := $(PYTHON) -m pip --quiet --disable-pip-version-check

demo: .venv/installed
	$(PYTHON) -m codesync.cli demo $(ARGS)

test: .venv/installed-dev
	timeout --foreground --kill-after=10 300 $(PYTHON) -m pytest -q -n auto --dist loadfile $(ARGS)

acceptance: .venv/installed-dev
	timeout --foreground --kill-after=10 600 $(PYTHON) -m pytest -q acceptance $(ARGS)

histories: .venv/installed-dev
	$(PYTHON) -m acceptance.histories.replay $(ARGS)

lint: .venv/installed-dev
	$(PYTHON) -m ruff check --quiet
	$(PYTHON) -m ruff format --check --quiet
	$(PYTHON) -m mypy --strict --no-error-summary

bench: .venv/installed-dev
	$(PYTHON) -m bench $(ARGS)

bench-full: .venv/installed-dev
	$(PYTHON) -m bench --full $(ARGS)

FUZZ := 600
fuzz: .venv/installed-dev
	$(PYTHON) -m tests.fuzz $(FUZZ) $(ARGS)

clean:
	rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: a second run installs nothing. What installs the tools installs the package too.
.venv/installed: pyproject.toml | .venv/made
	echo "installing codesync into .venv" >&2
	$(PIP) install --editable .
	touch $@

.venv/installed-dev: pyproject.toml | .venv/made
	echo "installing codesync and its tools into .venv" >&2
	$(PIP) install --editable . --group dev
	touch .venv/installed $@

# pip 25.1 is the first to know dependency groups.
.venv/made:
	usable='import sys; sys.exit(sys.version_info < (3, 11))'; found=; without=; \
	.venv/bin/python -c "import pip; $$usable" 2>/dev/null && found=.venv/bin/python; \
	for python in python3 python3.11 python3.12 python3.13 python3.14; do \
	  [ -z "$$found" ] && $$python -c "$$usable" 2>/dev/null || continue; \
	  if $$python -c 'import ensurepip, venv' 2>/dev/null; then found=$$python; break; fi; \
	  without="$${without:-$$python}"; \
	done; \
	if [ -z "$$found" ] && [ -n "$$without" ]; then \
	  echo "codesync: $$without has no venv and pip; on Debian: apt-get install $$without-venv" >&2; exit 1; \
	elif [ -z "$$found" ]; then \
	  echo "codesync: no Python 3.11 or later; on Debian: apt-get install python3 python3-venv" >&2; exit 1; \
	fi; \
	[ $$found = .venv/bin/python ] || $$found -m venv --clear .venv
	$(PIP) install --upgrade 'pip>=25.1'
	touch $@
