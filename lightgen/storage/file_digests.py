"""sha256 of large files that rarely change, such as model weights: read once, then remembered by what `stat` says.

A file counts as unchanged while its path, size, inode and times of change are the same. A file that was changed in the
last seconds is always read again, since two writes within the resolution of the clock look alike.
"""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from lightgen.settings import cache_folder
from lightgen.storage.files import sha256_of_file

REMEMBERED = 1 << 20  # bytes; reading less is as quick as looking it up
SETTLED_S = 5.0
TABLE = "CREATE TABLE IF NOT EXISTS digests (file TEXT PRIMARY KEY, state TEXT NOT NULL, sha256 TEXT NOT NULL)"


def file_digest(path: Path) -> str:
    """sha256 of the file, in hex."""
    status = path.stat()
    if status.st_size < REMEMBERED:
        return sha256_of_file(path)
    file = os.path.realpath(path)
    state = f"{status.st_size} {status.st_ino} {status.st_mtime_ns} {status.st_ctime_ns}"
    with closing(_open()) as known:
        row = known.execute("SELECT sha256 FROM digests WHERE file = ? AND state = ?", (file, state)).fetchone()
        if row:
            return row[0]
        digest = sha256_of_file(path)
        if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > SETTLED_S * 1e9:
            known.execute("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", (file, state, digest))
            known.commit()
    return digest


def _open() -> sqlite3.Connection:
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    known = sqlite3.connect(folder / "file-digests.sqlite", timeout=60)
    known.execute(TABLE)
    return known
