"""fastmail.backup.sound: a directory is believed only if every part of it is what this program writes.

Files of accounts are in test_restore, which checks that nothing of a bad one is restored.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from fastmail.backup import sound
from fastmail.model.errors import CorruptData

WHOLE: dict[str, Any] = {
    "version": 1,
    "domains": ["example.test", "xn--bcher-kva.test"],
    "accounts": [{"address": "user@example.test", "password": "{PLAIN}x", "scram": "", "quota": [0, 0, -1]}],
    "aliases": [["@example.test", ["user@example.test"]], ["team@example.test", []]],
}
Change = Callable[[dict[str, Any]], object]


def test_what_this_program_writes() -> None:
    sound.check_directory(WHOLE)


BAD: dict[str, Change] = {
    "domains that are none": lambda d: d.pop("domains"),
    "a domain that is a number": lambda d: d["domains"].append(7),
    "a domain that climbs": lambda d: d["domains"].append("../x"),
    "accounts that are none": lambda d: d.pop("accounts"),
    "an account that is a text": lambda d: d["accounts"].append("user"),
    "an account without an address": lambda d: d["accounts"][0].pop("address"),
    "an address that climbs": lambda d: d["accounts"][0].update(address="../../x@example.test"),
    "an address without a domain": lambda d: d["accounts"][0].update(address="user"),
    "a password that is a number": lambda d: d["accounts"][0].update(password=1),
    "a condition that is a list": lambda d: d["accounts"][0].update(nets=["10.0.0.0/8"]),
    "a quota of two": lambda d: d["accounts"][0].update(quota=[0, 0]),
    "a quota of truths": lambda d: d["accounts"][0].update(quota=[0, 0, True]),
    "aliases that are an object": lambda d: d.update(aliases={}),
    "an alias without a target": lambda d: d["aliases"].append(["a@example.test"]),
    "an alias of a number": lambda d: d["aliases"].append([1, []]),
    "an alias to a number": lambda d: d["aliases"].append(["a@example.test", [1]]),
    "an alias to nobody": lambda d: d["aliases"].append(["a@example.test", ["nobody"]]),
}


@pytest.mark.parametrize("what", BAD)
def test_what_nobody_should_believe(what: str) -> None:
    found = copy.deepcopy(WHOLE)
    BAD[what](found)
    with pytest.raises(CorruptData, match=r"^directory\.json.*Nothing was restored"):
        sound.check_directory(found)


@pytest.mark.parametrize("found", [None, [], "directory", 5])
def test_what_is_no_object(found: object) -> None:
    with pytest.raises(CorruptData, match="it is no object"):
        sound.check_directory(found)
