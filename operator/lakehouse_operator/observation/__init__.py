"""What is read under opted-in rights: tables, offsets, savepoints, and Flink's REST API. Nothing is changed here.

What can't be read is None with a sentence, never an empty guess.
"""
