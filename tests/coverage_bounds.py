"""Print the branch coverage, and fail where it is under the project's bounds: row 0 whole, the rest 90 %."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

#: The vocabulary and the sans-I/O rooms (the import table's row 0): nothing in them is hard to reach.
ROW_0 = (
    "mfserver/mqtt/",
    "mfserver/routing/tree.py",
    "mfserver/topic.py",
    "mfserver/message.py",
    "mfserver/records.py",
    "mfserver/route.py",
    "mfserver/errors.py",
    "mfserver/address.py",
    "mfserver/budget.py",
    "mfserver/ownership.py",
)
ELSEWHERE = 90.0


def main() -> int:
    """Compare each file of row 0, and each other room as a whole, with its bound."""
    with tempfile.TemporaryDirectory() as directory:
        written = Path(directory) / "coverage.json"
        subprocess.run([sys.executable, "-m", "coverage", "json", "-q", "-o", str(written)], check=True)
        files = json.loads(written.read_text())["files"]
    rooms: dict[str, list[int]] = {}
    failures = []
    for name, entry in sorted(files.items()):
        summary = entry["summary"]
        covered = summary["covered_lines"] + summary["covered_branches"]
        every = summary["num_statements"] + summary["num_branches"]
        if name.startswith(ROW_0) and covered < every:
            failures.append(f"{name}: {every - covered} lines or branches of row 0 are not covered")
        room = "/".join(name.split("/")[:2]) if name.count("/") > 1 else name
        total = rooms.setdefault(room, [0, 0])
        total[0] += covered
        total[1] += every
    for room, (covered, every) in rooms.items():
        percent = 100.0 * covered / every if every else 100.0
        print(f"{percent:6.1f} %  {room}")
        if percent < ELSEWHERE:
            failures.append(f"{room}: {percent:.1f} % is under {ELSEWHERE} %")
    for failure in failures:
        print(f"coverage: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
