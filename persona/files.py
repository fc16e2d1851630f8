"""The only module that creates, writes, renames, syncs or deletes files.

No reader ever sees half a file: data goes to a temporary name, is fsynced and renamed, and then the folder is fsynced
(the order of borg's ``SyncFile`` and SQLite's journal). Each effect calls ``observer`` first, so that a test can
raise an error, or kill the process, at any of them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self, cast

from persona import sharing
from persona.errors import Damaged, PersonaError, Refusal, Storage, UsageError
from persona.ids import flat

if TYPE_CHECKING:
    from io import BufferedReader

    from persona.ids import Data

observer: Callable[[str, Path], None] | None = None
"""Called as ``observer(effect, path)`` before each effect; tests set it."""

_FICLONE = 0x40049409  # linux/fs.h
_SYNC_FILE_RANGE_WRITE = 2
_HINTS = {
    errno.ENOSPC: "Free some space and run the same command again; nothing was changed.",
    errno.EDQUOT: "The disk quota is exhausted: free some space and run the same command again; nothing was changed.",
    errno.EFBIG: "The file would exceed the maximum file size (ulimit -f): raise the limit and run it again.",
    errno.EACCES: "Check its owner and permissions, then run the same command again.",
    errno.EPERM: "Check its owner and permissions, then run the same command again.",
    errno.EROFS: "The file system is mounted read-only; choose another place.",
    errno.EMFILE: "Raise the limit of open files: ulimit -n 65536",
    errno.ENFILE: "The system has too many open files: close other programs, then run the same command again.",
    errno.ENOMEM: "Close other programs, then run the same command again.",
}
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_IN_THE_WAY = (errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EEXIST)


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
    """Return the error to raise for ``error`` at ``path``."""
    if isinstance(error, Unfit):
        return UsageError(f"{path}: {error.strerror}", error.hint)
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in _IN_THE_WAY:
        return UsageError(
            f"{path}: {reason[:1].lower()}{reason[1:]}", "Something else is in its place: look at it, and move it away."
        )
    hint = _HINTS.get(error.errno or 0, "Nothing was changed; fix the cause and run the same command again.")
    return Storage(f"{path}: {reason[:1].lower()}{reason[1:]}", hint)


class Unfit(OSError):
    """A file that persona does not read: a pipe or device, or larger than any such file is. ``hint`` says what to do."""

    def __init__(self, why: str, hint: str) -> None:
        super().__init__(errno.EINVAL, why)
        self.hint = hint

    def __str__(self) -> str:
        return str(self.strerror)


_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
LARGEST_TOML = 16 << 20
"""Most bytes of a TOML file."""
LARGEST_JSON = 256 << 20
"""Most bytes of a JSON document that is read at once."""


def open_regular(path: Path) -> int:
    """Open a regular file for reading, and return its descriptor. Every file that persona reads is opened here.

    A pipe would block until somebody writes, and a device may have no end; neither is waited for.

    Raises:
        OSError: The file cannot be opened; :class:`Unfit` if it is not a regular file.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket, or a device without a driver
            raise _not_regular("a socket or device") from None
        raise
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return fd
    os.close(fd)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise _not_regular(next((name for is_kind, name in _KINDS if is_kind(mode)), "something else"))


def _not_regular(kind: str) -> Unfit:
    return Unfit(
        f"not a regular file but {kind}",
        "Put a regular file in its place, or name one: persona reads no pipes and no devices.",
    )


def opened(path: Path) -> BufferedReader:
    """Open a regular file for reading in blocks; OSError as in :func:`open_regular`."""
    return os.fdopen(open_regular(path), "rb")


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """Read a whole regular file.

    Args:
        path: The file.
        most: Its maximum size in bytes, for a file that is never larger unless somebody means harm.

    Raises:
        OSError: The file cannot be read; :class:`Unfit` if it is not a regular file, or too large.
    """
    fd = open_regular(path)
    try:
        size = os.fstat(fd).st_size
        if most is not None and size > most:
            raise Unfit(f"larger than {most >> 10:,} KiB", "A file of this kind is never so large: replace it.")
        data = os.read(fd, size + 1)
        while len(data) != size and (more := os.read(fd, max(size - len(data), 0) + (1 << 20))):
            data += more  # it grew, or is larger than the kernel returns at once
        return data
    finally:
        os.close(fd)


def is_short(error: BaseException) -> bool:
    """Whether the system had no more files or memory to give, which says nothing about the file that was asked for."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in _SHORT


class Staged:
    """A file that is written under a temporary name in ``folder`` and appears only when published."""

    def __init__(self, folder: Path, label: str = "file") -> None:
        self.path = folder / f"{label}.tmp-{os.urandom(6).hex()}"
        more = sharing.bits(self.path)
        _announce("create", self.path)
        with translated(self.path):
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        self.widen(more)

    def reserve(self, size: int) -> None:
        """Allocate ``size`` bytes now, so that a full disk is noticed before the work rather than after it."""
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
        """Append ``data`` and return its length in bytes."""
        return self._write(data, lambda view, done: os.write(self._fd, view[done:]))

    def write_at(self, offset: int, data: Data) -> None:
        """Write ``data`` at ``offset``; safe from several threads."""
        self._write(data, lambda view, done: os.pwrite(self._fd, view[done:], offset + done))

    def _write(self, data: Data, write: Callable[[memoryview, int], int]) -> int:
        _announce("write", self.path)
        view, done = flat(data), 0
        with translated(self.path):
            while done < len(view):
                done += write(view, done)
        return done

    def copy_mode(self, path: Path) -> None:
        """Copy the permissions of ``path``, if it exists."""
        with contextlib.suppress(OSError):
            os.fchmod(self._fd, path.stat().st_mode & 0o7777)

    def widen(self, more: int) -> None:
        """Add permissions; see :mod:`persona.sharing`."""
        if more:
            with translated(self.path):
                os.fchmod(self._fd, sharing.widened(os.fstat(self._fd).st_mode, more))

    def narrow(self, like: Iterable[Path]) -> None:
        """Take from the group and others what they may not do with one of the files that the contents come from.

        Of a file that was deleted since it was opened nothing is known, so its contents are the owner's alone. A shared repository
        still shares what is in it.
        """
        for path in like:
            with translated(path):
                mode = path.stat().st_mode if path.exists() else 0
            with translated(self.path):
                os.fchmod(self._fd, os.fstat(self._fd).st_mode & (mode | 0o7700))
        self.widen(sharing.bits(self.path))

    def start_writeback(self, offset: int, length: int) -> None:
        """Ask the kernel to start writing a finished range, so that little is left for the final fsync."""
        if _sync_file_range is not None:
            _sync_file_range(self._fd, offset, length, _SYNC_FILE_RANGE_WRITE)

    def clone_from(self, source: Path) -> bool:
        """Share ``source``'s extents (reflink); return False if the file system does not support it."""
        _announce("clone", self.path)
        try:
            with opened(source) as file:
                fcntl.ioctl(self._fd, _FICLONE, file.fileno())
        except OSError:
            return False
        return True

    def sync(self) -> None:
        """Make the bytes durable and close the file, which keeps its temporary name."""
        if self._fd < 0:
            return
        _announce("fsync", self.path)
        with translated(self.path):
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1

    def publish(self, target: Path, *, sync_folder: bool = True) -> None:
        """Make the bytes durable and rename the file to ``target``, replacing any file there."""
        self.sync()
        rename(self.path, target, sync_folder=sync_folder)

    def discard(self) -> None:
        """Delete the temporary file; does nothing after :meth:`publish`."""
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
    """Write a file that a user owns, as :func:`write_file` does, but keep symbolic links and permissions."""
    more = sharing.bits(path)
    with contextlib.suppress(OSError):
        path = path.resolve()
    with Staged(path.parent, f".{path.name}") as staged:
        staged.write(data)
        staged.copy_mode(path)
        staged.widen(more)
        staged.publish(path)


LONGEST_LINE = 1 << 16
"""Most bytes of a file that has one line."""


def read_line(path: Path) -> str | None:
    """Return the only line of a small repository file, or None if it does not exist.

    Raises:
        Damaged: The file is not text.
    """
    try:
        return read_bytes(path, LONGEST_LINE).decode("ascii").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError:
        raise Damaged(f"{path} is damaged: it is not text", "Restore the file from a backup.") from None
    except OSError as error:
        raise storage_error(error, path) from error


def below(folder: Path, unread: Callable[[PersonaError], object] | None = None) -> Iterator[Path]:
    """Yield every file below a folder, sorted; links are yielded and not followed. Nothing if there is no such folder.

    Args:
        unread: Called with the error of a folder that cannot be read, which is then left out.

    Raises:
        Storage: A folder cannot be read, and ``unread`` is not given. (``rglob`` skips it without a word.)
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        if unread is None:
            raise storage_error(error, folder) from error
        unread(storage_error(error, folder))
        return
    for entry in entries:
        path = folder / entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from below(path, unread)
        else:
            yield path


def write_file(path: Path, data: bytes) -> None:
    """Write ``path`` completely or not at all."""
    with Staged(path.parent, f".{path.name}") as staged:
        staged.write(data)
        staged.publish(path)


def append(path: Path, data: bytes) -> None:
    """Append to a file that people follow while it grows; not made durable, so a crash may lose or cut the last lines."""
    _announce("append", path)
    with translated(path), path.open("ab") as file:
        file.write(data)


def rename(source: Path, target: Path, *, sync_folder: bool = True) -> None:
    """Rename within one file system; ``sync_folder`` makes the new name durable before returning."""
    _announce("rename", target)
    with translated(target):
        source.rename(target)
    if sync_folder:
        fsync_folder(target.parent)


@contextlib.contextmanager
def linked(source: Path, folder: Path) -> Iterator[Path]:
    """Hard-link a user's file under a temporary name in ``folder``, which is removed at the end unless it was renamed.

    The bytes and the user's own name for them are never touched.

    Raises:
        Refusal: The file system cannot link the file.
    """
    path = folder / f"link.tmp-{os.urandom(6).hex()}"
    _announce("link", path)
    try:
        os.link(source.resolve(), path)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise storage_error(error, source) from error
        raise Refusal(
            f"cannot hard-link {source} into {folder.parent.parent}: {_CANNOT_LINK[error.errno]}",
            "Create the repository on the base's file system, or drop --link to store a copy; nothing was changed.",
        ) from None
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


_CANNOT_LINK = {
    errno.EXDEV: "it is on another file system",
    errno.EPERM: "the file system has no hard links, or the file belongs to another user",
    errno.EOPNOTSUPP: "the file system has no hard links",
    errno.EMLINK: "it already has the maximum number of hard links",
}


def sync_file(path: Path) -> None:
    """Make a file durable that someone else wrote."""
    _fsync(path, os.O_RDONLY | os.O_CLOEXEC)


def fsync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    _fsync(path, os.O_RDONLY | os.O_DIRECTORY)


def _fsync(path: Path, flags: int) -> None:
    _announce("fsync", path)
    with translated(path):
        fd = os.open(path, flags)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def make_folder(path: Path) -> None:
    """Create a folder and its parents if they do not exist."""
    if path.is_dir():
        return
    make_folder(path.parent)
    more = sharing.bits(path)
    _announce("mkdir", path)
    with translated(path):
        path.mkdir(exist_ok=True)
    widen(path, more)
    fsync_folder(path.parent)


def widen(path: Path, more: int) -> None:
    """Add permissions to a new file or folder; see :mod:`persona.sharing`."""
    if more:
        with translated(path):
            path.chmod(sharing.widened(path.stat().st_mode, more))


def make_staging_folder(beside: Path) -> Path:
    """Create an empty folder next to ``beside``, on the same file system, whose name marks it as unfinished."""
    make_folder(beside.parent)
    staging = beside.parent / f".{beside.name}.tmp-{os.urandom(6).hex()}"
    more = sharing.bits(beside)
    _announce("mkdir", staging)
    with translated(beside):
        staging.mkdir()
    widen(staging, more)
    return staging


@contextlib.contextmanager
def staged_folder(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a folder that is renamed to ``target`` at the end of the block, or removed on an error."""
    staging = make_staging_folder(target)
    try:
        yield staging
        publish_folder(staging, target, replace=replace)
    finally:
        if staging.exists():
            remove_tree(staging)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder in the system's temporary directory, for libraries that only accept files; removed at the end."""
    import tempfile  # slow to import, and light commands never need it

    with translated(Path(tempfile.gettempdir())):
        folder = tempfile.TemporaryDirectory(prefix="persona-")
    with folder as name:
        yield Path(name)


@contextlib.contextmanager
def scratch_file() -> Iterator[BinaryIO]:
    """Yield a nameless temporary file for data too large for memory; it is gone at the end, or with the process."""
    import tempfile

    with tempfile.TemporaryFile() as file:
        yield cast("BinaryIO", file)


def publish_folder(staging: Path, target: Path, *, replace: bool = False) -> None:
    """Rename a finished folder to ``target``.

    Where the kernel can, replacing swaps the two names in one step, so that ``target`` exists at every moment.

    Args:
        replace: Replace an existing ``target``; otherwise it must not exist, or be an empty folder.
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
            raise Refusal(f"{target} was created by someone else", "It was left alone; choose another name.") from None
        raise storage_error(error, target) from error
    fsync_folder(target.parent)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two names atomically; return False if the kernel or file system cannot."""
    if _renameat2 is None:
        return False
    _announce("exchange", second)
    return _renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0


def remove_file(path: Path) -> None:
    """Delete a file if it exists."""
    _announce("remove", path)
    with translated(path):
        path.unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """Delete a folder that persona itself created."""
    import shutil

    _announce("remove", path)
    shutil.rmtree(path, ignore_errors=True)


def open_lock(path: Path) -> int | None:
    """Lock ``path``; return a descriptor to keep open, or None if another process holds the lock."""
    more = sharing.bits(path)
    with translated(path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
    with contextlib.suppress(OSError):  # it may be another user's
        os.fchmod(fd, sharing.widened(os.fstat(fd).st_mode, more))
    return fd


def write_lock_holder(fd: int, text: str) -> None:
    """Write who holds the lock into its file; only people read it, what counts is the kernel's lock."""
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, text.encode(), 0)


def close_lock(fd: int) -> None:
    """Release the lock."""
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
    os.close(fd)


def _from_libc(name: str, *arguments: Any) -> Callable[..., int] | None:
    """Return a Linux call that Python has no function for, or None on other systems."""
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
    """Let glibc keep up to 256 MiB of freed memory for later allocations.

    By default it returns every array of 128 KiB or more to the system, and each block of a build then faults its pages
    in again: some 80,000 faults, and up to half of the time on virtual machines. Call this only in a process that
    belongs to persona, since it changes how the whole process allocates.
    """
    if _mallopt is not None:
        _mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        _mallopt(_M_TRIM_THRESHOLD, 256 << 20)


def allow_many_files(wanted: int = 1 << 16) -> None:
    """Raise the number of files that this process may have open, as far as the system allows.

    A repository has a pack for each commit, and each stays open while it is read; the usual limit is 1,024. Call this only
    in a process that belongs to persona.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


_AT_FDCWD = -100
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_RENAME_EXCHANGE = 2
_sync_file_range = _from_libc("sync_file_range", ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_renameat2 = _from_libc("renameat2", ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_mallopt = _from_libc("mallopt", ctypes.c_int, ctypes.c_int)
