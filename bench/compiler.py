"""Compiles the programs in C that stand beside this file."""

import os
import shutil
import subprocess
from pathlib import Path

from bench.errors import BenchError, Missing

__all__ = ["compile_program"]

_HERE = Path(__file__).resolve().parent
_BUILD = _HERE.parent / "build" / "bench"


def compile_program(name: str, *sources: str) -> Path:
    """Compile a program where its sources are newer. :return: the program.

    :raises Missing: there is no compiler, or no OpenSSL to compile with.
    """
    program, paths = _BUILD / name, [_HERE / source for source in sources]
    newest = max(path.stat().st_mtime for path in (*paths, _HERE / "load.h"))
    if program.exists() and program.stat().st_mtime >= newest:
        return program
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise Missing("there is no C compiler (Debian: apt-get install gcc libc6-dev libssl-dev)")
    program.parent.mkdir(parents=True, exist_ok=True)
    new = program.with_suffix(f".{os.getpid()}")
    command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(new), *map(str, paths), "-lssl", "-lcrypto"]
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
    if "openssl/ssl.h" in done.stderr or "-lssl" in done.stderr:
        raise Missing("OpenSSL's headers are not installed (Debian: apt-get install libssl-dev)")
    if done.returncode:
        raise BenchError(f"{name} does not compile:\n{done.stderr}")
    new.replace(program)
    return program
