#!/usr/bin/env bash
# What people install: an sdist, a wheel built from what the sdist holds and nothing else, and that wheel in a virtual
# environment of its own, where a message goes in by LMTP and comes out by IMAP. Run by `make test-wheel`; PYTHON has
# setuptools, wheel and Cython. Prints the first thing that fails and ends with its exit code. The compiled modules of a
# wheel that works are put into this tree, where tests find them.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$here/.venv/bin/python}
work=$(mktemp -d)
server=
finish() {
  [ -z "$server" ] || { kill "$server" && wait "$server" || true; } 2>/dev/null
  rm -rf "$work"
}
trap finish EXIT

(cd "$here" && "$python" setup.py -q sdist -d "$work/sdist" 2>"$work/sdist.log") || { cat "$work/sdist.log"; exit 1; }
"$python" -m pip wheel -q --no-deps --no-build-isolation -w "$work/wheel" "$work"/sdist/*.tar.gz
sources=$(cd "$here" && find fastmail -name '*.pyx' | wc -l)
compiled=$("$python" -m zipfile -l "$work"/wheel/*.whl | grep -c '\.so ')
[ "$compiled" = "$sources" ] || { echo "the wheel holds $compiled of $sources compiled modules"; exit 1; }

"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q "$work"/wheel/*.whl
cd "$work" # not where fastmail/ lies: what is installed is what runs
"$work/venv/bin/fastmail" quickstart "$work/mail" me@example.test --hostname localhost --password-stdin <<<'secret' >/dev/null
"$work/venv/bin/python" - "$work/mail/fastmail.toml" <<'EOP'
import re, sys
from pathlib import Path
from fastmail.app.child import free_ports
path = Path(sys.argv[1])
path.write_text(re.sub(r'(?m)^(\w+ = \["127\.0\.0\.1:)\d+', lambda found: found[1] + str(free_ports(1)[0]), path.read_text()))
EOP
"$work/venv/bin/fastmail" serve -c "$work/mail/fastmail.toml" >"$work/log" 2>&1 &
server=$!
"$work/venv/bin/python" - "$work/mail/fastmail.toml" <<'EOP' || { cat "$work/log"; exit 1; }
import imaplib, re, smtplib, sys, time
from pathlib import Path
import fastmail
ports = dict(re.findall(r'(?m)^(\w+) = \["127\.0\.0\.1:(\d+)"', Path(sys.argv[1]).read_text()))
for attempt in range(200):
    try:
        lmtp = smtplib.LMTP("127.0.0.1", int(ports["lmtp"]))
        break
    except OSError:
        time.sleep(0.1)
else:
    sys.exit("the installed server does not listen")
lmtp.sendmail("you@example.org", ["me@example.test"], "Subject: from a wheel\r\n\r\nIt works.\r\n")
lmtp.quit()
imap = imaplib.IMAP4("127.0.0.1", int(ports["imap"]))
imap.login("me@example.test", "secret")
imap.select()
found = imap.fetch("1", "(BODY.PEEK[])")[1][0][1]
assert b"Subject: from a wheel" in found and b"It works." in found, found
imap.logout()
print("a message went through the installed wheel, Python %d.%d" % sys.version_info[:2], Path(fastmail.__file__).parent)
EOP

"$python" -m zipfile -e "$work"/wheel/*.whl "$work/unpacked"
(cd "$work/unpacked" && find fastmail -name '*.so' | while read -r module; do cp --remove-destination "$module" "$here/$module"; done)
