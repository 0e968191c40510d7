"""Every normative statement of MQTT 5.0 and 3.1.1 is obeyed where the code says so, and proved by a test."""

from collections import Counter
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import mfserver
from tests.mqtt.statement_table import (
    TABLE,
    Said,
    Statement,
    collect,
    must_succeed,
    read_table,
    said_below,
    said_in,
    unclaimed,
    unknown,
    unsaid,
)
from tests.trial_directory import trial_directory

#: How many statements the two specifications have, and how many of these bind nobody but clients.
STATEMENTS = {"5.0": 251, "3.1.1": 141}
UNBOUND = {"5.0": 5, "3.1.1": 4}

_CODE = Path(mfserver.__file__).parent
#: Another list of all statements, with whom they bind; users have none.
_OTHER = _CODE.parent.parent / "shared" / "mqtt-statements.tsv"


class TableTests(SynchronousTestCase):
    """``statements.tsv`` is complete and true."""

    def setUp(self) -> None:
        self.statements = read_table(TABLE.read_text())

    def test_complete(self) -> None:
        """No statement is missing; those that a test proves and those that bind no server are told apart."""
        self.assertEqual(STATEMENTS, Counter(one.version for one in self.statements))
        unbound = Counter(one.version for one in self.statements if one.reason)
        self.assertEqual(UNBOUND, unbound)
        count = len(self.statements)
        text = (
            f"MQTT statements: {count} of {sum(STATEMENTS.values())}: "
            f"{count - unbound.total()} proved by tests, {unbound.total()} do not bind a server"
        )
        (trial_directory() / "_mqtt_statements.txt").write_text(f"{text}\n")

    def test_identifiers(self) -> None:
        """The numbers of each section follow one another, as the specifications have them."""
        for version, gaps in (("5.0", {"MQTT-2.2.1-1"}), ("3.1.1", set[str]())):
            sections: dict[str, list[int]] = {}
            for one in self.statements:
                if one.version == version:
                    section, _, number = one.identifier.rpartition("-")
                    sections.setdefault(section, []).append(int(number))
            for section, numbers in sections.items():
                expected = [n for n in range(1, max(numbers) + 1) if f"{section}-{n}" not in gaps]
                self.assertEqual(expected, numbers, (version, section))

    def test_other_list(self) -> None:
        """Where another list of them is at hand: the same, and no reason for what binds servers too."""
        if not _OTHER.exists():
            return
        lines = [line.split("\t") for line in _OTHER.read_text().splitlines() if line[0] in "35"]
        self.assertEqual(
            [(version, identifier) for version, identifier, *_ in lines],
            [(one.version, one.identifier) for one in self.statements],
        )
        binds = {(version, identifier): whom for version, identifier, whom, _ in lines}
        unbound = {(one.version, one.identifier) for one in self.statements if one.reason}
        self.assertEqual({one for one in unbound if binds[one] != "client"}, set())

    def test_tests(self) -> None:
        """Each test that the table names is there, trial runs it, and it says what it proves."""
        self.assertEqual([], unclaimed(self.statements))

    def test_code(self) -> None:
        """The code carries each statement where it obeys it, and none that there is not."""
        said = said_below(_CODE)
        self.assertEqual([], unsaid(self.statements, said))
        self.assertEqual([], unknown(self.statements, said))


class CheckTests(SynchronousTestCase):
    """What is wrong with the table or with the code does not stay hidden."""

    proof = f"{__name__}.CheckTests.test_lines"
    claim = f"{__name__}.CheckTests.test_claim"

    def test_lines(self) -> None:
        """A line that is no statement, or whose statement comes twice, is refused."""
        good = "5.0\tMQTT-1.5.4-1\ttests.x tests.y\n"
        self.assertEqual([Statement("5.0", "MQTT-1.5.4-1", ("tests.x", "tests.y"))], read_table(good))
        unbound = "5.0\tMQTT-1.5.4-1\t-\twhy\n"
        self.assertEqual([Statement("5.0", "MQTT-1.5.4-1", (), "why")], read_table(unbound))
        for bad in (
            good * 2,
            "5.1\tMQTT-1.5.4-1\ttests.x",
            "5.0\tMQTT-1.5.4\ttests.x",
            "5.0\tMQTT-1.5.4-1",
            "5.0\tMQTT-1.5.4-1\t-",
            "5.0\tMQTT-1.5.4-1\t\tno test and a reason",
            "5.0\tMQTT-1.5.4-1\ttests.x\ta test and a reason",
            "5.0\tMQTT-1.5.4-1\t-\twhy\tand more",
            f"{good}\n{good}",
        ):
            self.assertRaises(ValueError, read_table, bad)

    def test_a_missing_line(self) -> None:
        """The table without any one of its lines is not complete."""
        statements = read_table(TABLE.read_text())
        for index in range(len(statements)):
            rest = statements[:index] + statements[index + 1 :]
            self.assertNotEqual(STATEMENTS, Counter(one.version for one in rest))

    def test_a_test_that_is_not_there(self) -> None:
        """Neither one of another name, nor one that trial would not collect."""
        self.assertEqual(self.proof, collect(self.proof).id())
        own = __name__
        for name in (
            f"{own}.CheckTests.test_line",
            f"{own}.CheckTests.proof",
            f"{own}.Check.test_lines",
            f"{own}s.CheckTests.test_lines",
            "tests.mqtt.statement_table.collect",
            "tests",
            "",
        ):
            self.assertRaises(LookupError, collect, name)

    def test_a_test_that_says_nothing(self) -> None:
        """Nor does a test prove what its docstring does not say, in the form of that version."""
        new, old = "MQTT-1.5.4-1", "MQTT-1.5.3-1"
        self.assertEqual(
            [], unclaimed([Statement("5.0", new, (self.claim,)), Statement("3.1.1", old, (self.claim,))])
        )
        for wrong in (
            Statement("3.1.1", "MQTT-1.5.3-2", (self.claim,)),
            Statement("5.0", old, (self.claim,)),
            Statement("5.0", new, (self.proof,)),
            Statement("5.0", new, (self.claim, "tests.nowhere")),
        ):
            self.assertEqual(1, len(unclaimed([wrong])), wrong)

    def test_claim(self) -> None:
        """An example: [MQTT-1.5.4-1], of 3.1.1 [MQTT-1.5.3-1]."""
        self.assertEqual(self.claim, self.id())

    def test_a_test_that_proves_nothing(self) -> None:
        """One that is skipped or may fail, itself or with its class."""

        class Skipped(SynchronousTestCase):
            skip = "an example"

            def test_it(self) -> None:
                """Does nothing."""

        class Mixed(SynchronousTestCase):
            def test_it(self) -> None:
                """Does nothing."""

            def test_skipped(self) -> None:
                """Does nothing."""

            test_skipped.skip = "an example"  # type: ignore[attr-defined]

            def test_todo(self) -> None:
                """Does nothing."""

            test_todo.todo = "an example"  # type: ignore[attr-defined]

        self.assertTrue(must_succeed(Mixed("test_it")))
        for test in Skipped("test_it"), Mixed("test_skipped"), Mixed("test_todo"):
            self.assertFalse(must_succeed(test))

    def test_where_the_code_says_it(self) -> None:
        """Comments and docstrings count; a version holds to the end of the sentence."""
        source = '''"""First [MQTT-1.1.1-1].

        :raises X: [MQTT-1.1.1-2], of 3.1.1 [MQTT-1.1.1-3]
            [MQTT-1.1.1-4]. Then [MQTT-1.1.1-5]
        """
        x = "[MQTT-1.1.1-6]"  # [MQTT-1.1.1-7], of 3.1.1
        # [MQTT-1.1.1-8] and of 3.1.1
        # [MQTT-1.1.1-9]
        def f():
            """Of 3.1.1 they say: (of 3.1.1 [MQTT-1.1.1-10])."""
        '''
        source = "\n".join(line.removeprefix(" " * 8) for line in source.splitlines())
        found = {(int(said.identifier.rpartition("-")[2]), said.old) for said in said_in(source)}
        new, old = {1, 2, 5, 7, 8}, {3, 4, 9, 10}
        self.assertEqual({(one, False) for one in new} | {(one, True) for one in old}, found)

    def test_what_the_code_does_not_say(self) -> None:
        """A number counts for its version; where both have one rule and one test, for both."""
        one, two, three = "MQTT-1.1.1-1", "MQTT-1.1.1-2", "MQTT-1.1.1-3"
        statements = [
            Statement("5.0", one, ("tests.a",)),
            Statement("3.1.1", one, ("tests.a", "tests.b")),
            Statement("5.0", two, ("tests.c",)),
            Statement("3.1.1", two, ("tests.c",)),
            Statement("3.1.1", three, ("tests.d",)),
            Statement("5.0", "MQTT-1.1.1-4", (), "binds clients"),
        ]
        everything = {Said(one, False), Said(one, True), Said(two, False), Said(three, False)}
        self.assertEqual([], unsaid(statements, everything))
        for left_out, missing in (
            (Said(one, False), [f"5.0 {one}"]),
            (Said(one, True), [f"3.1.1 {one}"]),
            (Said(two, False), [f"5.0 {two}", f"3.1.1 {two}"]),
            (Said(three, False), [f"3.1.1 {three}"]),
        ):
            self.assertEqual(missing, unsaid(statements, everything - {left_out}))
        self.assertEqual([], unknown(statements, everything))
        wrong = {Said("MQTT-1.1.1-4", True), Said("MQTT-9.9.9-9", False), Said("MQTT-x", False)}
        self.assertEqual(
            ["MQTT-9.9.9-9", "MQTT-x", "of 3.1.1 MQTT-1.1.1-4"], unknown(statements, everything | wrong)
        )
