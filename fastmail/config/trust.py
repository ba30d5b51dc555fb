"""Settings of what is thought of mail: [filters], [policy], [learning] and [[scanner]]."""

from dataclasses import dataclass

from fastmail.config.setting import setting as _s


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
