"""Log lines that no peer can forge."""

import json

import pytest

from fastmail.telemetry import counters, log


def test_values_are_escaped_and_cut(capsys: pytest.CaptureFixture[str]) -> None:
    log.setup("text", "info")
    log.event("x", helo='a\r\nevent=forged "q" \x1b[31m', long="y" * 5000, none=None, raw=b"\xff")
    log.event("hidden", "debug")
    out = capsys.readouterr().err
    assert out.count("\n") == 1 and "\x1b" not in out and len(out) < 500 and "hidden" not in out and "none" not in out
    log.setup("json", "info")
    log.event("x", n=3, text="a\nb")
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["n"], line["text"]) == ("x", 3, "a\nb")
    log.setup()


def test_counters() -> None:
    before = counters.snapshot().get("t", 0)
    counters.count("t")
    counters.count("t", 2)
    assert counters.snapshot()["t"] == before + 3
