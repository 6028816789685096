"""The error tree of Tapeline, drawn once: one root, misuse apart from failure.

Every message carries its numbers and says what to do next. Modules raise these or subclasses that they
define beside the code that raises them; callers that want everything catch `TapelineError`.
"""


class TapelineError(Exception):
    """Root of every error that Tapeline raises on purpose; its text is fit to be shown to a user."""


class SettingsError(TapelineError):
    """The configuration cannot be used: names file, line, key and what would be right."""


class FrameError(TapelineError):
    """Bytes that are not a whole, unharmed frame of a version this program reads."""


class VersionError(FrameError):
    """A frame of a version that this program does not read: not the record is wrong, the program is old."""


class EventError(TapelineError):
    """A JSON event (signal, rejected, instrument) that does not follow its schema."""


class UnavailableError(TapelineError):
    """Something outside this process (a server, a network, a disk) is not there; trying later may work."""
