"""Become another program that does not outlive its parent; `process.py` starts every child through this file.

Run as a script: `python -I -S _guard.py PARENT_PID DEATH_SIGNAL UID GID PROGRAM ARGUMENT...` (UID -1: stay who we are).
A helper that execs instead of Popen's `preexec_fn`, which may deadlock where threads run (Kafka clients have some).
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main(command: list[str], parent: int, death_signal: int, uid: int, gid: int) -> None:
    """Drop to the account, ask the kernel for a signal when the parent dies, and exec; returns only on failure."""
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # After the change of account, which clears the request; exec keeps it.
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it died before we asked: no signal will come
        raise SystemExit(1)
    try:
        os.execv(command[0], command)  # noqa: S606
    except OSError as error:
        raise SystemExit(f"cannot run {command[0]}: {error.strerror}") from error


if __name__ == "__main__":
    main(sys.argv[5:], *map(int, sys.argv[1:5]))
