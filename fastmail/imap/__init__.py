"""IMAP4rev1: one session class, one command table, one file for each family of commands."""
