"""Plots as SVG text, without a library: bars beside each other, and lines over a logarithmic axis."""

import math
from collections.abc import Sequence

THEIRS, OURS = "#b0b8c4", "#2563a8"
COLOURS = (THEIRS, OURS, "#d8a657", "#3a8f5d")
Line = tuple[str, Sequence[float | None]]  # its name, a value for each x; None where nothing was measured


def _text(label: str) -> str:
    return label.replace("&", "&amp;").replace("<", "&lt;")


def bars(title: str, rows: list[tuple[str, float, float]], unit: str) -> str:
    """Two bars for each row: (label, Dovecot, fastmail)."""
    top = max((max(a, b) for _, a, b in rows), default=1.0) or 1.0
    height = 60 + 46 * len(rows)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="860" height="{height}" font-family="sans-serif" font-size="13">',
        f'<rect width="860" height="{height}" fill="white"/><text x="10" y="22" font-size="16">{_text(title)}</text>',
        f'<rect x="560" y="10" width="12" height="12" fill="{THEIRS}"/><text x="578" y="21">Dovecot</text>',
        f'<rect x="660" y="10" width="12" height="12" fill="{OURS}"/><text x="678" y="21">fastmail</text>',
    ]
    for number, (label, theirs, ours) in enumerate(rows):
        y = 46 + 46 * number
        out.append(f'<text x="10" y="{y + 20}">{_text(label)}</text>')
        for offset, value, colour in ((0, theirs, THEIRS), (17, ours, OURS)):
            width = max(1.0, value / top * 400)
            out.append(f'<rect x="330" y="{y + offset}" width="{width:.1f}" height="15" fill="{colour}"/>')
            out.append(f'<text x="{336 + width:.1f}" y="{y + offset + 12}">{value:,.3g} {unit}</text>')
    return "\n".join([*out, "</svg>\n"])


def lines(title: str, xs: Sequence[int], series: Sequence[Line], what: str, unit: str, steep: bool = False) -> str:
    """A line for each series over ``xs`` (``what``: how many of what), which are set apart by their logarithms; with
    ``steep`` the values too."""
    values = [value for _, line in series for value in line if value is not None]
    top, bottom = max(values), min(values) if steep else 0.0
    low, high = math.log(xs[0]), math.log(xs[-1])

    def place(x: int, value: float) -> tuple[float, float]:
        share = (
            math.log(value / bottom) / (math.log(top / bottom) or 1.0) if steep else (value - bottom) / (top - bottom)
        )
        return 70 + (math.log(x) - low) / (high - low) * 560, 330 - share * 270

    out = [
        '<svg xmlns="http://www.w3.org/2000/svg" width="900" height="390" font-family="sans-serif" font-size="13">',
        f'<rect width="900" height="390" fill="white"/><text x="10" y="22" font-size="16">{_text(title)}</text>',
        '<path d="M70 50 V330 H640" fill="none" stroke="#444"/>',
        f'<text x="350" y="378" text-anchor="middle">{_text(what)}</text>',
    ]
    for x in xs:
        at = place(x, top)[0]
        out.append(f'<path d="M{at:.1f} 330 v5" stroke="#444"/>')
        out.append(f'<text x="{at:.1f}" y="352" text-anchor="middle">{x:,}</text>')
    for number, (name, line) in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        points = [(*place(x, value), value) for x, value in zip(xs, line, strict=True) if value is not None]
        path = " L".join(f"{x:.1f} {y:.1f}" for x, y, _ in points)
        out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y, value in points:
            out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
            out.append(f'<text x="{x + 6:.1f}" y="{y - 6:.1f}" font-size="11">{value:,.3g}</text>')
        y = 60 + 22 * number
        out.append(f'<rect x="670" y="{y - 11}" width="12" height="12" fill="{colour}"/>')
        out.append(f'<text x="688" y="{y}">{_text(name)}, {unit}</text>')
    return "\n".join([*out, "</svg>\n"])
