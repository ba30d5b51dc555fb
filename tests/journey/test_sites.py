"""Whole sites from MariaDB and PostgreSQL into a server: twice, beside the running server, and their users log in."""

import imaplib
import json
import smtplib
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.support import databases, sites
from tests.support.server import Server

BASES = {"mariadb": databases.mariadb, "postgresql": databases.postgresql}
pytestmark = pytest.mark.peer
MANY = 3000  # accounts: more than are read, and more than are written, at once


@pytest.fixture(scope="module", params=list(BASES))
def base(request: pytest.FixtureRequest) -> Iterator[databases.Base]:
    with BASES[request.param]() as found:
        yield found


@pytest.fixture(scope="module")
def server(base: databases.Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"), workers=1)
    running.start()
    yield running
    running.stop()


def taken(server: Server, site: str, dsn: str, *more: str) -> Counter[tuple[str, str]]:
    done = server.cli("migrate", "accounts", "--from", site, "--dsn", dsn, "--json", *more, check=False)
    assert done.returncode in (0, 1) and "Traceback" not in done.stderr, done.stderr
    out: Counter[tuple[str, str]] = Counter()
    for row in json.loads(done.stdout):
        out[row["state"], row["kind"]] += row["count"]
    return out


def logs_in(server: Server, user: str) -> bool:
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"]) as imap:
        try:
            return imap.login(user, sites.PASSWORD)[0] == "OK"
        except imaplib.IMAP4.error:
            return False


# site: new accounts, aliases and lists
EXPECTED = {
    "postfixadmin": (4, 5, 0),
    "mailcow": (3, 4, 0),
    "iredmail": (4, 3, 3),
    "hmailserver": (3, 3, 4),
    "ispmail": (2, 2, 0),
    "vpopmail": (4, 2, 0),
}


@pytest.mark.parametrize("site", list(sites.ALL))
def test_a_site_is_taken_over(base: databases.Base, server: Server, site: str) -> None:
    dsn = base.made(site)
    mine = f"{site}.test"  # all of them have one.test: here each has a domain of its own
    base.run([one.replace("one.test", mine) for one in sites.ALL[site].statements(base.kind)], site)
    said = taken(server, site, dsn)
    done = taken(server, site, dsn, "--apply", "--overwrite")
    assert (done["new", "account"], done["new", "alias"], done["new", "list"]) == EXPECTED[site]
    assert said["new", "account"] == done["new", "account"] and said["new", "alias"] == done["new", "alias"]
    assert logs_in(server, f"anna@{mine}")  # no restart
    with smtplib.LMTP("127.0.0.1", server.ports["lmtp"]) as lmtp:
        lmtp.ehlo()
        lmtp.mail("a@example.org")
        assert lmtp.rcpt(f"anna@{mine}")[0] == 250 and lmtp.rcpt("nobody@example.test")[0] == 550
    again = taken(server, site, dsn, "--apply")
    assert again["same", "account"] == done["new", "account"] and again["same", "alias"] == done["new", "alias"]
    assert not {state for state, _ in again} & {"new", "changed"}


def test_many_accounts_come_in_batches(base: databases.Base, server: Server) -> None:
    v = sites.V
    dsn = base.made("many")
    hashed = "{PLAIN}" + sites.PASSWORD
    users = sites.rows(
        "virtual_users",
        "id domain_id email password",
        *((number, 1, f"u{number}@many.test", hashed) for number in range(MANY)),
    )
    targets = sites.rows(
        "virtual_aliases",
        "id domain_id source destination",
        *((number, 1, f"a{number}@many.test", f"u{number}@many.test") for number in range(MANY)),
    )
    tables = {
        "virtual_domains": f"id INT PRIMARY KEY, name {v}",
        "virtual_users": f"id INT PRIMARY KEY, domain_id INT, email {v}, password {v}",
        "virtual_aliases": f"id INT PRIMARY KEY, domain_id INT, source {v}, destination {v}",
    }
    site = sites.Site(tables, sites.rows("virtual_domains", "id name", (1, "many.test")))
    base.run([*site.statements(base.kind), *_together(sites.Site({}, [*users, *targets]), base.kind)], "many")
    done = taken(server, "ispmail", dsn, "--apply")
    assert done["new", "account"] == done["new", "alias"] == MANY
    assert logs_in(server, f"u{MANY - 1}@many.test")
    assert taken(server, "ispmail", dsn)["same", "account"] == MANY


def _together(site: sites.Site, kind: str) -> Iterator[str]:
    """Its rows in statements of many rows each."""
    heads: dict[str, list[str]] = {}
    for one in site.statements(kind):
        head, _, values = one.partition(" VALUES ")
        heads.setdefault(head, []).append(values)
    for head, rows in heads.items():
        for start in range(0, len(rows), 500):
            yield f"{head} VALUES {', '.join(rows[start : start + 500])}"
