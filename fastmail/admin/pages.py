"""Pages for people: HTML without scripts, pictures or fonts, and the header fields that go with every answer.

Promise: a page loads nothing from anywhere, can be put into no frame, and its form goes only to where it came from. Its
address, which may hold a secret, goes to no other site and into no cache. All text is escaped here.
"""

import base64
import hashlib
from collections.abc import Mapping
from html import escape

from starlette.responses import Response

STYLE = """
body { margin: 0; font: 17px/1.5 system-ui, sans-serif; color: #1c2330; background: #f3f4f7; }
main { max-width: 34em; margin: 12vh auto 2em; padding: 1.5em 2em 2em; background: #fff; border-radius: 8px; }
h1 { font-size: 1.35em; line-height: 1.3; margin: 0 0 .8em; }
p { overflow-wrap: anywhere; }
button { font: inherit; padding: .6em 1.6em; border: 0; border-radius: 6px; color: #fff; background: #b3261e; }
button:focus-visible { outline: 3px solid #1c2330; outline-offset: 2px; }
@media (prefers-color-scheme: dark) { body { color: #e6e8ee; background: #14171d; } main { background: #20242d; } }
"""
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

# Strict-Transport-Security is not among them: it would count for all ports of the host, those of other programs too.
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
}


def page(title: str, *parts: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a page. ``title``: text, also its heading; ``parts``: HTML of ``paragraph`` and others here."""
    shown = escape(title)
    text = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{shown}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{shown}</h1>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )
    return Response(text, status, {**HEADERS, **(headers or {})}, "text/html")


def paragraph(text: str) -> str:
    """Return a paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def button(label: str, name: str, value: str) -> str:
    """Return a form with one button, which posts ``name=value`` to the address of its page."""
    field = f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
    return f'<form method="post">{field}<button type="submit">{escape(label)}</button></form>'
