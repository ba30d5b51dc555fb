"""A passwd-file that is followed: what it says holds, and what is wrong with it changes nothing."""

import os
from pathlib import Path

import pytest

from fastmail.directory.external import PasswdFile, Unreadable, parse
from fastmail.directory.local import LocalDirectory
from fastmail.model.quota import Quota

TEXT = """# comment
Anna@one.test:{SSHA256}abc::::/home/anna::userdb_quota_rule=*:storage=2G
bert:$6$salt$hash:1000:1000::/home/bert:/bin/false
broken line
:{PLAIN}x
bad name@one.test:{PLAIN}x

"""


def test_lines() -> None:
    one, two = parse(TEXT, "two.test")
    assert (one.address, one.password, one.quota) == ("anna@one.test", "{SSHA256}abc", Quota(2 << 30))
    assert (two.address, two.password, two.quota) == ("bert@two.test", "{CRYPT}$6$salt$hash", None)


def test_the_file_is_followed(tmp_path: Path) -> None:
    directory = LocalDirectory(str(tmp_path))
    path = tmp_path / "users"
    followed = PasswdFile(directory, str(path), "two.test")
    with pytest.raises(Unreadable):
        followed.take_in()
    path.write_text(TEXT)
    assert followed.take_in() == 2 and followed.take_in() == 0
    anna = directory.account("anna@one.test")
    assert anna is not None and anna.enabled and anna.quota == Quota(2 << 30) and directory.is_local("two.test")
    # a new password, one account gone and another one there
    path.write_text("anna@one.test:{PLAIN}new\ncarl@two.test:{PLAIN}x\n")
    assert followed.take_in() == 3
    bert = directory.account("bert@two.test")
    assert bert is not None and not bert.enabled and directory.resolve("bert@two.test") == []
    again = directory.account("anna@one.test")
    assert again is not None and again.id == anna.id and again.password == "{PLAIN}new"
    # back again, with the same number and so the same mail
    path.write_text("anna@one.test:{PLAIN}new\ncarl@two.test:{PLAIN}x\nbert@two.test:{PLAIN}y\n")
    followed.take_in()
    returned = directory.account("bert@two.test")
    assert returned is not None and returned.enabled and returned.id == bert.id
    # an outage: empty, binary, gone
    for damage in (b"", b"\xff\xfe\x00"):
        path.write_bytes(damage)
        with pytest.raises(Unreadable):
            followed.take_in()
        assert directory.resolve("anna@one.test")
    os.unlink(path)
    with pytest.raises(Unreadable):
        followed.take_in()
    assert directory.resolve("anna@one.test")
    directory.close()
