"""The queue: messages that still have to be delivered, to whom, and when the next attempt is due."""
