"""Nothing here is called from Python; see values.pxd."""
