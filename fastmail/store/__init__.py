"""Mailboxes: the interface, a memory backend, the local backend (LMDB index over a Maildir) and the change hub."""
