"""Read the lines of a recorded file, plain, gzip, zip or zstd, in bounded memory and without losing any in silence.

Used by the venues' `open_recording` and by `capture`. A line keeps every byte but its newline.
"""

import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tapeline.connectors.venues.contract import RecordingError
from tapeline.connectors.venues.zstandard import zstd

CHUNK_BYTES = 256 * 1024
PACKED_BYTES = 64 * 1024
"""Read at a time from a packed file; deflate makes at most 1,032 times as much of it, zstd is unpacked in chunks."""
LINE_BYTES_MAX = 64 * 1024 * 1024
"""A longer line means that this is no recording; it is not gathered in memory."""
GZIP_MAGIC = b"\x1f\x8b"
ZIP_MAGIC = b"PK\x03\x04"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class LineFile:
    """A file of lines; `read_bytes` of `total_bytes` (as on disk) are read so far."""

    def __init__(self, path: Path) -> None:
        """Look at the file; raise RecordingError if it cannot be opened."""
        self.path = path
        self.read_bytes = 0
        with self._open() as file:
            self.total_bytes = os.fstat(file.fileno()).st_size

    def lines(self) -> Iterator[bytes]:
        """Yield each line; raise RecordingError where the file is damaged, after every whole line before it."""
        count = 0
        rest: list[bytes] = []
        rest_bytes = 0
        with self._open() as file:
            try:
                for chunk in _chunks(file):
                    self.read_bytes = file.tell()
                    first, *others = chunk.split(b"\n")
                    rest.append(first)
                    rest_bytes += len(first)
                    if rest_bytes > LINE_BYTES_MAX:
                        raise RecordingError(
                            f"{self.path}, line {count + 1}: longer than {LINE_BYTES_MAX} bytes; this is no recording"
                        )
                    if others:
                        yield b"".join(rest)
                        count += 1
                        yield from others[:-1]
                        count += len(others) - 1
                        rest, rest_bytes = [others[-1]], len(others[-1])
            except (zlib.error, zstd.ZstdError, zipfile.BadZipFile, EOFError, OSError, RuntimeError) as error:
                raise RecordingError(
                    f"{self.path}: damaged after line {count} ({error}); everything before it was read. "
                    "Get the file again, or go on with what there is"
                ) from error
            self.read_bytes = self.total_bytes
            if rest_bytes:
                yield b"".join(rest)

    def _open(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise RecordingError(f"cannot read {self.path}: {error.strerror}") from error


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    magic = file.read(4)
    file.seek(0)
    if magic[:2] == GZIP_MAGIC:
        yield from _gunzip(file)
    elif magic == ZIP_MAGIC:
        yield from _unzip(file)
    elif magic == ZSTD_MAGIC:
        yield from _unzstd(file)
    else:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _gunzip(file: BinaryIO) -> Iterator[bytes]:
    # Not gzip.open: where a file is cut it raises before it hands out what it could still read.
    member = zlib.decompressobj(wbits=31)
    begun = False
    while packed := file.read(PACKED_BYTES):
        while packed:
            yield member.decompress(packed)
            begun = not member.eof
            packed = b""
            if member.eof:  # another member may follow, after padding
                packed = member.unused_data.lstrip(b"\0")
                member = zlib.decompressobj(wbits=31)
    if begun:
        raise EOFError("the gzip data stops before its end")


def _unzstd(file: BinaryIO) -> Iterator[bytes]:
    frame = zstd.ZstdDecompressor()
    begun = False
    while packed := file.read(PACKED_BYTES):
        while packed or not (frame.needs_input or frame.eof):
            if frame.eof:  # another frame follows
                frame = zstd.ZstdDecompressor()
            yield frame.decompress(packed, CHUNK_BYTES)
            begun = not frame.eof
            packed = frame.unused_data if frame.eof else b""
    if begun:
        raise EOFError("the zstd data stops before its end")


def _unzip(file: BinaryIO) -> Iterator[bytes]:
    with zipfile.ZipFile(file) as archive:
        names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
        if len(names) != 1:
            raise RecordingError(f"{file.name}: holds {len(names)} files ({', '.join(names[:3])}), one is expected")
        with archive.open(names[0]) as member:
            while chunk := member.read(CHUNK_BYTES):
                yield chunk
