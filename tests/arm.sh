#!/usr/bin/env bash
# The compiled core, built for aarch64 by Debian's cross compiler and run under qemu-user: its unit and property tests, and those of
# the TLS layer.
# Needs root, apt and Debian 12 (its python3.11 for arm64): make test-arm
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$here/.venv/bin/python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user >/dev/null
mkdir -p "$work/debs" "$work/root" "$work/site" "$work/tree"
foreign=$(dpkg --print-foreign-architectures | grep -cx arm64 || true)
[ "$foreign" = 1 ] || dpkg --add-architecture arm64
apt-get update -qq
(cd "$work/debs" && for name in python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libpython3.11-dev libc6 \
  libexpat1 zlib1g libssl3 libffi8 libbz2-1.0 liblzma5 libsqlite3-0 libgcc-s1 libuuid1 libcrypt1; do
  apt-get download -qq "$name:arm64" 2>/dev/null
done)
[ "$foreign" = 1 ] || dpkg --remove-architecture arm64
for deb in "$work"/debs/*.deb; do dpkg -x "$deb" "$work/root"; done
"$python" -m pip install -q --no-deps --target "$work/site" pytest pluggy iniconfig packaging pygments attrs \
  sortedcontainers 'hypothesis==6.120.0' pytest-timeout dnspython
needed=$("$python" -c 'import tomllib; print("\n".join(tomllib.load(open("'"$here"'/pyproject.toml", "rb"))["project"]["dependencies"]))')
mapfile -t needed <<<"$needed"
"$python" -m pip install -q --target "$work/site" --platform manylinux2014_aarch64 --platform manylinux_2_28_aarch64 \
  --platform manylinux_2_34_aarch64 --python-version 3.11 --implementation cp --only-binary=:all: "${needed[@]}"
cp -a "$here/fastmail" "$here/tests" "$here/pyproject.toml" "$work/tree"
cd "$work/tree"
find fastmail -name '*.so' -delete
for source in fastmail/_core/*.pyx fastmail/durable/*.pyx fastmail/net/*.pyx; do
  "$python" -m cython -3 -X boundscheck=False -X wraparound=False -X cdivision=True -X initializedcheck=False \
    -X binding=False "$source" -o "${source%.pyx}.c"
  aarch64-linux-gnu-gcc -O2 -fPIC -shared -DNDEBUG -pthread -I"$work/root/usr/include/python3.11" \
    -I"$work/root/usr/include" -I. "${source%.pyx}.c" -o "${source%.pyx}.cpython-311-aarch64-linux-gnu.so"
done
arm() { qemu-aarch64 -L "$work/root" -E PYTHONPATH="$work/tree:$work/site" "$work/root/usr/bin/python3.11" "$@"; }
arm -m pytest -q -o addopts= -p no:cacheprovider --timeout 600 tests/unit/_core tests/property/test_lines.py \
  tests/property/test_uidset.py tests/property/test_mime.py tests/property/test_imap_grammar.py \
  tests/property/test_smtp_grammar.py tests/property/test_fields.py tests/unit/net/test_tls_transport.py
