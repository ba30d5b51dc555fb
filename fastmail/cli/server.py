"""``quickstart``, ``serve``, ``check-config``, ``config-reference``."""

import os
import socket
from typing import Annotated

import typer

from fastmail.app import owner
from fastmail.app import quickstart as first
from fastmail.app.derived import make_tls, users_of
from fastmail.auth import schemes
from fastmail.cli.common import (
    ConfigOption,
    GenerateOption,
    JsonOption,
    PasswordStdin,
    actor,
    chosen_password,
    command,
    errors,
    for_terminal,
    output,
    read_config,
    show_one,
)
from fastmail.config import certificate
from fastmail.config.load import load
from fastmail.config.settings import Config
from fastmail.config.written import reference
from fastmail.directory.local import LocalDirectory
from fastmail.model.address import account_address
from fastmail.model.errors import ConfigError
from fastmail.telemetry import log


@command
def quickstart(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Where to put the server's files.")],
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="The first account, such as you@example.org.")],
    hostname: Annotated[str, typer.Option(help="The server's name; default: this machine's.")] = "",
    password_stdin: PasswordStdin = False,
    generate: GenerateOption = False,
    standard_ports: Annotated[
        bool, typer.Option("--standard-ports", help="Listen on 25, 587, 993 ... for everybody, not on high ports here.")
    ] = False,
) -> None:
    """Write a first configuration, certificate, data directory, domain and account."""
    account, who = account_address(address), actor()  # before root becomes the directory's owner
    for screen in (errors, output):
        screen.load()
    owner.act_as_owner_of(directory)
    password = chosen_password(password_stdin, generate)
    name = hostname or socket.getfqdn()
    path = first.quickstart(directory, account, name, password, standard_ports, who)
    output.print(f"Wrote {for_terminal(path)} with the account {account}.", markup=False)
    if generate:
        first.remember(directory, account.key, password)
        output.print(f"Password: {password}", markup=False)
    if standard_ports and "." not in name:
        refused = f"But others refuse mail of a host that is called {for_terminal(name)}:"
        output.print(f"{refused} set [server] hostname to its full name.", markup=False)
    output.print(f"Next: fastmail serve -c {for_terminal(path)}", markup=False)


@command
def serve(
    config: ConfigOption = "fastmail.toml",
    free_ports: Annotated[
        bool, typer.Option("--free-ports", help="Where a port is taken, listen on the next free one, and say so.")
    ] = False,
    show_welcome: Annotated[
        bool, typer.Option("--welcome", help="Print what `fastmail welcome` does, once the server can be used.")
    ] = False,
) -> None:
    """Run the server until SIGTERM or Ctrl-C. SIGHUP rereads the certificates; SIGUSR1 logs the counters."""
    from fastmail.app.supervisor import Supervisor  # all of the server, which the other commands here do without

    settings = load(config)
    log.setup(settings.log.format, settings.log.level)

    def ready() -> None:
        for note in supervisor.moved:
            output.print(note, markup=False)
        print("\n".join(welcome_text(settings, known)), flush=True)

    known = ("", "")
    if show_welcome:
        owner.prepare(settings)
        with owner.acting(owner.root_for(settings)):
            known = first_account(settings)
    supervisor = Supervisor(settings, ready if show_welcome else lambda: None, free_ports)
    raise typer.Exit(supervisor.run())


@command
def check_config(config: ConfigOption = "fastmail.toml", json: JsonOption = False) -> None:
    """Say whether the configuration is right, without starting anything."""
    settings = load(config)
    owner.user_of(settings)
    users_of(settings.listen.unix_users)
    make_tls(settings)
    wrong = certificate.faults(settings)
    if wrong:
        raise ConfigError("\n".join(f"{path}: {why}" for path, why in wrong))
    listens = {name: getattr(settings.listen, name) for name in first.PORTS} | {"web": settings.web.listen}
    listens = {name: places for name, places in listens.items() if places}
    server, notes = settings.server, _notes(settings)
    if json:
        found = {"path": settings.path, "hostname": server.hostname, "data_dir": server.data_dir}
        show_one(found | {"listen": listens, "notes": notes}, True)
        return
    output.print(f"{settings.path} is right. It serves {server.hostname} from {server.data_dir}:", markup=False)
    ports = " ".join(f"{name}={','.join(places)}" for name, places in listens.items())
    output.print("  " + (ports or "nothing: [listen] is empty"), markup=False)
    for note in notes:
        output.print(f"  but {note}", markup=False)
    if not os.path.isdir(server.data_dir):
        output.print(f"  {server.data_dir} does not exist yet; `fastmail serve` makes it.", markup=False)


def _notes(settings: Config) -> list[str]:
    """What an admin may want to know of a configuration that is right."""
    notes = []
    if settings.web.listen and not settings.web.url:
        notes.append("[web] has no url, so mail of lists has no link to it")
    if os.path.isdir(settings.server.data_dir):
        notes += [*filter(None, [owner.open_to_all(settings.server.data_dir)]), *owner.unreadable(settings)]
    return notes


@command
def config_reference() -> None:
    """Print every setting with its default and meaning, as a configuration file."""
    print(reference())


@command
def welcome(config: ConfigOption = "fastmail.toml") -> None:
    """Print client settings, and how to send and read a first message."""
    settings = read_config(config)
    print("\n".join(welcome_text(settings, first_account(settings))))


def first_account(settings: Config) -> tuple[str, str]:
    """(address, password) for trying out: those that `quickstart --generate` made up, as long as they are right; the
    only account, without its password; or words for both."""
    place = LocalDirectory(settings.server.data_dir)
    try:
        address, password = first.remembered(settings.base)
        record = place.account(address) if address else None
        if record is not None and schemes.verify(record.password, password.encode()):
            return record.address, password
        every = place.accounts()
    finally:
        place.close()
    return every[0].address if len(every) == 1 else "ADDRESS", "PASSWORD"


def welcome_text(settings: Config, account: tuple[str, str]) -> list[str]:
    """Client settings, and the first commands."""
    address, password = account
    places = {p: getattr(settings.listen, p)[0] for p in first.PORTS if getattr(settings.listen, p)}
    lines = ["", f"Account   {address}", f"Password  {password}", ""]
    names = {"imap": "IMAP, STARTTLS", "imaps": "IMAP, TLS", "pop3": "POP3, STLS", "pop3s": "POP3, TLS"}
    names |= {"submission": "sending, STARTTLS", "submissions": "sending, TLS", "smtp": "SMTP (as MX)", "lmtp": "LMTP"}
    lines += [f"{names[p]:18} {place}" for p, place in places.items()]
    if "smtp" in places:
        lines += ["", "Send a first message:"]
        mail = f"printf 'Subject: hello\\r\\n\\r\\nIt works.\\r\\n' | curl -s smtp://{places['smtp']}"
        lines.append(f"  {mail} --mail-from you@example.org --mail-rcpt {address} -T -")
        lines.append(f"  swaks --server {places['smtp']} --to {address}")
    if "imap" in places:
        lines += [
            "",
            "Read it:",
            f"  curl -s --user '{address}:{password}' 'imap://{places['imap']}/INBOX;UID=1'",
        ]
    return [*lines, ""]
