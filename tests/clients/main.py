"""Runs the tests of one mode with a separate Sandgate. scripts/clients calls it.

usage: main.py MODE CLIENTS ENVOY [PATTERN]...

MODE is `local`, `cloud`, `tls`, `egress` or `namespaces`, CLIENTS the folder that scripts/clients-setup prints, and ENVOY the path of Envoy.
With PATTERNs, only tests with one of them in their line run.
"""

import os
import sys
import tempfile
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "scripts" / "lib")]
# No client may find another server or another credential. This must precede the import of the SDKs.
for variable in [name for name in os.environ if name.startswith(("TENSORLAKE_", "INDEXIFY_"))]:
    del os.environ[variable]
# Proxies can't reach this machine's loopback.
for variable in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
    os.environ.pop(variable, None)

import browser  # noqa: E402
import outbound  # noqa: E402
import private_network  # noqa: E402
import world  # noqa: E402
from tell import Failure, main, say  # noqa: E402

MODES = ("local", "cloud", "tls", "egress", "namespaces")
# The modes of a test that names none.
PLAIN = ("local", "cloud", "tls")


def described(test):
    """`Python SDK: a sandbox without a name is reached by its id`"""
    client = (type(test).__doc__ or type(test).__name__).splitlines()[0]
    return f"{client}: " + getattr(test, "_testMethodName", str(test)).removeprefix("test_").replace("_", " ")


class Lines(unittest.TextTestResult):
    """Prints one line for each test: its result, its duration, and its name."""

    passed = 0

    def startTest(self, test):
        self.begun = time.monotonic()
        super().startTest(test)

    def line(self, how, test):
        taken = 1000 * (time.monotonic() - getattr(self, "begun", time.monotonic()))
        print(f"  {how:6} {taken:6.0f} ms  {world.current.mode}: {described(test)}", flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed += 1
        self.line("ok", test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.line("FAILED", test)

    def addError(self, test, err):
        super().addError(test, err)
        self.line("FAILED", test)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err:
            self.line("FAILED", test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.line("--", test)


def suite(mode, patterns=()):
    def wanted(test):
        # A class or a test can have a list of its modes.
        modes = getattr(test, "modes", PLAIN)
        modes = getattr(getattr(test, test._testMethodName, None), "modes", modes)
        if mode not in modes:
            return False
        return not patterns or any(pattern.lower().replace("_", " ") in described(test).lower() for pattern in patterns)

    def of(tests):
        for test in tests:
            if isinstance(test, unittest.TestSuite):
                yield from of(test)
            elif wanted(test):
                yield test

    return unittest.TestSuite(of(unittest.TestLoader().discover(str(HERE))))


def entry(arguments):
    mode, clients, envoy, *patterns = arguments
    if mode not in MODES:
        raise Failure(f"there is no mode `{mode}`; there are {' and '.join(MODES)}")
    os.umask(0o077)
    with tempfile.TemporaryDirectory(prefix="sandgate-clients-") as folder:
        world.current = world.World(mode, folder, clients, envoy, browser.program())
        if world.current.names_resolve:
            private_network.enter(world.CLOUD, folder)
        if world.current.egress:
            outbound.build(Path(folder))
        say(f"starting a control plane and Envoy ({mode} mode)")
        with world.current.started():
            if world.current.egress:
                outbound.serve_sites(world.current.certified())
            with open(os.devnull, "w", encoding="utf-8") as nowhere:
                runner = unittest.TextTestRunner(stream=nowhere, resultclass=Lines, verbosity=0)
                result = runner.run(suite(mode, patterns))
        bad = result.failures + result.errors
        for test, trace in bad:
            print(f"--- {test}\n{trace}", flush=True)
        if bad:
            for log in sorted(Path(folder).glob("*.log")):
                print(f"--- the end of {log.name}\n" + "".join(log.read_text(errors="replace").splitlines(True)[-30:]))
        for test, reason in result.skipped:
            print(f"not run: {mode}: {described(test)} ({reason})")
        print(f"clients, {mode} mode: {result.passed} passed, {len(bad)} failed, {len(result.skipped)} not run", flush=True)
        return 1 if bad else 0


if __name__ == "__main__":
    main(entry)
