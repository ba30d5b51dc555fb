"""Settings of the server as a program: [server], [listen], [tls], [web], [limits] and [log]."""

from dataclasses import dataclass

from fastmail.config.setting import setting as _s


@dataclass(slots=True)
class Server:
    """The machine and its processes."""

    hostname: str = _s("localhost", "Name in greetings, Received fields and certificates; what the MX record says.")
    data_dir: str = _s("data", "Index, directory and, by default, mail. Relative to this file.")
    run_dir: str = _s("", "Sockets and pid file while running. Empty: `run` under data_dir.")
    workers: int = _s(0, "Worker processes; 0 for one per core.")
    delivery_workers: int = _s(
        0,
        "Workers that take SMTP (25) and LMTP. 0: one of each four, because syncs are shared best in one; where it has "
        "many sessions, others help it.",
    )
    admin_contact: str = _s("", "Whom users may turn to: a URL such as mailto:postmaster@example.org, shown by IMAP.")
    postmaster: str = _s(
        "",
        "Account that gets mail for postmaster@ of a domain where no account, alias or catch-all takes it. Empty, or "
        "gone: the first of [auth] admins, or else the account that was made first.",
    )
    user: str = _s("", "Drop root to this user after the ports are bound. Empty: stay who we are.")
    group: str = _s("", "Group for the same; empty: the user's own.")
    confine: bool = _s(
        True, "Workers may write to data, run and mail directories only, where the kernel can see to that (Landlock)."
    )


@dataclass(slots=True)
class Listen:
    """Where each protocol listens: lists of "host:port" ("[::]:25" for IPv6) or "unix:path"."""

    smtp: list[str] = _s([], "Mail from other servers (port 25), STARTTLS.", "places")
    submission: list[str] = _s([], "Mail from users' programs (port 587), STARTTLS and a login needed.", "places")
    submissions: list[str] = _s([], "The same with TLS from the first octet (port 465).", "places")
    lmtp: list[str] = _s([], "Local delivery from another MTA, such as Postfix; no login: keep it local.", "places")
    imap: list[str] = _s([], "IMAP with STARTTLS (port 143).", "places")
    imaps: list[str] = _s([], "IMAP with TLS from the first octet (port 993).", "places")
    pop3: list[str] = _s([], "POP3 with STLS (port 110).", "places")
    pop3s: list[str] = _s([], "POP3 with TLS from the first octet (port 995).", "places")
    proxy_protocol: list[str] = _s(
        [], "Networks of load balancers: every connection from there must begin with a PROXY header (version 1 or 2)."
    )
    unix_users: list[str] = _s(
        [],
        'Users of this machine who may use the "unix:" sockets, such as "postfix"; root and the server\'s own user '
        "always may. Empty: whoever the mode of the socket lets in, its owner and group.",
    )
    xclient: list[str] = _s(
        [], "Networks that may say by XCLIENT for whom they speak by SMTP, login and all; for tests and proxies."
    )


@dataclass(slots=True)
class Tls:
    """The server's certificate, and those of clients; all files are reread on SIGHUP."""

    certificate: str = _s("", "PEM file with the certificate and its chain. Empty: no TLS at all.")
    key: str = _s("", "PEM file with the private key.")
    minimum_version: str = _s("1.2", 'Lowest TLS version: "1.2" or "1.3".')
    client_ca: str = _s("", "PEM file with the authorities of client certificates, for SASL EXTERNAL. Empty: none.")
    client_crl: str = _s(
        "",
        "PEM file with lists of revoked client certificates (CRL), one of each authority from the client's up to the "
        "root. Where an authority has none there, or one that has expired, its certificates are not taken. Empty: "
        "nothing is revoked.",
    )


@dataclass(slots=True)
class Certificate:
    """A certificate for other names, each in a section of its own: clients that ask for one of them (SNI) get it. All
    other clients get that of [tls]. Reread on SIGHUP too."""

    certificate: str = _s("", "PEM file with the certificate and its chain.")
    key: str = _s("", "PEM file with the private key.")
    names: list[str] = _s(
        [],
        'Names of the server that it is for, such as "mail.example.org" or "*.example.org" (one label, the left-most '
        "one). Empty: the DNS names in its subjectAltName.",
    )


@dataclass(slots=True)
class Web:
    """The web server, in a process of its own: members of mailing lists leave by it with one click (RFC 8058)."""

    listen: list[str] = _s(
        [],
        'Where it listens: "host:port" ("[::]:443" for IPv6) or "unix:path", with the certificate of [tls]. Empty: '
        "there is none.",
        "places",
    )
    url: str = _s(
        "",
        'How members reach it, such as "https://lists.example.org", with a path where a proxy has it below one. '
        "It stands in List-Unsubscribe of what lists send, and should stay as it is for years. Empty: "
        "that field has a mail address alone.",
    )
    plain: bool = _s(
        False,
        "Speak HTTP without TLS, for a reverse proxy on this machine that has the certificate; then listen may name "
        "loopback addresses and Unix sockets only.",
    )
    connections: int = _s(500, "Connections at once.")
    connections_per_ip: int = _s(20, "Of these from one address (IPv6: a /64); loopback and Unix sockets are exempt.")


@dataclass(slots=True)
class Limits:
    """Each is enforced before memory is spent, with the reply that its protocol has for it."""

    message_size: int = _s(50 << 20, "Largest message by SMTP, LMTP and APPEND, in octets as sent.", "size")
    recipients: int = _s(1000, "Recipients of one message.")
    connections: int = _s(10000, "Connections of one worker, all protocols.")
    connections_per_ip: int = _s(1000, "Of these from one address; loopback and Unix sockets are exempt.")
    idle_timeout: float = _s(1800.0, "A logged-in IMAP session without a command is ended after this.", "time")
    pop3_timeout: float = _s(
        600.0, "A logged-in POP3 session without a command is ended after this; RFC 1939 asks for 10 minutes.", "time"
    )
    command_timeout: float = _s(
        300.0, "SMTP: longest wait for a command, or for more of a message; all: for a peer that does not read.", "time"
    )
    login_timeout: float = _s(60.0, "Longest time until an IMAP or POP3 session has logged in.", "time")
    quota_storage: int = _s(
        0, "Most that an account may hold; 0 for no limit. `fastmail account quota` differs.", "size"
    )
    quota_messages: int = _s(0, "The same in messages.")
    quota_mailboxes: int = _s(0, "The same in mailboxes.")
    command_line: int = _s(65536, "Longest IMAP command, without literals, after login.", "size")
    shared_mailboxes: int = _s(
        200, "Mailboxes of one other account that a list shows, shared_accounts apart; 0 for any number."
    )
    staging_account: int = _s(
        256 << 20,
        "Messages that one account may have on their way in by APPEND at once, in one worker; at least message_size.",
        "size",
    )
    staging_memory: int = _s(
        64 << 20, "Memory of one worker for messages on their way in; what is more goes to files.", "size"
    )
    messages_per_command: int = _s(
        10_000_000, "Messages that one IMAP command works on (MESSAGELIMIT); 0 for any number."
    )
    background_load: float = _s(
        2.0,
        "Load of the machine for each core above which Apple's programs are told that their background work can wait.",
    )
    errors: int = _s(20, "Bad commands after which a session is ended.")
    auth_failures: int = _s(3, "Failed logins after which a session is ended.")
    auth_failure_delay: float = _s(1.0, "From a failed login to its answer, whatever the check takes.", "time")
    ban_after: int = _s(10, "Points after which an address (IPv6: a /64) is kept out; a failed login is one. 0: never.")
    ban_window: float = _s(600.0, "Points fade away over this time.", "time")
    ban_time: float = _s(600.0, "How long it is kept out; twice as long each time within a day.", "time")
    ban_exempt: list[str] = _s(["127.0.0.0/8", "::1"], "Networks that are never kept out: yours, and web mail's.")
    slow_after: int = _s(
        20,
        "Failed logins to one account within ban_window, from all addresses together, after which logins to it from"
        " networks where it has not logged in lately are slowed. 0: never.",
    )


@dataclass(slots=True)
class Log:
    """Log events go to standard error, one a line."""

    format: str = _s("text", '"text" (key=value) or "json".')
    level: str = _s("info", '"debug", "info", "warning" or "error".')
