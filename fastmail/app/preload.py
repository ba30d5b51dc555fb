"""Imports all modules that a worker may need later, while the program's files can still be read.

Python loads some modules only when they are first used: a codec for a message's charset, a password scheme. After root
was dropped, the process may have no access to the program's directory (a clone below /root, for example), so everything
is imported before.
"""

import encodings
import importlib
import pkgutil
from contextlib import suppress

import fastmail
from fastmail.model.domain import ascii_name

# what libraries import inside functions, and what the standard library does
LATE = (
    "_strptime", "asyncio", "bcrypt", "concurrent.futures.process", "concurrent.futures.thread", "email.header",
    "encodings.idna", "html.entities", "html.parser", "http.client", "idna.uts46data", "json",
    "multiprocessing.popen_fork",
    "passlib.handlers", "passlib.hash", "queue", "quopri", "selectors", "sqlite3", "sqlite3.dbapi2", "stringprep",
    "traceback", "unicodedata", "urllib.request", "uu", "zoneinfo",
)  # fmt: skip
OPTIONAL = ("asyncpg", "pymysql", "ldap3")  # sources of accounts; what is not installed is not needed
WEB = ("starlette", "anyio._backends._asyncio", "h11")  # of the web process
NEVER = (
    *("fastmail.cli", "fastmail.bench", "fastmail.migrate", "fastmail.backup", "fastmail.maildir"),  # commands only
    *("fastmail.auth.passkeys", "fastmail.auth.totp"),  # second factors: no mail session asks for them
)


def everything(accounts: bool = False, web: bool = False) -> None:
    """Import it all. ``accounts``: the libraries of account sources too; ``web``: those of the web process."""
    for name in WEB if web else ():
        _try(name)
    never = NEVER if web else (*NEVER, "fastmail.admin", "fastmail.app.website")
    for package in (fastmail, encodings, *map(importlib.import_module, ("passlib", "idna", "jwt"))):
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + ".", onerror=lambda _: None):
            if not found.name.startswith(never) and not found.name.endswith("__main__"):
                _try(found.name)
    for name in LATE:
        _try(name)
    for name in OPTIONAL if accounts else ():
        if _try(name):
            package = importlib.import_module(name)
            for found in pkgutil.walk_packages(package.__path__, name + ".", onerror=lambda _: None):
                _try(found.name)
    ascii_name("\u00fc.test")  # the tables of idna


def _try(name: str) -> bool:
    """Some belong to other systems (mbcs), to other Pythons (uu), or need what is not installed."""
    with suppress(Exception):
        importlib.import_module(name)
        return True
    return False
