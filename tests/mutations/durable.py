"""What is acknowledged is durable: content, name and index are each synced, in that order, before the reply."""

from tests.mutations import Mutation

ORDER = "tests/journey/test_durable_order.py"

MUTATIONS = [
    Mutation(
        "content of a file is never synced",
        "fastmail/durable/stage.pyx",
        "    f.error = errno if (c_fsync(f.fd) if not f.piece and f.mtime >= 0 else c_fdatasync(f.fd)) else 0\n",
        "    f.error = 0\n",
        (ORDER,),
        slow=True,
    ),
    Mutation(
        "the name of a file is never synced",
        "fastmail/durable/stage.pyx",
        "        sync_names(tasks)\n",
        "",
        (f"{ORDER} -k maildir",),
        slow=True,
    ),
]
