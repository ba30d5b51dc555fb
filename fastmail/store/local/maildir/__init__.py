"""Maildirs: file names, folders, changes by other programs, and the file work that may follow a commit later."""
