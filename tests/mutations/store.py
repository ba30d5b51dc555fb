"""Faults in what is done with somebody's Maildir, with backups, and with conditions on logins."""

from tests.mutations import Mutation

LISTS = "tests/unit/store/test_uidlists.py"
LEFT = "tests/unit/store/test_leftovers.py"
VAULT = "tests/unit/backup/test_vault.py"

MUTATIONS = [
    Mutation(
        "a link in cur/ is followed",
        "fastmail/durable/files.pyx",
        "c_open(p, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0)",
        "c_open(p, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0)",
        ("tests/unit/durable/test_files.py", "tests/unit/store/test_strange_files.py"),
        slow=True,
    ),
    Mutation(
        "a pipe or a directory in cur/ is read as a message",
        "fastmail/durable/files.pyx",
        "return S_ISREG(st.st_mode) ? (long long)st.st_size : -2;",
        "return (long long)st.st_size;",
        ("tests/unit/durable/test_files.py", "tests/unit/store/test_strange_files.py"),
        slow=True,
    ),
    Mutation(
        "a shadow of a running server writes",
        "fastmail/migrate/shadow.py",
        'out.store.content = True, "none", "maildir"',
        'out.store.content = False, "none", "maildir"',
        ("tests/journey/test_shadow_alone.py",),
        slow=True,
    ),
    Mutation(
        "a mailbox that gets content of the queue adds no reference to it",
        "fastmail/store/local/holds.py",
        "        content.share(txn, t, [name])\n",
        "        pass\n",
        ("tests/unit/store/test_holds.py",),
    ),
    Mutation(
        "the queue keeps its reference when it lets go",
        "fastmail/store/local/holds.py",
        "                            content.release(txn, tables, [marked])\n",
        "                            pass\n",
        ("tests/unit/store/test_holds.py",),
    ),
    Mutation(
        "two messages that claim one UID: the first has it",
        "fastmail/store/local/uidlists.py",
        "if counts[line.uid] == 1]",
        "if counts[line.uid]]",
        (LISTS,),
    ),
    Mutation(
        "UIDs of the lost end of a list are given again",
        "fastmail/store/local/foreign.py",
        "return self.uidnext + unlisted + GAP if self.torn else self.uidnext",
        "return self.uidnext",
        (LISTS,),
    ),
    Mutation(
        "INBOX is listed again for a folder that is called like it",
        "fastmail/store/local/folders.py",
        "if name == INBOX or not openable(name):",
        "if not openable(name):",
        ("tests/unit/store/test_folders.py",),
    ),
    Mutation(
        "a folder is listed that no command can name",
        "fastmail/store/local/folders.py",
        "if name == INBOX or not openable(name):",
        "if name == INBOX:",
        ("tests/property/test_folder_names.py",),
    ),
    Mutation(
        "a damaged record at the end of a segment counts as never acknowledged",
        "fastmail/store/local/content.py",
        "    offsets = named(txn, t, number) if torn else []\n",
        "    offsets: list[int] = []\n",
        (LEFT,),
    ),
    Mutation(
        "files of holds that a crash left stay",
        "fastmail/store/local/store.py",
        "            await self.holds.tidy()\n",
        "",
        (LEFT,),
    ),
    Mutation(
        "a file of a hold that is being written is removed",
        "fastmail/store/local/holds.py",
        "if name not in known and not self._fresh(directory, name)]",
        "if name not in known]",
        (LEFT,),
    ),
    Mutation(
        "a backup trusts a torn object",
        "fastmail/backup/vault.py",
        "return os.fstat(file.fileno()).st_size == len(content) and file.read() == content",
        "return True",
        (VAULT,),
    ),
    Mutation(
        "an object of a backup gets its name before its content",
        "fastmail/durable/replace.py",
        "            os.fsync(descriptor)\n",
        "            pass\n",
        (VAULT,),
    ),
    Mutation(
        "who may not log in does",
        "fastmail/auth/verifier.py",
        "        if record.nologin:\n",
        "        if not record.id:\n",
        ("tests/unit/directory/test_access.py",),
    ),
    Mutation(
        "an account is open to every network",
        "fastmail/auth/verifier.py",
        "if not access.allows(record.nets, host):",
        "if not record.id:",
        ("tests/unit/directory/test_access.py",),
    ),
    Mutation(
        "a condition on logins is lost on the way into the directory",
        "fastmail/directory/local.py",
        "                row.nets, row.nologin = line.nets, line.nologin\n",
        "",
        ("tests/unit/directory/test_access.py",),
    ),
    Mutation(
        "deliveries fill the map of an index to the last page",
        "fastmail/durable/commit.py",
        "        if any(operation.adds for operation in operations) and env.crowded(txn):\n            operations = _refuse(operations)\n",
        "",
        ("tests/unit/store/test_reserve.py",),
    ),
]
