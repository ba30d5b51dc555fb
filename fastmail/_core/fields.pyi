"""Nothing here is called from Python; see fields.pxd."""
