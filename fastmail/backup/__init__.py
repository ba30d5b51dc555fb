"""Backups: made while the server runs, and what is made of them."""
