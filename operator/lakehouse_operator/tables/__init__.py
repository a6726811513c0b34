"""The only room that reads and moves Iceberg metadata. It reads no data files and no API server."""
