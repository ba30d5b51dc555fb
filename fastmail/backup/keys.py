"""Private keys that mail is signed with (DKIM), in a backup and out of it.

They lie in ``directory.json``, which is as secret as the hashes of passwords beside them. Without them mail of a
restored domain would go unsigned until new ones are in the DNS.

Promise: a key comes back to the place that its domain and selector give it, never to one that a backup names, and over
no file that is there; the same key may be there already, from a restore that was cut short. What cannot come back is
left out of the domain, so that its row names no file that is missing.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress

import msgspec

from fastmail.directory.records import REVOKED, DkimKey, Domain
from fastmail.policy import keyfiles
from fastmail.policy.dkim import BadSignature, selector_of
from fastmail.policy.keyfiles import KeyTrouble
from fastmail.telemetry import log


def texts(domains: Iterable[Domain], data_dir: str) -> dict[str, str]:
    """The private keys of these domains, PEM by place. One that cannot be read is left out, and the log says so."""
    out = {}
    for domain in domains:
        for key in domain.dkim:
            if key.state == REVOKED:
                continue
            try:
                out[key.file] = keyfiles.text_of(data_dir, key.file).decode("ascii", "replace")
            except KeyTrouble as error:
                log.event("backup.key", "warning", domain=domain.name, selector=key.selector, error=error)
    return out


def restored(domain: Domain, saved: Mapping[str, str], data_dir: str) -> Domain:
    """The domain with the keys that came back. Waits for the disk."""
    kept = tuple(key for key in domain.dkim if _is_back(domain, key, saved, data_dir))
    return msgspec.structs.replace(domain, dkim=kept)


def _is_back(domain: Domain, key: DkimKey, saved: Mapping[str, str], data_dir: str) -> bool:
    with suppress(BadSignature):
        if key.selector != selector_of(key.selector) or key.file != keyfiles.place_of(domain.name, key.selector):
            return False
        if key.state == REVOKED:
            return True
        text = saved.get(key.file, "").encode("ascii", "replace")
        try:
            if text and _is_there(data_dir, key.file, text):
                return True
            if text:
                keyfiles.store(data_dir, key.file, text)
                return True
        except KeyTrouble as error:
            log.event("restore.key", "warning", domain=domain.name, selector=key.selector, error=error)
    return False


def _is_there(data_dir: str, place: str, text: bytes) -> bool:
    with suppress(KeyTrouble):
        return keyfiles.text_of(data_dir, place) == text
    return False
