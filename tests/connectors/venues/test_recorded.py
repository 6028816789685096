"""Recorded files: plain, gzip, zip, zstd; damaged ones give every line before and an error that says where."""

import gzip
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tapeline.connectors.venues import Message, RecordingError, Unreadable, recorded
from tapeline.connectors.venues.binance_recording import open_recording
from tapeline.connectors.venues.recorded import LineFile
from tapeline.connectors.venues.zstandard import zstd
from tapeline.schemas import RejectReason

LINES = [b"line %d" % number for number in range(20_000)]
TEXT = b"\n".join(LINES) + b"\n"
TRADE = b'{"e":"trade","E":1,"s":"A","t":1,"p":"1","q":"1","T":1,"m":true,"M":true}'


def plain(path: Path) -> None:
    path.write_bytes(TEXT)


def gzipped(path: Path) -> None:
    path.write_bytes(gzip.compress(TEXT))


def gzipped_twice(path: Path) -> None:
    path.write_bytes(gzip.compress(TEXT[:1000]) + gzip.compress(TEXT[1000:]) + b"\0" * 512)


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("lines.csv", TEXT)


def packed(path: Path) -> None:
    path.write_bytes(zstd.compress(TEXT, options={zstd.CompressionParameter.checksum_flag: 1}))


def packed_in_frames(path: Path) -> None:
    path.write_bytes(zstd.compress(TEXT[:1000]) + zstd.compress(b"") + zstd.compress(TEXT[1000:]))


def read(path: Path) -> tuple[list[bytes], str | None]:
    """All lines, and the error that ended them."""
    lines = []
    try:
        for line in LineFile(path).lines():
            lines.append(line)
    except RecordingError as error:
        return lines, str(error)
    return lines, None


@pytest.mark.parametrize("write", [plain, gzipped, gzipped_twice, zipped, packed, packed_in_frames])
def test_every_form_gives_the_lines(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "file")
    file = LineFile(tmp_path / "file")
    assert list(file.lines()) == LINES
    assert file.read_bytes == file.total_bytes == (tmp_path / "file").stat().st_size


@pytest.mark.parametrize("write", [gzipped, gzipped_twice, packed_in_frames])
def test_a_cut_file_gives_what_there_is_and_says_so(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "file"
    write(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    lines, error = read(path)
    assert 100 < len(lines) < len(LINES)
    assert lines == LINES[: len(lines)]
    assert error is not None
    assert f"damaged after line {len(lines)} " in error


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    for write in (gzipped, zipped, packed):
        path = tmp_path / write.__name__
        write(path)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
        lines, error = read(path)
        assert lines == LINES[: len(lines)]
        assert "damaged after line" in str(error)


def test_a_cut_zip_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file.zip"
    zipped(path)
    path.write_bytes(path.read_bytes()[:-30])
    assert read(path)[0] == []
    assert "damaged after line 0" in str(read(path)[1])


def test_a_zip_file_of_several_is_an_error_that_names_them(tmp_path: Path) -> None:
    path = tmp_path / "file.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "1")
        archive.writestr("b.csv", "2")
    assert "holds 2 files (a.csv, b.csv)" in str(read(path)[1])


def test_a_little_file_that_unpacks_to_very_much_is_read_in_pieces(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(zstd.compress(b"first\n" + bytes(2 * recorded.LINE_BYTES_MAX)))
    tracemalloc.start()
    lines, error = read(tmp_path / "file")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (lines, "line 2: longer than" in str(error)) == ([b"first"], True)
    assert peak_bytes < 1.2 * recorded.LINE_BYTES_MAX


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 7])
def test_lines_are_the_same_whatever_the_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    monkeypatch.setattr(recorded, "CHUNK_BYTES", chunk_bytes)
    path = tmp_path / "file"
    for lines in ([], [b""], [b"", b""], [b"a"], [b"ab", b"", b"cde"], [b"a" * 20, b"b"]):
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        assert list(LineFile(path).lines()) == lines
    path.write_bytes(b"ab\nlast without newline")
    assert list(LineFile(path).lines()) == [b"ab", b"last without newline"]


def test_a_line_without_end_is_not_gathered_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "CHUNK_BYTES", 16)
    monkeypatch.setattr(recorded, "LINE_BYTES_MAX", 100)
    (tmp_path / "file").write_bytes(b"first\n" + b"x" * 1000)
    lines, error = read(tmp_path / "file")
    assert lines == [b"first"]
    assert "line 2: longer than 100 bytes" in str(error)


def test_a_line_without_receive_time_is_unreadable_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "feed.txt"
    bad = [b"", b"no time", b"12", b"12 ", b"-5 x", b"1_0 x", b"9223372036854775808 x", b"1.5 x", b" 7 x"]
    good = b"7 " + TRADE
    path.write_bytes(b"\n".join([good, *bad, good]))
    recording = open_recording(path)
    items = list(recording.items)
    assert [item for item in items if isinstance(item, Message)] == [Message(7, TRADE), Message(7, TRADE)]
    unreadable = [item for item in items if isinstance(item, Unreadable)]
    assert [(item.index, item.data) for item in unreadable] == list(enumerate(bad, 1))
    assert {item.reason for item in unreadable} == {RejectReason.MALFORMED}
    assert "feed.txt, line 2: " in unreadable[0].detail


@pytest.mark.parametrize(
    ("message", "source"),
    [
        (TRADE, "binance/feed"),
        (b'{"e":"trade","X":"MARKET"}', "binance-usdm/feed"),
        (b'{"stream":"a@depth","data":{"e":"depthUpdate","pu":1}}', "binance-usdm/feed"),
        (b'{"e":"depthUpdate","U":1}', "binance/feed"),
        (b'{"e":"bookTicker"}', "binance-usdm/feed"),
        (b'{"u":1,"s":"A","b":"1","B":"1","a":"2","A":"1"}', "binance/feed"),
        (b'{"lastUpdateId":1,"bids":[],"asks":[]}', "binance/feed"),
        (b'{"lastUpdateId":1,"E":1,"T":1,"bids":[],"asks":[]}', "binance-usdm/feed"),
    ],
)
def test_the_first_messages_tell_the_market(tmp_path: Path, message: bytes, source: str) -> None:
    path = tmp_path / "feed.gz"
    path.write_bytes(gzip.compress(b'1 {"result":null,"id":1}\n1 nonsense\n1 [1]\n1 ' + message))
    assert open_recording(path).source == source
    assert open_recording(path, "usdm", "own").source == "binance-usdm/own"


def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    path = tmp_path / "feed.gz"
    with pytest.raises(RecordingError, match=r"cannot read .*feed.gz: No such file"):
        open_recording(path)
    with pytest.raises(RecordingError, match="cannot read"):
        open_recording(tmp_path, "spot")
    path.write_bytes(b'1 {"result":null,"id":1}\n')
    with pytest.raises(RecordingError, match="say it with --market"):
        open_recording(path)
    with pytest.raises(RecordingError, match="use --connection"):
        open_recording(path, "spot", "x" * 300)
