"""Read and write the parts of a folder, on this machine or at an address such as `s3://bucket/in`.

    source = open_folder("s3://bucket/reviews", "--in")
    for name in source.parts():
        with source.open_table(name, "--in") as table:
            ...

A large table is a folder of files, its parts, as Spark, Dask and pandas write it. Addresses go
through fsspec, which takes passwords and keys from where each cloud's own tools look for them. A
`Folder` is only its address, so that it can be sent to other machines.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sentiment.data.sources import Reading
from sentiment.data.tables import AS_WRITTEN, Table, open_table, read_table
from sentiment.data.targets import PART, SUFFIXES, appearing_whole
from sentiment.errors import ReviewDataError, ReviewReadError, UserError
from sentiment.masking import line

HIDDEN = (".", "_")  # begin the names of what is no part: `_SUCCESS`, `.part-0.csv.crc`


@dataclass(frozen=True)
class Folder:
    """A folder of parts; `address` is an absolute path or has a `://`. A part's name may have `/`.

    Raises `ReviewDataError` where it is not there, is a file or holds no part, `ReviewReadError`
    where it cannot be read just now.
    """

    address: str

    def __str__(self) -> str:
        return self.address

    def place(self, name: str) -> str:
        """Return how messages name a part."""
        return f"{self.address}/{name}"

    def inside(self, other: Folder) -> bool:
        """Return whether this is the other folder, or in it."""
        return f"{self.address}/".startswith(f"{other.address}/")

    def parts(self) -> list[str]:
        """Return the names of all parts in the order of the alphabet; without one it is an error.

        Those are the files whose name ends in one of `SUFFIXES`, in folders of the folder too.
        """
        with self._errors(self.address):
            if self._is_file():
                raise ReviewDataError(f"{self}: is a file, expected a folder of parts")
            found = sorted(name for name in self._names() if _is_part(name))
        if not found:
            raise ReviewDataError(
                f"{self}: no such folder, or no part in it: a file whose name ends in one of "
                f"{', '.join(SUFFIXES)}"
            )
        return found

    def there(self) -> set[str]:
        """Return the names of all files in it; none where there is no folder yet."""
        with self._errors(self.address):
            if self._is_file():
                raise ReviewDataError(f"{self}: is a file, expected a folder")
            return set(self._names())

    @contextmanager
    def open_table(self, name: str, option: str, reading: Reading = AS_WRITTEN) -> Iterator[Table]:
        """Open a part as `tables.open_table` opens a file."""
        if self._local is not None:
            with open_table(self._local / name, option, reading) as table:
                yield table
            return
        files, root = self._remote()
        with self._errors(self.place(name)), files.open(f"{root}/{name}", "rb") as raw:
            prefix = f"{self.place(name)}: "
            yield read_table(raw, PurePosixPath(name).name, prefix=prefix, reading=reading)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Give a path on this machine for a new part, which is in the folder after the block.

        It is in there whole or not at all: at an address it is sent under another name, and gets
        its own one at the end. Its folders are made.
        """
        if self._local is not None:
            path = self._local / name
            with self._errors(self.place(name)):
                path.parent.mkdir(parents=True, exist_ok=True)
            yield path
            return
        files, root = self._remote()
        whole = PurePosixPath(root) / name
        sent = whole.with_name(f".{whole.name}.{secrets.token_hex(4)}{PART}")
        with tempfile.TemporaryDirectory() as here:
            path = Path(here) / whole.name
            yield path
            with self._errors(self.place(name)):
                try:
                    files.makedirs(str(whole.parent), exist_ok=True)
                    files.put_file(str(path), str(sent))
                    files.mv(str(sent), str(whole))
                except BaseException:
                    with suppress(Exception):
                        files.rm_file(str(sent))
                    raise

    def read(self, name: str) -> bytes:
        """Return what is in a small file."""
        with self._errors(self.place(name)):
            if self._local is not None:
                return (self._local / name).read_bytes()
            files, root = self._remote()
            return bytes(files.cat_file(f"{root}/{name}"))

    def write(self, name: str, data: bytes) -> None:
        """Write a small file, which appears whole."""
        with (
            self.writing(name) as path,
            self._errors(self.place(name)),
            appearing_whole(path) as file,
        ):
            file.write(data)

    @property
    def _local(self) -> Path | None:
        return None if "://" in self.address else Path(self.address)

    def _remote(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs

        files, root = url_to_fs(self.address)  # fsspec keeps one for each kind of address
        return files, root.rstrip("/")

    def _is_file(self) -> bool:
        if self._local is not None:
            return self._local.is_file()
        files, root = self._remote()
        files.invalidate_cache()  # others write there
        return bool(files.isfile(root))

    def _names(self) -> Iterator[str]:
        if self._local is not None:
            for file in self._local.rglob("*"):
                if file.is_file():
                    yield file.relative_to(self._local).as_posix()
            return
        files, root = self._remote()
        with suppress(FileNotFoundError):
            for path in files.find(root):
                yield path.removeprefix(root).lstrip("/")

    @contextmanager
    def _errors(self, place: str) -> Iterator[None]:
        """Turn what the disk raises, or at an address any library, into our errors."""
        try:
            yield
        except UserError:
            raise
        except OSError as error:
            reason = error.strerror or line(error)
            raise ReviewReadError(f"{place}: cannot be used ({reason})") from None
        except Exception as error:
            if self._local is not None:
                raise
            raise ReviewReadError(f"{place}: cannot be used ({line(error)})") from None


def open_folder(text: str, option: str) -> Folder:
    """Return the folder that the user named with `option`, there or not.

    Raises `ReviewDataError` for an address that cannot be used here: of an unknown kind, or of one
    whose package is not installed.
    """
    if "://" not in text:
        return Folder(str(Path(text).resolve()))
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    try:
        files, root = url_to_fs(text)
    except ImportError as error:  # fsspec says which package
        raise ReviewDataError(f"{option} {text}: {line(error)}") from None
    except Exception as error:
        raise ReviewDataError(f"{option} {text}: not an address to use ({line(error)})") from None
    return Folder(root if isinstance(files, LocalFileSystem) else text.rstrip("/"))


def _is_part(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not any(
        step.startswith(HIDDEN) for step in PurePosixPath(name).parts
    )
