"""A second server over the same Maildirs, which it only reads, beside the one that still serves them: accounts are
compared by IMAP and POP3 while both run.

Its index, log and socket directory are its own and are removed with it. Accounts are those of the configuration's
source, or, where accounts are kept here, those that are to be compared, with the passwords that they log in with.
"""

import contextlib
import copy
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence

from fastmail.app import owner
from fastmail.app.child import free_ports, serving
from fastmail.app.derived import control_template, index_template, maildir_template
from fastmail.config.settings import Config
from fastmail.config.written import dump
from fastmail.directory.local import LocalDirectory
from fastmail.durable.replace import replace_file
from fastmail.model.address import account_address

PATIENCE = 60.0
PROTOCOLS = ("imap", "pop3")


@contextlib.contextmanager
def running(config: Config, people: Sequence[tuple[str, str]], places: dict[str, str]) -> Iterator[dict[str, int]]:
    """Such a server for (user, password) pairs; the ports of its protocols. ``places``: where to listen, free ports of
    this machine for what is not in it."""
    with owner.as_root():  # root reads what is in it, so nobody else may write there
        directory = tempfile.mkdtemp(prefix="fastmail-shadow-")
        os.chmod(directory, 0o711)
    try:
        shadow = _settings(config, directory, places)
        path = os.path.join(directory, "fastmail.toml")
        with owner.as_root():
            if not (config.directory.passwd_file or config.directory.sql or config.directory.ldap):
                _accounts(directory, people, config.auth.default_domain)
            replace_file(path, dump(shadow).encode())
        ports = {name: int(getattr(shadow.listen, name)[0].rpartition(":")[2]) for name in PROTOCOLS}
        with contextlib.ExitStack() as stack:
            with owner.as_root():
                log = os.path.join(directory, "log")
                stack.enter_context(serving(path, log, list(ports.values()), PATIENCE))
            yield ports
    finally:
        with owner.as_root():
            shutil.rmtree(directory, ignore_errors=True)


def _settings(config: Config, directory: str, places: dict[str, str]) -> Config:
    """The server's own configuration, for reading only and in a directory of its own."""
    out = copy.deepcopy(config)
    out.store.maildir, out.store.control = maildir_template(config), control_template(config)
    out.store.indexes = index_template(config)
    for settings, name in ((out.directory, "passwd_file"), (out.directory, "ldap_password_file")):
        if getattr(settings, name):
            setattr(settings, name, os.path.join(config.base, getattr(settings, name)))
    out.server.data_dir, out.server.run_dir = os.path.join(directory, "data"), os.path.join(directory, "run")
    out.store.read_only, out.store.shared, out.store.content = True, "none", "maildir"
    out.store.search_index = False
    out.auth.plaintext_without_tls = "loopback"
    out.auth.mechanisms = ["PLAIN", "LOGIN"]
    out.tls.certificate = out.tls.key = out.tls.client_ca = ""
    out.relay.enabled = False
    for name in ("smtp", "submission", "submissions", "lmtp", "imaps", "pop3s"):
        setattr(out.listen, name, [])
    for name, port in zip(PROTOCOLS, free_ports(len(PROTOCOLS)), strict=True):
        setattr(out.listen, name, [places.get(name) or f"127.0.0.1:{port}"])
    return out


def _accounts(directory: str, people: Sequence[tuple[str, str]], domain: str) -> None:
    users = LocalDirectory(os.path.join(directory, "data"))
    rows = [
        (str(account_address(user if "@" in user else f"{user}@{domain}")), "{PLAIN}" + word) for user, word in people
    ]
    for name in sorted({address.rpartition("@")[2] for address, _ in rows}):
        users.add_domain(name)
    users.add_accounts(rows, replace=True)
    users.close()
