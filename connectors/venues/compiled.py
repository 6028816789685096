"""Compile a function for one signature, once per machine where that is possible.

`scan`, `book` and `tick_frames` use it.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from inspect import getfile
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from numba import types
from numba.core.caching import FunctionCache
from numba.np.numpy_support import from_dtype

log = logging.getLogger(__name__)

INT64 = types.int64

_njit: Any = numba.njit  # its stubs lack options
inlined: Callable[[Callable[..., Any]], Any] = _njit(forceinline=True, _nrt=False)
"""Compile a helper into the compiled functions that call it. It must make no arrays: references to those it gets are
not counted. Where a dozen arrays go from helper to helper that takes five times as long as an order book's work."""


def array(dtype: npt.DTypeLike, dimensions: int = 1, *, written: bool = False) -> Any:
    """Return the type of a C-contiguous array argument, at any address; only a `written` one must be writable."""
    return types.Array(from_dtype(np.dtype(dtype)), dimensions, "C", readonly=not written, aligned=False)


def compiled(function: Callable[..., Any], *arguments: Any, counted: bool = True) -> Callable[..., Any]:
    """Return the function compiled for these types of arguments: takes seconds, or some ms from numba's cache.

    counted: whether references to arrays are counted; False for one that makes none (see `inlined`).

    The cache is a convenience: files beside the module, in the user's cache folder where that is not writable, or where
    NUMBA_CACHE_DIR says. Without a folder, on a full disk, or if a file is damaged the function is just compiled.

    Numba writes by renaming, so that processes may start together. But it only looks at the function's own file to see
    what has changed, and writes the index before the code: a process killed in between would leave a new index with old
    code. So the sources of its folder, whose constants and helpers it may use, are part of the files' names.

    Call it once for a function.
    """
    sources = sorted(Path(getfile(function)).parent.glob("*.py"))
    function.__qualname__ += "_" + sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    try:
        return _compile(function, arguments, cache=True, _nrt=counted)
    except Exception as error:  # whatever the file system, pickle and LLVM raise
        log.warning("%s is compiled without a cache: %s: %s", function.__name__, type(error).__name__, error)
        with suppress(Exception):
            FunctionCache(function).flush()  # type: ignore[no-untyped-call]  # a damaged file is forgotten, so that the next start is quick again
        return _compile(function, arguments, cache=False, _nrt=counted)


def _compile(function: Callable[..., Any], arguments: tuple[Any, ...], **options: bool) -> Callable[..., Any]:
    dispatcher: Callable[..., Any] = _njit(arguments, error_model="numpy", **options)(function)
    return dispatcher
