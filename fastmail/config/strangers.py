"""The section [strangers]: what clients may do at port 25 that nobody vouches for, before the content of their mail."""

from collections.abc import Iterator
from dataclasses import dataclass

from fastmail.config.setting import setting as _s


@dataclass(slots=True)
class Strangers:
    """What clients may do at port 25 that nobody vouches for, before the content of their mail: docs/trust.md. Nothing
    of this holds for this machine, [relay] networks, and networks of [policy] exempt and allow."""

    banner_wait: float = _s(
        0.0,
        "How long a client without a good past waits for the greeting, such as 2.0; one that speaks meanwhile is no "
        "mail server. 0: nobody waits.",
        "time",
    )
    early_talkers: str = _s(
        "score",
        "What becomes of a client that speaks before the greeting, or sends on before the answer to EHLO, and has no "
        'good past: "off", "score" or "refuse" (554). Needs banner_wait.',
    )
    hello: str = _s(
        "off",
        'Look at the name in EHLO and at the name of the client\'s address: "off", "score", or "refuse": with [policy] '
        "enforce, mail of a client that calls itself by this server's name or address is refused.",
    )
    sender_domain: str = _s(
        "off",
        'Look whether the domain of MAIL FROM takes mail: "off", "score", or "refuse": with [policy] enforce, mail of '
        "a domain that takes none is refused (550), and put off (450) while that cannot be looked up.",
    )
    unknown_recipients: int = _s(
        0,
        "Unknown recipients in an hour from which a client (IPv6: a /64) guesses addresses, such as 20; each good "
        "message takes one off. 0: never.",
    )
    guessers: str = _s(
        "score",
        'What becomes of a client that guesses: "score", "refuse" (421 until its points have faded) or "ban": it is '
        "kept out as [limits] ban_time says.",
    )
    unknown_in_message: int = _s(0, "Unknown recipients of one message after which a session is ended; 0: any number.")
    tarpit: float = _s(
        0.0,
        "How long a client without a good past, or one that guesses, waits for the reply to each mistake, such as 3.0; "
        "0: not at all.",
        "time",
    )
    tarpit_sessions: int = _s(200, "Sessions of a worker that wait for that at once; more are ended.")
    rates: list[str] = _s(
        [],
        'How much may come in a clock hour: "connections client 600" (an IPv4 address, an IPv6 /64), "messages network '
        '5000" (a /24, a /48), "messages sender 1000" (the domain of MAIL FROM, where SPF vouches for it), "messages '
        'recipient 500".',
    )


CHOICES = {
    "early_talkers": ("off", "score", "refuse"),
    "hello": ("off", "score", "refuse"),
    "sender_domain": ("off", "score", "refuse"),
    "guessers": ("score", "refuse", "ban"),
}


def faults(found: Strangers, spf: bool) -> Iterator[tuple[str, str]]:
    """(key, what is wrong) for each fault. ``spf``: is SPF looked at?"""
    if found.tarpit > 30:
        yield "tarpit", "tarpit must not be above 30 seconds: clients give up"
    if found.banner_wait > 60:
        yield "banner_wait", "banner_wait must not be above 60 seconds: clients give up"
    for text in found.rates:
        from fastmail.policy.strangers import rules  # which a configuration without rates need not load

        try:
            by = rules.rate(text).by
        except ValueError as error:
            yield "rates", str(error)
        else:
            if by == rules.SENDER and not spf:
                yield "rates", f"{text!r} needs [policy] spf: without it nothing shows who sends for a domain"
