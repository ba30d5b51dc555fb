"""``quickstart``, ``serve``, ``check-config``, ``config-reference``."""

import os
import secrets
import socket
from typing import Annotated

import typer

from fastmail.app import quickstart as first
from fastmail.app.assembly import make_tls
from fastmail.app.supervisor import Supervisor
from fastmail.cli.common import ConfigOption, PasswordStdin, ask_password, command, output, read_config
from fastmail.config import certificate
from fastmail.config.settings import reference
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
    generate: Annotated[bool, typer.Option("--generate", help="Make up a password and print it.")] = False,
    standard_ports: Annotated[
        bool, typer.Option("--standard-ports", help="Listen on 25, 587, 993 ... for everybody, not on high ports here.")
    ] = False,
) -> None:
    """Write a first configuration, certificate, data directory, domain and account."""
    account = account_address(address)
    password = secrets.token_urlsafe(12) if generate else ask_password(password_stdin)
    path = first.quickstart(directory, account, hostname or socket.getfqdn(), password, standard_ports)
    output.print(f"Wrote [bold]{path}[/] with the account [bold]{account}[/].")
    if generate:
        output.print(f"Password: [bold]{password}[/]")
    output.print(f"Next: [bold]fastmail serve -c {path}[/]")


@command
def serve(config: ConfigOption = "fastmail.toml") -> None:
    """Run the server until SIGTERM or Ctrl-C. SIGHUP rereads the certificate; SIGUSR1 logs the counters."""
    settings = read_config(config)
    log.setup(settings.log.format, settings.log.level)
    raise typer.Exit(Supervisor(settings).run())


@command
def check_config(config: ConfigOption = "fastmail.toml") -> None:
    """Say whether the configuration is right, without starting anything."""
    settings = read_config(config)
    make_tls(settings)
    wrong = certificate.faults(settings)
    if wrong:
        raise ConfigError("\n".join(f"{settings.tls.certificate}: {one}" for one in wrong))
    ports = [f"{p}={','.join(getattr(settings.listen, p))}" for p in first.PORTS if getattr(settings.listen, p)]
    output.print(f"{settings.path} is right. It serves {settings.server.hostname} from {settings.server.data_dir}:")
    output.print("  " + " ".join(ports) if ports else "  nothing: [listen] is empty", markup=False)
    if not os.path.isdir(settings.server.data_dir):
        output.print(f"  {settings.server.data_dir} does not exist yet; `fastmail serve` makes it.")


@command
def config_reference() -> None:
    """Print every setting with its default and meaning, as a configuration file."""
    print(reference())


@command
def welcome(config: ConfigOption = "fastmail.toml") -> None:
    """Print client settings, and how to send and read a first message."""
    settings = read_config(config)
    accounts = LocalDirectory(settings.server.data_dir)
    try:
        first_account = next((a.address for a in accounts.accounts()), "ADDRESS")
    finally:
        accounts.close()
    remembered = os.path.join(settings.base, "welcome")
    password = "PASSWORD"
    if os.path.exists(remembered):
        with open(remembered, encoding="utf-8") as file:
            words = [line.split()[-1] for line in file if line.startswith("Password:")]
            password = words[0] if words else password
    places = {p: getattr(settings.listen, p)[0] for p in first.PORTS if getattr(settings.listen, p)}
    lines = ["", f"Account   {first_account}", f"Password  {password}", ""]
    names = {"imap": "IMAP, STARTTLS", "imaps": "IMAP, TLS", "pop3": "POP3, STLS", "pop3s": "POP3, TLS"}
    names |= {"submission": "sending, STARTTLS", "submissions": "sending, TLS", "smtp": "SMTP (as MX)", "lmtp": "LMTP"}
    lines += [f"{names[p]:18} {place}" for p, place in places.items()]
    if "smtp" in places:
        lines += ["", "Send a first message:"]
        mail = f"printf 'Subject: hello\\r\\n\\r\\nIt works.\\r\\n' | curl -s smtp://{places['smtp']}"
        lines.append(f"  {mail} --mail-from you@example.org --mail-rcpt {first_account} -T -")
        lines.append(f"  swaks --server {places['smtp']} --to {first_account}")
    if "imap" in places:
        lines += [
            "",
            "Read it:",
            f"  curl -s --user '{first_account}:{password}' 'imap://{places['imap']}/INBOX;UID=1'",
        ]
    output.print("\n".join([*lines, ""]), markup=False)
