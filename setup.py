"""The build with mypyc, for which MFSERVER_MYPYC=1 asks. All that the package is stands in setup.cfg."""

import os
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

#: The whole way of a message, from what a socket gave to what it takes, compiled as it is.
HOT = [
    "mfserver/budget.py",
    "mfserver/message.py",
    "mfserver/topic.py",
    "mfserver/turn.py",
    *(f"mfserver/adapters/mqtt{part}.py" for part in ("", "_adapter", "_answers", "_client")),
    *(f"mfserver/adapters/mqtt_{part}.py" for part in ("connect", "messages", "topics", "unread")),
    *sorted(glob("mfserver/mqtt/[!_]*.py")),
    *(f"mfserver/routing/{part}.py" for part in ("bus", "feeding", "journal", "queue", "reading")),
    *(f"mfserver/routing/{part}.py" for part in ("router", "session", "shared", "tree")),
    *(f"mfserver/tls/{part}.py" for part in ("carrier", "poller", "transport")),
]


class CompileHotModules(build_ext):
    """Puts the compiled modules beside the others in a wheel; there they are found first."""

    def finalize_options(self) -> None:
        # Not above: setuptools reads this file to learn what the build needs before mypy is there.
        from mypyc.build import mypycify  # noqa: PLC0415

        # setup.cfg names the plugin that knows zope's interfaces. What is imported is not checked here.
        arguments = [
            "--config-file=setup.cfg",
            "--cache-dir=build/mypy",
            "--follow-imports=silent",
            "--ignore-missing-imports",
            *HOT,
        ]
        self.distribution.ext_modules = mypycify(arguments, opt_level="3", group_name="mfserver")
        super().finalize_options()

    def run(self) -> None:
        if self.inplace or self.editable_mode:
            raise SystemExit(
                "compiled modules would hide those of the tree: install this build without --editable"
            )
        super().run()


if os.environ.get("MFSERVER_MYPYC") == "1":
    setup(
        # It only says that there are some, so that the wheel is one for this platform.
        ext_modules=[Extension("mfserver__mypyc", [])],
        cmdclass={"build_ext": CompileHotModules},
        setup_requires=["mypy >= 2.4", "mypy-zope >= 1.0.17", "twisted >= 26.4"],
    )
else:
    setup()
