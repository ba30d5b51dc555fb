"""BODYSTRUCTURE and contents of messages that Python's email package writes, against what that package reads back: types,
nesting, dispositions, and each leaf's octets. Independent of the messages that CPython ships for its own tests, which many
distributions leave out."""

from email import message_from_bytes, policy
from email.message import EmailMessage, Message

from hypothesis import given, settings
from hypothesis import strategies as st

from fastmail._core.lines import to_crlf
from fastmail.message import sections, summary
from tests.support.examples import some

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), max_size=60)
NAMES = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=["Cc"]), min_size=1, max_size=40
)


def plain(value: str, sub: str, encoding: str | None) -> EmailMessage:
    made = EmailMessage(policy=policy.SMTP)
    made["Subject"] = "x"
    made.set_content(value + "\n", subtype=sub, cte=encoding)
    return made


def attached(value: bytes, name: str) -> EmailMessage:
    made = EmailMessage(policy=policy.SMTP)
    made.set_content(value, maintype="application", subtype="octet-stream", filename=name)
    return made


def wrapped(inner: EmailMessage) -> EmailMessage:
    made = EmailMessage(policy=policy.SMTP)
    made.set_content(inner)
    return made


def joined(sub: str, parts: list[EmailMessage]) -> EmailMessage:
    made = EmailMessage(policy=policy.SMTP)
    made["Content-Type"] = f"multipart/{sub}"
    for part in parts:
        made.attach(part)
    return made


LEAVES = st.one_of(
    st.builds(plain, TEXTS, st.sampled_from(["plain", "html", "x-y"]), st.sampled_from(["base64", "quoted-printable"])),
    st.builds(attached, st.binary(max_size=80), NAMES),
)
MESSAGES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(
            joined, st.sampled_from(["mixed", "alternative", "related"]), st.lists(inner, min_size=1, max_size=3)
        ),
        st.builds(wrapped, inner),
    ),
    max_leaves=8,
)


def theirs(part: Message) -> object:
    """Nested lists of types, as the email package reads them; message/rfc822 holds one."""
    if part.get_content_maintype() == "multipart":
        return [part.get_content_subtype(), *map(theirs, part.get_payload())]
    if part.get_content_type() == "message/rfc822":
        return ["message/rfc822", theirs(part.get_payload(0))]  # type: ignore[arg-type]
    return part.get_content_type()


def ours(item: object) -> object:
    """The same of a parsed BODYSTRUCTURE (RFC 9051 7.5.2)."""
    assert isinstance(item, list)
    if isinstance(item[0], list):
        inner = [child for child in item if isinstance(child, list)]
        count = next(at for at, child in enumerate(item) if not isinstance(child, list))
        return [item[count].strip(b'"').decode().lower(), *map(ours, inner[:count])]
    kind = b"/".join(word.strip(b'"') for word in item[:2]).decode().lower()
    return [kind, ours(item[8])] if kind == "message/rfc822" else kind


def leaves(part: Message, path: tuple[int, ...] = ()) -> list[tuple[tuple[int, ...], bytes]]:
    """(part numbers, decoded octets) of each leaf (RFC 9051 6.4.5)."""
    if part.get_content_maintype() == "multipart":
        return [one for n, child in enumerate(part.get_payload(), 1) for one in leaves(child, (*path, n))]
    if part.get_content_type() == "message/rfc822":
        inner = part.get_payload(0)
        below = (path or (1,)) + (() if inner.get_content_maintype() == "multipart" else (1,))
        return leaves(inner, below)  # type: ignore[arg-type]
    return [(path or (1,), part.get_payload(decode=True))]


@settings(max_examples=some(300), deadline=None)
@given(MESSAGES)
def test_structure_and_contents_agree(made: EmailMessage) -> None:
    wire = made.as_bytes()
    content = wire.replace(b"\r\n", b"\n")
    back = message_from_bytes(wire, policy=policy.compat32)
    found = summary.of(content)
    assert ours(sections._parse(found.structure)) == theirs(back)
    assert sections.extract(content, found, (), b"", ()) == to_crlf(content)
    for path, octets in leaves(back):
        assert sections.extract(content, found, path, b"BINARY", ()) == octets, path
