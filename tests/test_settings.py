"""What the server can be told, and what it refuses to be told."""

from twisted.trial.unittest import SynchronousTestCase

from mfserver.errors import ConfigurationError
from mfserver.settings import (
    DEFAULT_PORTS,
    PLAIN,
    Address,
    Settings,
    parse_address,
    parse_number,
    parse_text,
)


class AddressTests(SynchronousTestCase):
    """``[HOST:]PORT`` or ``off``."""

    def test_addresses(self) -> None:
        for text, expected in (
            ("8080", Address("", 8080)),
            (" 0 ", Address("", 0)),
            ("65535", Address("", 65_535)),
            ("127.0.0.1:1883", Address("127.0.0.1", 1883)),
            ("gate.example:443", Address("gate.example", 443)),
            ("[::1]:8080", Address("::1", 8080)),
            ("[::]:8080", Address("::", 8080)),
            ("off", None),
            (" OFF ", None),
        ):
            with self.subTest(text=text):
                self.assertEqual(expected, parse_address("--http", text))

    def test_wrong(self) -> None:
        """The error names the option and shows what was given."""
        for text in (
            "", "x", "-1", "65536", "8080:", ":8080", "::1:8080", "::1", "[::1]", "1.5", "٣", "a:b", "8080 x",
            "9" * 5000, "on",
        ):  # fmt: skip
            with self.subTest(text=text):
                error = self.assertRaises(ConfigurationError, parse_address, "--mqtts", text)
                self.assertEqual("--mqtts", error.option)
                self.assertIn(f"--mqtts={text}", str(error))

    def test_shown(self) -> None:
        """As a log line shows it."""
        for address, text in (
            (Address("", 80), "*:80"),
            (Address("::1", 80), "[::1]:80"),
            (Address("gate.example", 80), "gate.example:80"),
        ):
            self.assertEqual(text, str(address))


class NumberTests(SynchronousTestCase):
    """Whole numbers within bounds, the bounds themselves too."""

    def test_numbers(self) -> None:
        for text, expected in (("1", 1), ("10", 10), ("007", 7)):
            self.assertEqual(expected, parse_number("--x", text, 1, 10))

    def test_wrong(self) -> None:
        for text in ("", "0", "11", "-1", "+1", "1.0", "1e1", "x", " 1", "٣", "²", "9" * 5000):
            with self.subTest(text=text[:10]):
                error = self.assertRaises(ConfigurationError, parse_number, "--x", text, 1, 10)
                self.assertEqual("--x", error.option)
                self.assertIn("from 1 to 10", str(error))


class TextTests(SynchronousTestCase):
    """Free text that some peer is told one day."""

    def test_texts(self) -> None:
        for text, expected in (
            ("gate.example", "gate.example"),
            (" a:1 b:2 ", "a:1 b:2"),
            ("türe.example", "türe.example"),
            ("x" * 1024, "x" * 1024),
        ):
            self.assertEqual(expected, parse_text("--x", text))

    def test_wrong(self) -> None:
        """What an MQTT client could not be told, or a terminal would obey. A byte that is no UTF-8 is one."""
        for text in ("", "  ", "a\0b", "a\nb", "a\x1b[2J", "a\x85b", "\udcff", "x" * 1025):
            with self.subTest(text=text[:10]):
                error = self.assertRaises(ConfigurationError, parse_text, "--x", text)
                self.assertEqual("--x", error.option)
                self.assertTrue(str(error).isprintable())
                self.assertIn("1 to 1024 printable characters", str(error))


class SettingsTests(SynchronousTestCase):
    """Their defaults."""

    def test_modes(self) -> None:
        self.assertFalse(Settings().certificates)
        self.assertFalse(Settings(auth="key").certificates)
        self.assertTrue(Settings(auth="x509").certificates)

    def test_listeners(self) -> None:
        self.assertEqual({"http": 8080, "https": 8443, "mqtt": 1883, "mqtts": 8883}, DEFAULT_PORTS)
        self.assertEqual(("http", "mqtt"), PLAIN)

    def test_read_only(self) -> None:
        self.assertRaises(AttributeError, setattr, Settings(), "auth", "x509")
