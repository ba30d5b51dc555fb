"""``fastmail bench``: a quick run measures everything, leaves nothing behind, and can be pointed at another server."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.commands import CLI
from tests.support.server import Server

pytestmark = pytest.mark.alone  # a load that would take what other tests need


def bench(*args: str) -> dict[str, object]:
    done = subprocess.run([*CLI, "bench", "--quick", "--json", "-", *args], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_a_quick_run_measures_everything(tmp_path: Path) -> None:
    found = bench("--content", "segments", "--dir", str(tmp_path))
    rows = found["rows"]
    assert isinstance(rows, list) and len(rows) > 15
    assert all(row["rate"] > 0 and row["cpu_ms"] > 0 for row in rows if row["journey"][:11] != "delivery to")
    assert not list(tmp_path.iterdir())


def test_another_server_is_measured_by_its_addresses(server: Server) -> None:
    users = "".join(f"b{n}@example.test:{{PLAIN}}secret\n" for n in range(100)) + "big@example.test:{PLAIN}secret\n"
    server.cli("account", "import", "-", stdin=users)
    where = ",".join(f"{name}=127.0.0.1:{server.ports[name]}" for name in ("lmtp", "imap", "pop3"))
    found = bench("--target", where, "--user", "b%d@example.test", "--big", "big@example.test")
    rows = found["rows"]
    assert isinstance(rows, list) and all(row["cpu_ms"] is None for row in rows)
