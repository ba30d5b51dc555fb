"""Who exists: domains, accounts, aliases. One interface; the built-in backend keeps them in LMDB."""
