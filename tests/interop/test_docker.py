"""docker/: what its image holds, and what its entry point starts, with which rights."""

import pwd
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from mfserver.ca.authority import ensure
from mfserver.settings import DEFAULT_PORTS
from tests.interop.hostile_wire import Wire, connect, ws_frame, ws_opening
from tests.interop.image import (
    DATA,
    GROUP,
    UNPRIVILEGED,
    Container,
    as_unprivileged,
    copy_context,
    image,
    is_root,
    run_online,
)
from tests.interop.running import PATIENCE, ROOT, Deployment, fixed_ports, wait_until

ACCOUNT = {"email": "john@example.org", "password": "12345678"}
#: Ways for a process that was told to end to have ended well.
CLEAN = (0, -signal.SIGTERM)


def as_composed() -> list[str]:
    """The start of a command that has what docker-compose.yml leaves of root: of everybody else, nothing."""
    if not is_root():
        return []
    compose = (ROOT / "docker/docker-compose.yml").read_text()
    assert "cap_drop: [ALL]" in compose and "no-new-privileges:true" in compose
    (kept,) = re.findall(r"cap_add: \[(.*)\]", compose)
    bounds = "".join(f",+{name.strip().lower()}" for name in kept.split(","))
    return ["setpriv", f"--bounding-set=-all{bounds}", "--no-new-privs"]


def owners(directory: Path) -> dict[str, str]:
    """Who owns each file of a data directory, its PKI aside."""
    files = [file for file in directory.iterdir() if file.name != "pki"]
    return {file.name: pwd.getpwuid(file.stat().st_uid).pw_name for file in files}


class ContextTests(SynchronousTestCase):
    """What the image is built from."""

    def test_whitelist(self) -> None:
        """Neither keys, nor data, nor anything else that lies about in a checkout gets into an image."""
        top, target = Path(self.mktemp()), Path(self.mktemp())
        wanted = {
            "LICENSE",
            "docker/entrypoint.sh",
            "mfserver/a.py",
            "mfserver/b/c.py",
            "twisted/plugins/d.py",
        }
        others = {
            ".env",
            ".git/config",
            "LICENSES",
            "docker/ssl/certs/ca.key",
            "mainflux-data/token.secret",
            "mfserver.db",
            "mfserver/__pycache__/a.pyc",
            "mfserver/b/__pycache__/c.pyc",
            "tests/test_a.py",
            "twisted/plugins/dropin.cache",
        }
        for file in wanted | others:
            (top / file).parent.mkdir(parents=True, exist_ok=True)
            (top / file).touch()
        shutil.copy(ROOT / ".dockerignore", top)
        copy_context(top, target)
        found = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
        self.assertEqual(found, wanted)


class InstallTests(SynchronousTestCase):
    """What the Dockerfile's own steps leave behind."""

    def test_environment(self) -> None:
        """All of mfserver, none of its tests; and Twisted need not look for plugins again."""
        packages = image().packages
        cache = packages / "twisted/plugins/dropin.cache"
        self.assertIn(b"mainflux", cache.read_bytes())
        self.assertTrue((packages / "mfserver/store/migrations/versions/0001_accounts.py").is_file())
        self.assertFalse((packages / "tests").exists())
        written = cache.stat().st_mtime_ns
        help_text = subprocess.check_output(
            [*as_unprivileged(), image().root / "opt/mfserver/bin/twistd", "--help"],
            cwd=image().root,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.assertIn("\n    mainflux ", help_text)
        self.assertNotIn("cache", help_text)
        self.assertEqual(cache.stat().st_mtime_ns, written)

    def test_last_stage(self) -> None:
        """Its user owns the one place that it may write, and the ports are those of the options."""
        facts = image().facts
        self.assertEqual([*facts["VOLUME"], *facts["WORKDIR"]], [DATA, DATA])
        self.assertEqual(image().environment["MF_DATA_DIR"], DATA)
        self.assertEqual({int(port) for port in facts["EXPOSE"][0].split()}, set(DEFAULT_PORTS.values()))
        (made,) = facts["RUN"]
        useradd, install = (shlex.split(step) for step in made.split("&&"))
        self.assertEqual((useradd[0], useradd[-1]), ("useradd", "mfserver"))
        self.assertEqual(install, shlex.split(f"install -d -o mfserver -g mfserver -m 0700 {DATA}"))
        self.assertNotIn("USER", facts)  # the entry point begins as root
        compose = (ROOT / "docker/docker-compose.yml").read_text()
        self.assertIn(f"command: {facts['CMD'][0]}\n", compose)

    def test_distributions(self) -> None:
        """The wheel of the source distribution has every module and migration, and no test."""
        directory = Path(tempfile.mkdtemp(prefix="mf-dist-"))
        self.addCleanup(shutil.rmtree, directory)
        source = directory / "source"
        copy_context(ROOT, source)
        modules = {str(file.relative_to(source)) for file in source.rglob("*.py")}
        shutil.copytree(ROOT / "tests/routing", source / "tests/routing")
        shutil.copy(ROOT / "tests/__init__.py", source / "tests")
        python = str(image().root / "opt/mfserver/bin/python")
        backend = str(directory / "backend")
        run_online(
            [python, "-m", "pip", "install", "--quiet", f"--target={backend}", "setuptools>=77"], directory
        )
        make = (
            "import sys; sys.path.insert(0, sys.argv[1])\n"
            "from setuptools import build_meta; build_meta.build_sdist('..')"
        )
        run_online([python, "-c", make, backend], source)
        (sdist,) = directory.glob("*.tar.gz")
        run_online([python, "-m", "pip", "wheel", "--quiet", "--no-deps", str(sdist)], directory)
        (wheel,) = directory.glob("*.whl")
        with zipfile.ZipFile(wheel) as opened:
            names = {name for name in opened.namelist() if ".dist-info/" not in name}
            entries = opened.read(f"{wheel.name.rsplit('-', 3)[0]}.dist-info/entry_points.txt").decode()
        self.assertEqual(names, modules)
        self.assertIn("mfserver = mfserver.cli.main:main", entries)


class ServingTests(SynchronousTestCase):
    """The entry point, with the image's arguments, ports and health check."""

    def setUp(self) -> None:
        self.image = image()

    def volume(self) -> Path:
        """A data directory that is owned as the image's is."""
        above = Path(tempfile.mkdtemp(prefix="mf-volume-"))
        self.addCleanup(shutil.rmtree, above)
        above.chmod(0o755)
        data = above / "data"
        data.mkdir(mode=0o700)
        if is_root():
            shutil.chown(data, UNPRIVILEGED, GROUP)
        return data

    @contextmanager
    def running(self, data: Path, before: list[str], **environment: str) -> Iterator[Container]:
        """A container from its start to its end, which is a clean one."""
        environment = {"MF_USER": UNPRIVILEGED, "MF_SERVER_NAME": "", **environment}
        with fixed_ports(), Container(self.image, data, before, **environment) as container:
            yield container
            self.assertIn(container.stop(), CLEAN)
            self.assertFalse(container.is_healthy())
            self.assertIn("everything is committed; goodbye", container.log)
            self.assertNotIn("Traceback", container.log)
            self.assertNotIn("plugin cache", container.log)

    def test_started_as_root(self) -> None:
        """Root reads the keys that only root may read, and keeps no other right: also for the second time."""
        if not is_root():
            raise SkipTest("only root can begin as root")
        data = self.volume()
        data.chmod(0o755)  # as a directory of the host is
        ensure(str(data), ())
        keys = [data / "pki", *sorted((data / "pki").iterdir())]
        for file in keys:
            shutil.chown(file, "root", "root")
        self.assertEqual({stat.S_IMODE(file.stat().st_mode) for file in keys[1:]}, {0o600})
        with self.running(data, as_composed()) as container:
            self.privileges(container)
            wait_until(container.is_healthy, "it is healthy")
            self.assertEqual(container.request("POST", "/users", ACCOUNT)[0], 201)
            made = owners(data)
            self.assertEqual({made[file] for file in ("mfserver.db", "listening.json")}, {UNPRIVILEGED})
            self.assertEqual((data.owner(), stat.S_IMODE(data.stat().st_mode)), (UNPRIVILEGED, 0o700))
            # Now it may not read them any more: it says so, and serves on with those it has.
            container.process.send_signal(signal.SIGHUP)
            wait_until(lambda: "TLS stays as it was" in container.log, "the refusal is logged")
            self.assertEqual(container.request("GET", "/health")[0], 200)
        with self.running(data, as_composed()) as container:
            self.privileges(container)
            self.assertEqual(set(owners(data).values()), {UNPRIVILEGED})
            self.assertEqual(container.request("POST", "/tokens", ACCOUNT)[0], 201)
            self.assertEqual(container.request("POST", "/users", ACCOUNT)[0], 409)
        self.assertEqual({(file.stat().st_uid, file.stat().st_gid) for file in keys}, {(0, 0)})

    def privileges(self, container: Container) -> None:
        """The process has one user, that user's group and no capability."""
        status, user = container.status(), pwd.getpwnam(UNPRIVILEGED)
        self.assertEqual(status["Uid"], [str(user.pw_uid)] * 4)
        self.assertEqual(status["Gid"], [str(user.pw_gid)] * 4)
        self.assertNotIn("0", status["Groups"])
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            self.assertEqual(int(status[name][0], 16), 0, name)
        self.assertEqual(status["NoNewPrivs"], ["1"])

    def test_started_as_somebody(self) -> None:
        """``docker run --user``: that user is kept, and everything is made on the first start."""
        data = self.volume()
        with self.running(data, as_unprivileged(), MF_USER="nobody-that-exists") as container:
            wait_until(container.is_healthy, "it is healthy")
            self.assertEqual(
                {name: container.port(name) for name in DEFAULT_PORTS}, dict(DEFAULT_PORTS), container.log
            )
            channel = Deployment(container).channel("weather")
            self.assertTrue(channel)
            self.assertEqual({file.stat().st_uid for file in data.rglob("*")}, {data.stat().st_uid})

    def test_certificates(self) -> None:
        """``AUTH=x509``: without TLS there is the API and health, and no messaging; 1883 is closed."""
        with self.running(self.volume(), as_composed(), MF_AUTH="x509") as container:
            wait_until(container.is_healthy, "it is healthy")
            self.assertEqual([name for name in DEFAULT_PORTS if container.listening[name] is None], ["mqtt"])
            with socket.socket() as probe:
                self.assertNotEqual(probe.connect_ex(("127.0.0.1", DEFAULT_PORTS["mqtt"])), 0)
            deployment = Deployment(container)
            thing, key = deployment.thing("sensor", "weather")
            channel = f"channels/{deployment.channels['weather']}/messages"
            self.assertEqual(container.request("GET", "/things", None, deployment.token, "http")[0], 200)
            status, _, _ = container.request("POST", f"/http/{channel}", [], key, "http")
            self.assertEqual(status, 403)
            with Wire(container, "http") as wire:
                wire.send(ws_opening(f"/ws/{channel}", Authorization=key))
                self.assertEqual(wire.response()[0], 403)
            with Wire(container, "http") as wire:
                wire.send(ws_opening("/mqtt", Sec_WebSocket_Protocol="mqtt"))
                self.assertEqual(wire.response()[0], 101)
                wire.send(ws_frame(connect(thing, key), opcode=2))
                opcode, packet = wire.frame()
                # A CONNACK with reason code "not authorized" [MQTT 5.0, 3.2.2.2].
                self.assertEqual((opcode, packet[0], packet[2:4]), (2, 0x20, b"\0\x87"))

    def test_unknown_user(self) -> None:
        """A user that is not there is a mistake to tell of, never a reason to serve as root."""
        if not is_root():
            raise SkipTest("only root can become somebody else")
        container = Container(self.image, self.volume(), as_composed(), MF_USER="nobody-that-exists")
        done = subprocess.run(container.command, capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertRegex(done.stderr, "^id: .nobody-that-exists.: no such user\n$")
