"""Maildirs: names, folders, what other programs do there, and what follows a commit at leisure."""
