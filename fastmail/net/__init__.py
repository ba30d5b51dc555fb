"""Sockets: listeners, buffered connections, TLS contexts, deadlines, and limits for peers that do not read."""
