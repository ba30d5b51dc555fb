"""From a recipient address to accounts and mailboxes."""
