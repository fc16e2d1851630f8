"""The only module that creates, writes, renames, syncs or deletes files.

Everything visible appears whole: data goes to a temporary name, is fsynced, renamed, and the folder is fsynced
(the order of borg's ``SyncFile`` and SQLite's journal). Each effect announces itself to ``observer`` first, so a
test can raise, or kill the process, at the first, second, … Nth of them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self, cast

from persona.errors import Damaged, PersonaError, Refusal, Storage
from persona.ids import flat

if TYPE_CHECKING:
    from persona.ids import Data

observer: Callable[[str, Path], None] | None = None
"""Called as ``observer(effect, path)`` before each effect; tests set it."""

_FICLONE = 0x40049409  # linux/fs.h
_SYNC_FILE_RANGE_WRITE = 2
_WHAT_TO_DO = {
    errno.ENOSPC: "Free some space and run the same command again; nothing was changed.",
    errno.EDQUOT: "Your quota is used up: free some space and run the same command again; nothing was changed.",
    errno.EFBIG: "A file would grow over the size this process may write; raise the limit and run it again.",
    errno.EACCES: "Check who owns it and its permissions, then run the same command again.",
    errno.EPERM: "Check who owns it and its permissions, then run the same command again.",
    errno.EROFS: "The file system is mounted read-only; choose another place.",
}


def _announce(effect: str, path: Path) -> None:
    if observer is not None:
        with translated(path):
            observer(effect, path)


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` into a :class:`Storage` error that names ``path``."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, path) from error


def storage_error(error: OSError, path: Path) -> PersonaError:
    """The error that a person sees for ``error`` at ``path``."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    hint = _WHAT_TO_DO.get(error.errno or 0, "Nothing was changed; mend the cause and run the same command again.")
    return Storage(f"{path}: {reason[:1].lower()}{reason[1:]}", hint)


class Staged:
    """A file that is being written under a temporary name in ``folder``, and appears only when published."""

    def __init__(self, folder: Path, label: str = "file") -> None:
        self.path = folder / f"{label}.tmp-{os.urandom(6).hex()}"
        _announce("create", self.path)
        with translated(self.path):
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def reserve(self, size: int) -> None:
        """Claim ``size`` bytes now, so that a full disk is found before the work and not after it."""
        _announce("reserve", self.path)
        with translated(self.path):
            allocate = getattr(os, "posix_fallocate", None)  # not on macOS
            try:
                if allocate is not None:
                    allocate(self._fd, 0, max(size, 1))
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
            os.ftruncate(self._fd, size)

    def write(self, data: Data) -> int:
        """Append ``data``; its length in bytes."""
        _announce("write", self.path)
        view = flat(data)
        done = 0
        with translated(self.path):
            while done < len(view):
                done += os.write(self._fd, view[done:])
        return done

    def write_at(self, offset: int, data: Data) -> None:
        """Write ``data`` at ``offset``; safe from several threads."""
        _announce("write", self.path)
        view = flat(data)
        done = 0
        with translated(self.path):
            while done < len(view):
                done += os.pwrite(self._fd, view[done:], offset + done)

    def copy_mode(self, path: Path) -> None:
        """Take the permissions of ``path``, if it is there."""
        with contextlib.suppress(OSError):
            os.fchmod(self._fd, path.stat().st_mode & 0o7777)

    def start_writeback(self, offset: int, length: int) -> None:
        """Ask the kernel to begin writing a finished range, so that the fsync at the end finds little to do."""
        if _sync_file_range is not None:
            _sync_file_range(self._fd, offset, length, _SYNC_FILE_RANGE_WRITE)

    def clone_from(self, source: Path) -> bool:
        """Share ``source``'s extents where the file system can (reflink); whether it could."""
        _announce("clone", self.path)
        try:
            with source.open("rb") as file:
                fcntl.ioctl(self._fd, _FICLONE, file.fileno())
        except OSError:
            return False
        return True

    def sync(self) -> None:
        """Make the bytes durable and close the file; it still has its temporary name."""
        if self._fd < 0:
            return
        _announce("fsync", self.path)
        with translated(self.path):
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1

    def publish(self, target: Path, *, sync_folder: bool = True) -> None:
        """Make the bytes durable and give them the name ``target``, replacing what had it."""
        self.sync()
        rename(self.path, target, sync_folder=sync_folder)

    def discard(self) -> None:
        """Forget it; harmless after :meth:`publish`."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        with contextlib.suppress(OSError):
            self.path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


def write_over(path: Path, data: bytes) -> None:
    """As :func:`write_file`, for a file that a user owns: a link stays a link, and permissions stay as they are."""
    with contextlib.suppress(OSError):
        path = path.resolve()
    with Staged(path.parent, f".{path.name}") as staged:
        staged.write(data)
        staged.copy_mode(path)
        staged.publish(path)


def read_line(path: Path) -> str | None:
    """The one line of a small file of ours; None if there is no such file, Damaged if it is not text."""
    try:
        return path.read_bytes().decode("ascii").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError:
        raise Damaged(f"{path} is damaged: it is not text", "Copy the file back from a backup.") from None
    except OSError as error:
        raise storage_error(error, path) from error


def write_file(path: Path, data: bytes) -> None:
    """Write ``path`` whole or not at all."""
    with Staged(path.parent, f".{path.name}") as staged:
        staged.write(data)
        staged.publish(path)


def rename(source: Path, target: Path, *, sync_folder: bool = True) -> None:
    """Rename within one file system; the new name is durable on return unless told otherwise."""
    _announce("rename", target)
    with translated(target):
        source.rename(target)
    if sync_folder:
        fsync_folder(target.parent)


@contextlib.contextmanager
def linked(source: Path, folder: Path) -> Iterator[Path]:
    """One more name, a temporary one in ``folder``, of a file that a user owns; it goes, or has been renamed, at the end.

    Only the name is ours: the bytes and the user's own name of them are never touched.
    """
    path = folder / f"link.tmp-{os.urandom(6).hex()}"
    _announce("link", path)
    try:
        os.link(source.resolve(), path)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise storage_error(error, source) from error
        raise Refusal(
            f"{source} cannot be linked into {folder.parent.parent}: {_CANNOT_LINK[error.errno]}",
            "Make the repository where the base lies, or leave out --link to keep a copy; nothing was changed.",
        ) from None
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


_CANNOT_LINK = {
    errno.EXDEV: "it lies on another file system",
    errno.EPERM: "the file system has no hard links, or the file belongs to someone else",
    errno.EOPNOTSUPP: "the file system has no hard links",
    errno.EMLINK: "it has as many names as its file system allows",
}


def sync_file(path: Path) -> None:
    """Make the bytes of a file durable that was written by someone else."""
    _announce("fsync", path)
    with translated(path):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def fsync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    _announce("fsync", path)
    with translated(path):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def make_folder(path: Path) -> None:
    """Create a folder and its parents; no error if it is there."""
    if path.is_dir():
        return
    make_folder(path.parent)
    _announce("mkdir", path)
    with translated(path):
        path.mkdir(exist_ok=True)
    fsync_folder(path.parent)


def make_staging_folder(beside: Path) -> Path:
    """A new empty folder next to ``beside``, on the same file system, with a name that says it is unfinished."""
    make_folder(beside.parent)
    staging = beside.parent / f".{beside.name}.tmp-{os.urandom(6).hex()}"
    _announce("mkdir", staging)
    with translated(beside):
        staging.mkdir()
    return staging


@contextlib.contextmanager
def staged_folder(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder that gets its name, ``target``, at the end of the block, whole; or goes."""
    staging = make_staging_folder(target)
    try:
        yield staging
        publish_folder(staging, target, replace=replace)
    finally:
        if staging.exists():
            remove_tree(staging)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder outside of what users own, for those who can only be given files; it goes at the end."""
    import tempfile  # it brings much along that light commands never need

    with translated(Path(tempfile.gettempdir())):
        folder = tempfile.TemporaryDirectory(prefix="persona-")
    with folder as name:
        yield Path(name)


@contextlib.contextmanager
def scratch_file() -> Iterator[BinaryIO]:
    """A file without a name for what memory should not hold; gone at the end, and with the process."""
    import tempfile

    with tempfile.TemporaryFile() as file:
        yield cast("BinaryIO", file)


def publish_folder(staging: Path, target: Path, *, replace: bool = False) -> None:
    """Give a finished folder its name, which must be free (or an empty folder) unless it may ``replace`` what has it.

    Replacing swaps the two names in one step where the kernel can, so that ``target`` is there at every moment.
    """
    fsync_folder(staging)
    if not (replace and target.exists()):
        _take_free_name(staging, target)
    elif not _exchange(staging, target):
        aside = staging.with_name(f"{staging.name}.replaced")
        rename(target, aside)
        rename(staging, target)
        remove_tree(aside)
    else:
        fsync_folder(target.parent)
        remove_tree(staging)


def _take_free_name(staging: Path, target: Path) -> None:
    _announce("rename", target)
    try:
        staging.rename(target)  # POSIX refuses a folder that is not empty
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise Refusal(f"{target} appeared meanwhile", "It was left alone; choose another name.") from None
        raise storage_error(error, target) from error
    fsync_folder(target.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names atomically; whether kernel and file system could."""
    if _renameat2 is None:
        return False
    _announce("exchange", other)
    return _renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0


def remove_file(path: Path) -> None:
    """Delete one file; no error if it is gone."""
    _announce("remove", path)
    with translated(path):
        path.unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """Delete a folder that persona itself made."""
    import shutil

    _announce("remove", path)
    shutil.rmtree(path, ignore_errors=True)


def open_lock(path: Path) -> int | None:
    """Take the kernel's lock on ``path``: a descriptor to keep open, or None if another process holds it."""
    with translated(path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
    return fd


def write_lock_holder(fd: int, text: str) -> None:
    """Say in the lock's file who holds it; for people only, the kernel's lock is what counts."""
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, text.encode(), 0)


def close_lock(fd: int) -> None:
    """Let go of the lock."""
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
    os.close(fd)


def _from_libc(name: str, *arguments: Any) -> Callable[..., int] | None:
    """A Linux call that Python has no function for; None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        function = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (OSError, AttributeError):
        return None
    function.argtypes = arguments
    function.restype = ctypes.c_int
    return cast("Callable[..., int]", function)


def keep_freed_memory() -> None:
    """Let the C library keep what is freed, up to 256 MiB, for what is asked for next.

    By default glibc gives every array of 128 KiB or more back to the system, whose pages are then faulted in again
    for each block of a build: some 80,000 faults and up to half of the time where memory is virtual. Only for a
    process of our own: it changes how all of it gets memory.
    """
    if _mallopt is not None:
        _mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        _mallopt(_M_TRIM_THRESHOLD, 256 << 20)


_AT_FDCWD = -100
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_RENAME_EXCHANGE = 2
_sync_file_range = _from_libc("sync_file_range", ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_renameat2 = _from_libc("renameat2", ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_mallopt = _from_libc("mallopt", ctypes.c_int, ctypes.c_int)
