"""What was decoded from episodes, kept on the disk so that it is decoded once: entries named by their content.

An entry is a folder of ordinary ``.npy`` files, which are mapped into memory and read piece by piece, an ``arrays.npz``
with small arrays, and an ``entry.json`` with plain values. Its name is a hash of all that decides what is in it (the
key of `Cache.get`), so that no entry is ever changed and two that should differ never share a name. It is made in a
hidden folder, which is renamed when it is complete: whatever is killed, an entry is there as a whole or not at all. A
lock per name has one process make it while the others wait. An entry that was damaged later is noticed when it is
opened, by the sizes of its files and a hash of pieces of each, and made again.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from robovlm_ros.errors import UserError
from robovlm_ros.training.coding import Array, Codebook, TooManyValuesError, decode

FOLDER_VARIABLE = "ROBOVLM_ROS_CACHE"
"""Environment variable that names the folder, where the option does not."""
NOTE = "entry.json"
ARRAYS = "arrays.npz"
SPARE = 0.02
"""Share of the disk that an entry leaves free."""
_PIECES, _PIECE = 64, 4096
_WHOLE = _PIECES * _PIECE
"""Files up to this size [bytes] are hashed as a whole."""
_MAPS = 4096
"""Files that are mapped at once; Linux allows a process 65530 maps."""


def cache_folder() -> Path:
    """Where entries lie unless told: $ROBOVLM_ROS_CACHE, else robovlm_ros in $XDG_CACHE_HOME or ~/.cache."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "robovlm_ros"


def open_cache(option: str) -> Cache | None:
    """The cache that an option names: ``auto``, ``off`` (None) or a folder; UserError if it cannot be written."""
    if option == "off":
        return None
    folder = cache_folder() if option == "auto" else Path(option).expanduser()
    try:
        return Cache(folder)
    except OSError as error:
        raise UserError(
            f"the cache {folder} cannot be written ({error.strerror}): name another folder with cache, or set it off"
        ) from error


def digest(value: Any) -> str:
    """Hexadecimal hash of plain values or of bytes."""
    data = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()


class Stored:
    """Samples of one array of an entry, in their order or by `rows`; they are read when they are asked for."""

    def __init__(self, path: Path, table: Array | None = None, rows: NDArray[np.int64] | None = None) -> None:
        self.path, self.table, self.rows = path, table, rows

    def __len__(self) -> int:
        return len(_mapped(self.path)) if self.rows is None else len(self.rows)

    def __getitem__(self, index: int) -> Array:
        """A copy of one sample."""
        sample = _mapped(self.path)[index if self.rows is None else self.rows[index]]
        return np.array(sample) if self.table is None else decode(sample, self.table)


class Entry:
    """What one entry holds."""

    def __init__(self, folder: Path, note: Mapping[str, Any]) -> None:
        self.folder = folder
        self.facts: dict[str, Any] = note["facts"]
        """What `EntryWriter.note` was told."""
        with np.load(folder / ARRAYS, allow_pickle=False) as arrays:
            self.arrays: dict[str, Array] = dict(arrays)
            """What `EntryWriter.write` was given."""

    def stored(self, name: str, rows: NDArray[np.int64] | None = None) -> Stored:
        """What `EntryWriter.append` was given under a name, or these rows of it; it stays on the disk."""
        return Stored(self.folder / f"{name}.npy", self.arrays.get(f"{name}.table"), rows)


class EntryWriter:
    """Fills a new entry."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._growing: dict[str, _Growing] = {}
        self._arrays: dict[str, Array] = {}
        self._facts: dict[str, Any] = {}

    def note(self, **facts: Any) -> None:
        """Keep plain values."""
        self._facts.update(facts)

    def write(self, name: str, array: Array) -> None:
        """Keep a small array."""
        self._arrays[name] = array

    def append(self, name: str, sample: Array, *, coded: bool = False) -> int:
        """Add a sample to a large array, as codes where told and where they serve; the bytes that it takes."""
        if name not in self._growing:
            codebook = Codebook(sample) if coded and Codebook.serves(sample) else None
            self._growing[name] = _Growing(self.folder / f"{name}.npy", codebook)
        return self._growing[name].add(sample)

    def close(self) -> dict[str, Any]:
        """End all files; what is to be written into the note."""
        for name, growing in self._growing.items():
            table = growing.close()
            if table is not None:
                self._arrays[f"{name}.table"] = table
        np.savez(self.folder / ARRAYS, **self._arrays)  # type: ignore[arg-type]
        return {"facts": self._facts}

    def abandon(self) -> None:
        """Close the files of an entry that will not be."""
        for growing in self._growing.values():
            growing.stream.close()


class _Growing:
    """An .npy file that grows by samples: NumPy's header leaves room for the first dimension."""

    def __init__(self, path: Path, codebook: Codebook | None) -> None:
        self.path, self.codebook = path, codebook
        self.count, self.dtype = 0, np.dtype(np.uint8)
        self.shape: tuple[int, ...] = ()
        self.stream: IO[bytes] = path.open("w+b")

    def add(self, sample: Array) -> int:
        coded = sample
        if self.codebook is not None:
            try:
                coded = self.codebook.encode(sample)
            except TooManyValuesError:
                self._give_up_codes()
        if self.count == 0:
            self.shape, self.dtype = coded.shape, coded.dtype
            self._write_header()
        if (coded.shape, coded.dtype) != (self.shape, self.dtype):
            raise UserError(
                f"an observation's images became {coded.dtype} {coded.shape}, where those before were {self.dtype} "
                f"{self.shape}: they cannot be kept in one array"
            )
        self.stream.write(np.ascontiguousarray(coded).data)
        self.count += 1
        return coded.nbytes

    def _give_up_codes(self) -> None:
        """Write again, as numbers, what was written as codes."""
        assert self.codebook is not None
        table, count = self.codebook.table, self.count
        self.codebook = None
        self.close()
        before = self.path.rename(self.path.with_suffix(".codes"))
        self.stream, self.count = self.path.open("w+b"), 0
        for codes in np.load(before, mmap_mode="r", allow_pickle=False) if count else ():
            self.add(decode(codes, table))
        before.unlink()

    def _write_header(self) -> None:
        self.stream.seek(0)
        form: Any = np.lib.format
        header = {"descr": form.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (self.count, *self.shape)}
        form.write_array_header_1_0(self.stream, header)

    def close(self) -> Array | None:
        """The table of its codes, if it has codes."""
        self._write_header()
        self.stream.close()
        return None if self.codebook is None else self.codebook.table


class Cache:
    """A folder of entries."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("entries", "locks", "files"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def has(self, key: Mapping[str, Any]) -> bool:
        """Whether there seems to be an entry for a key: it is not looked into."""
        return self._place(key).is_dir()

    def get(self, key: Mapping[str, Any], make: Callable[[EntryWriter], None], what: str) -> Entry:
        """The entry that a key of plain values names; ``make`` fills it if there is none.

        ``what`` is said where it has to be made again. UserError if the disk is full.
        """
        place = self._place(key)
        found = _open(place)
        if found is not None:
            return found
        with self._locked(place.name):
            found = _open(place)  # by another process meanwhile
            if found is None:
                if place.exists():
                    print(f"cache: the entry of {what} was damaged and is made again", flush=True)
                    shutil.rmtree(place)
                self._make(place, make)
                found = _open(place)
        if found is None:
            raise UserError(f"the cache entry {place} is damaged as soon as it is written: is the disk well?")
        return found

    def room(self, needed: int) -> None:
        """UserError if so many bytes would not fit."""
        disk = shutil.disk_usage(self.folder)
        free = disk.free - round(SPARE * disk.total)
        if needed > free:
            raise UserError(
                f"the cache {self.folder} would need {needed / 1e9:.1f} GB more, and {max(free, 0) / 1e9:.1f} GB can "
                "be used: name a folder on a larger disk with cache, empty this one (inspect cache --clear), or set it "
                "off"
            )

    def digest(self, path: Path) -> str:
        """Hash of a file's bytes; known from before where the file has not been touched since."""
        info = path.stat()
        stamp = [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_dev]
        known = self.folder / "files" / f"{digest(os.fspath(path.resolve()))}.json"
        try:
            remembered = json.loads(known.read_text(encoding="utf-8"))
            if remembered["stamp"] == stamp:
                return str(remembered["digest"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # not known yet, or the note is damaged: it is written anew
        with path.open("rb") as stream:
            found = hashlib.sha256()
            while block := stream.read(1 << 20):
                found.update(block)
        partial = known.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps({"stamp": stamp, "digest": found.hexdigest()}), encoding="utf-8")
        partial.replace(known)
        return found.hexdigest()

    def entries(self) -> list[tuple[Path, int]]:
        """Every entry with its size [bytes], unfinished ones too."""
        return [
            (path, sum(file.stat().st_size for file in path.iterdir()))
            for path in sorted((self.folder / "entries").iterdir())
            if path.is_dir()
        ]

    def clear(self) -> None:
        """Remove everything."""
        for path, _ in self.entries():
            with self._locked(path.name.strip(".").partition(".")[0]):
                shutil.rmtree(path, ignore_errors=True)
        for path in (self.folder / "files").iterdir():
            path.unlink(missing_ok=True)
        _mapped.cache_clear()

    def _place(self, key: Mapping[str, Any]) -> Path:
        return self.folder / "entries" / digest(dict(key))

    def _make(self, place: Path, make: Callable[[EntryWriter], None]) -> None:
        partial = place.with_name(f".{place.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed: the lock is ours
        partial.mkdir()
        writer = EntryWriter(partial)
        try:
            make(writer)
            note = writer.close()
            files = sorted(path for path in partial.iterdir())
            note["files"] = {path.name: _fingerprint(path) for path in files}
            (partial / NOTE).write_text(json.dumps(note), encoding="utf-8")
            for path in files:
                if path.stat().st_size > _WHOLE:  # damage to smaller ones is always noticed, and syncing takes its time
                    _sync(path)
            partial.rename(place)
        except BaseException as error:
            writer.abandon()
            shutil.rmtree(partial, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(f"the disk of the cache {self.folder} is full: name another one with cache") from error
            raise

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """One process at a time: the lock ends with the process, however it ends."""
        with (self.folder / "locks" / name[:2]).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _open(place: Path) -> Entry | None:
    """An entry that is whole, or None."""
    try:
        note = json.loads((place / NOTE).read_text(encoding="utf-8"))
        if all(_fingerprint(place / name) == known for name, known in note["files"].items()):
            return Entry(place, note)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile):
        return None  # there is none, or something of it is missing
    return None


def _fingerprint(path: Path) -> list[Any]:
    """Size of a file and a hash of pieces all over it; of a small file, of all of it."""
    size = path.stat().st_size
    found = hashlib.sha256()
    with path.open("rb") as stream:
        if size <= _WHOLE:
            found.update(stream.read())
        else:
            for place in np.linspace(0, size - _PIECE, _PIECES).astype(np.int64):
                stream.seek(int(place))
                found.update(stream.read(_PIECE))
    return [size, found.hexdigest()]


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@functools.lru_cache(maxsize=_MAPS)
def _mapped(path: Path) -> Array:
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
