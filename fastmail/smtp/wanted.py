"""What recipients ask for about mail from others (policy.wishes): found at RCPT, with the rows that are at hand there,
and acted upon when the content has come. One reply answers for all recipients of a message (RFC 5321 4.1.1.4), so:

1. A recipient whose list blocks the client or MAIL FROM, whatever comes, is refused at RCPT, for itself alone. Mail for
   the postmaster is taken all the same (RFC 5321 4.5.1).
2. A message is refused only where all who would get it refuse it. It is put off only where all others of them ask for
   that, and put into quarantine, for all of them, only where nobody would have it in a mailbox.
3. Otherwise it is taken. Accounts that would refuse it, because of its score or of a list, get it in Junk, as those do
   that call it junk or want it in quarantine; the others in INBOX. Nothing is thrown away, and the trace says what each
   of them wanted.
4. An address whose mail leaves has no Junk. It is not taken together with recipients that ask for something else: the
   client hears 452 at RCPT, and sends to it by itself (RFC 5321 4.5.3.1.10). Where one address leads to accounts and
   elsewhere, the accounts decide. What is junk stays here (delivery.forward), and waits for the owners of a list.
"""

from collections.abc import Sequence

from fastmail.delivery.forward import JUNK_BOX
from fastmail.directory.lookup import ROLES, Destinations, Domains, home
from fastmail.directory.records import Domain
from fastmail.policy.reasons import JUNK, QUARANTINE, REFUSE
from fastmail.policy.received import Received
from fastmail.policy.wishes import Wanted, Wishes, narrowed, refused_at_once
from fastmail.smtp.dialogue import Dialogue
from fastmail.smtp.transaction import Transaction
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

TOLD = 20  # recipients whose outcomes the trace names
INBOX = "INBOX"
IN_JUNK = (JUNK, QUARANTINE, REFUSE)  # actions of a message that others take


def of(session: Dialogue, transaction: Transaction, address: str, there: Destinations) -> list[Wanted]:
    """Return what the accounts behind an address ask for; nothing if mail of this client is not judged. TemporaryError
    if a row is damaged."""
    policy = session.service.policy
    if transaction.receiving is None or policy is None:
        return []
    return behind(session.service.deliverer.directory, policy.wishes, address, there)


def behind(directory: Domains, base: Wishes, address: str, there: Destinations) -> list[Wanted]:
    """The same of any address. ``base``: what the server wants."""
    role = address.partition("@")[0].lower() in ROLES
    if len(there.accounts) == 1:  # nearly always
        (record,) = there.accounts
        row = directory.domain(record.address.rpartition("@")[2])
        return [Wanted(record.address, record.id, narrowed(base, row, record, role))]
    if not there.accounts:
        domain = home(directory, address.rpartition("@")[2])
        return [Wanted(address, 0, narrowed(base, domain, None, role))]
    domains: dict[str, Domain | None] = {}
    out = []
    for record in there.accounts:
        name = record.address.rpartition("@")[2]
        if name not in domains:
            domains[name] = directory.domain(name)
        out.append(Wanted(record.address, record.id, narrowed(base, domains[name], record, role)))
    return out


def refusal(session: Dialogue, transaction: Transaction, address: str, found: Sequence[Wanted]) -> str:
    """Return the reply to RCPT if a list of every account behind the address blocks the message; otherwise empty."""
    sender = transaction.envelope.sender
    for one in found:
        if one.wishes.levels:
            break
    else:
        return ""  # most have no lists
    if not all(refused_at_once(one.wishes, session.host, sender) for one in found):
        return ""
    count("policy.blocked")
    log.event("policy.blocked", peer=session.host, sender=sender, recipient=address)
    domain = address.rpartition("@")[2]
    return f"550 5.7.1 mail from this sender or network is blocked here; postmaster@{domain} takes mail from you"


def apart(transaction: Transaction, there: Destinations, found: Sequence[Wanted]) -> bool:
    """True if a recipient has to come in a transaction of its own, because its mail leaves, or because that of an
    earlier recipient does (rule 4)."""
    before = transaction.wishes
    if not before or not (there.queued or transaction.envelope.forwards):
        return False
    return len(before) > 1 or any(one.wishes not in before for one in found)


def places(received: Received, wanted: Sequence[Wanted]) -> tuple[str, dict[int, str]]:
    """(the mailbox for everybody; the mailboxes of accounts, by their numbers, that get the message elsewhere). An
    account that gets it by two addresses has it in INBOX, if one of them wants it there."""
    if wanted and len(received.each) == 1:  # nearly always all ask for the same
        ((asked, decided),) = received.each
        return (JUNK_BOX if asked.done(decided) in IN_JUNK else INBOX), {}
    done = {wishes: wishes.done(decided) for wishes, decided in received.each}
    junk: dict[int, bool] = {}
    for one in wanted:
        junk[one.number] = junk.get(one.number, True) and done[one.wishes] in IN_JUNK
    if all(junk.values()) if junk else received.enforced(JUNK):
        return JUNK_BOX, {}
    return INBOX, {number: JUNK_BOX for number, there in junk.items() if there and number}


def words(received: Received, wanted: Sequence[Wanted]) -> str:
    """Return the verdict of a message, for its trace, and what each recipient asked for if that differs."""
    if len(received.each) < 2:
        return received.words
    decided = dict(received.each)
    parts = []
    for one in wanted[:TOLD]:
        said = decided[one.wishes]
        why = next((f" ({reason.name}: {reason.why})" for reason in said.reasons if reason.name == said.named), "")
        parts.append(f"{one.address} {one.wishes.done(said)}{why}")
    more = f" and {len(wanted) - TOLD} more" if len(wanted) > TOLD else ""
    return f"{received.words}; recipients differ: {', '.join(parts)}{more}"
