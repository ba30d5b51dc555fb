"""What tests need that is not ours: programs and root. A test says it by marker, and is skipped with a sentence about
what is missing: ``@pytest.mark.peer("curl")`` names programs of the table; ``@pytest.mark.peer`` alone says that a fixture
of the test looks for them; ``@pytest.mark.root`` needs root.
"""

import os
import shutil

import pytest

# program: the Debian package that has it
PACKAGES = {
    "clamd": "clamav-daemon",
    "curl": "curl",
    "doveadm": "dovecot-core",
    "dovecot": "dovecot-imapd dovecot-pop3d",
    "ldns-keygen": "ldnsutils",
    "ldns-signzone": "ldnsutils",
    "mbsync": "isync",
    "neomutt": "neomutt",
    "nsd": "nsd",
    "opendkim": "opendkim",
    "offlineimap": "offlineimap3",
    "rspamd": "rspamd",
    "smtp-sink": "postfix",
    "smtp-source": "postfix",
    "spamd": "spamd",
    "swaks": "swaks",
    "unbound": "unbound",
}


def program(name: str) -> str | None:
    """Its path; where daemons are, too, which are in the PATH of root only."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def missing(item: pytest.Item) -> str:
    """Why the test cannot run here; empty when it can."""
    if item.get_closest_marker("root") is not None and os.geteuid() != 0:
        return "needs root"
    for marker in item.iter_markers("peer"):
        for name in marker.args:
            if program(name) is None:
                return f"{name} is not installed: apt-get install {PACKAGES[name]}"
    return ""
