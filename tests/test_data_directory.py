"""The data directory: one server's, closed to others, and told of in whole files."""

import json
import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mfserver.data_directory import DataDirectory
from mfserver.errors import ConfigurationError


class DataDirectoryTests(SynchronousTestCase):
    """In a directory of the test's own."""

    def setUp(self) -> None:
        self.parent = Path(self.mktemp())
        self.parent.mkdir()
        self.path = self.parent / "a" / "data"
        self.directory = DataDirectory(str(self.path))
        self.addCleanup(self.directory.close)

    def mode(self, *names: str) -> int:
        """The permission bits of a file in it."""
        return stat.S_IMODE(os.stat(self.path.joinpath(*names)).st_mode)

    def test_made(self) -> None:
        """It is made with those above it, and says so once; it is 0700 whatever the umask."""
        for mask in (0o000, 0o077):
            old = os.umask(mask)
            try:
                directory = DataDirectory(str(self.parent / str(mask) / "data"))
                self.assertTrue(directory.open())
                directory.close()
                self.assertFalse(directory.open())
                directory.close()
            finally:
                os.umask(old)
            self.assertEqual(0o700, stat.S_IMODE(os.stat(directory.path).st_mode))
            self.assertEqual(0o600, stat.S_IMODE(os.stat(directory.file("lock")).st_mode) & 0o677)

    def test_closed_to_others(self) -> None:
        """One that was open to others is closed."""
        self.path.mkdir(parents=True, mode=0o755)
        os.chmod(self.path, 0o755)
        self.assertFalse(self.directory.open())
        self.assertEqual(0o700, self.mode())

    def test_path(self) -> None:
        """A relative path counts from where the process was started, also after it went elsewhere."""
        relative = DataDirectory(os.path.relpath(self.path))
        self.assertEqual(os.path.abspath(self.path), relative.path)
        self.assertEqual(os.path.join(relative.path, "pki", "ca.crt"), relative.file("pki", "ca.crt"))

    def test_one_server(self) -> None:
        """A second server is refused and told what to do, until the first lets it go."""
        self.directory.open()
        second = DataDirectory(str(self.path))
        error = self.assertRaises(ConfigurationError, second.open)
        self.assertEqual("--data-dir", error.option)
        self.assertIn("another server runs", str(error))
        second.close()
        self.assertRaises(ConfigurationError, DataDirectory(str(self.path)).open)
        self.directory.close()
        self.assertFalse(second.open())
        second.close()

    def test_cannot_be_made(self) -> None:
        """A file in its place or above it is one line that names the option."""
        self.parent.joinpath("file").touch()
        for path in (self.parent / "file", self.parent / "file" / "data"):
            error = self.assertRaises(ConfigurationError, DataDirectory(str(path)).open)
            self.assertEqual("--data-dir", error.option)
            self.assertIn(str(path), str(error))

    def test_lock_is_not_inherited(self) -> None:
        """A program that the server starts does not hold the directory."""
        self.directory.open()
        assert self.directory._lock is not None
        self.assertFalse(os.get_inheritable(self.directory._lock))

    def test_listening(self) -> None:
        """What other programs read is whole, 0600, and gone when the server is."""
        self.directory.open()
        for port in (1, 2):
            self.directory.write_listening({"pid": 1, "http": ["::", port]})
            text = self.path.joinpath("listening.json").read_text()
            self.assertEqual({"pid": 1, "http": ["::", port]}, json.loads(text))
            self.assertTrue(text.endswith("\n"))
        self.assertEqual(0o600, self.mode("listening.json"))
        self.assertEqual(["listening.json", "lock"], sorted(os.listdir(self.path)))
        self.directory.close()
        self.assertEqual(["lock"], os.listdir(self.path))

    def test_listening_of_a_killed_server(self) -> None:
        """Where a server that was killed listened, the next one does not say."""
        self.directory.open()
        self.directory.write_listening({"pid": 1})
        assert self.directory._lock is not None
        os.close(self.directory._lock)
        DataDirectory(str(self.path)).open()
        self.assertFalse(self.path.joinpath("listening.json").exists())

    def test_no_half_file(self) -> None:
        """What cannot be written leaves nothing behind."""
        self.directory.open()
        self.path.joinpath("listening.json").mkdir()
        self.assertRaises(OSError, self.directory.write_listening, {})
        self.assertEqual(["listening.json", "lock"], sorted(os.listdir(self.path)))

    def test_registration_token(self) -> None:
        """Made once, hard to guess, 0600; one that its owner wrote counts, but for the space around it."""
        self.directory.open()
        token = self.directory.registration_token()
        self.assertGreaterEqual(len(token), 32)
        self.assertEqual(token, self.directory.registration_token())
        self.assertEqual(0o600, self.mode("registration.token"))
        self.path.joinpath("registration.token").write_text("  own words\n")
        self.assertEqual("own words", self.directory.registration_token())

    def test_wrong_registration_token(self) -> None:
        """An empty file, one that is no ASCII, and what is no file, are refused."""
        self.directory.open()
        path = self.path.joinpath("registration.token")
        for content in (b"", b" \n", "ä".encode()):
            path.write_bytes(content)
            error = self.assertRaises(ConfigurationError, self.directory.registration_token)
            self.assertEqual("--registration", error.option)
            self.assertIn(str(path), str(error))
        path.unlink()
        path.mkdir()
        self.assertRaises(ConfigurationError, self.directory.registration_token)

    def test_close_again(self) -> None:
        """Closing one that is not held takes nothing away from the server that holds it."""
        self.directory.open()
        self.directory.write_listening({})
        DataDirectory(str(self.path)).close()
        self.assertTrue(self.path.joinpath("listening.json").exists())
        self.directory.close()
        self.directory.close()
