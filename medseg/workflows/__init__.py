"""One file per verb: the functions behind the command line, and the Python API."""
