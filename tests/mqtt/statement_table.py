"""The table of normative statements, ``statements.tsv``, and what it is checked against.

Each line names a statement by version and identifier, and the tests that prove it with spaces between them;
or ``-`` and the reason why it cannot bind a server. A statement stands in square brackets in the docstrings
of its tests, and in the comment or docstring of the code that obeys it. Its number there is that of MQTT 5.0.
It is that of 3.1.1 behind "of 3.1.1", to the end of the sentence; where only 3.1.1 has the number; and where
both versions give one rule one number: the same tests prove both then.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from twisted.trial.runner import TestLoader
from twisted.trial.unittest import SynchronousTestCase

__all__ = [
    "TABLE",
    "Statement",
    "Said",
    "read_table",
    "said_in",
    "said_below",
    "unsaid",
    "unclaimed",
    "unknown",
    "collect",
    "must_succeed",
]

TABLE = Path(__file__).with_name("statements.tsv")

_IDENTIFIER = re.compile(r"MQTT-\d+\.\d+\.\d+-\d+")
_SAID = re.compile(r"(?P<old>\b[Oo]f 3\.1\.1\b)|\[(?P<identifier>MQTT-[^\]]*)\]|(?P<end>[.;](?:\s|$))")


class Statement(NamedTuple):
    """One line of the table.

    :ivar version: ``5.0`` or ``3.1.1``.
    :ivar tests: their dotted names; none where there is a reason.
    """

    version: str
    identifier: str
    tests: tuple[str, ...] = ()
    reason: str = ""


class Said(NamedTuple):
    """An identifier that stands somewhere in the code.

    :ivar old: whether it is said to be one of 3.1.1.
    """

    identifier: str
    old: bool


def read_table(text: str) -> list[Statement]:
    """The statements of a table. :raises ValueError: a line is none, or comes twice."""
    statements: dict[tuple[str, str], Statement] = {}
    for line in text.splitlines():
        version, identifier, proof, reason, *more = [*line.split("\t"), "", "", ""]
        if version not in ("5.0", "3.1.1") or not _IDENTIFIER.fullmatch(identifier):
            raise ValueError(f"not a statement: {line!r}")
        if (version, identifier) in statements:
            raise ValueError(f"a statement comes twice: {line!r}")
        tests = () if proof == "-" else tuple(proof.split())
        if bool(tests) == bool(reason) or (proof == "-") != bool(reason) or any(more):
            raise ValueError(f"neither a test nor a reason, or both: {line!r}")
        statements[version, identifier] = Statement(version, identifier, tests, reason)
    return list(statements.values())


def said_below(directory: Path) -> set[Said]:
    """What the comments and docstrings of all modules below a directory say."""
    return {said for path in sorted(directory.rglob("*.py")) for said in said_in(path.read_text())}


def said_in(source: str) -> Iterator[Said]:
    """What the comments and docstrings of one module say."""
    for text in (*_comments(source), *_docstrings(source)):
        yield from _said_in_text(text)


def _said_in_text(text: str) -> Iterator[Said]:
    old = False
    for found in _SAID.finditer(text):
        if found["identifier"]:
            yield Said(found["identifier"], old)
        else:
            old = bool(found["old"])


def unsaid(statements: Iterable[Statement], said: set[Said]) -> list[str]:
    """The statements that tests prove and that are not said, where they should be."""
    known = {(one.version, one.identifier): one for one in statements}
    return [
        f"{one.version} {one.identifier}"
        for one in known.values()
        if one.tests and not said & _forms(one, known.get(("5.0", one.identifier)))
    ]


def unclaimed(statements: Iterable[Statement]) -> list[str]:
    """The tests whose docstrings do not say the statements that they are to prove.

    Also those that are not there, or that trial would not run.
    """
    wrong = []
    known = {(one.version, one.identifier): one for one in statements}
    for one in known.values():
        forms = _forms(one, known.get(("5.0", one.identifier)))
        for name in one.tests:
            try:
                docstring = getattr(collect(name), name.rpartition(".")[2]).__doc__
            except LookupError as error:
                wrong.append(str(error))
            else:
                if not forms & set(_said_in_text(" ".join((docstring or "").split()))):
                    wrong.append(f"{name} does not say {one.version} {one.identifier}")
    return wrong


def _forms(one: Statement, new: Statement | None) -> set[Said]:
    """In which forms a statement can be said.

    :param new: the one with the same number in 5.0.
    """
    old = one.version == "3.1.1"
    forms = {Said(one.identifier, old)}
    if old and (new is None or new.tests == one.tests):
        forms.add(Said(one.identifier, False))
    return forms


def unknown(statements: Iterable[Statement], said: set[Said]) -> list[str]:
    """What the code says that is no statement of that version."""
    known = {(one.version, one.identifier) for one in statements}
    return sorted(
        f"{'of 3.1.1 ' * old}{identifier}"
        for identifier, old in said
        if ("3.1.1", identifier) not in known and (old or ("5.0", identifier) not in known)
    )


def collect(name: str) -> SynchronousTestCase:
    """The test of this name, as trial collects and runs it.

    :raises LookupError: there is none, or it would be skipped or may fail.
    """
    module, _, rest = name.rpartition(".")
    module, _, class_name = module.rpartition(".")
    if not module.rpartition(".")[2].startswith("test_") or not rest.startswith("test_"):
        raise LookupError(f"trial does not collect {name}")
    try:
        found = getattr(import_module(module), class_name)
    except (ImportError, AttributeError) as error:
        raise LookupError(f"there is no {name}") from error
    for test in TestLoader().loadClass(found):
        if test.id() == name:
            assert isinstance(test, SynchronousTestCase)
            if not must_succeed(test):
                raise LookupError(f"{name} is skipped, or may fail")
            return test
    raise LookupError(f"there is no {name}")


def must_succeed(test: SynchronousTestCase) -> bool:
    """Whether neither the test nor its class nor its module says that it is skipped or may fail."""
    return not test.getSkip()[0] and test.getTodo() is None


def _comments(source: str) -> Iterator[str]:
    """Each comment; lines that are nothing but comments and follow one another are one."""
    lines: list[str] = []
    last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        row = token.start[0]
        alone = not token.line[: token.start[1]].strip()
        if lines and not (alone and row == last + 1):
            yield " ".join(lines)
            lines = []
        lines.append(token.string.lstrip("#").strip())
        last = row if alone else 0
    if lines:
        yield " ".join(lines)


def _docstrings(source: str) -> Iterator[str]:
    """Each paragraph of each docstring."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for paragraph in re.split(r"\n\s*\n|\n\s*(?=:)", ast.get_docstring(node) or ""):
                yield " ".join(paragraph.split())
