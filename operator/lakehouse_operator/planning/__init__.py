"""What should happen: pure functions from what is seen to a plan.

Nothing here reads a clock, a cluster, a table or a file, and nothing here logs. The same inputs give the same plan.
"""
