"""Metadata as text, and what contains what."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as some
from twisted.trial.unittest import SynchronousTestCase

from mfserver.errors import Invalid
from mfserver.store.metadata import MAX_DEPTH, contains, decode, encode, text_contains

SCALARS = some.none() | some.booleans() | some.integers(-5, 5) | some.floats(-2, 2) | some.text(max_size=3)
VALUES = some.recursive(
    SCALARS,
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = some.dictionaries(some.text(max_size=2), VALUES, max_size=4)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


class MetadataTests(SynchronousTestCase):
    @settings(max_examples=100, deadline=None)
    @given(OBJECTS)
    def test_round_trip(self, metadata: dict[str, Any]) -> None:
        """What goes in comes out."""
        text = encode(metadata)
        assert text is not None
        self.assertEqual(decode(text), metadata)

    @settings(max_examples=100, deadline=None)
    @given(OBJECTS, OBJECTS)
    def test_objects_contain_their_parts(self, whole: dict[str, Any], other: dict[str, Any]) -> None:
        """Everything contains itself, nothing, and each of its members; with more, it still does."""
        self.assertTrue(contains(whole, whole))
        self.assertTrue(contains(whole, {}))
        for name, value in whole.items():
            self.assertTrue(contains(whole, {name: value}))
            self.assertTrue(contains([1, value], [value]))
        self.assertTrue(contains({**other, **whole}, whole))
        for name in other.keys() - whole.keys():
            self.assertFalse(contains(whole, {**whole, name: other[name]}))

    def test_kinds(self) -> None:
        """PostgreSQL's answers to the same questions."""
        for whole, part, expected in (
            (1, 1.0, True),
            (1, True, False),
            (0, False, False),
            (None, None, True),
            (None, False, False),
            ("1", 1, False),
            ([1, 2], [2, 2], True),
            ([1, 2], [True], False),
            ([[1, 2]], [[1]], True),
            ([1, [2]], [2], False),
            ([1], [], True),
            ([], {}, False),
            ({}, [], False),
            ([{"a": 1, "b": 2}], [{"a": 1}, {"b": 2}], True),
            ([{"a": 1}, {"b": 2}], [{"a": 1, "b": 2}], False),
            (2**53 + 1, float(2**53), False),
        ):
            self.assertIs(contains(whole, part), expected, (whole, part))

    def test_depth(self) -> None:
        """As deep as may be kept may be looked for; deeper is refused, however deep."""
        self.assertTrue(contains(nested(MAX_DEPTH), nested(MAX_DEPTH)))
        encode(nested(MAX_DEPTH))
        self.assertRaises(Invalid, encode, nested(MAX_DEPTH + 1))
        self.assertRaises(Invalid, contains, nested(MAX_DEPTH + 1), nested(MAX_DEPTH + 1))
        self.assertRaises(Invalid, encode, nested(50_000))

    def test_cost(self) -> None:
        """Long arrays of scalars are cheap; of arrays they would cost their product, and are refused."""
        numbers = list(range(50_000))
        self.assertTrue(contains(numbers, numbers[::-1]))
        arrays = [[number] for number in numbers]
        self.assertRaises(Invalid, contains, arrays, arrays[::-1])

    def test_no_metadata(self) -> None:
        """Nothing is kept as nothing, and contains nothing, not even an empty object."""
        self.assertIsNone(encode(None))
        self.assertFalse(text_contains(None, "{}"))
        self.assertTrue(text_contains("{}", "{}"))
