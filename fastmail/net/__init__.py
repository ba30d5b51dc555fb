"""Sockets: listeners, the buffered connection, TLS contexts, deadlines and back-pressure."""
