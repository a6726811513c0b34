"""The demonstration: the reference pipeline on real engines, on a live stream of events, checked by the oracle.

The topic has `CreateTime` timestamps: the generator squeezes days into a minute, and lateness is measured by the time
at which a record arrives by its simulated clock. Real pipelines should use `LogAppendTime`.
"""
