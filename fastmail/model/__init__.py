"""Nouns that every layer shares: addresses, flags, mailbox names, limits and the exception tree."""
