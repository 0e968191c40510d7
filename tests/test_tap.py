"""The options of ``twistd mainflux``: on the command line, in the environment, and refused."""

import os
import sys
from collections.abc import Mapping
from io import StringIO
from typing import Any

from twisted.application.service import IService, IServiceMaker
from twisted.plugin import getPlugins
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from mfserver import __version__, tap
from mfserver.cred import identity
from mfserver.provisioning import certificates
from mfserver.service import MainfluxService
from mfserver.settings import DEFAULT_PORTS, IDENTITIES, Address, Settings
from mfserver.tls import crl
from twisted.plugins import mainflux as plugin

#: Every option that takes a value, one that it takes, the setting and what that becomes; and one it refuses.
OPTIONS: Mapping[str, tuple[str, str, Any, str | None]] = {
    "auth": ("x509", "auth", "x509", "password"),
    "data-dir": ("/srv/mf", "data_dir", "/srv/mf", None),
    "database": ("sqlite:////x.db", "database", "sqlite:////x.db", None),
    "cert": ("a.crt", "certificate", "a.crt", None),
    "key": ("a.key", "key", "a.key", None),
    "ca": ("ca.crt", "ca", "ca.crt", None),
    "ca-key": ("ca.key", "ca_key", "ca.key", None),
    "tls-min": ("1.3", "tls_min", "1.3", "1.1"),
    "tls-transport": ("twisted", "tls_transport", "twisted", "memory"),
    "crl-stale": ("warn", "crl_stale", "warn", "ignore"),
    "identity": ("CN, san", "identity", ("san", "cn"), "dn"),
    "certificate-days": ("7", "certificate_days", 7, "3651"),
    "max-message": ("1", "max_message", 1, "0"),
    "registration": ("closed", "registration", "closed", "maybe"),
    "max-connections": ("5", "max_connections", 5, "0"),
    "max-connections-per-address": ("6", "max_connections_per_address", 6, "x"),
    "max-connections-per-thing": ("7", "max_connections_per_thing", 7, "-1"),
    "max-queued-messages": ("8", "max_queued_messages", 8, "0"),
    "max-queued-bytes": ("9", "max_queued_bytes", 9, "0"),
    "queue-qos0": ("on", "queue_qos0", True, "1"),
    "max-session-expiry": ("0", "max_session_expiry", 0, "-1"),
    "max-sessions-per-thing": ("10", "max_sessions_per_thing", 10, "0"),
    "max-retained-messages": ("11", "max_retained_messages", 11, "0"),
    "max-retained-bytes": ("12", "max_retained_bytes", 12, "1e3"),
    "max-keep-alive": ("13", "max_keep_alive", 13, "never"),
    "server-reference": (" gate.example:8883 [::1]", "server_reference", "gate.example:8883 [::1]", " "),
}


class OptionsTestCase(SynchronousTestCase):
    """An environment of our own."""

    def setUp(self) -> None:
        self.patch(os, "environ", {})

    def settings(self, *arguments: str, **environment: str) -> Settings:
        """What the options become."""
        os.environ.clear()
        os.environ.update(environment)
        options = tap.Options()
        options.parseOptions(list(arguments))
        return options.settings

    def refusal(self, *arguments: str, **environment: str) -> str:
        """The line that a mistake ends with."""
        error = self.assertRaises(SystemExit, self.settings, *arguments, **environment)
        text = str(error)
        self.assertTrue(text.startswith("mainflux: "), text)
        self.assertNotIn("\n", text)
        return text


class OptionTests(OptionsTestCase):
    """Each option, by both ways."""

    def test_all_are_here(self) -> None:
        """The table above leaves none out."""
        names = {row[0] for row in tap.Options.optParameters}
        self.assertEqual(names, OPTIONS.keys() | DEFAULT_PORTS.keys())

    def test_command_line(self) -> None:
        for name, (text, attribute, value, _) in OPTIONS.items():
            self.assertEqual(value, getattr(self.settings(f"--{name}={text}"), attribute), name)

    def test_environment(self) -> None:
        """As MF_ and its name in capitals."""
        for name, (text, attribute, value, _) in OPTIONS.items():
            given = {_variable(name): text}
            self.assertEqual(value, getattr(self.settings(**given), attribute), name)

    def test_command_line_wins(self) -> None:
        for name, (text, attribute, value, _) in OPTIONS.items():
            given = {_variable(name): "of the environment"}
            self.assertEqual(value, getattr(self.settings(f"--{name}={text}", **given), attribute), name)

    def test_empty_is_absent(self) -> None:
        """An empty variable, as compose files pass it on, and an empty option leave the default."""
        for name, (_, attribute, _, _) in OPTIONS.items():
            default = getattr(Settings(), attribute)
            self.assertEqual(default, getattr(self.settings(**{_variable(name): ""}), attribute), name)
            self.assertEqual(default, getattr(self.settings(f"--{name}="), attribute), name)

    def test_refused(self) -> None:
        """What an option does not take is one line that names it, wherever it came from."""
        for name, (_, _, _, wrong) in OPTIONS.items():
            if wrong is not None:
                for text in (self.refusal(f"--{name}={wrong}"), self.refusal(**{_variable(name): wrong})):
                    self.assertIn(f"--{name}={wrong}", text)

    def test_bounds(self) -> None:
        """The highest that each number takes."""
        for name, most in (
            ("max-message", 256 << 20),
            ("max-connections", 10_000_000),
            ("max-connections-per-address", 10_000_000),
            ("max-connections-per-thing", 10_000_000),
            ("max-queued-messages", 10_000_000),
            ("max-queued-bytes", 1 << 40),
            ("max-session-expiry", 0xFFFF_FFFF),
            ("max-sessions-per-thing", 10_000_000),
            ("max-retained-messages", 10_000_000),
            ("max-retained-bytes", 1 << 40),
            ("max-keep-alive", 65_535),
            ("certificate-days", 3650),
        ):
            self.assertEqual(most, getattr(self.settings(f"--{name}={most}"), OPTIONS[name][1]))
            self.assertIn(f"--{name}={most + 1}", self.refusal(f"--{name}={most + 1}"))

    def test_qos0_waits_or_not(self) -> None:
        self.assertIs(True, self.settings("--queue-qos0=on").queue_qos0)
        self.assertIs(False, self.settings("--queue-qos0=off", MF_QUEUE_QOS0="on").queue_qos0)

    def test_a_reference_of_several_lines(self) -> None:
        """The mistake is one line all the same."""
        self.assertIn("--server-reference=a\\nb:", self.refusal("--server-reference=a\nb"))

    def test_listeners(self) -> None:
        """Each by both ways, off too."""
        for name in DEFAULT_PORTS:
            for text, expected in (("[::1]:7", Address("::1", 7)), ("0", Address("", 0)), ("off", None)):
                self.assertEqual(expected, self.settings(f"--{name}={text}").listeners[name])
                self.assertEqual(expected, self.settings(**{_variable(name): text}).listeners[name])
            self.assertIn(f"--{name}=x", self.refusal(f"--{name}=x"))

    def test_server_names(self) -> None:
        """Repeated on the command line, or separated by commas in the environment."""
        self.assertEqual(
            ("a", "10.0.0.1"), self.settings("--server-name=a", "--server-name=10.0.0.1").server_names
        )
        self.assertEqual(("a", "b"), self.settings(MF_SERVER_NAME="a, b,").server_names)
        self.assertEqual(("c",), self.settings("--server-name=c", MF_SERVER_NAME="a").server_names)
        self.assertEqual((), self.settings().server_names)

    def test_lists(self) -> None:
        """Repeated on the command line, or separated by commas in the environment."""
        self.assertEqual(("a", "b"), self.settings("--crl=a", "--crl=b", MF_CRL="c").crl)
        self.assertEqual(("a", "b"), self.settings(MF_CRL="a, b,").crl)
        self.assertEqual((), self.settings(MF_CRL="").crl)

    def test_certificate_only(self) -> None:
        """Off unless it is said; in the environment on or off."""
        self.assertIs(True, self.settings("--certificate-only").certificate_only)
        self.assertIs(True, self.settings(MF_CERTIFICATE_ONLY="on").certificate_only)
        self.assertIs(True, self.settings("--certificate-only", MF_CERTIFICATE_ONLY="off").certificate_only)
        for text in "off", "":
            self.assertIs(False, self.settings(MF_CERTIFICATE_ONLY=text).certificate_only)
        self.assertIn("MF_CERTIFICATE_ONLY=yes", self.refusal(MF_CERTIFICATE_ONLY="yes"))

    def test_no_way_to_name_a_thing(self) -> None:
        """Of the ways that are left at least one must be."""
        self.assertIn("--identity=,", self.refusal("--identity=,"))

    def test_same_words(self) -> None:
        """Rooms that do not know each other agree."""
        self.assertEqual(identity.METHODS, IDENTITIES)
        self.assertEqual((crl.REFUSE, crl.WARN), tap._CHOICES["crl-stale"])
        self.assertEqual((1, certificates.MAX_DAYS), tap._NUMBERS["certificate-days"])
        self.assertEqual(certificates.DEFAULT_DAYS, Settings().certificate_days)

    def test_unknown(self) -> None:
        self.assertRaises(usage.UsageError, self.settings, "--no-such-option")
        self.assertRaises(usage.UsageError, self.settings, "argument")


class DefaultTests(OptionsTestCase):
    """Without options, in each mode."""

    def test_key_mode(self) -> None:
        settings = self.settings()
        listeners: dict[str, Address | None] = {n: Address("", p) for n, p in DEFAULT_PORTS.items()}
        self.assertEqual(Settings(listeners=listeners), settings)

    def test_x509_mode(self) -> None:
        """The listeners without TLS are off unless asked for."""
        settings = self.settings("--auth=x509")
        self.assertEqual(
            {"http": None, "https": Address("", 8443), "mqtt": None, "mqtts": Address("", 8883)},
            settings.listeners,
        )
        self.assertEqual(Address("", 8080), self.settings("--auth=x509", "--http=8080").listeners["http"])

    def test_auth(self) -> None:
        """--auth, then MF_AUTH, then AUTH, as Mainflux's compose files have it."""
        self.assertEqual("x509", self.settings(AUTH="x509").auth)
        self.assertEqual("x509", self.settings(AUTH="key", MF_AUTH="x509").auth)
        self.assertEqual("key", self.settings("--auth=key", AUTH="x509", MF_AUTH="x509").auth)
        self.assertEqual("key", self.settings(AUTH="").auth)
        self.assertIn("--auth=tls", self.refusal(AUTH="tls"))


class ServiceTests(OptionsTestCase):
    """What twistd makes of them."""

    def test_version(self) -> None:
        printed = StringIO()
        self.patch(sys, "stdout", printed)
        error = self.assertRaises(SystemExit, self.settings, "--version")
        self.assertEqual((0, f"mfserver {__version__}\n"), (error.code, printed.getvalue()))

    def test_help(self) -> None:
        """Every option has a line that says its default, and fits a terminal."""
        text = str(tap.Options())
        for name in [*OPTIONS, *DEFAULT_PORTS, "server-name", "crl", "certificate-only", "version"]:
            self.assertIn(f"--{name}", text)
        for row in tap.Options.optParameters:
            self.assertIn("[default: ", row[3])

    def test_service(self) -> None:
        """A service that has done nothing yet."""
        options = tap.Options()
        options.parseOptions(["--data-dir=/nonexistent/x", "--http=off"])
        service = tap.makeService(options)
        self.assertIsInstance(service, MainfluxService)
        self.assertTrue(IService.providedBy(service))
        self.assertFalse(os.path.exists("/nonexistent"))

    def test_plugin(self) -> None:
        """twistd finds it by its name."""
        found: list[Any] = list(getPlugins(IServiceMaker))
        (maker,) = [one for one in found if one.tapname == "mainflux"]
        self.assertEqual(("mfserver.tap", tap.Options), (maker.module, maker.options))
        self.assertIn(maker, vars(plugin).values())


def _variable(option: str) -> str:
    return "MF_" + option.upper().replace("-", "_")
