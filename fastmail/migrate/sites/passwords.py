"""Passwords of sites as ``{SCHEME}hash``. Most say their scheme; others are known by their form (crypt(3), 32
hexadecimal digits of MD5). A text that may be anything is never taken for a password in clear: its scheme has to be
named.
"""

import re

from fastmail.auth import legacy, schemes

_FORMS = (
    ("$argon2id$", "ARGON2ID"),
    ("$argon2i$", "ARGON2I"),
    ("$2", "BLF-CRYPT"),
    ("$6$", "SHA512-CRYPT"),
    ("$5$", "SHA256-CRYPT"),
    ("$1$", "MD5-CRYPT"),
)
_HEX_MD5 = re.compile(r"[0-9a-fA-F]{32}")
_BASE64_MD5 = re.compile(r"[0-9A-Za-z+/]{22}==")
_COURIER = "{MD5}"
UNKNOWN = "its password says no scheme; --scheme names the one that the site uses"
EMPTY = "it has no password there"


def stored(value: str, scheme: str = "") -> tuple[str, str]:
    """(``{SCHEME}hash``, why there is none). ``scheme``: of those that do not say it and have no form of their own."""
    if not value:
        return "", EMPTY
    if value.startswith("{"):
        # Courier's {MD5} is a bare digest, Dovecot's is crypt(3)
        if value[: len(_COURIER)].upper() == _COURIER and _BASE64_MD5.fullmatch(value[len(_COURIER) :]):
            value = "{LDAP-MD5}" + value[len(_COURIER) :]
        if not schemes.known(value):
            return "", f"its password ({value.partition('}')[0][:40]}}}) cannot be checked here: give it a new one"
        return value, ""
    form = next((name for prefix, name in _FORMS if value.startswith(prefix)), "")
    if form:
        return f"{{{form}}}{value}", ""
    if scheme:
        return stored(f"{{{scheme.strip('{}').upper()}}}{value}")
    if _HEX_MD5.fullmatch(value):
        return "{PLAIN-MD5}" + value, ""
    if legacy.can_crypt(value):
        return "{CRYPT}" + value, ""
    return "", UNKNOWN
