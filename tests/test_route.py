"""A row of the route table."""

from dataclasses import FrozenInstanceError

from twisted.trial.unittest import SynchronousTestCase

from mfserver.route import Route


class RouteTests(SynchronousTestCase):
    """Plain values, given by name."""

    def test_defaults(self) -> None:
        """A plain request of nobody's, answered 200 without a body."""
        route = Route(method="GET", path="/x", serve=print)
        self.assertEqual((None, "", None, None), (route.upgrade, route.summary, route.body, route.reply))
        self.assertEqual((200, ()), (route.success, route.errors))
        self.assertEqual(({}, "", False), (route.parameters, route.access, route.any_body))

    def test_own_parameters(self) -> None:
        """No two rows share their dictionary."""
        first, second = (Route(method="GET", path="/x", serve=print) for _ in range(2))
        first.parameters["a"] = "b"
        self.assertEqual({}, second.parameters)

    def test_read_only(self) -> None:
        route = Route(method="GET", path="/x", serve=print)
        self.assertRaises(FrozenInstanceError, setattr, route, "path", "/y")
