"""What becomes of Dovecot's certificates: that of all clients, and those of names (``local_name``)."""

from collections.abc import Iterator

from fastmail.migrate.plan import BLOCKS, MISSING, NOTICED, SAME, Block, Finding, Plan, quoted
from fastmail.model.domain import ascii_name
from fastmail.model.errors import BadAddress

_FILES = (("ssl_cert", "ssl_server_cert_file"), ("ssl_key", "ssl_server_key_file"))
_HIDDEN = "# hidden"  # what doveconf says in place of a key, unless it is run with -P
_PARTS = ("local", "local_name", "protocol")  # sections that may have a certificate of their own


def _pair(block: Block) -> tuple[str, str]:
    """The files of a section, certificate and key, as far as it names them."""
    certificate, key = (block.get(*names).lstrip("<").strip() for names in _FILES)
    return certificate, "" if key.startswith(_HIDDEN) else key


def _is_hidden(block: Block) -> bool:
    return block.get(*_FILES[1]).startswith(_HIDDEN) or any(map(_is_hidden, block.blocks))


def take(conf: Block, out: Plan, settings: dict[str, dict[str, str]]) -> str:
    """[tls], into ``settings``. Returns the sections [[certificate]], empty for none."""
    pair = _pair(conf)
    named = list(_named(conf, pair, "", out))
    if _is_hidden(conf):
        out.findings.append(Finding("certificate", "a key is not shown", "run `doveconf -nP`, which shows it", BLOCKS))
    if all(pair):
        out.findings.append(Finding("certificate", pair[0], "the same files", SAME))
    elif pair[0]:
        out.findings.append(Finding("certificate", pair[0], "its key is needed too: [tls] key", BLOCKS))
    elif named:
        pair = named[0][0]
        out.findings.append(Finding("certificate", "for names only", f"{pair[0]} for all other names", NOTICED))
    else:
        out.findings.append(Finding("certificate", "none", "[tls] certificate and key are needed for imaps", NOTICED))
    if all(pair):
        settings["tls"] = {"certificate": quoted(pair[0]), "key": quoted(pair[1])}
    if conf.get("ssl_min_protocol") == "TLSv1.3":
        settings["tls"]["minimum_version"] = '"1.3"'
    elif conf.get("ssl_min_protocol") in ("TLSv1", "TLSv1.1", "ANY"):
        out.findings.append(Finding("TLS", conf.get("ssl_min_protocol"), "at least 1.2", NOTICED))
    return "".join(_section(*one) for one in named)


def _named(block: Block, above: tuple[str, str], where: str, out: Plan) -> Iterator[tuple[tuple[str, str], list[str]]]:
    """Certificates and their names in the sections of ``block``, whose own files are ``above``. No names: those in
    the certificate."""
    for inner in block.blocks:
        if inner.kind not in _PARTS:
            continue
        place = f"{where} {inner.kind} {inner.name}".strip()
        own = _pair(inner)
        pair = own[0] or above[0], own[1] or above[1]
        if own[0] and not pair[1]:
            out.findings.append(Finding(place, own[0], "certificate and key go together", MISSING))
        elif own[0] and inner.kind == "local_name":
            names = _names(inner.name, place, out)
            if names:
                out.findings.append(Finding(place, pair[0], "[[certificate]] with the same files and names", SAME))
                yield pair, names
        elif own[0]:
            say = "[[certificate]]: it goes by the names in the certificate, which clients ask for"
            out.findings.append(Finding(place, pair[0], say, NOTICED))
            yield pair, []
        yield from _named(inner, pair, place, out)


def _names(said: str, place: str, out: Plan) -> list[str]:
    names = []
    for name in said.replace('"', " ").split():
        try:
            ascii_name(name.removeprefix("*."))
            names.append(name)
        except BadAddress:
            out.findings.append(Finding(place, name, "no name of a host: left out", MISSING))
    return names


def _section(pair: tuple[str, str], names: list[str]) -> str:
    more = f"names = [{', '.join(map(quoted, names))}]\n" if names else ""
    return f"\n[[certificate]]\ncertificate = {quoted(pair[0])}\nkey = {quoted(pair[1])}\n{more}"
