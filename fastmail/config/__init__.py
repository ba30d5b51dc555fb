"""One table of settings; TOML in, typed values out."""
