# Two commands on a fresh machine: `make run` and `make test`. Each does its whole set-up. While working: `make check`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN ?= run
TOOLS := $(VENV)/.tools
STAMP := $(VENV)/.built
SOURCES := setup.py $(shell find fastmail -name '*.pyx' -o -name '*.pxd' -o -name '*.h')

# Quick tests are short, and some wait for threads and clocks; journeys wait for servers, clients and clocks: two more
# processes than cores.
CORES := $(shell nproc)
SIDE_BY_SIDE ?= $(shell expr 2 + $(CORES))
TOGETHER = $(MAKE) --no-print-directory --keep-going --output-sync=target --jobs 4
PYTEST = $(BIN)/python -m pytest
# Each test is in exactly one of these parts (tests/meta/test_loop.py). The markers are explained in pyproject.toml.
QUICK := not (journey or integration or peer or counted or harness or alone or slow)
SLOW := slow and not (journey or integration or peer or counted or harness or alone)
# What is in these folders has the marker of that name (tests/conftest.py): it need not be collected to be left out.
ASIDE := --ignore=tests/journey --ignore=tests/integration
JOURNEYS := (journey or integration or peer) and not (counted or harness or alone)
ALONE := alone and not harness
SHORT := harness and not alone
SHORT_ALONE := harness and alone

# Tests start hundreds of commands and servers: their modules are compiled once, not by each of them.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run check test build lint types layers quick slow journeys counted alone coverage lock bench bench-auth bench-directory bench-journal bench-mailbox bench-peers bench-relay bench-sessions test-short test-crash test-power test-load test-arm test-damage test-faults test-queue test-mutations test-wheel nightly fuzz fuzz-every sdist wheel clean

help:
	@echo "make run             a server on high loopback ports, with one account; Ctrl-C stops it"
	@echo "make check           the loop of a minute: build what changed, lint, types, layers, and the quick tests without servers"
	@echo "make test            lint, types, layers and all tests; no long run of a harness"
	@echo "make test-short      short runs of the harnesses below: kills, power, failing calls, damage, load, fuzzing, mutations"
	@echo "make coverage        which lines the tests without servers reach, of Python and Cython; fails below the floor"
	@echo "make lock            requirements-dev.lock made anew from pyproject.toml"
	@echo "make bench           micro benchmarks, saved and compared with the last ones (pytest-benchmark), then fastmail bench: a throw-away server under load"
	@echo "make bench-peers     the same on Dovecot, in turn: benchmarks/report.md (needs root, Postfix and Dovecot; DIR= for a disk)"
	@echo "make bench-mailbox   IMAP commands in 10,000 and 250,000 messages, beside Dovecot: benchmarks/mailbox.md"
	@echo "make bench-sessions  256 deliveries and 10,000 idle sessions at once, beside Dovecot: benchmarks/sessions.md"
	@echo "make bench-directory look-ups, memory and changes with 100,000 and 1,000,000 accounts: benchmarks/directory.md"
	@echo "make bench-journal   the journal by itself, and starts after a kill: benchmarks/journal.md (DIR= for a disk)"
	@echo "make bench-relay     relaying and MX beside Postfix: benchmarks/relay.md (needs root, Postfix and Dovecot)"
	@echo "make bench-auth      what SPF, DKIM, DMARC and ARC cost, and signing; Postfix with milters beside it: benchmarks/auth.md"
	@echo "make test-crash      kill -9 of all or some processes, at random and at steps, under load (ROUNDS=20 SEED=1)"
	@echo "make test-power      disks as power loss leaves them (IMAGES=1000 SEED=1; needs strace)"
	@echo "make test-load       loads and floods, each with its figure (SCALE=1)"
	@echo "make fuzz            damaged sessions of every protocol (SECONDS=3600 SEED=1)"
	@echo "make fuzz-every      each parser of the core and each protocol, with sanitizers built in (SECONDS=60 SEED=1)"
	@echo "make test-damage     files of index, queue and mail, damaged at random (ROUNDS=1000 SEED=1)"
	@echo "make test-faults     system calls that fail, one after the other, and short writes (UPTO=200; needs strace)"
	@echo "make test-mutations  faults put into a copy of the program, each of which a named test must notice (JOBS=1)"
	@echo "make test-arm        the compiled core for aarch64, under qemu (Debian 12, root)"
	@echo "make test-queue      a deep queue with dead destinations (MESSAGES=100000 DESTINATIONS=1000 DEAD=100)"
	@echo "make test-wheel      an sdist, a wheel made from it, and a message through the wheel, installed by itself"
	@echo "make nightly         all of the long ones, one after the other"
	@echo "make sdist           an sdist in dist/"
	@echo "make wheel           a wheel in dist/"
	@echo "make clean           remove what was built (not mail)"

# The virtual environment with the tools of requirements-dev.lock, and this directory installed in it, not yet compiled.
$(TOOLS): pyproject.toml requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "fastmail needs Python 3.11 or newer: apt-get install python3.11 (or set PYTHON=...)")'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "the venv module is missing: apt-get install python3-venv"; exit 1; }
	@command -v cc >/dev/null || command -v gcc >/dev/null || { echo "a C compiler is missing: apt-get install gcc libc6-dev"; exit 1; }
	@$(PYTHON) -c 'import sysconfig, os, sys; p = os.path.join(sysconfig.get_paths()["include"], "Python.h"); sys.exit(0 if os.path.exists(p) else "Python.h is missing: apt-get install python3-dev")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.lock
	FASTMAIL_PURE=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(TOOLS)

# Only modules whose sources changed are compiled again.
$(STAMP): $(TOOLS) $(SOURCES)
	$(BIN)/python setup.py -q build_ext --inplace
	@touch $(STAMP)

build: $(STAMP)

run: $(STAMP)
	@test -f $(RUN)/fastmail.toml || $(BIN)/fastmail quickstart $(RUN) me@example.test --hostname localhost --generate
	@exec $(BIN)/fastmail serve -c $(RUN)/fastmail.toml --free-ports --welcome

# Our own builds take no warning of Cython or of the C compiler.
check test test-short: export FASTMAIL_STRICT := 1

# Temporary files of tests without servers: in memory where there is room.
quick slow: export TMPDIR = $(shell tests/tmpdir.sh)

check: export FASTMAIL_EXAMPLES := few
check: $(STAMP)
	@$(TOGETHER) lint types layers quick

test: $(STAMP)
	@$(TOGETHER) lint types layers quick
	@$(MAKE) --no-print-directory --keep-going --jobs 2 journeys counted slow
	@$(MAKE) --no-print-directory alone

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

layers: $(STAMP)
	$(BIN)/lint-imports

quick: $(STAMP)
	$(PYTEST) $(ASIDE) --forks $(SIDE_BY_SIDE) --durations=5 -m "$(QUICK)"

slow: $(STAMP)
	$(PYTEST) $(ASIDE) --forks $(CORES) --durations=5 -m "$(SLOW)"

# Servers of other users (Dovecot, PostgreSQL) have their files there: each pytest that starts closes the usual place to
# all users but its own, so what runs beside these tests must not share it. The name is short, because the path of a
# socket may have 107 octets.
journeys: export PYTEST_DEBUG_TEMPROOT = $(or $(TMPDIR),/tmp)/fmj

journeys: $(STAMP)
	@mkdir -p $(PYTEST_DEBUG_TEMPROOT)
	$(PYTEST) --forks $(SIDE_BY_SIDE) --durations=15 -m "$(JOURNEYS)"

# Behind whatever else runs: instructions are the same however long they take.
counted: $(STAMP)
	nice -n 10 $(PYTEST) -m counted

alone: $(STAMP)
	$(PYTEST) --durations=15 -m "$(ALONE)"

test-short: $(STAMP)
	$(PYTEST) --forks $(SIDE_BY_SIDE) --durations=15 -m "$(SHORT)"
	$(PYTEST) --durations=15 -m "$(SHORT_ALONE)"

coverage: $(STAMP)
	tests/coverage.sh $(BIN)/python $(CORES)

lock: $(TOOLS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --extra dev \
	  --custom-compile-command "make lock" pyproject.toml -o requirements-dev.lock

bench: $(STAMP)
	$(BIN)/python -m pytest benchmarks/micro --benchmark-only -q -o addopts= --benchmark-columns=min,median,iqr,ops \
	  --benchmark-storage=file://benchmarks/results --benchmark-autosave \
	  $(if $(wildcard benchmarks/results/*/*.json),--benchmark-compare)
	$(BIN)/fastmail bench --dir . --json benchmarks/last.json

test-crash: $(STAMP)
	$(BIN)/python -m tests.crash.kill --rounds $(or $(ROUNDS),20) --seed $(or $(SEED),1)
	$(BIN)/python -m tests.crash.relay --rounds $(or $(ROUNDS),20) --seed $(or $(SEED),1)

test-power: $(STAMP)
	$(BIN)/python -m tests.crash.power --images $(or $(IMAGES),1000) --seed $(or $(SEED),1) --content maildir
	$(BIN)/python -m tests.crash.power --images $(or $(IMAGES),1000) --seed $(or $(SEED),1) --content segments

test-load: $(STAMP)
	$(BIN)/python -m tests.load.gates --scale $(or $(SCALE),1)

fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz.sessions --seconds $(or $(SECONDS),3600) --seed $(or $(SEED),1)

SANITIZED := build/sanitized/lib
fuzz-every: $(STAMP)
	FASTMAIL_SANITIZE=1 $(BIN)/python setup.py -q build --build-base build/sanitized --build-lib $(SANITIZED)
	PYTHONPATH="$(CURDIR)/$(SANITIZED):$(CURDIR)" PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 \
	  UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	  LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	  $(BIN)/python -P -m tests.fuzz.every --seconds $(or $(SECONDS),60) --seed $(or $(SEED),1)

test-damage: $(STAMP)
	$(BIN)/python -m tests.crash.damage --rounds $(or $(ROUNDS),1000) --seed $(or $(SEED),1) --content maildir
	$(BIN)/python -m tests.crash.damage --rounds $(or $(ROUNDS),1000) --seed $(or $(SEED),1) --content segments

bench-auth: $(STAMP)
	$(BIN)/python -m benchmarks.auth --rounds $(or $(ROUNDS),3) --dir "$(DIR)"

bench-relay: $(STAMP)
	$(BIN)/python -m benchmarks.relay --rounds $(or $(ROUNDS),3) --dir "$(DIR)"

bench-mailbox: $(STAMP)
	$(BIN)/python -m benchmarks.mailbox --dir "$(DIR)"

bench-sessions: $(STAMP)
	$(BIN)/python -m benchmarks.sessions --rounds $(or $(ROUNDS),3) --dir "$(DIR)"

bench-directory: $(STAMP)
	$(BIN)/python -m benchmarks.directory --dir "$(DIR)"

bench-journal: $(STAMP)
	$(BIN)/python -m benchmarks.journal --dir "$(DIR)"

bench-peers: $(STAMP)
	$(BIN)/python -m benchmarks.peers --rounds $(or $(ROUNDS),3) --dir "$(DIR)"

test-arm: $(STAMP)
	PYTHON=$(abspath $(BIN))/python tests/arm.sh

test-faults: $(STAMP)
	$(BIN)/python -m tests.crash.faults --upto $(or $(UPTO),200) --content maildir
	$(BIN)/python -m tests.crash.faults --upto $(or $(UPTO),200) --content segments
	$(BIN)/python -m tests.crash.faults --short --content maildir
	$(BIN)/python -m tests.crash.faults --short --content segments
	$(BIN)/python -m tests.crash.checkpoints --content maildir
	$(BIN)/python -m tests.crash.checkpoints --full ext4 --content maildir
	$(BIN)/python -m tests.crash.checkpoints --full tmpfs --content segments

test-queue: $(STAMP)
	$(BIN)/python -m tests.crash.queue --messages $(or $(MESSAGES),100000) --destinations $(or $(DESTINATIONS),1000) \
	  --dead $(or $(DEAD),100)

nightly: test-wheel coverage test-crash test-power test-faults test-damage test-load test-queue test-mutations fuzz

test-mutations: $(STAMP)
	$(BIN)/python -m tests.mutations.run --jobs $(or $(JOBS),1)

# The wheel's compiled modules are put beside their sources: they need not be compiled again for tests of this tree.
test-wheel: $(TOOLS)
	PYTHON=$(abspath $(BIN))/python tests/wheel.sh
	@touch $(STAMP)

sdist: $(STAMP)
	$(BIN)/python setup.py -q sdist

wheel: $(STAMP)
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation -w dist .

clean:
	rm -rf $(VENV) build dist *.egg-info
	find fastmail -name '*.so' -delete
