"""Every setting: name, type, default and help in one place. ``reference()`` prints them as a commented TOML file.

Kinds: a size is octets or text such as "25 MiB"; a time is seconds or text such as "30m"; the rest are TOML types.
"""

from dataclasses import dataclass, field, fields
from typing import Any

from fastmail.config.directories import Directory, Source
from fastmail.config.setting import setting as _s
from fastmail.config.strangers import Strangers


@dataclass(slots=True)
class Server:
    """The machine and its processes."""

    hostname: str = _s("localhost", "Name in greetings, Received fields and certificates; what the MX record says.")
    data_dir: str = _s("data", "Index, directory and, by default, mail. Relative to this file.")
    run_dir: str = _s("", "Sockets and pid file while running. Empty: `run` under data_dir.")
    workers: int = _s(0, "Worker processes; 0 for one per core.")
    delivery_workers: int = _s(
        0, "Workers that take SMTP (25) and LMTP; 0 for one of each four: syncs are shared best in one."
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
class Auth:
    """Logins."""

    plaintext_without_tls: bool | str = _s(
        False, 'Allow passwords without TLS: false, "loopback" (only from this machine) or true.', "plaintext"
    )
    default_domain: str = _s("", "Domain that completes a login name without an @.")
    mechanisms: list[str] = _s(
        ["PLAIN", "LOGIN"],
        "SASL mechanisms: PLAIN, LOGIN, SCRAM-SHA-256, SCRAM-SHA-1 and both with -PLUS, OAUTHBEARER, XOAUTH2, "
        "EXTERNAL. SCRAM needs keys that an account gets with a password set here; one that was imported as a hash "
        "has none, and programs that prefer SCRAM would fail with it. Tokens need [oauth]; EXTERNAL needs [tls] "
        "client_ca, and certificates with the account's address as an e-mail name.",
    )
    upgrade_hashes: bool = _s(
        True,
        "Keep imported passwords as argon2id, with keys for SCRAM, when their owners log in; not where another program "
        "keeps the accounts.",
    )
    admins: list[str] = _s([], "Accounts that may set quotas and access control lists of others by IMAP.")
    master_users: bool = _s(
        False,
        "Accounts with the role server or domain (`fastmail account set ... role=`) may open the mailboxes of others, "
        "or of those of the domains that they administer, by IMAP and POP3: SASL PLAIN with the other's address as "
        "authorization identity. Never those of accounts with a role, or of admins. Each such login is in `fastmail "
        "audit`.",
    )
    master_user_separator: str = _s(
        "",
        'A character with which master users may also log in: with "*", the login user*master and the password of the '
        "master user is what the authorization identity user is with the login master. By IMAP and POP3; it needs "
        "master_users. Empty: no such logins. A name with this character in it is always taken apart at the first one.",
    )
    header_senders: str = _s(
        "refuse",
        "What happens to a user's message whose From, Sender, Resent-From or Resent-Sender names an address that does "
        'not belong to the login (its own, with any +detail, or an alias of it): "refuse", "log" (it is sent, and the '
        'log says so) or "off". MAIL FROM must belong to it always.',
    )
    send_as: list[str] = _s(
        [],
        'Exceptions, for MAIL FROM and the header: "LOGIN ADDRESS...", both an address or @domain, ADDRESS also * for '
        'any: "office@example.org boss@example.org", "@example.org @example.org", "list@example.org *".',
    )
    threads: int = _s(2, "Threads that check passwords in each worker.")


@dataclass(slots=True)
class Oauth:
    """Tokens for OAUTHBEARER and XOAUTH2: who gives them out, and how they are checked."""

    jwks: str = _s("", "Keys of signed tokens (JWT): a file, or an https URL.")
    introspection: str = _s("", "Or where to ask about tokens (RFC 7662): an https URL; http on this machine.")
    client: str = _s("", "Name to ask with.")
    client_secret_file: str = _s("", "File with the password to ask with.")
    private_servers: bool = _s(
        False,
        "The servers of jwks and introspection may have private addresses; one called localhost may anyway.",
    )
    issuer: str = _s(
        "", "Who must have issued a token, as it says itself or its server says of it. Empty: not checked."
    )
    audience: str = _s("", "Whom a token must be for, in the same way. Empty: not checked.")
    scope: str = _s("", "What a token must allow, names between spaces.")
    claim: str = _s("email", "What in a token is the account's address; one with email_verified = false is nobody's.")
    openid_configuration: str = _s("", "URL told to programs whose token is refused.")


@dataclass(slots=True)
class Store:
    """Mailboxes."""

    content: str = _s(
        "maildir",
        'How new messages are kept: "maildir" (a file each, shared with other programs) or "segments" (many to a file, '
        "faster). What is there stays readable after a change; `fastmail content convert` moves it.",
    )
    shared: str = _s(
        "none",
        '"dovecot": Dovecot may serve the same Maildirs at the same time; UIDs and keywords are kept in its files, '
        'under its locks (docs/migration.md). "none": only programs that deliver, read or change files do.',
    )
    maildir: str = _s("mail/{domain}/{user}", "Each account's Maildir; under data_dir unless absolute.")
    read_only: bool = _s(
        False, "Show mail and change nothing in the Maildirs: for looking at them beside another server."
    )
    homes: str = _s(
        "",
        "Directory below which the homes of users lie, where the source of accounts says them: {home} may be used in "
        "maildir then, and what the source says of their mail counts.",
    )
    shards: int = _s(1, "Index environments; fixed once there is mail.")
    index_map_size: int = _s(64 << 30, "Largest size of one index environment (address space, not disk).", "size")
    expunge_grace: float = _s(
        300.0,
        "How long an expunged message stays readable for other sessions that were not told of it yet (RFC 2180 4.1); "
        "0: not at all. Its space is free after that, or as soon as it is needed.",
        "time",
    )
    search_index: bool = _s(
        True,
        "Keep a full-text index of accounts that search in texts: the first search of a mailbox fills it, later mail "
        "is put in, removed mail taken out. docs/search.md says more.",
    )
    shared_accounts: list[str] = _s(
        [],
        "Accounts whose mailboxes their domain sees under Shared/, each as its access control lists say (IMAP SETACL); "
        "what others share is under Other Users/.",
    )
    anyone: str = _s(
        "list",
        'What becomes of rights that users give to "anyone", everybody in their domain: "list" (everybody sees such '
        'mailboxes), "subscribed" (those who subscribed to them do; others may open them by name) or "off" (only '
        "shared_accounts may give such rights).",
    )
    control: str = _s(
        "",
        "Where the server before kept UIDs and subscriptions, if not in the Maildirs: a template as above (Dovecot's "
        "CONTROL=).",
    )
    indexes: str = _s(
        "",
        "Where a Dovecot before has its index files, if not in the Maildirs: a template as above (INDEX=). Keywords "
        "that file names have no letters for are read from there when a mailbox is seen first.",
    )
    prefix: str = _s(
        "",
        'What the names of all mailboxes but INBOX begin with, as clients see it, such as "INBOX."; for users who come '
        "from Courier, or from a Dovecot with such a namespace. It ends with the separator.",
    )
    layout: str = _s(
        "maildir++",
        'How folders lie in a Maildir: "maildir++" (.A.B, as Dovecot, Courier and others have it) or "fs" (A/B, '
        "Dovecot's LAYOUT=fs; names may have dots in them then, where the separator is a slash). Fixed once there is "
        "mail.",
    )
    utf8_names: bool = _s(
        False, "Names of folders on disk are in UTF-8, not in modified UTF-7 (Dovecot's UTF-8, mailbox_list_utf8)."
    )
    separator: str = _s("/", 'Between levels of mailbox names, as clients see it: "/" or ".".')


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
class Filters:
    """Milters, such as rspamd, OpenDKIM or ClamAV: they see each connection, command and message before the answer."""

    smtp: list[str] = _s([], 'For mail from other servers: "host:port" or "unix:path", asked in this order.', "places")
    submission: list[str] = _s([], "For mail from users.", "places")
    lmtp: list[str] = _s([], "For mail by LMTP.", "places")
    timeout: float = _s(30.0, "Longest time that one filter may take for an answer.", "time")
    otherwise: str = _s("tempfail", 'What happens when a filter is away: "tempfail", "accept" or "reject".')


@dataclass(slots=True)
class Policy:
    """What is thought of mail that comes in by port 25 from others: docs/trust.md."""

    spf: bool = _s(True, "Check whether the host may send for the domains of HELO and MAIL FROM (SPF).")
    dkim: bool = _s(True, "Verify signatures (DKIM).")
    dmarc: bool = _s(True, "Compare the author's domain with what SPF and DKIM vouch for (DMARC).")
    arc: bool = _s(True, "Verify the chain of those who passed a message on (ARC).")
    reverse_dns: bool = _s(True, "Look whether the name of the client's address leads back to it.")
    enforce: bool = _s(
        False,
        "Act upon the verdict: put unwanted mail into Junk, and refuse what is to be refused. Otherwise it is only "
        "written down, in Authentication-Results and in `fastmail trace`.",
    )
    junk_score: float = _s(5.0, "Score from which a message is junk.")
    refuse_score: float = _s(15.0, "Score from which a message is refused.")
    forward_junk: bool = _s(
        False,
        "Forward what is junk, too. Otherwise an address that keeps a copy has it in Junk and does not forward it, and "
        "what nobody would have here is refused. Mailing lists keep junk for their owners either way.",
    )
    subject_tag: str = _s(
        "",
        'What is put in front of the subject of junk, such as "[SPAM]"; empty: nothing. Signatures of the message hold '
        "no longer then, so what is forwarded keeps its subject. Needs enforce.",
    )
    subject_score: float = _s(0.0, "Score from which that is done, also below junk_score; 0: where a message is junk.")
    quarantine_score: float = _s(
        0.0,
        "Score from which a message is kept in quarantine in place of mailboxes, such as 10.0, until `fastmail "
        "quarantine` releases or deletes it; 0: never. Needs enforce.",
    )
    quarantine_days: float = _s(30.0, "How many days a message stays there; then it is removed.")
    quarantine_size: int = _s(1 << 30, "Most disk for that. When it is full, senders try again later.", "size")
    greylist_score: float = _s(
        0.0,
        "Score from which a message of an unknown sender is put off at first (greylisting), such as 1.0; 0: never. "
        "Needs enforce.",
    )
    allow: list[str] = _s(
        [],
        "Whose mail is taken whatever its score is: addresses, @domain and .domain (all below it), where SPF, a "
        "signature or DMARC shows that it is theirs, and networks. Domains and accounts have lists of their own, too.",
    )
    block: list[str] = _s(
        [],
        "Whose mail is not taken, in the same forms, also without enforce. postmaster@ and abuse@ still take it.",
    )
    judge_lmtp: bool = _s(
        False,
        "Mail that comes by LMTP is judged too, by scanners, classifier, scores and block lists, with a reply for each "
        "recipient. Off, because the MTA in front of this server has judged it. SPF, DMARC and DNS lists stay its own.",
    )
    blocked: str = _s("refuse", 'What becomes of mail that is blocked: "refuse", or "junk": it goes into Junk.')
    greylist_delay: float = _s(300.0, "How long it is put off.", "time")
    trusted_sealers: list[str] = _s(
        [],
        "Domains of forwarders whose ARC seals count: a DMARC failure does no harm where they saw the message pass.",
    )
    lists: list[str] = _s(
        [],
        'DNS lists of addresses, as "ZONE=CODES*WEIGHT": "zen.spamhaus.org=127.0.0.[2..11]*3". The weight is added to '
        "the score; that of an allow list is negative. A list whose test entries are not right does not count.",
    )
    domain_lists: list[str] = _s(
        [],
        "The same for domains, of HELO, MAIL FROM, From, Reply-To and signatures: "
        '"dbl.spamhaus.org=127.0.1.[2..99]*4".',
    )
    link_lists: list[str] = _s(
        [],
        "The same for what the content names, hosts of URLs and of mail addresses: "
        '"dbl.spamhaus.org=127.0.1.[2..99]*4", "multi.surbl.org=127.0.0.&8*4 org ip". &8 is every octet with that bit; '
        "org: the list has registered domains; ip: it has IP addresses too.",
    )
    exempt: list[str] = _s(
        [],
        "Networks whose mail is not checked, such as a gateway's; [relay] networks and this machine are exempt anyway.",
    )
    received_spf: bool = _s(
        False, "Write what SPF came to into Received-SPF fields too, for programs that read no Authentication-Results."
    )
    lookup_time: float = _s(20.0, "Longest time that the look-ups for a message may take.", "time")
    void_lookups: int = _s(2, "Look-ups of one SPF record that may find nothing (RFC 7208 4.6.4).")
    sign: bool = _s(
        True, "Sign what users and trusted networks send, and reports, where the author's domain has keys (DKIM)."
    )
    feedback_id: str = _s(
        "",
        "Put a Feedback-ID field on what users send, so that Gmail's statistics of complaints (Postmaster Tools) tell "
        "accounts and domains apart: 5 to 15 letters and digits that name this server there. Empty: none.",
    )
    dkim_kinds: list[str] = _s(
        ["rsa"],
        'Kinds of the keys that `fastmail dkim add` makes: "rsa", which everybody verifies, and "ed25519" beside it.',
    )
    dkim_bits: int = _s(2048, "Bits of new RSA keys: 2048 to 4096.")
    dkim_rotate: float = _s(
        0.0,
        'Make a new key when the one in use is that old, such as "180d"; 0: never. The log says which record is to be '
        "published; the new key is used once the DNS has it.",
        "time",
    )
    arc_seal: str = _s(
        "",
        "Domain whose key seals mail of others that is forwarded (ARC), with what was seen of it when it came; empty: "
        "nothing is sealed. Needs arc.",
    )
    dkim_keep: float = _s(
        1209600.0,
        "How long the key before stays in the DNS, at least as long as signatures that were made with it.",
        "time",
    )
    send_reports: bool = _s(
        False,
        "Tell domains that ask for it once a day what was seen of their mail (DMARC aggregate reports). Off until you "
        "say so, because these messages must pass DMARC themselves: SPF or signatures of your domain come first.",
    )
    reports_from: str = _s(
        "", "Whom these reports are from. Empty: postmaster@ this host's name, or the nearest domain here above it."
    )
    failure_reports: bool = _s(
        False,
        "Tell domains that ask for it (ruf=) at once of messages that fail SPF, DKIM or DMARC. Such a report shows "
        "what others wrote to your users: consider whether your law and your users allow that.",
    )
    failure_shows: str = _s(
        "header",
        'What such a report has of the message: "redacted" (its header with the local parts of addresses hashed, and '
        'without subject, names and other words of people), "header" (all of its header) or "message" (the body too).',
    )
    failure_reports_per_domain: int = _s(10, "Failure reports about one domain in an hour.")
    failure_reports_per_hour: int = _s(100, "Failure reports of this server in an hour.")
    reports_address: str = _s(
        "",
        "Address of this server, an account's or an alias, to which others send reports about your domains (rua= of "
        "your DMARC records) and complaints about your users (feedback loops): they are read and summed, for "
        "`fastmail dmarc`. Empty: none are read.",
    )
    keep_reports: bool = _s(True, "Deliver the messages with such reports too. false: only what cannot be read.")


@dataclass(slots=True)
class Learning:
    """A classifier that users teach by moving mail to and from their Junk mailbox: docs/trust.md."""

    enabled: bool = _s(False, "Learn what users move, and ask the classifier about strangers' mail.")
    score: float = _s(
        6.0, "Score of a message that looks altogether like spam; a quarter is taken off one that looks like none."
    )
    messages: int = _s(200, "Messages of each kind, spam and ham, that must be learned before anything is said.")
    words: int = _s(200_000, "Words that are remembered for each account; the rarest and oldest go first.")
    shared: bool = _s(
        False,
        "What users teach counts for everybody, too; otherwise for themselves only, and everybody is taught by "
        "`fastmail learn`. A user could teach what is wrong for others.",
    )


@dataclass(slots=True)
class Scanner:
    """A program that looks at the content of messages, each in a section of its own, [[scanner]]: docs/trust.md."""

    kind: str = _s("", 'What it speaks: "clamav" (clamd), "spamassassin" (spamd) or "rspamd" (its normal worker).')
    address: str = _s("", 'Where it listens: "host:port" or "unix:path".')
    name: str = _s("", "How reasons, the log and the trace call it. Empty: its kind.")
    on: list[str] = _s(
        ["smtp"],
        'Whose mail it looks at: "smtp" (of strangers by port 25, what [policy] checks), "submission" (of users, and '
        "of [relay] networks).",
    )
    timeout: float = _s(20.0, "Longest time for a message, from the wait for its turn to the whole answer.", "time")
    largest: int = _s(
        0,
        "Largest message that it is shown; others are taken without it, and the trace says so. 0: what is usual, "
        "25 MiB for clamav, 500 KiB for spamassassin, 10 MiB for rspamd.",
        "size",
    )
    when_away: str = _s(
        "accept",
        'What happens to a message when it fails: "accept" (the trace says so), "defer" (451, try again later) or '
        '"refuse".',
    )
    virus: str = _s(
        "refuse",
        'What happens to an infected message: "refuse" (554), "junk" (into Junk) or "quarantine"; a user\'s message is '
        "refused.",
    )
    weight: float = _s(1.0, "Its score is multiplied by this before it is added to the others.")
    connections: int = _s(8, "Messages that each worker shows it at once.")
    rewrite_subject: bool = _s(
        False,
        "rspamd's action rewrite subject gives a message the Subject that rspamd says; signatures of that field break.",
    )
    learn_address: str = _s(
        "",
        "Where it learns what users move to and from Junk: the address of rspamd's controller, such as "
        '"127.0.0.1:11334", or of a spamd with --allow-tell. Empty: it is not taught.',
    )
    per_user: bool = _s(False, "It hears for whom it judges and who teaches it, so each user is judged by own lessons.")
    learn_password_file: str = _s("", "File with the password of rspamd's controller. Empty: it asks for none.")


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


@dataclass(slots=True)
class Config:
    """All settings. ``path`` is the file they came from, ``base`` the directory that relative paths start from."""

    server: Server = field(default_factory=Server)
    listen: Listen = field(default_factory=Listen)
    tls: Tls = field(default_factory=Tls)
    auth: Auth = field(default_factory=Auth)
    directory: Directory = field(default_factory=Directory)
    oauth: Oauth = field(default_factory=Oauth)
    store: Store = field(default_factory=Store)
    relay: Relay = field(default_factory=Relay)
    web: Web = field(default_factory=Web)
    filters: Filters = field(default_factory=Filters)
    policy: Policy = field(default_factory=Policy)
    strangers: Strangers = field(default_factory=Strangers)
    learning: Learning = field(default_factory=Learning)
    limits: Limits = field(default_factory=Limits)
    log: Log = field(default_factory=Log)
    certificate: list[Certificate] = field(default_factory=list)
    scanner: list[Scanner] = field(default_factory=list)
    source: list[Source] = field(default_factory=list)
    path: str = ""
    base: str = ""

    @property
    def source_names(self) -> frozenset[str]:
        """The names of the sources of accounts, an empty one for that of [directory]."""
        default = self.directory
        there = [""] if default.passwd_file or default.sql or default.ldap else []
        return frozenset([*there, *(one.name for one in self.source)])


SECTIONS = {
    "server": Server,
    "listen": Listen,
    "tls": Tls,
    "auth": Auth,
    "directory": Directory,
    "oauth": Oauth,
    "store": Store,
    "relay": Relay,
    "web": Web,
    "filters": Filters,
    "policy": Policy,
    "strangers": Strangers,
    "learning": Learning,
    "limits": Limits,
    "log": Log,
}
# sections that may be there several times, with [[ ]]
TABLES = {"certificate": Certificate, "scanner": Scanner, "source": Source}


def in_order(section: Any) -> list[Any]:
    """The settings of a section, its name first."""
    return sorted(fields(section), key=lambda item: item.name != "name")


def shown(value: Any, kind: str) -> str:
    """A value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'
    if isinstance(value, list):
        return "[" + ", ".join(shown(item, "str") for item in value) + "]"
    if kind == "size" and value % (1 << 20) == 0:
        gib = value % (1 << 30) == 0
        return f'"{value >> 30} GiB"' if gib else f'"{value >> 20} MiB"'
    if kind == "time" and value % 60 == 0 and value:
        return f'"{int(value // 60)}m"'
    return str(value)


def dump(config: "Config") -> str:
    """A configuration as a TOML file."""
    out = []
    for name, section in SECTIONS.items():
        out.append(f"[{name}]")
        values = getattr(config, name)
        out += [f"{item.name} = {shown(getattr(values, item.name), item.metadata['kind'])}" for item in fields(section)]
    for name, section in TABLES.items():
        for values in getattr(config, name):
            out.append(f"[[{name}]]")
            out += [
                f"{item.name} = {shown(getattr(values, item.name), item.metadata['kind'])}"
                for item in in_order(section)
            ]
    return "\n".join(out) + "\n"


def reference() -> str:
    """All settings with defaults and help, as a TOML file that changes nothing."""
    out = ["# Every setting of fastmail, with its default.", ""]
    for name, section in SECTIONS.items():
        out.append(f"[{name}]")
        out += [f"# {line}" for line in (section.__doc__ or "").strip().splitlines()]
        for item in fields(section):
            out.append(f"# {item.metadata['help']}")
            out.append(f"{item.name} = {shown(item.metadata['default'], item.metadata['kind'])}")
        out.append("")
    for name, section in TABLES.items():  # none is there at first, so all of it is a comment
        out.append(f"# [[{name}]]")
        out += [f"# {line}" for line in (section.__doc__ or "").strip().splitlines()]
        for item in in_order(section):
            out.append(f"# {item.metadata['help']}")
            out.append(f"# {item.name} = {shown(item.metadata['default'], item.metadata['kind'])}")
        out.append("")
    return "\n".join(out)
