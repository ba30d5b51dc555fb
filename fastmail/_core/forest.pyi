"""Nothing here is called from Python; see forest.pxd."""
