"""A file that keeps what a run has done, so that the same call goes on where another process was stopped.

It is an SQLite database: one file, whose changes are whole or absent whenever the process dies, and of which only what changed is
written. Each entry is an archive (:mod:`rdmc.archive`) with its digest. The file says which run it belongs to; a file of another
run, another version or another program is refused before anything is written.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from rdmc.archive import pack, unpack
from rdmc.errors import ArchiveError, CheckpointError
from rdmc.table import dumps, loads

__all__ = ["Checkpoint"]

_APPLICATION = 0x72646D63  # "rdmc"
_FORMAT = 4
_SHARED = " (is another run using it?)"


class Checkpoint:
    """Named values of one run, on disk.

    Args:
        path: The file; made if absent.
        identity: What makes a run the same run: names and texts or numbers. An existing file must agree in all of them.
        packages: Top-level packages whose classes may be read back.

    Raises:
        CheckpointError: If the file is damaged, is no checkpoint, belongs to another run or another version, is in use, or can't be
            written. Nothing is overwritten then.
    """

    def __init__(self, path: str | os.PathLike[str], identity: Mapping[str, object], packages: tuple[str, ...]) -> None:
        self.path = Path(path)
        self.packages = packages
        self._failed = False
        if not self.path.parent.is_dir():
            raise CheckpointError(f"`checkpoint` must lie in an existing directory, got {str(self.path)!r}")
        if self.path.exists() and not self.path.is_file():
            raise CheckpointError(f"`checkpoint` must be the path of a file, got {str(self.path)!r}")
        try:
            self._base = sqlite3.connect(self.path, timeout=1.0, isolation_level=None, check_same_thread=False)
            try:
                self._open(dict(identity))
            except Exception:
                self._base.close()  # a run with the right arguments may follow
                raise
        except sqlite3.DatabaseError as error:
            shared = _SHARED if "locked" in str(error) else ""
            raise CheckpointError(f"`checkpoint` {str(self.path)!r} can't be used: {error}{shared}") from error

    def _open(self, identity: dict[str, object]) -> None:
        run = self._base.execute
        run("PRAGMA locking_mode = EXCLUSIVE")
        run("PRAGMA synchronous = NORMAL")
        application, version = run("PRAGMA application_id").fetchone()[0], run("PRAGMA user_version").fetchone()[0]
        tables = run("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and application != _APPLICATION:
            raise CheckpointError(f"`checkpoint` {str(self.path)!r} is a database of another program")
        if tables and version != _FORMAT:
            raise CheckpointError(
                f"`checkpoint` {str(self.path)!r} has format {version}, wanted {_FORMAT}: it was written by another version "
                "of this library; finish it with that version, or give another path"
            )
        run("BEGIN IMMEDIATE")  # a file that can't be written says so now
        if not tables:
            run(f"PRAGMA application_id = {_APPLICATION}")
            run(f"PRAGMA user_version = {_FORMAT}")
            run("CREATE TABLE entry (name TEXT PRIMARY KEY, digest BLOB NOT NULL, data BLOB NOT NULL) WITHOUT ROWID")
            self._write("identity", dumps(identity).encode())
        elif (damage := run("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            run("ROLLBACK")
            raise CheckpointError(f"`checkpoint` {str(self.path)!r} is damaged: {damage}")
        run("COMMIT")
        if tables:
            self._agrees(identity)

    def _agrees(self, identity: dict[str, object]) -> None:
        kept: dict[str, object] = loads((self._read("identity") or b"{}").decode())
        wanted = loads(dumps(identity))
        differ = [name for name in {**kept, **wanted} if kept.get(name) != wanted.get(name)]
        if differ:
            changes = "; ".join(f"{name} was {kept.get(name)!r} and is {wanted.get(name)!r}" for name in differ)
            raise CheckpointError(f"`checkpoint` {str(self.path)!r} belongs to another run: {changes}")

    def _read(self, name: str) -> bytes | None:
        try:
            row = self._base.execute("SELECT digest, data FROM entry WHERE name = ?", (name,)).fetchone()
        except sqlite3.DatabaseError as error:
            raise CheckpointError(f"`checkpoint` {str(self.path)!r} is damaged: {error}") from error
        if row is None:
            return None
        digest, data = row
        if hashlib.blake2b(data, digest_size=16).digest() != digest:
            raise CheckpointError(f"`checkpoint` {str(self.path)!r} is damaged: the digest of {name!r} does not agree")
        return bytes(data)

    def _write(self, name: str, data: bytes) -> None:
        digest = hashlib.blake2b(data, digest_size=16).digest()
        self._base.execute("INSERT OR REPLACE INTO entry VALUES (?, ?, ?)", (name, digest, data))

    def recall(self, name: str, device: torch.device | None = None) -> Any | None:
        """What was kept under the name, or None."""
        data = self._read(name)
        if data is None:
            return None
        try:
            return unpack(data, self.packages, device)
        except ArchiveError as error:
            raise CheckpointError(f"`checkpoint` {str(self.path)!r}: {name!r} can't be read: {error}") from error

    def keep(self, name: str, value: object, instead_of: Sequence[str] = ()) -> bool:
        """Keep a value under a name, and drop the entries that it makes superfluous, all or nothing.

        A disk that is full or gone ends the keeping with a warning and not the run.

        Returns:
            Whether it was kept; values that can't be packed are not.
        """
        if self._failed:
            return False
        try:
            data = pack(value)
        except ArchiveError:
            return False
        try:
            self._base.execute("BEGIN IMMEDIATE")
            self._base.executemany("DELETE FROM entry WHERE name = ?", [(old,) for old in instead_of])
            self._write(name, data)
            self._base.execute("COMMIT")
        except sqlite3.Error as error:
            self._failed = True
            with suppress(sqlite3.Error):
                self._base.execute("ROLLBACK")
            message = (
                f"the checkpoint {str(self.path)!r} can't be written any more ({error}); the run goes on without it"
            )
            warnings.warn(message, RuntimeWarning, stacklevel=2)
            return False
        return True

    def close(self) -> None:
        """Let go of the file."""
        with suppress(sqlite3.Error):
            self._base.close()
