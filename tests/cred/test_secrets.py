"""The files of the server's own secrets."""

import os
import stat
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mfserver.cred.secrets import SIZE, load_or_make
from mfserver.cred.thing_keys import digest, same
from mfserver.errors import ConfigurationError


class SecretTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = self.directory / "secret"

    def mode(self) -> int:
        return stat.S_IMODE(self.path.stat().st_mode)

    def test_it_is_made_once(self) -> None:
        secret = load_or_make(self.path)
        self.assertEqual(len(secret), SIZE)
        self.assertEqual(load_or_make(str(self.path)), secret)
        self.assertNotEqual(load_or_make(self.directory / "other"), secret)
        self.assertEqual(sorted(os.listdir(self.directory)), ["other", "secret"])

    def test_the_umask_has_no_say(self) -> None:
        for umask in (0o000, 0o777):
            with self.subTest(umask=umask):
                self.addCleanup(os.umask, os.umask(umask))
                self.path.unlink(missing_ok=True)
                load_or_make(self.path)
                self.assertEqual(self.mode(), 0o600)

    def test_a_readable_one_is_closed(self) -> None:
        load_or_make(self.path)
        self.path.chmod(0o644)
        load_or_make(self.path)
        self.assertEqual(self.mode(), 0o600)

    def test_an_interrupted_start_is_no_trouble(self) -> None:
        (self.directory / ".secret.new").write_bytes(b"half")
        self.assertEqual(len(load_or_make(self.path)), SIZE)

    def test_damaged_ones(self) -> None:
        """A secret that is not ours is never made anew: every token and key digest rests on it."""
        for damage in (b"", b"x" * (SIZE - 1), b"x" * (SIZE + 1)):
            with self.subTest(damage=damage):
                self.path.write_bytes(damage)
                with self.assertRaisesRegex(ConfigurationError, "damaged"):
                    load_or_make(self.path)
                self.assertEqual(self.path.read_bytes(), damage)

    def test_what_is_no_file(self) -> None:
        os.mkfifo(self.path)
        with self.assertRaisesRegex(ConfigurationError, "regular"):
            load_or_make(self.path)
        with self.assertRaisesRegex(ConfigurationError, "read"):
            load_or_make(self.directory)
        self.path.unlink()
        self.path.write_bytes(b"")
        with self.assertRaisesRegex(ConfigurationError, "read"):
            load_or_make(self.path / "below")

    def test_no_directory(self) -> None:
        with self.assertRaisesRegex(ConfigurationError, "written"):
            load_or_make(self.directory / "absent" / "secret")


class ThingKeyTests(SynchronousTestCase):
    def test_digest(self) -> None:
        """HMAC-SHA256, so that the digests of one server mean nothing to another (RFC 4231, case 2)."""
        expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        self.assertEqual(digest(b"Jefe", "what do ya want for nothing?").hex(), expected)

    @settings(max_examples=50, deadline=None)
    @given(st.text(alphabet=st.characters(), max_size=5), st.text(alphabet=st.characters(), max_size=5))
    def test_same(self, one: str, other: str) -> None:
        """Any text, lone surrogates too."""
        self.assertEqual(same(one, other), one == other)
        self.assertTrue(same(one, "".join(one)))

    def test_a_part_is_not_the_same(self) -> None:
        for other in ("", "abc", "abcd\0", "\0abcd", "abcde", "bcd", "ABCD", "\udc80"):
            self.assertFalse(same("abcd", other))
