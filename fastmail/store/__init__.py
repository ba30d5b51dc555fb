"""Mailboxes: the interface, a backend in memory, the local backend (an LMDB index over Maildirs and segments), and the
change hub.
"""
