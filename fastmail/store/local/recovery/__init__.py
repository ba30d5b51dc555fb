"""After a loss: what the index and the disk say is compared, and made to agree again."""
