"""Sends the queue's messages to other hosts: routes, connections, outcomes, and reports about failures."""
