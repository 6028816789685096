"""Benchmarks: ours beside a peer in the same run on the same messages. `make bench`; never part of the tests."""
