"""A venue of our own for tests: a market whose truth is known, spoken in the dialect of any venue, with faults.

Used by tests/connectors/venues/live, `make chaos`, `make soak` and `make bench`.
"""
