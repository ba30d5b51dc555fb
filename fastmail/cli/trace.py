"""``fastmail trace``: what became of a message."""

import asyncio
import time
from dataclasses import asdict
from typing import Annotated, Any

import typer

from fastmail.app.assembly import Assembly
from fastmail.cli.common import ConfigOption, JsonOption, command, fail, for_terminal, output, read_config, show
from fastmail.delivery.history import Event

STYLES = {
    "discarded": "red",
    "accepted": "bold",
    "stored": "green",
    "sent": "green",
    "deferred": "yellow",
    "failed": "red",
    "refused": "red",
    "quarantined": "yellow",
}


@command
def trace(
    word: Annotated[str, typer.Argument(metavar="ID|ADDRESS|MESSAGE-ID", help="What to look for.")],
    most: Annotated[int, typer.Option("--most", help="Show so many messages, the newest first.")] = 10,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """The life of messages: accepted from whom, queued, each attempt with the other side's words, stored where."""

    async def find() -> list[list[Event]]:
        assembly = Assembly(read_config(config))
        try:
            return list(assembly.history.find(word.strip("<>"), most))
        finally:
            await assembly.history.close()

    lives = asyncio.run(find())
    if json:
        show([asdict(event) for life in lives for event in life], True)
        return
    if not lives:
        fail(f"nothing is known of {word}; what happened in the last second may show in a moment")
    for life in lives:
        output.print(f"[bold]{life[0].id}[/]")
        for event in life:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.time))
            style = STYLES.get(event.what, "none")
            output.print(f"  {stamp}  [{style}]{event.what:9}[/]", end="")
            output.print("  " + for_terminal(_fields(event.fields)), markup=False)
        output.print()


def _fields(fields: dict[str, Any]) -> str:
    """In words, without what is empty."""
    parts = []
    for name, value in fields.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        if text and value is not None:
            parts.append(f"{name.replace('_', ' ')} {text}")
    return "; ".join(parts)
