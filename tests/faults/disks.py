"""Disks that fail: too small, read-only, with a limit on the size of files."""

import contextlib
import resource
import subprocess

import pytest


@contextlib.contextmanager
def largest_file(size):
    """No file of this process and its children grows above a size in bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def small_disk(folder, free, options="size=2m"):
    """A file system of its own in a new folder, with so many bytes free, in pages. Skips the test where none may be mounted."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no file system may be mounted here")
    try:
        (folder / "filler").write_bytes(bytes(2 * 2**20 - free))
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def read_only(folder):
    """A folder in which nothing can be written, its content bound to a read-only mount."""
    bound = subprocess.run(["mount", "--bind", str(folder), str(folder)], capture_output=True, check=False)
    if bound.returncode:
        pytest.skip("no file system may be mounted here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def leftovers(folder):
    """Files and folders with temporary names."""
    return [path for path in folder.rglob(".*") if path.name.endswith(".tmp")]


def refused(result, path, reason):
    """Whether a command ended with one message that names path, reason and a mend."""
    (line,) = result.stderr.splitlines()
    return (
        result.returncode == 2
        and line.startswith("error: ")
        and f"{path}: {reason}; " in line
        and line.endswith("; nothing that was saved is lost")
        and line.count("; ") >= 2
    )
