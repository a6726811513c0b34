"""What the command line does: offline, for a file and in CI; remote, for a cluster."""
