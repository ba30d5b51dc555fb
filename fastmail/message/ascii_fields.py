"""Rewrites the value of a header field in ASCII, for programs that know no UTF-8 there (RFC 6857 3).

What has a form in ASCII keeps its meaning: texts and names become encoded words (RFC 2047), domains A-labels (RFC
5891), parameters the form of RFC 2231. An address whose local part is not ASCII has none; it is shown as the name of an
empty group (RFC 6854), which nobody can answer. A value that does not follow its grammar is taken for a text, and so
is one of more than LONGEST characters. Linear in the value.
"""

import re
from urllib.parse import quote

from fastmail.message.authors import Token, Unreadable, tokens
from fastmail.message.encoded import unstructured, words
from fastmail.model.domain import ascii_name
from fastmail.model.errors import BadAddress

LONGEST = 1 << 17  # characters of a value whose structure is read
CHUNK = 60  # octets of a parameter's value in one line (RFC 2231 3)
NOT_ESCAPED = "!#$&+^`{|}"  # beside letters, digits and "_.-~": attribute characters of RFC 2231 7
_PARAMETER = re.compile(r'"(?:[^"\\]|\\.)*"?|[^";]+|;', re.DOTALL)
_NAME = re.compile(r"[^\s@<>()\[\];:,]+")  # what may be a domain name
_CLAUSES = ("for", "id")  # of Received, which are left out where they are not ASCII (RFC 6857 3.2.4)
Mailbox = tuple[str, str, bool]  # as it is in ASCII, as it was written, whether its address is lost


def addresses(text: str) -> str:
    """A list of addresses (RFC 6857 3.2.1)."""
    try:
        if len(text) > LONGEST:
            raise Unreadable("it is too long")
        out = _addresses(text)
    except Unreadable:
        return f" {words(text.strip())} :;"
    return " " + ",\n ".join(out)


def _addresses(text: str) -> list[str]:
    """Return the addresses and groups of a list. Raises Unreadable."""
    out: list[str] = []
    item: list[Token] = []
    group: str | None = None  # the name of the group that is read
    members: list[Mailbox] = []
    angle = False
    for token in [*tokens(text), (",", ",")]:
        kind = token[0]
        if kind == "<" and angle:
            raise Unreadable("an angle bracket is in a wrong place")
        angle = kind != ">" and (angle or kind == "<")
        if angle or kind not in (",", ";", ":"):
            item.append(token)
            continue
        if kind == ":":
            if group is not None:
                raise Unreadable("groups do not nest")
            group = _phrase(item)
        elif any(one[0] not in ("space", "comment") for one in item):
            made = _mailbox(item)
            if group is not None:
                members.append(made)
            else:
                out.append(made[0])
        if kind == ";" and group is not None:
            out.append(_group(group, members))
            group, members = None, []
        item = []
    if group is not None or angle:
        raise Unreadable("it does not end")
    return out


def _group(name: str, members: list[Mailbox]) -> str:
    """RFC 6857 3.1.7: a group with an address that is lost keeps the text of its list only."""
    if any(lost for _, _, lost in members):
        return f"{name} {words(', '.join(shown for _, shown, _ in members))} :;"
    return f"{name}: {', '.join(made for made, _, _ in members)};"


def _mailbox(item: list[Token]) -> Mailbox:
    """RFC 6857 3.1.5, 3.1.8: ``name <address>``, an address, or a name alone, with comments."""
    comments = "".join(f" {_comment(text)}" for kind, text in item if kind == "comment")
    kinds = [kind for kind, _ in item]
    shown = "".join(text for _, text in item).strip()
    if "<" in kinds:
        start = kinds.index("<")
        end = kinds.index(">")  # the caller saw that there is one
        if any(kind not in ("space", "comment") for kind in kinds[end + 1 :]):
            raise Unreadable("an address does not end where its bracket does")
        name, inner = item[:start], item[start + 1 : end]
    elif "@" in kinds:
        name, inner = [], item
    else:
        return _phrase(item) + comments, shown, False
    address = "".join(text for kind, text in inner if kind not in ("space", "comment"))
    form = _address(address)
    if form is None:
        return f"{_phrase(name, ' ')} {words(address)} :;{comments}".lstrip(), shown, True
    if "<" not in kinds:
        return form + comments, shown, False
    return f"{_phrase(name)} <{form}>{comments}".lstrip(), shown, False


def _address(address: str) -> str | None:
    """Return an address with its domain in A-labels; None where that is not enough for ASCII."""
    if address.isascii():
        return address
    local, at, domain = address.rpartition("@")
    try:
        form = local + at + ascii_name(domain)
    except BadAddress:
        return None
    return form if form.isascii() else None


def _phrase(item: list[Token], end: str = "") -> str:
    """Return a display name: as it was written where that is ASCII, else encoded, with ``end`` at its end."""
    written = "".join(text for kind, text in item if kind != "comment").strip()
    if written.isascii():
        return written
    plain = (
        re.sub(r"\\(.)", r"\1", text[1:-1]) if kind == "quoted" else text for kind, text in item if kind != "comment"
    )
    return words(" ".join("".join(plain).split()) + end)


def _comment(text: str) -> str:
    """RFC 6857 3.1.3: a comment, with its brackets."""
    return text if text.isascii() else f"({words(text[1:-1])})"


def with_comments(text: str) -> str:
    """A value of which only comments may be other than ASCII (RFC 6857 3.2.2); what else is not stays as it is."""
    if len(text) > LONGEST:
        return text
    try:
        return "".join(_comment(part) if kind == "comment" else part for kind, part in tokens(text))
    except Unreadable:
        return text


def received(text: str) -> str:
    """RFC 6857 3.2.4: domains and comments; a clause that can not be ASCII is left out."""
    if len(text) > LONGEST:
        return unstructured(text)
    out: list[str] = []
    for piece in re.findall(r"\s+|\S+", _NAME.sub(_with_labels, with_comments(text))):
        if piece.isascii():
            out.append(piece)
            continue
        if len(out) > 1 and out[-1].isspace() and out[-2].lower() in _CLAUSES:
            del out[-2:]
        out += [";"] * piece.endswith(";")
    return "".join(out)


def _with_labels(found: re.Match[str]) -> str:
    """Return a domain name in A-labels; what is none, such as a local part, as it is."""
    name = found.group()
    if name.isascii() or "." not in name or found.string[found.end() : found.end() + 1] == "@":
        return name
    try:
        return ascii_name(name)
    except BadAddress:
        return name


def mime(text: str) -> str:
    """Content-Type and Content-Disposition (RFC 6857 3.1.4, 3.2.5). What cannot be said there is left out (RFC 6858
    2.2)."""
    if len(text) > LONGEST:
        return unstructured(text)
    found: list[list[str]] = [[]]
    for part in _PARAMETER.findall(text):
        if part == ";":
            found.append([])
        else:
            found[-1].append(part)
    pieces = ["".join(one) for one in found]
    names = {one.partition("=")[0].strip().lower() for one in pieces}
    out = [pieces[0] if pieces[0].isascii() else "".join(c for c in pieces[0] if c.isascii())]
    for piece in pieces[1:]:
        if piece.isascii():
            out.append(piece)
            continue
        name, is_one, value = (part.strip() for part in piece.partition("="))
        # another parameter may say the same in the form of RFC 2231
        if (
            is_one
            and name
            and name.isascii()
            and "*" not in name
            and not names & {f"{name}*".lower(), f"{name}*0*".lower()}
        ):
            out += _parameter(name, value)
    return ";".join(out)


def _parameter(name: str, value: str) -> list[str]:
    """Return a parameter in the form of RFC 2231 4, in pieces where it is long (3)."""
    if value[:1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:].removesuffix('"'))
    left = "utf-8''" + quote(" ".join(value.split()), safe=NOT_ESCAPED)
    if len(left) <= CHUNK:
        return [f"\n {name}*={left}"]
    out: list[str] = []
    at = 0
    while at < len(left):
        end = at + CHUNK
        cut = left.rfind("%", end - 2, end)  # not within %XX
        end = cut if cut >= 0 else end
        out.append(f"\n {name}*{len(out)}*={left[at:end]}")
        at = end
    return out


def keywords(text: str) -> str:
    """RFC 6857 3.2.7: phrases with commas between them."""
    return ",".join(unstructured(one) for one in text.split(","))
