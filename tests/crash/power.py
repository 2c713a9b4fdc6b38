"""A model of losing power: what was not fsynced is torn or lost, entries of folders that were not fsynced may vanish.

It stands in for `os` in `lightgen.storage.local`: every call happens for real, and is remembered; `after_power_loss`
then writes what a disk would still hold into another folder.
"""

import os
import stat
from pathlib import Path


class PowerLoss(BaseException):
    """The machine stops here."""


class Disk:
    """`os` with a memory of what is durable. Attributes it does not define are those of `os`."""

    def __init__(self, root, fail_at, rng, keeps_files=True, keeps_folders=True):
        self.root, self.fail_at, self.rng = str(root), fail_at, rng
        self.keeps_files, self.keeps_folders = keeps_files, keeps_folders
        self.operations = 0
        self.contents, self.durable_files = {}, set()
        self.durable, self.pending = {}, {}
        self.paths = {}
        for folder, folders, files in os.walk(self.root):
            self.durable[folder] = dict.fromkeys(folders)
            for name in files:
                path = os.path.join(folder, name)
                inode = os.stat(path).st_ino
                self.contents[inode] = Path(path).read_bytes()
                self.durable_files.add(inode)
                self.durable[folder][name] = inode

    def __getattr__(self, name):
        return getattr(os, name)

    def _operate(self):
        if self.operations >= self.fail_at:
            raise PowerLoss
        self.operations += 1

    def _change(self, path, inode, add=True):
        folder, name = os.path.split(str(path))
        self.pending.setdefault(folder, []).append((name, inode, add))

    def open(self, path, flags, mode=0o777):
        self._operate()
        descriptor = os.open(path, flags, mode)
        self.paths[descriptor] = str(path)
        if flags & os.O_CREAT:
            inode = os.fstat(descriptor).st_ino
            self.durable_files.discard(inode)
            self.contents[inode] = b""
            self._change(path, inode)
        return descriptor

    def fsync(self, descriptor):
        self._operate()
        path, status = self.paths[descriptor], os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            if self.keeps_folders:
                held = self.durable.setdefault(path, {})
                for change in self.pending.pop(path, []):
                    apply(held, change)
        else:
            self.contents[status.st_ino] = Path(path).read_bytes()
            if self.keeps_files:
                self.durable_files.add(status.st_ino)

    def link(self, source, target):
        self._operate()
        os.link(source, target)
        self._change(target, os.stat(target).st_ino)

    def unlink(self, path):
        self._operate()
        inode = os.stat(path).st_ino
        os.unlink(path)
        self._change(path, inode, add=False)

    def mkdir(self, path, mode=0o777):
        self._operate()
        os.mkdir(path, mode)
        self._change(path, None)

    def after_power_loss(self, target):
        """Write what is left to `target`."""
        os.makedirs(target)
        self._restore(self.root, str(target))

    def _restore(self, folder, target):
        held = dict(self.durable.get(folder, {}))
        for change in self.pending.get(folder, []):
            if self.rng.random() < 0.5:
                apply(held, change)
        for name, inode in held.items():
            path = os.path.join(target, name)
            if inode is None:
                os.mkdir(path)
                self._restore(os.path.join(folder, name), path)
            else:
                with open(path, "wb") as file:
                    file.write(self._left_of(inode))

    def _left_of(self, inode):
        data = self.contents[inode]
        if inode in self.durable_files:
            return data
        cut = self.rng.randrange(len(data) + 1)
        return self.rng.choice([b"", data[:cut], data[:cut] + bytes(len(data) - cut)])


def apply(entries, change):
    name, inode, add = change
    if add:
        entries[name] = inode
    else:
        entries.pop(name, None)
