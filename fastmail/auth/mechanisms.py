"""Names of the SASL mechanisms that sasl has, in the order in which they are shown."""

TOKENS = ("OAUTHBEARER", "XOAUTH2")
SCRAMS = ("SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS")
NAMES = ("PLAIN", "LOGIN", *SCRAMS, *TOKENS, "EXTERNAL")
