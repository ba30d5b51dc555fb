"""How mail from others is judged for one recipient: scores, greylisting, whether the verdict is acted upon, and lists
of senders and networks that are allowed or blocked.

Three levels say it: the server ([policy]), the domain and the account. The nearest one that has a value counts, each
value by itself. Of the lists, the nearest level with an entry that fits decides; within a level the most exact entry
does (directory.named), and of two that are equally exact the one that blocks.

- **Allowed** senders must be shown to be the sender (``Who.shown``): a forged address gets nothing. Networks are always
  believed. Mail that is allowed is delivered whatever its score is, but for what findings want always, as of viruses.
- **Blocked** mail is refused or goes into Junk, also where verdicts are only written down, because somebody named it.
  That a message says it is from there is enough. Mail for a role (postmaster, abuse) is not blocked, so that who is
  blocked by mistake can say so (RFC 5321 4.5.1).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from fastmail.directory.named import NOBODY, Book, Fit, book
from fastmail.directory.records import TO_JUNK, Account, Domain
from fastmail.message import authors
from fastmail.model.domain import comparable
from fastmail.policy import verdict
from fastmail.policy.reasons import ACCEPT, JUNK, QUARANTINE, RANK, REFUSE, TAKEN, WORDS, Reason, Reply
from fastmail.policy.verdict import Checks, Thresholds, Verdict

ALLOWED, BLOCKED = "allowed", "blocked"  # Verdict.named, and the names of these reasons
SERVER, DOMAIN, ACCOUNT = "the server", "the domain", "the account"
GREYLIST = 1.0  # score for a domain or an account that wants greylisting, where the server has none
VALUES = ("junk_score", "refuse_score", "greylist", "enforce")
REFUSED: Reply = (550, "5.7.1", "mail from this sender or network is not taken here; the postmaster may help")


@dataclass(frozen=True, slots=True)
class Level:
    """The lists of one level. ``junk``: what is blocked goes into Junk; otherwise it is refused."""

    whose: str
    allow: Book = NOBODY
    block: Book = NOBODY
    junk: bool = False


class Wishes(msgspec.Struct, frozen=True, cache_hash=True):
    """What is asked for one recipient. ``greylist``: the score from which unknown senders are put off, 0 for never;
    ``levels``: those that have lists, the nearest first; ``junk``: what the server blocks goes into Junk; ``role``: for
    a postmaster or abuse address."""

    enforce: bool = False
    thresholds: Thresholds = Thresholds()
    greylist: float = 0.0
    levels: tuple[Level, ...] = ()
    junk: bool = False
    role: bool = False

    def done(self, decided: Verdict) -> str:
        """The action that a verdict leads to for this recipient."""
        return decided.action if self.enforce else decided.always


class Wanted(msgspec.Struct, frozen=True):
    """What is asked for one account, whose ``number`` is given, or for an address whose mail only leaves (0)."""

    address: str
    number: int
    wishes: Wishes


class Who(msgspec.Struct, frozen=True):
    """Who a message is from: the client, the addresses in MAIL FROM and From, and those of them that are shown to be
    the sender's."""

    ip: str
    named: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()


def narrowed(base: Wishes, domain: Domain | None, account: Account | None, role: bool = False) -> Wishes:
    """The server's wishes with those of a domain and an account; the same object where these have none."""
    found = base
    junk = base.junk
    # Nearly always both ask for nothing. Each has its own function: the interpreter is quick where it meets one type.
    if (domain is None or _silent_domain(domain)) and (account is None or _silent_account(account)):
        return replace(base, role=True) if role and base.levels else base
    for whose, row in ((DOMAIN, domain), (ACCOUNT, account)):
        if row is None:
            continue
        if not (row.junk_score is row.refuse_score is row.greylist is row.enforce is None):
            found = _with_values(found, base.greylist or GREYLIST, row)
        junk = row.blocked == TO_JUNK if row.blocked else junk
        if row.allow or row.block:
            level = Level(whose, book(row.allow), book(row.block), junk)
            found = replace(found, levels=(level, *found.levels))
    return replace(found, role=True) if role and found.levels else found


def _silent_domain(row: Domain) -> bool:
    """True if a row asks for nothing."""
    values = row.junk_score is row.refuse_score is row.greylist is row.enforce is None
    return values and not row.blocked and not row.allow and not row.block


def _silent_account(row: Account) -> bool:
    """The same of an account."""
    values = row.junk_score is row.refuse_score is row.greylist is row.enforce is None
    return values and not row.blocked and not row.allow and not row.block


def _with_values(found: Wishes, greylist: float, row: Domain | Account) -> Wishes:
    limits = found.thresholds
    junk = row.junk_score if row.junk_score is not None else limits.junk
    refuse = row.refuse_score if row.refuse_score is not None else limits.refuse
    return replace(
        found,
        enforce=row.enforce if row.enforce is not None else found.enforce,
        thresholds=replace(limits, junk=junk, refuse=refuse),
        greylist=found.greylist if row.greylist is None else greylist if row.greylist else 0.0,
    )


def told(domain: Domain | None, account: Account | None) -> Iterator[tuple[str, str]]:
    """(setting, the level that says what it is), for people."""
    for name in VALUES:
        rows = ((ACCOUNT, account), (DOMAIN, domain))
        yield name, next((whose for whose, row in rows if row is not None and getattr(row, name) is not None), SERVER)


# ---------------------------------------------------------------- lists


def _decides(wishes: Wishes, who: Who) -> tuple[Level, Fit, bool] | None:
    """(level, entry, is it allowed) of the entry that decides; None where none fits."""
    for level in wishes.levels:
        allow = level.allow.fit(who.ip, who.shown)
        block = level.block.fit(who.ip, who.named) if not wishes.role else None
        if allow is not None and (block is None or allow.exact > block.exact):
            return level, allow, True
        if block is not None:
            return level, block, False
    return None


def refused_at_once(wishes: Wishes, ip: str, sender: str) -> bool:
    """True if a list refuses a message whatever its content is. Only the client and MAIL FROM are known yet: where an
    author could be more exact, or is to be put into Junk by a nearer level, that has to wait."""
    if wishes.role:
        return False
    for level in wishes.levels:
        block, allow = level.block.fit(ip, (sender,)), level.allow.network(ip)
        if block is not None:
            outweighed = block.exact < level.allow.most or (allow is not None and block.exact < allow.exact)
            return not outweighed and not level.junk
        if allow is not None or level.allow.most or (level.junk and level.block.most):
            return False
    return False


def judged(checks: Checks, wishes: Wishes, who: Who) -> Verdict:
    """What to do with a message for one recipient."""
    return listed(verdict.decide(checks, wishes.thresholds), wishes, who)


def listed(decided: Verdict, wishes: Wishes, who: Who) -> Verdict:
    """The same by what was decided without lists of senders and networks."""
    found = _decides(wishes, who) if wishes.levels else None
    if found is None:
        return decided
    level, fit, allowed = found
    why = f"{fit.entry}, by {level.whose}"[:WORDS]
    why_too = (*decided.reasons, Reason(ALLOWED if allowed else BLOCKED, 0.0, why))
    always = decided.always, decided.always_reply
    if allowed:
        action, reply = always
        return replace(decided, action=action, reply=reply, reasons=why_too, override="", named=ALLOWED)
    wanted = (JUNK, TAKEN) if level.junk else (REFUSE, REFUSED)
    action, reply = _stricter((decided.action, decided.reply), wanted)
    more, more_reply = _stricter(always, wanted)
    if not wishes.enforce:  # a list counts all the same, and nothing else does
        action, reply = more, more_reply
    return replace(
        decided, action=action, reply=reply, reasons=why_too, always=more, always_reply=more_reply, named=BLOCKED
    )


def _stricter(one: tuple[str, Reply], other: tuple[str, Reply]) -> tuple[str, Reply]:
    return other if RANK[other[0]] > RANK[one[0]] else one


# ---------------------------------------------------------------- what follows from verdicts


def all_put_off(each: Mapping[Wishes, Verdict], suspect: bool) -> bool:
    """True if everybody who does not refuse a message, and somebody does not, wants unknown senders to be put off, and
    the message has a score for that or is ``suspect`` to a scanner."""
    taking = {one: decided for one, decided in each.items() if one.done(decided) != REFUSE}
    return bool(taking) and all(_puts_off(one, decided, suspect) for one, decided in taking.items())


def all_good(each: Mapping[Wishes, Verdict], suspect: bool) -> bool:
    """True if nothing speaks against a message, whoever gets it."""
    return not suspect and all(one.action == ACCEPT and one.score <= 0 for one in each.values())


def _puts_off(wanted: Wishes, decided: Verdict, suspect: bool) -> bool:
    """True if a message is put off for a recipient where its sender is not known. ``suspect``: a scanner wants that."""
    if not wanted.enforce or wanted.greylist <= 0 or decided.action != ACCEPT or decided.named:
        return False
    return suspect or wanted.greylist <= decided.score


def tagged(each: Mapping[Wishes, Verdict], score: float) -> bool:
    """True if the subject of a message gets a tag: all who take it have the same content, so each of them must want
    that. ``score``: from where on it gets one; 0: where it is junk, by whatever reason. Who only has verdicts written
    down has no subject changed, also where a list blocks the message; and who allows its sender has none changed."""
    return all(_tagged(wanted, decided, score) for wanted, decided in each.items())


def _tagged(wanted: Wishes, decided: Verdict, score: float) -> bool:
    if not wanted.enforce or decided.named == ALLOWED:
        return False
    return score <= decided.score if score > 0 else wanted.done(decided) in (JUNK, QUARANTINE, REFUSE)


# ---------------------------------------------------------------- senders


def who(ip: str, sender: str, written: Iterable[bytes], checks: Checks) -> Who:
    """Who a message is from. ``sender``: MAIL FROM; ``written``: the values of its From fields; one that cannot be read
    names nobody. The sender of the envelope is shown by SPF or by a signature of its domain, authors by DMARC; where
    their domain has no policy, as the sender is."""
    found = _authors(written)
    passed = {one.domain for one in checks.dkim or () if one.result == "pass"}
    spf = checks.sender
    if spf is not None and spf.vouches:
        passed.add(spf.domain)
    shown = [sender] if sender and _covers(passed, sender) else []
    dmarc = checks.dmarc
    if not checks.nobody:
        open_ = dmarc is None or dmarc.result == "none"
        passes = dmarc is not None and dmarc.result == "pass"
        shown += [one for one in found if passes or (open_ and _covers(passed, one))]
    return Who(ip, (sender, *found) if sender else found, tuple(shown))


def _authors(written: Iterable[bytes]) -> tuple[str, ...]:
    out: list[str] = []
    for value in written:
        try:
            out += authors.parse(value.decode("utf-8", "surrogateescape"))
        except authors.Unreadable:
            continue
    return tuple(out[: authors.ADDRESSES])


def _covers(passed: Iterable[str], address: str) -> bool:
    """Is the domain of an address one of these, or below one?"""
    domain = comparable(address.rpartition("@")[2])
    return any(domain == one or domain.endswith(f".{one}") for one in map(comparable, passed))
