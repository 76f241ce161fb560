"""A container image made of programs of this machine and the libraries that they need: no registry is asked."""

import os
import re
import subprocess
import tarfile
import time

from tell import Failure


def libraries(program):
    """The shared libraries that the loader names, loader included, under the paths it looks for."""
    try:
        listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout
    except FileNotFoundError:
        listed = ""
    return sorted(set(re.findall(r"(/\S+) \(0x", listed)))


def make(image, programs, folders, changes, needed=()):
    """Makes it. `programs` are {path in the image: path here}, `folders` {path: mode}; `changes` are Dockerfile
    instructions; the libraries of the programs `needed` are there as well."""
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
                archive.add(os.path.realpath(program), path)
            for library in sorted({library for program in (*programs.values(), *needed) for library in libraries(program)}):
                archive.add(os.path.realpath(library), library.lstrip("/"))
        importing.stdin.close()
    except BrokenPipeError:
        pass
    error = importing.stderr.read().decode().strip()
    if importing.wait():
        raise Failure(f"docker could not import {image}: {error.rpartition(chr(10))[2] or 'no output'}")
