"""zstd, from the standard library (Python 3.14) or its backport. Recordings, captures and bars use it."""

import sys

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["zstd"]
