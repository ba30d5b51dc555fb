"""Messages (RFC 5322 and MIME), on top of the compiled scanner: summaries, sections, decoded text, trace fields."""
