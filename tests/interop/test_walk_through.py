"""What README.rst prints, run word for word on the documented ports, in both modes."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.running import PATIENCE, ROOT, START_SECONDS, fixed_ports, needs, wait_until

README = (ROOT / "README.rst").read_text()
PAYLOAD_HTTP = (
    '[{"bn":"some-base-name:","bt":1.276020076001e+09, "bu":"A","bver":5, "n":"voltage","u":"V","v":120.1}, '
    '{"n":"current","t":-5,"v":1.2}, {"n":"current","t":-4,"v":1.3}]'
)
PAYLOAD = '[{"n":"current","t":-4,"v":1.3}]'


def blocks(title: str, until: str, language: str) -> list[str]:
    """The code blocks of one language in a section of the README."""
    section = README.split(f"\n{title}\n~~", 1)[1].split(f"\n{until}\n~~", 1)[0]
    found = re.findall(rf"^\.\. code:: {language}\n\n((?:    .*\n|\n)+)", section, re.M)
    return [re.sub(r"^    ", "", block, flags=re.M).strip("\n") for block in found]


class Terminal:
    """A shell that a user types into, line by line."""

    def __init__(self, directory: Path) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        environment = {
            **os.environ,
            "VENV": sys.prefix,
            "NODE_PATH": str(ROOT / "tests/interop/node_modules"),
            "PYTHONUNBUFFERED": "1",
        }
        self.process = subprocess.Popen(
            ["bash", "-s"],
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=environment,
            text=True,
            start_new_session=True,
        )
        self._marks = 0

    def begin(self, line: str) -> None:
        """Type a line and do not wait for it."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def run(self, line: str) -> None:
        """Type a line and wait until it is done."""
        self._marks += 1
        mark = f"done-{self._marks}-with-status-"
        self.begin(line)
        self.begin(f"echo {mark}$?")
        wait_until(lambda: mark in self.output, f"the end of: {line}\n{self.output}", 5 * PATIENCE)
        status = self.output.split(mark)[1].split()[0]
        if status != "0":
            raise AssertionError(f"{line}\nended with {status}:\n{self.output}")

    @property
    def output(self) -> str:
        self._output.seek(0)
        return self._output.read().decode()

    def close(self) -> None:
        """End the shell and everything that was started in it."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(START_SECONDS)
        assert self.process.stdin is not None
        self.process.stdin.close()


class WalkThroughTests(SynchronousTestCase):
    """A stranger who types what the README says gets what it promises."""

    def setUp(self) -> None:
        """A clone, as far as the walk-through sees it: what it writes must not be in the tree."""
        needs("curl", "make", "mosquitto_pub", "mosquitto_sub", "node", "openssl")
        # What runs these tests is installed; make must not install it anew from a clone that goes away.
        Path(sys.prefix, ".installed").touch()
        self.clone = Path(tempfile.mkdtemp(prefix="mf-walk-"))
        self.addCleanup(shutil.rmtree, self.clone)
        for entry in ROOT.iterdir():
            if entry.name not in ("docker", "mainflux-data") and not entry.name.startswith("_trial_temp"):
                (self.clone / entry.name).symlink_to(entry)
        shutil.copytree(ROOT / "docker", self.clone / "docker", ignore=shutil.ignore_patterns("certs"))

    def terminal(self) -> Terminal:
        terminal = Terminal(self.clone)
        self.addCleanup(terminal.close)
        return terminal

    def serve(self, line: str) -> Terminal:
        """Start the server in a terminal of its own."""
        terminal = self.terminal()
        started = time.monotonic()
        terminal.begin(line)
        wait_until(lambda: "is ready" in terminal.output, "the server is ready", 60)
        self.assertLess(time.monotonic() - started, 30)
        return terminal

    def talk(self, user: Terminal, lines: list[str], script: str) -> None:
        """Listen over MQTT and WebSocket, publish over all three, and compare what came."""
        listening, *publishing = lines
        before = len(user.output)
        ready = f'[{{"n":"ready {before}"}}]'
        log = self.clone / "socket.log"
        log.unlink(missing_ok=True)
        user.begin(listening)

        def is_heard() -> bool:
            user.run(publishing[-1].replace(PAYLOAD, ready))
            return ready in user.output

        wait_until(is_heard, "mosquitto_sub listens")
        (self.clone / "socket.js").write_text(script)
        user.begin("node socket.js > socket.log 2>&1 &")
        wait_until(lambda: log.exists() and PAYLOAD in log.read_text(), "the WebSocket heard itself")
        for line in publishing:
            user.run(line)
        self.assertIn("HTTP/1.1 202 Accepted", user.output[before:])

        def heard() -> list[str]:
            return [line for line in log.read_text().splitlines() if line != ready]

        wait_until(lambda: len(heard()) >= 3, f"the WebSocket heard all:\n{log.read_text()}\n{user.output}")
        self.assertEqual([PAYLOAD, PAYLOAD_HTTP, PAYLOAD], heard())
        wait_until(lambda: user.output[before:].count(PAYLOAD) >= 2, "mosquitto_sub heard all")
        self.assertIn("\n" + PAYLOAD_HTTP + "\n", "\n" + user.output[before:])

    def test_with_client_certificates(self) -> None:
        """Mutual TLS: curl, mosquitto_pub and _sub, and Node's ws hear each other, byte for byte."""
        start, provision, certificates, talk = blocks("With client certificates", "With keys", "sh")
        (script,) = blocks("With client certificates", "With keys", "js")
        make, run = start.splitlines()
        with fixed_ports():
            user = self.terminal()
            user.run(make)
            server = self.serve(run)
            for line in [*provision.splitlines(), *certificates.splitlines()]:
                user.run(line)
            user.run('echo "values $CHANNEL $SENDER_KEY end"')
            channel, key = user.output.split("values ")[1].split()[:2]
            script = script.replace("<channel_id>", channel).replace("<thing_key>", key)
            self.talk(user, talk.splitlines(), script)
            self.ends_well(server, key)

    def test_with_keys(self) -> None:
        """Keys alone, on the plain ports and with TLS under the server's own authority."""
        _, provision, _, secure = blocks("With client certificates", "With keys", "sh")
        (plain,) = blocks("With keys", "With Docker", "sh")
        (script,) = blocks("With client certificates", "With keys", "js")
        with fixed_ports():
            server = self.serve("make run")
            user = self.terminal()
            for line in provision.splitlines():
                user.run(line.replace("docker/ssl/certs/ca.crt", "mainflux-data/pki/ca.crt"))
            user.run('echo "values $CHANNEL $SENDER_KEY end"')
            channel, key = user.output.split("values ")[1].split()[:2]
            script = script.replace("<channel_id>", channel).replace("<thing_key>", key)
            script = re.sub(r"^ *(cert|key): .*\n", "", script, flags=re.M)
            script = script.replace("docker/ssl/certs/ca.crt", "mainflux-data/pki/ca.crt")
            post, listen, publish = plain.splitlines()
            self.talk(user, [listen, post.replace("-d '" + PAYLOAD, "-d '" + PAYLOAD_HTTP), publish], script)
            user.run("kill %1 %2")
            listen, post, publish = [without_certificates(line) for line in secure.splitlines()]
            post = post.replace("-X POST", '-X POST -H "Authorization: $SENDER_KEY"')
            self.talk(user, [listen, post, publish], script)
            self.ends_well(server, key)

    def ends_well(self, server: Terminal, key: str) -> None:
        """Ctrl-C ends the server; it printed neither a key nor anything that worries a stranger."""
        server.close()
        wait_until(lambda: "goodbye" in server.output, f"the server's end:\n{server.output}")
        for words in ("Traceback", "Unhandled", key):
            self.assertNotIn(words, server.output)


def without_certificates(line: str) -> str:
    """The same command, without a client certificate and under the server's own authority."""
    line = re.sub(r" --(cert|key) \S+", "", line)
    return line.replace("docker/ssl/certs/ca.crt", "mainflux-data/pki/ca.crt")
