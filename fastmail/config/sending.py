"""Settings of mail that leaves this server: [relay]."""

from dataclasses import dataclass

from fastmail.config.setting import setting as _s


@dataclass(slots=True)
class Relay:
    """Mail to other servers: what users send, and what trusted networks hand over."""

    enabled: bool = _s(True, "Take mail for other servers from users and trusted networks, and send it.")
    networks: list[str] = _s([], 'Networks that may send through port 25 without a login, such as "10.0.0.0/8".')
    routes: list[str] = _s(
        [],
        'Next hops that the DNS does not decide, as "PATTERN NEXTHOP [option=value ...]": '
        '"* smtp:smarthost.example.net:587 login=me password_file=secret", "example.org lmtp:unix:/run/lmtp", '
        '"from:@example.org mx pool=bulk", ".internal mx", "lists.example.org pipe:/usr/local/bin/lists {sender} '
        '{recipient}". Options: tls, login, password_file, pool, connections (at once), retry (5m,1h), lifetime (2d).',
    )
    pools: list[str] = _s(
        [],
        "Local addresses that routes name, used in turn for their connections: "
        '"NAME ADDRESS...", such as "bulk 192.0.2.1 192.0.2.2 2001:db8::1".',
    )
    pipe_timeout: float = _s(600.0, "Longest time that a program of a pipe may take for a message.", "time")
    tls: str = _s(
        "may",
        'TLS to other servers: "may" (where offered), "encrypt" (always), "verify" (with a certificate) or "none".',
    )
    tls_policies: list[str] = _s([], 'The same for some domains: "example.org verify", ".example.net encrypt".')
    dns_servers: list[str] = _s([], 'Name servers, as "address" or "address:port". Empty: those of the machine.')
    dnssec: bool | str = _s(
        "auto",
        "The name servers validate DNSSEC and the way to them is safe: use DANE. "
        '"auto" finds out: true for those on this machine that validate.',
        "auto",
    )
    mta_sts: bool = _s(True, "Fetch and keep the MTA-STS policies of domains.")
    private_web_servers: bool = _s(
        False,
        "Fetch MTA-STS policies from web servers with private addresses or on this machine, and post reports there; "
        "for networks of their own, and for tests.",
    )
    ipv6: bool = _s(True, "Use IPv6 addresses of other servers.")
    port: int = _s(25, "Port of the hosts that the DNS names.")
    loopback_hosts: bool = _s(False, "Send to hosts that the DNS puts on this machine; for tests.")
    source_ipv4: str = _s("", "Local address of connections; empty for any.")
    source_ipv6: str = _s("", "The same for IPv6.")
    connections: int = _s(500, "Connections to other servers at once.")
    connections_per_destination: int = _s(20, "Of these to one destination.")
    connect_timeout: float = _s(30.0, "Longest wait for a connection and for TLS.", "time")
    command_timeout: float = _s(300.0, "Longest wait for a reply.", "time")
    retry: list[str] = _s(
        ["5m", "10m", "20m", "40m", "1h", "2h", "4h"], "Waits between tries; the last one repeats.", "times"
    )
    lifetime: float = _s(432000.0, "A message is given up after this.", "time")
    delay_warning: float = _s(14400.0, "Its sender is told of the delay after this.", "time")
    success_reports_to_strangers: bool = _s(
        False,
        "Tell those who sent mail without a login that it was delivered, when they ask (NOTIFY=SUCCESS). Their "
        "addresses may be forged, and others then get these reports. Users and trusted networks are always told.",
    )
    recipients_per_hour: int = _s(0, "Recipients elsewhere that one login may have in an hour; 0 for any number.")
    domain_recipients_per_hour: int = _s(0, "The same for all logins of a domain together.")
    network_recipients_per_hour: int = _s(
        0,
        "Recipients in an hour, here and elsewhere, that one entry of networks may have without a login; 0 for any "
        "number.",
    )
    network_messages_per_hour: int = _s(
        0, "Messages in an hour that one entry of networks may send so; 0 for any number."
    )
    suspend_after: int = _s(
        100,
        "Recipients in an hour that other hosts refuse as unknown after which a login, or an entry of networks, may "
        "send nothing any more, where they are a tenth of all its recipients or more: a password was probably stolen, "
        "or a host broken into. 0: never.",
    )
    suspend_recipients: int = _s(
        0,
        "Recipients elsewhere in an hour after which the same happens; far above what anybody sends, or 0: never.",
    )
    never_suspend: list[str] = _s(
        [], "Logins, and entries of networks, to which this never happens, such as that of a program."
    )
    messages: int = _s(1_000_000, "Most messages in the queue; 0 for any number.")
    trace_days: float = _s(30.0, "How long `fastmail trace` knows what became of a message; 0: not at all.")
    trace_size: int = _s(4 << 30, "Most disk for that; the oldest goes first.", "size")
    map_size: int = _s(16 << 30, "Largest size of the queue's index (address space, not disk).", "size")
