"""The only package that opens LMDB or calls fsync: environments, the group-commit writer, batches of files."""
