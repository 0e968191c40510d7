"""What every store promises of pages and their filters; see :mod:`tests.store.contract`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mfserver.errors import Invalid
from mfserver.records import Query

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase
else:
    TestCase = object

from tests.store.contract import ANN, BOB, Promises, a_channel, a_thing


class ListContract(Promises):
    """Pages of things and channels, in order and filtered."""

    async def test_page(self) -> None:
        """A page is a part of the owner's list and says how long the whole is."""
        await self._things("bob", owner=BOB)
        names = [f"n{number}" for number in range(7)]
        await self._things(*names)
        page = await self.store.things.page(ANN, Query(offset=2, limit=3))
        self.assertEqual((page.total, page.offset, page.limit), (7, 2, 3))
        self.assertEqual([thing.name for thing in page.entries], names[2:5])
        for offset in (7, 2**70):
            page = await self.store.things.page(ANN, Query(offset=offset))
            self.assertEqual((page.total, list(page.entries), page.offset), (7, [], offset))

    async def test_order(self) -> None:
        """Lists stand in the order of creation, of names without case, or of ids; and the other way round."""
        names = ["b", None, "C", "a", "B", "Ä", "\U0001f600"]
        things = await self._things(*names)
        by_name = [None, "a", "b", "B", "C", "Ä", "\U0001f600"]
        by_id = [thing.name for thing in sorted(things, key=lambda thing: thing.id)]
        for order, expected in ((None, names), ("name", by_name), ("id", by_id)):
            self.assertEqual(await self._names(order=order), expected)
            self.assertEqual(await self._names(order=order, descending=True), expected[::-1])

    async def test_name_filter(self) -> None:
        """A name is found by any part of it, without case, taken literally."""
        names = ["100% Straße", "100_ strasse", "ÄRGER", "a\\b'\"", "nul\x00after", None]
        await self._things(*names)
        cases = {
            "STRASSE": names[:2],
            "0%": names[:1],
            "0_": names[1:2],
            "ärg": names[2:3],
            "\\b'\"": names[3:4],
            "\x00AFT": names[4:5],
            "nul\x00b": [],
            "%": names[:1],
            "": names,
            "nothing" * 5000: [],
        }
        for name, expected in cases.items():
            self.assertEqual(await self._names(name=name), expected, name)

    async def test_metadata_filter(self) -> None:
        """Metadata is found by what it contains: members, elements and numbers by value, at any depth."""
        known = {"a": 1, "b": [1, {"c": [True, None, "x"]}, [2]], "d": {"e": {"f": 2.5}}, "s": "1"}
        await self.store.things.add([a_thing(metadata=known), a_thing(), a_thing(metadata={})])
        found: list[dict[str, Any]] = [
            {"a": 1.0},
            {"b": []},
            {"b": [{"c": ["x", True]}]},
            {"b": [1, 1, [2.0]]},
            {"d": {}},
            {"d": {"e": {"f": 2.5}}, "s": "1"},
            known,
        ]
        missed: list[dict[str, Any]] = [
            {"a": True},
            {"a": "1"},
            {"s": 1},
            {"b": 1},
            {"b": {}},
            {"b": [2]},
            {"b": [{"c": [1]}]},
            {"b": [{"c": [False]}]},
            {"d": []},
            {"d": {"e": {"f": 2.5, "g": None}}},
            {"z": None},
            {"' OR 1=1 --": 1},
        ]
        for filters, total in ((found, 1), (missed, 0), ([{}], 3)):
            for wanted in filters:
                page = await self.store.things.page(ANN, Query(metadata=wanted))
                self.assertEqual((page.total, len(page.entries)), (total, total), wanted)

    async def test_unanswerable_query(self) -> None:
        """A query that could answer with everything, or in no order, is refused."""
        bad: Sequence[dict[str, Any]] = (
            {"offset": -1},
            {"limit": 0},
            {"limit": -1},
            {"limit": 101},
            {"order": "key"},
            {"metadata": [1]},
        )
        for values in bad:
            await self.assertFailure(self.store.things.page(ANN, Query(**values)), Invalid)
            await self.assertFailure(self.store.channels.page(ANN, Query(**values)), Invalid)

    async def test_metadata_that_is_no_json(self) -> None:
        """What would not come back as it was is refused, and nothing of it is kept."""
        deep: Any = 1
        for _ in range(100):
            deep = [deep]
        bottomless: Any = 1
        for _ in range(100_000):
            bottomless = [bottomless]
        values = (float("nan"), float("inf"), {1, 2}, b"bytes", "\ud800", deep, bottomless)
        for value in values:
            await self.assertFailure(self.store.things.add([a_thing(metadata={"x": value})]), Invalid)
        await self.assertFailure(self.store.channels.add([a_channel(metadata=[1])]), Invalid)
        self.assertEqual((await self.store.things.page(ANN, Query())).total, 0)
