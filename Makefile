# GNU make 3.81 or newer. `make` alone says what there is.

SHELL = /bin/sh
BIN = .venv/bin
SETUP = sh local/setup.sh
CORE = app/forksafe.py,app/database.py,app/uploads.py,app/catalogue.py,app/transfer.py,app/staging.py

# DIR and DRIVE reach the program through the environment: no shell ever reads them.
export HAULAGE_DEMO_DIR = $(value DIR)
DRIVE = filesystem
export HAULAGE_DEMO_DRIVE = $(value DRIVE)
MINUTES = 1
export HAULAGE_SOAK_MINUTES = $(value MINUTES)
TURNS = 10
export HAULAGE_TURNS = $(value TURNS)

.NOTPARALLEL:
.PHONY: help setup demo up simulator test test-web prove lab soak bench format check unit integration acceptance clean

help:
	@echo "make demo [DIR=folder]  a real folder through the whole system, and a verdict"
	@echo "     [DRIVE=onedrive]   the same, into a simulator of Microsoft's drives, read back by rclone"
	@echo "make up                 the system in the foreground, data kept; Ctrl-C stops it"
	@echo "make simulator          a strict stand-in for Microsoft Graph, and how to talk to it; Ctrl-C stops it"
	@echo "make test               everything that CI runs"
	@echo "make test-web           the page in a real Chromium; its pictures go to build/pictures"
	@echo "make prove              the long forms of the tests"
	@echo "make lab                every known recipe against the fork fault, side by side"
	@echo "make soak [MINUTES=1]   a worker that forks all the time while its parent works, judged from outside"
	@echo "make bench              how fast it is, beside the classic recipe and other queues; about a quarter of an hour"
	@echo "make format             bring the code into its format"
	@echo "make clean              remove the virtual environment and the data of make up"

setup:
	@$(SETUP)

demo: setup
	@$(BIN)/python -m local.demo

up: setup
	@$(BIN)/python -m local.up

simulator: setup
	@$(BIN)/python -m local.simulate

test: setup check unit integration acceptance test-web
	@$(BIN)/coverage combine -q 2>/dev/null; rm -f .coverage.*  # a process that was killed leaves half a file
	$(BIN)/coverage report --fail-under=95 --include="$(CORE)"

check:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@$(BIN)/coverage erase

unit integration acceptance:
	$(BIN)/coverage run -m pytest -q -m "not prove" -n 2 --dist worksteal tests/$@

# On Debian, and as root, this installs Chromium; elsewhere the tests say that they are skipped without it.
test-web: setup
	@sh tests/web/chromium.sh
	$(BIN)/python -m pytest -q -m "not prove" -n 2 --dist worksteal tests/web

# The forks have TURNS turns in a row: what happens now and then is what they are about.
prove: setup
	@sh tests/web/chromium.sh
	$(BIN)/python -m pytest -q -n 2 --dist worksteal tests
	for turn in 2 3; do \
	    $(BIN)/python -m pytest -q -s tests/acceptance/test_faults.py tests/acceptance/test_chaos.py || exit 1; \
	done
	turn=1; while test $$turn -lt "$$HAULAGE_TURNS"; do \
	    turn=$$((turn + 1)); echo "forks, turn $$turn of $$HAULAGE_TURNS"; \
	    $(BIN)/python -m pytest -q -n 2 --dist worksteal tests/acceptance/test_fork_*.py || exit 1; \
	done

lab: setup
	@$(BIN)/python -m benchmarks.lab

soak: setup
	@$(BIN)/python -m benchmarks.soak --minutes "$$HAULAGE_SOAK_MINUTES"

bench: setup
	@$(BIN)/python -m benchmarks.bench

format: setup
	$(BIN)/ruff check -q --fix .
	$(BIN)/ruff format .

clean:
	@if test -x $(BIN)/python; then $(BIN)/python -m local clean; fi
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .coverage .coverage.* .hypothesis build *.egg-info
