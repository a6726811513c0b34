"""The Roman Numeral Service: its events, the truth about them, and an oracle that checks every layer against it.

    traffic -> events (users, kinds) -> truth, produce          what was sent, and what should become of it
    topics, Iceberg, Parquet         -> oracle                  what did become of it

Nothing here shares code with the jobs: an oracle that repeats the jobs' mistakes can't find them.
"""
