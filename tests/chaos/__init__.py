"""The chaos driver: seeded disturbances over whole runs, and the proof that the signals stay the same, once each.

`scenario` says what is done, `stage` and `crew` do it, `oracle` and `check` decide. See docs/chaos.md.
"""
