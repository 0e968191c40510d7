"""Which addresses count as one neighbour."""

from twisted.trial.unittest import SynchronousTestCase

from mfserver.address import is_loopback, network, subject


class NetworkTests(SynchronousTestCase):
    def test_networks(self) -> None:
        for host, expected in (
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
            ("2001:db8:1:3::", "2001:db8:1:3::/64"),
            ("fe80::1%eth0", "fe80::/64"),
            ("::1", "::/64"),
            ("/run/socket", "/run/socket"),
            ("", ""),
            ("192.0.2.256", "192.0.2.256"),
        ):
            with self.subTest(host=host):
                self.assertEqual(network(host), expected)

    def test_failures_are_counted_by_network(self) -> None:
        self.assertEqual("address 2001:db8::/64", subject("2001:db8::1"))

    def test_a_network_is_its_own(self) -> None:
        """So that it does no harm to ask twice."""
        for host in ("192.0.2.1", "2001:db8::1", "/run/socket"):
            self.assertEqual(network(network(host)), network(host))


class LoopbackTests(SynchronousTestCase):
    def test_loopback(self) -> None:
        for host in "127.0.0.1", "127.255.0.7", "::1", "::1%lo", "::ffff:127.0.0.1", "::ffff:7f00:1":
            self.assertTrue(is_loopback(host), host)

    def test_others(self) -> None:
        for host in (
            *("128.0.0.1", "126.255.255.255", "0.0.0.0", "192.0.2.1", "::", "::2", "::ffff:192.0.2.1"),
            *("fe80::1%lo", "::127.0.0.1", "127.1", "2130706433", "localhost", "/run/socket", ""),
        ):
            self.assertFalse(is_loopback(host), host)
