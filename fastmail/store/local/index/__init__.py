"""The index of the local backend: tables, rows, and what operations do to them. It knows no Maildir."""
