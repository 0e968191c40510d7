"""What docker/Dockerfile makes, made without a Docker engine: its own steps, under another root.

Read are the Dockerfile and .dockerignore themselves, so that a test sees what they say, not what we believe.
"""

import atexit
import fcntl
import functools
import grp
import json
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from unittest import SkipTest

from tests.interop.running import PATIENCE, ROOT, RunningServer

__all__ = [
    "Container",
    "DATA",
    "GROUP",
    "Image",
    "UNPRIVILEGED",
    "as_unprivileged",
    "copy_context",
    "image",
    "is_root",
    "run_online",
]

#: Stands for the image's mfserver: a user that every machine has.
UNPRIVILEGED: Final = "nobody"
GROUP: Final = grp.getgrgid(pwd.getpwnam(UNPRIVILEGED).pw_gid).gr_name
DATA: Final = "/var/lib/mfserver"
#: What the Dockerfile's text may name, and we put under our own root.
_PLACES: Final = re.compile(r"/opt/mfserver|/usr/local/bin/entrypoint\.sh")
#: Seconds for one step; installing is the longest.
_STEP: Final = 1200.0


def is_root() -> bool:
    return os.geteuid() == 0


@dataclass(frozen=True)
class Image:
    """The last stage.

    :ivar root: stands for ``/``; others may read it.
    :ivar facts: the arguments of each instruction of the last stage, in order.
    """

    root: Path
    facts: dict[str, list[str]]

    @property
    def environment(self) -> dict[str, str]:
        pairs = [word.partition("=") for line in self.facts["ENV"] for word in shlex.split(self.here(line))]
        return {name: value.replace("$PATH", os.defpath) for name, _, value in pairs}

    @property
    def health(self) -> list[str]:
        """The command of the health check."""
        return self._exec_form(self.facts["HEALTHCHECK"][-1].partition(" CMD ")[2])

    @property
    def command(self) -> list[str]:
        """The entry point with its default arguments."""
        return self._exec_form(self.facts["ENTRYPOINT"][-1]) + self._exec_form(self.facts["CMD"][-1])

    @property
    def packages(self) -> Path:
        """Where pip put everything."""
        (found,) = self.root.glob("opt/mfserver/lib/python3*/site-packages")
        return found

    def here(self, text: str) -> str:
        return _PLACES.sub(lambda place: str(self.root) + place[0], text)

    def _exec_form(self, text: str) -> list[str]:
        words: list[str] = json.loads(self.here(text))
        return words


class Container(RunningServer):
    """The entry point with the image's own arguments and ports, and nothing of the caller's environment.

    :param data_dir: stands for the volume.
    :param before: a command that gives up privileges and becomes the entry point.
    :param environment: what ``docker run --env`` would add.
    """

    def __init__(self, image: Image, data_dir: Path, before: list[str], **environment: str) -> None:
        super().__init__(auth=environment.get("MF_AUTH", "key"), data_dir=data_dir)
        given = {name: text.replace(DATA, str(data_dir)) for name, text in image.environment.items()}
        words = [f"{name}={value}" for name, value in {**given, **environment}.items()]
        # twistd puts the working directory on sys.path: never the checkout.
        self._env = ["env", "--ignore-environment", f"--chdir={image.root}", *words]
        self._health = image.health
        self.command = [*self._env, *before, *image.command]

    def __enter__(self) -> "Container":
        self.start()
        return self

    def is_healthy(self) -> bool:
        """What Docker would find out."""
        done = subprocess.run([*self._env, *self._health], stderr=subprocess.DEVNULL, timeout=PATIENCE)
        return done.returncode == 0

    def status(self) -> dict[str, list[str]]:
        """The kernel's own record of the process: its users, groups and capabilities."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


def image() -> Image:
    """Build it, once in a run of trial; it is removed when the process that built it ends.

    :raises SkipTest: the package index cannot be reached, or no Python is here that the image's user may run.
    """
    built = _built()
    if isinstance(built, Image):
        return built
    raise built


@functools.cache
def _built() -> Image | Exception:
    """The image, or why there is none: that is found out once, too."""
    # Trial's workers, which end together, work in numbered directories of one that each run makes anew.
    here = Path.cwd()
    note = (here.parent if here.name.isdigit() else here) / "image"
    try:
        with note.open("a+") as shared:
            fcntl.flock(shared, fcntl.LOCK_EX)
            shared.seek(0)
            root = shared.read()
            if not root:
                root = _build()
                shared.write(root)
    except (AssertionError, SkipTest, OSError, subprocess.SubprocessError) as error:
        return error
    return Image(Path(root), _facts(_stages()[1]))


def _build() -> str:
    """Follow the Dockerfile. :return: the root of what came out."""
    if not _python():
        reason = f"no Python 3.11 with venv that {UNPRIVILEGED} may run (python3-venv), or no setpriv"
        raise AssertionError(reason) if os.environ.get("MF_NO_SKIPS") else SkipTest(reason)
    root = Path(tempfile.mkdtemp(prefix="mf-image-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    root.chmod(0o755)
    build, last = _stages()
    made, source = Image(root, _facts(last)), root / "src"
    for name, argument in build:
        match name:
            case "COPY" if argument == ". .":
                copy_context(ROOT, source)
            case "RUN":
                step = f'python() {{ {_python()} "$@"; }}\n{made.here(argument)}'
                run_online(["/bin/sh", "-c", step], source)
            case "FROM" | "WORKDIR":
                pass
            case _:
                raise AssertionError(f"what does {name} {argument} do to the image?")
    for argument in made.facts["COPY"]:
        if argument != "--from=build /opt/mfserver /opt/mfserver":
            file, place = argument.split()
            target = Path(made.here(place))
            target.parent.mkdir(parents=True)
            shutil.copy(source / file, target)
    return str(root)


def run_online(command: list[str], directory: Path) -> str:
    """Run a command that installs. :return: all that it printed.

    :raises SkipTest: it failed because there is no package index.
    """
    # Trial's workers have all of our own packages on PYTHONPATH: pip would find everything installed.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        command,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_STEP,
        umask=0o022,
    )
    if done.returncode == 0:
        return done.stdout
    # What pip says of a package when it saw no index at all, rather than none that fits.
    if "(from versions: none)" in done.stdout and not os.environ.get("MF_NO_SKIPS"):
        raise SkipTest("the package index cannot be reached")
    raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}")


def copy_context(top: Path, target: Path) -> None:
    """Copy what ``COPY . .`` sees: the last pattern of .dockerignore that fits a path or a parent decides."""
    rules = []
    for line in (top / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            rules.append((not line.startswith("!"), line.removeprefix("!")))
    patterns = [(ignored, re.compile(_pattern(glob) + "(/.*)?")) for ignored, glob in rules]

    def is_ignored(path: str) -> bool:
        return next((ignored for ignored, pattern in patterns[::-1] if pattern.fullmatch(path)), False)

    def copy(directory: str) -> None:
        for entry in os.scandir(top / directory):
            path = os.path.join(directory, entry.name)
            if entry.is_dir(follow_symlinks=False):
                inside = any(not ignored and glob.startswith(path + "/") for ignored, glob in rules)
                if inside or not is_ignored(path):
                    copy(path)
            elif not is_ignored(path):
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(entry.path, target / path, follow_symlinks=False)

    copy("")


def _pattern(glob: str) -> str:
    """The part of Docker's patterns that we use: names, ``*`` within one, and ``**/`` before one."""
    words = {"**/": "(.*/)?", "*": "[^/]*"}
    return "".join(words.get(part) or re.escape(part) for part in re.split(r"(\*\*/|\*)", glob))


def _stages() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The instructions of the stage that builds and of the last one."""
    text = (ROOT / "docker/Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    logical = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    found = [(name, argument.strip()) for name, _, argument in (line.partition(" ") for line in logical)]
    second = [name for name, _ in found].index("FROM", 1)
    return found[:second], found[second:]


def _facts(stage: list[tuple[str, str]]) -> dict[str, list[str]]:
    facts: dict[str, list[str]] = {}
    for name, argument in stage:
        facts.setdefault(name, []).append(argument)
    return facts


@functools.cache
def _python() -> str:
    """A Python to make the environment from, which its user may run too; empty where there is none.

    Ours may be hidden in root's home.
    """
    ours = str(getattr(sys, "_base_executable", sys.executable))
    check = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))"
    for python in (ours, "/usr/bin/python3"):
        command = [*as_unprivileged(), python, "-c", check]
        try:
            if subprocess.run(command, capture_output=True, cwd="/", timeout=PATIENCE).returncode == 0:
                return python
        except FileNotFoundError:
            continue
    return ""


def as_unprivileged() -> list[str]:
    """The start of a command that runs the rest as no root: as we are, unless we are root."""
    if not is_root():
        return []
    # setpriv finds its program with rights of root's that the program has no more: that must be the shell.
    drop = ["setpriv", f"--reuid={UNPRIVILEGED}", f"--regid={GROUP}", "--clear-groups"]
    return [*drop, "/bin/sh", "-c", 'exec "$@"', "sh"]
