"""Builds a container image from programs of this machine and their libraries, without a registry."""

import os
import re
import subprocess
import tarfile
import time

from tell import Failure


def libraries(program):
    """The shared libraries of a program, including the loader, with the paths at which the loader finds them."""
    try:
        listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout
    except FileNotFoundError:
        listed = ""
    return sorted(set(re.findall(r"(/\S+) \(0x", listed)))


def useful(entry):
    """Leaves out what no program of an image reads: Python's packages, tests, and compiled files of other users."""
    unused = {"site-packages", "dist-packages", "test", "__pycache__"}
    return None if unused & set(entry.name.split("/")) else entry


def make(image, programs, folders, changes, needed=()):
    """Builds the image. `programs` is {path in the image: path on this machine}, of files and of folders; `folders` is
    {path: mode}; `changes` are Dockerfile instructions. The image also contains the libraries of the programs `needed`."""
    importing = subprocess.Popen(
        ["docker", "import", *(word for change in changes for word in ("--change", change)), "-", image],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        with tarfile.open(fileobj=importing.stdin, mode="w|", dereference=True) as archive:
            for folder, mode in folders.items():
                entry = tarfile.TarInfo(folder)
                entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, mode, int(time.time())
                archive.addfile(entry)
            for path, program in programs.items():
                archive.add(os.path.realpath(program), path, filter=useful)
            for library in sorted({library for program in (*programs.values(), *needed) for library in libraries(program)}):
                archive.add(os.path.realpath(library), library.lstrip("/"))
        importing.stdin.close()
    except BrokenPipeError:
        pass
    error = importing.stderr.read().decode().strip()
    if importing.wait():
        raise Failure(f"docker could not import {image}: {error.rpartition(chr(10))[2] or 'no output'}")
