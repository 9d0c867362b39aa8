"""A folder of small files that cannot be read without its key: AES-256-GCM, each written whole or not at all.

The key is made once and lies beside the folder, readable by its owner alone. That protects what leaves the host without
the key: a copy or a backup of the folder, blocks of the disk that were freed. It does not protect from whoever may
read the whole data directory: root, the user that runs morgand, a thief of a disk that is not encrypted.

Layout of a file: a magic line, the nonce, the ciphertext; its name is authenticated with it, so that none can be put in
another's place.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from morgand.base import files
from morgand.base.errors import MorganError, StorageFull, Unavailable

MAGIC = b"MORGAN-SEALED-1\n"
KEY_BYTES = 32
NONCE_BYTES = 12
DAMAGED = ".damaged"
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


class DamagedFile(MorganError):
    """A sealed file is damaged, or was sealed with another key."""


class SealedFolder:
    """Blocking file access; call it in a thread."""

    def __init__(self, folder: Path, key_file: Path) -> None:
        self.folder, self._key_file = folder, key_file
        self._cipher: AESGCM | None = None

    def names(self) -> list[str]:
        """The whole files, in the order of their names; what a crash left unfinished is removed. Raises StorageFull."""
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            for leftover in self.folder.glob(f"*{files.UNFINISHED}"):
                leftover.unlink()
            return sorted(file.name for file in self.folder.iterdir() if file.suffix != DAMAGED and file.is_file())
        except OSError as err:
            raise _translated(err, self.folder) from err

    def damaged(self) -> list[Path]:
        """The files that were set aside."""
        return sorted(self.folder.glob(f"*{DAMAGED}"))

    def write(self, name: str, body: bytes) -> int:
        """Durable when it returns; its size on the disk, bytes. Raises StorageFull, Unavailable and leaves nothing."""
        target = self.folder / name
        try:
            nonce = secrets.token_bytes(NONCE_BYTES)
            data = MAGIC + nonce + self._seal().encrypt(nonce, body, name.encode())
            files.write_whole(target, data)
        except OSError as err:
            with contextlib.suppress(OSError):
                target.unlink(missing_ok=True)
            raise _translated(err, target) from err
        return len(data)

    def read(self, name: str) -> bytes:
        """Raises Damaged, Unavailable."""
        file = self.folder / name
        try:
            data, cipher = file.read_bytes(), self._opened()
        except FileNotFoundError as err:
            raise DamagedFile(f"{file} is gone.") from err
        except OSError as err:
            if err.errno == errno.EIO:
                raise DamagedFile(f"{file} lies on a damaged part of the disk.") from err
            raise Unavailable(f"{file} cannot be read: {err.strerror}.", remedy="Check its disk.") from err
        nonce, sealed = data[len(MAGIC) : len(MAGIC) + NONCE_BYTES], data[len(MAGIC) + NONCE_BYTES :]
        if cipher is None or not data.startswith(MAGIC) or len(nonce) != NONCE_BYTES:
            raise DamagedFile(f"{file} is damaged.")
        try:
            return cipher.decrypt(nonce, sealed, name.encode())
        except InvalidTag as err:
            raise DamagedFile(f"{file} is damaged, or was sealed with another key than {self._key_file}.") from err

    def remove(self, name: str) -> None:
        """Gone for good when it returns. Raises StorageFull, Unavailable."""
        try:
            (self.folder / name).unlink(missing_ok=True)
            files.sync(self.folder)
        except OSError as err:
            raise _translated(err, self.folder / name) from err

    def set_aside(self, name: str) -> None:
        """Keep a damaged file under another name, out of the way. Raises StorageFull, Unavailable."""
        file = self.folder / name
        try:
            file.replace(file.with_name(name + DAMAGED))
        except FileNotFoundError:
            return
        except OSError as err:
            raise _translated(err, file) from err

    def _opened(self) -> AESGCM | None:
        """The cipher, if there is a usable key. Raises OSError."""
        if self._cipher is None:
            try:
                key = self._key_file.read_bytes()
            except FileNotFoundError:
                return None
            self._cipher = AESGCM(key) if len(key) == KEY_BYTES else None
        return self._cipher

    def _seal(self) -> AESGCM:
        """The cipher; its key is made at the first use. A damaged key is kept under another name. Raises OSError."""
        cipher = self._opened()
        if cipher is None:
            if self._key_file.exists():
                self._key_file.replace(self._key_file.with_name(self._key_file.name + DAMAGED))
            key = AESGCM.generate_key(bit_length=KEY_BYTES * 8)
            files.write_whole(self._key_file, key)
            self._cipher = cipher = AESGCM(key)
        return cipher


def _translated(err: OSError, path: Path) -> MorganError:
    if err.errno in NO_SPACE:
        return StorageFull(
            f"{path} cannot be written: {err.strerror}.",
            remedy="Free space on the disk of the data directory, or make it writable for the user that runs morgand.",
        )
    return Unavailable(f"{path} cannot be used: {err.strerror}.", remedy="Check its disk.")
