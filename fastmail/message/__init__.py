"""RFC 5322 and MIME above the compiled scanner: summaries, sections, decoded text, trace fields."""
