"""A storage that is a URI: a folder on this machine that is kept in step with it."""
