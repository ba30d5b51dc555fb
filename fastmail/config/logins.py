"""Settings of logins: [auth] and [oauth]."""

from dataclasses import dataclass

from fastmail.config.setting import setting as _s


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
