"""Files of lines as UTF-8 bytes, whatever they are compressed with and encoded in.

Compression is told by the first bytes, not by the name. An encoding is never guessed: where the first bytes tell
another than the recipe says, the file is refused and the message names the setting.
"""

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from typing import Any, BinaryIO

import pyarrow as pa

from lightgen.errors import InputCorrupt

UTF8 = "utf-8"
BLOCK = 1 << 20
MAX_EXPANSION, ALWAYS_ALLOWED = (
    200,
    256 << 20,
)  # a compressed file may unpack to so many times its size, or so many bytes
MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
ARCHIVES = {
    b"PK\x03\x04": "a zip archive", b"7z\xbc\xaf": "a 7z archive", b"Rar!": "a rar archive",
    b"\x04\x22\x4d\x18": "packed by lz4", b"\x5d\x00\x00": "packed by lzma",
}  # fmt: skip
KIND = "Give it to a kind that reads such files"
MOVED = "Perhaps it is no longer where it was fetched from: look at it, and fetch it again"
# What else is no text, by its first bytes, and what to do then.
OTHERS = {
    b"version https://git-lfs": ("a pointer of Git LFS, which stands for the file", "Fetch it: git lfs pull"),
    b"<!DOCTYPE html": ("a web page", MOVED),
    b"<!doctype html": ("a web page", MOVED),
    b"<html>\n": ("a web page", MOVED),
    b"<html>\r\n": ("a web page", MOVED),
    b"PAR1\x15": ("Parquet", KIND),
    b"ARROW1\x00": ("Arrow", KIND),
    b"SQLite format 3": ("a SQLite database", "Write its captions to a file of text"),
    b"%PDF-": ("a PDF", "Give a file of text"),
    b"\x89PNG": ("a picture", "Give a file of text"),
    b"\xff\xd8\xff": ("a picture", "Give a file of text"),
    b"GIF89a": ("a picture", "Give a file of text"),
}
LONGEST = 64  # bytes that tell what a file is
MARKS = {
    b"\xff\xfe\x00\x00": "utf-32", b"\x00\x00\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16",
}  # fmt: skip
BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException)


def compression_of(head: bytes) -> str:
    """What a file that begins with `head` is compressed with; empty for none."""
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), "")


def plain_bytes(file: io.BufferedReader, path: str, encoding: str) -> io.BufferedReader:
    """The file, which stands at its first byte, unpacked and as UTF-8 without a byte order mark to expect.

    Raises InputCorrupt, when it is read, for a stream that is broken or unpacks to far more than it is.
    """
    head = file.peek(8)[:8]
    if archive := next((name for magic, name in ARCHIVES.items() if head.startswith(magic)), None):
        raise InputCorrupt(f"{path} is {archive}. Unpack it, and give the folder or the file that was in it")
    stream: Any = file
    if compression := compression_of(head):
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        stream = io.BufferedReader(_Unpacked(file, path, compression, size), BLOCK)
    return stream if encoding == UTF8 else io.BufferedReader(_Recoded(stream, path, encoding), BLOCK)


def check_encoding(head: bytes, path: str) -> None:
    """Raises InputCorrupt where the first bytes of what is unpacked are no text, or those of UTF-16 or UTF-32."""
    begins = head[:LONGEST].lstrip()
    for magic, (what, fix) in OTHERS.items():
        if begins.startswith(magic):
            raise InputCorrupt(f"{path} is {what}, not text. {fix}")
    if compression := compression_of(head):
        raise InputCorrupt(f"{path} is packed twice: {compression} lies within. Unpack it once")
    mark = next((name for mark, name in MARKS.items() if head.startswith(mark)), None)
    if mark is None:
        even, odd = head[0:512:2].count(0), head[1:512:2].count(0)
        most = len(head[:512]) // 2
        if most >= 4 and max(even, odd) > 0.4 * most and min(even, odd) < 0.1 * most:
            mark = "utf-16-le" if odd > even else "utf-16-be"
    if mark is not None:
        raise InputCorrupt(f"{path} is not UTF-8: its first bytes are those of {mark.upper()}. Set `encoding: {mark}`")


def check_line_ends(head: bytes, path: str) -> None:
    """Raises InputCorrupt where lines end as on old Macs, since all of them would be one."""
    if b"\r" in head.strip() and b"\n" not in head:
        raise InputCorrupt(
            f"{path} has lines that end with a carriage return alone, as on old Macs. Write it with line feeds, as "
            r"tr '\r' '\n' does"
        )


def not_utf8(path: str, what: str) -> InputCorrupt:
    """The error for names of fields that are not UTF-8, and of no encoding that tells itself."""
    return InputCorrupt(f"{path} is not UTF-8: {what}. Perhaps it is Latin-1: set `encoding: latin-1` or `cp1252`")


def is_utf8(data: bytes) -> bool:
    """Whether the bytes are UTF-8, but for a character that is cut at the end."""
    try:
        codecs.getincrementaldecoder(UTF8)().decode(data)
    except UnicodeDecodeError:
        return False
    return True


class _Unpacked(io.RawIOBase):
    """What a compressed file holds."""

    def __init__(self, file: io.BufferedReader, path: str, compression: str, size: int) -> None:
        self.stream, self.path, self.compression = _opened(file, compression), path, compression
        self.given = 0
        self.most = max(MAX_EXPANSION * size, ALWAYS_ALLOWED)

    def readable(self) -> bool:
        """See `io.IOBase`."""
        return True

    def readinto(self, buffer: Any) -> int:
        """See `io.RawIOBase`. Raises InputCorrupt."""
        try:
            data = self.stream.read(len(buffer))
        except BROKEN as error:
            raise InputCorrupt(f"{self.path} is no sound {self.compression} stream: {error}. Fetch it again") from error
        self.given += len(data)
        if self.given > self.most:
            raise InputCorrupt(
                f"{self.path} unpacks to more than {self.most:,} bytes: more than {MAX_EXPANSION} times its size is "
                "refused. Unpack it yourself if it is sound"
            )
        buffer[: len(data)] = data
        return len(data)


def _opened(file: io.BufferedReader, compression: str) -> Any:
    match compression:
        case "gzip":
            return gzip.GzipFile(fileobj=file)
        case "bz2":
            return bz2.BZ2File(file)
        case "xz":
            return lzma.LZMAFile(file)
        case _:
            return pa.CompressedInputStream(pa.PythonFile(file, mode="r"), compression)


class _Recoded(io.RawIOBase):
    """Text of another encoding as UTF-8; what cannot be decoded becomes U+FFFD, which the cleaner refuses."""

    def __init__(self, file: BinaryIO, path: str, encoding: str) -> None:
        self.file, self.path, self.encoding, self.rest, self.ended = file, path, encoding, b"", False
        self.decoder = codecs.getincrementaldecoder(encoding)(errors="replace")

    def readable(self) -> bool:
        """See `io.IOBase`."""
        return True

    def readinto(self, buffer: Any) -> int:
        """See `io.RawIOBase`. Raises InputCorrupt."""
        while not self.rest and not self.ended:
            data = self.file.read(BLOCK)
            self.ended = not data
            self.rest = self._decoded(data).encode(UTF8, "replace")
        taken, self.rest = self.rest[: len(buffer)], self.rest[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)

    def _decoded(self, data: bytes) -> str:
        try:
            return self.decoder.decode(data, final=self.ended)
        except UnicodeError as error:  # UTF-16 and UTF-32 without a byte order mark
            raise InputCorrupt(
                f"{self.path} is not {self.encoding}: {error}. Set another `encoding`; `utf-16-le` needs no mark"
            ) from error
