"""Settings of mailboxes: [store]."""

from dataclasses import dataclass

from fastmail.config.setting import setting as _s


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
