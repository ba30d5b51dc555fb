"""From another server, and back."""
