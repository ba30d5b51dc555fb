"""Programs of others that look at the content of messages: ClamAV, SpamAssassin, rspamd."""
