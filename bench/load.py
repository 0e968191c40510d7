"""Drives the load generator: start it, wait until all are connected, let it work, let it go."""

import contextlib
import functools
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from bench.compiler import compile_program
from bench.errors import BenchError
from bench.process import cores, pin
from bench.servers import Server

__all__ = ["Load", "compile_load", "running"]


def compile_load() -> Path:
    """Compile the load generator. :return: the program.

    :raises Missing: there is no compiler, or no OpenSSL to compile with.
    """
    return compile_program("load", "load.c", "options.c", "wire.c")


class Load:
    """One load generator, connected to a server: it works as often as it is told to.

    :param options: its options, ``_`` for ``-``; see ``load.c``.
    :param nice: negative: before all others on its core, where that is allowed.
    :ivar ready: what it said when all was connected.
    """

    def __init__(self, server: Server, options: Mapping[str, object], nice: int = 0) -> None:
        files = server.certificates
        given: dict[str, object] = {
            "port": server.ports["mqtts"],
            "ca": files.ca,
            "certificate": files.thing,
            "key": files.thing_key,
            "topic": server.topic,
            "user": server.login[0],
            "password": server.login[1],
            **options,
        }
        command = [str(compile_load())]
        for name, value in given.items():
            command += [f"--{name.replace('_', '-')}", str(int(value) if isinstance(value, bool) else value)]
        self._process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=functools.partial(_prepare, nice),
        )
        self.ready: dict[str, Any] = {}

    def wait_until_ready(self) -> dict[str, Any]:
        """Wait until all is connected."""
        self.ready = self._line()
        return self.ready

    def go(self) -> None:
        """Let it work."""
        self._say("go\n")

    def stop(self) -> None:
        """Let it end its work before its time."""
        self._say("stop\n")

    def wait_until_done(self) -> dict[str, Any]:
        """Wait until it has done its work. :return: what it counted; see ``load.c``."""
        return self._line()

    def end(self) -> None:
        """Let it disconnect, and wait until it has."""
        self._say("end\n")
        self._process.communicate(timeout=120)

    def kill(self) -> None:
        """End it at once, whatever it does."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def _say(self, line: str) -> None:
        pipe: IO[str] | None = self._process.stdin
        assert pipe is not None
        with contextlib.suppress(BrokenPipeError):
            pipe.write(line)
            pipe.flush()

    def _line(self) -> dict[str, Any]:
        pipe: IO[str] | None = self._process.stdout
        assert pipe is not None
        line = pipe.readline()
        if not line:
            raise BenchError(self._process.communicate()[1].strip() or "the load generator ended")
        said: dict[str, Any] = json.loads(line)
        return said


def _prepare(nice: int) -> None:
    pin(cores()[1])
    with contextlib.suppress(PermissionError):
        if nice < 0:  # what measures latency must not wait for what makes load
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        else:
            os.setpriority(os.PRIO_PROCESS, 0, nice)


@contextlib.contextmanager
def running(server: Server, options: Mapping[str, object], nice: int = 0) -> Iterator[Load]:
    """A load that is connected; it is ended behind the block, and killed where that fails."""
    load = Load(server, options, nice)
    try:
        load.wait_until_ready()
        yield load
        load.end()
    finally:
        load.kill()
