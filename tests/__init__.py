"""The tests: in memory by room, and in ``interop`` with the programs that users have.

Hypothesis draws the same each time, so that a test that fails for one passes for nobody; while ``make fuzz``
looks for something new, it draws anew.
"""

import os

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True)
if not os.environ.get("MF_FUZZ_SECONDS"):
    settings.load_profile("repeatable")
