#!/usr/bin/env bash
# Which lines of Python and Cython the tests without servers reach: `make coverage`. Fails below the floor of
# pyproject.toml, and says when the floor can rise. The report by line is build/coverage/html.
#
# Two runs, because tracing makes compiled code slower by far than Python. The first sees the lines of Cython: modules
# built with line tracing, in a copy of the tree, since coverage looks for their C files beside their sources; only the
# suites that are about them run there. The second sees the lines of Python, on the modules as they are, in all suites.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
python=$(realpath -s "$1") jobs=$2
tree=$here/build/coverage
mkdir -p "$tree"
for name in fastmail tests benchmarks docs; do
  mkdir -p "$tree/$name"
  find "$tree/$name" -name '*.py' -delete # some may have been moved since the last run
  (cd "$here/$name" && find . -name __pycache__ -prune -o -type f ! -name '*.so' -print0 | xargs -0 cp -u --parents -t "$tree/$name")
done
cp -u "$here"/*.md "$here"/*.toml "$here"/setup.py "$here"/Makefile "$tree"
rm -rf "$tree"/.coverage* "$tree/html"
cat >"$tree/compiled.cfg" <<'EOF'
[run]
source_pkgs = fastmail
omit = *.py
plugins = Cython.Coverage
relative_files = true
parallel = true
EOF
cat >"$tree/python.cfg" <<'EOF'
[run]
source_pkgs = fastmail
relative_files = true
parallel = true
patch =
    fork
    _exit
EOF

say() { echo "== $* ($((SECONDS / 60)) min $((SECONDS % 60)) s)"; }
# More examples of the same reach no other lines. A test that takes seconds takes minutes while it is traced.
export FASTMAIL_EXAMPLES=few
chosen=(--timeout 900 -m "not (peer or counted or harness or alone or slow)")
# Folders of tests, in one process: what several workers of one pytest find of compiled modules can not be put together.
traced() {
  COVERAGE_FILE=$tree/.coverage.compiled "$python" -m coverage run --rcfile="$tree/compiled.cfg" -m pytest -q "${chosen[@]}" "$@"
}

cd "$tree"
say compiled modules, with tracing
FASTMAIL_STRICT= FASTMAIL_TRACE=1 "$python" setup.py -q build_ext --inplace
say the lines of Cython
# without those that measure how long something takes, or how much memory a session keeps
traced tests/unit/_core tests/unit/durable tests/unit/net/test_tls_transport.py \
  --deselect tests/unit/_core/test_links.py::test_names_that_begin_within_others_take_linear_time \
  --deselect tests/unit/_core/test_fetch.py::test_a_thousand_names_of_a_large_header_cost_what_one_costs \
  --deselect tests/unit/net/test_tls_transport.py::test_an_idle_session_does_not_keep_what_it_sent &
units=$!
traced tests/property tests/transcript \
  --deselect tests/property/test_mime.py::test_s29_bombs_cost_what_their_size_costs \
  --deselect tests/property/test_policy.py::test_a_long_body_is_hashed_in_time
wait "$units"

cd "$here"
# Python 3.12 and newer tell of each line once, which costs next to nothing.
if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))'; then
  export COVERAGE_CORE=sysmon
fi
say the lines of Python
COVERAGE_FILE=$tree/.coverage.python "$python" -m coverage run --rcfile="$tree/python.cfg" -m pytest tests/unit \
  tests/property tests/contract tests/transcript tests/integration --forks "$jobs" "${chosen[@]}"
unset COVERAGE_CORE

cd "$tree"
say the report
"$python" -m coverage combine -q --keep .coverage.python.* .coverage.compiled.*
"$python" -m coverage html -q --fail-under=0 -d html
"$python" -m coverage report --skip-covered --sort=cover --fail-under=0 | sed -n '1,25p;/^TOTAL/p'
"$python" - <<'EOP'
import json, subprocess, sys, tomllib
subprocess.run([sys.executable, "-m", "coverage", "json", "-q", "--fail-under=0", "-o", "total.json"], check=True)
total = json.load(open("total.json"))["totals"]["percent_covered"]
floor = tomllib.load(open("pyproject.toml", "rb"))["tool"]["coverage"]["report"]["fail_under"]
if total < floor:
    sys.exit(f"{total:.2f} % of the lines are reached, and the floor is {floor} %")
print(f"{total:.2f} % of the lines are reached" + (f": fail_under in pyproject.toml can rise to {int(total)}" if int(total) > floor else ""))
EOP
say done
