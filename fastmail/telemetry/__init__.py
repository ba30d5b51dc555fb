"""Counters and log events; both are cheap enough for the hot path."""
