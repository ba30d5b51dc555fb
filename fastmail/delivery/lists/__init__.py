"""Mailing lists: who may write to them, what goes to their members, requests by mail, and what comes back."""
