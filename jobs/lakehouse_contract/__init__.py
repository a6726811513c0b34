"""What the operator and the jobs agree on: settings, the domain, and every table as data.

This package uses the standard library alone, because it is installed in three environments that share nothing else. It
opens no file and no connection.
"""
