"""Tar shards: strict on reading, plain to others."""

import io
import tarfile

import pytest

from lightgen.errors import ShardMalformed, UnsafePath
from lightgen.storage.shards import pack
from lightgen.storage.tar import END, header, padding, read_members


def tar_of(*members):
    return b"".join(header(name.encode(), len(data)) + data + padding(len(data)) for name, data in members) + END


def special(name="a.png", kind=tarfile.REGTYPE, **options):
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        info = tarfile.TarInfo(name)
        info.type = kind
        for key, value in options.items():
            setattr(info, key, value)
        tar.addfile(info)
    return sink.getvalue()


GOOD = tar_of(("a.png", b"x" * 700), ("a.json", b"{}"), ("b.png", b""))
FLIPPED = bytearray(GOOD)
FLIPPED[3] ^= 1
HUGE = bytearray(GOOD)
HUGE[124:136] = b"77777777777\0"
HUGE[148:156] = b"%06o\0 " % (sum(HUGE[:148]) + sum(HUGE[156:512]) + 8 * 32)


def test_good_tar_is_what_tarfile_reads():
    members = list(read_members(memoryview(GOOD), "t"))
    with tarfile.open(fileobj=io.BytesIO(GOOD)) as tar:
        theirs = [(info.name, info.offset_data, info.size) for info in tar]
    assert [(m.name, m.offset, m.size) for m in members] == theirs


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (special("../../evil.jpg"), UnsafePath),
        (special("/abs.jpg"), UnsafePath),
        (special("a/b.jpg"), UnsafePath),
        (special("..png"), UnsafePath),
        (special(kind=tarfile.SYMTYPE, linkname="/etc/passwd"), UnsafePath),
        (special(kind=tarfile.LNKTYPE, linkname="b"), UnsafePath),
        (special(kind=tarfile.FIFOTYPE), UnsafePath),
        (special(kind=tarfile.CHRTYPE), UnsafePath),
        (special("a.pyd"), UnsafePath),
        (special("a.pkl"), UnsafePath),
        (special("a.pickle"), UnsafePath),
        (special("a.PTH"), UnsafePath),
        (special("a.pt"), UnsafePath),
        (special("a.txt.gz"), UnsafePath),
        (tar_of(("a.png", b"1"), ("a.png", b"2")), ShardMalformed),
        (tar_of(("a.png", b"1"), ("b.png", b"2"), ("a.json", b"3")), ShardMalformed),
        (GOOD[:700], ShardMalformed),
        (GOOD[:1536], ShardMalformed),
        (GOOD[:-1024], ShardMalformed),
        (b"", ShardMalformed),
        (bytes(FLIPPED), ShardMalformed),
        (bytes(HUGE), ShardMalformed),
    ],
)
def test_hostile_tars_are_refused(data, error):
    with pytest.raises(error):
        list(read_members(memoryview(data), "t"))


@pytest.mark.parametrize("extension", ["pkl", "txt.gz", "../x", "", "a b", "pth"])
def test_unsafe_members_are_not_written(extension):
    with pytest.raises(UnsafePath):
        pack(["a"], [{extension: b"x"}], "t")


def test_keys_that_webdataset_would_split_are_not_written():
    with pytest.raises(UnsafePath):
        pack(["a.b"], [{"png": b"x"}], "t")
