#!/usr/bin/env python3
"""Runs the black-box suite: python3 test/run.py [-k PATTERN] [--server URL --http URL].

Finds every test/cases/GROUP/test_*.py. Starts servers of its own, or is pointed at
a running one by its addresses; cases that start and stop servers are then
skipped. The last line printed is the count.
"""

import argparse
import faulthandler
import importlib.util
import shutil
import sys
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True

from blackbox.case import Run, SharedServerStops  # noqa: E402
from blackbox.server import OUTPUT, SCRATCH, Remote, Server, binary  # noqa: E402

# However a case hangs, the run ends.
RUN_MAX_S = 20 * 60


class Result(unittest.TextTestResult):
    """Knows for each case how it ended, and how long it took."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.failed_ids = set()
        self.passed_ids = set()
        self.times = []

    def startTest(self, test):
        self._began = time.monotonic()
        super().startTest(test)

    def stopTest(self, test):
        self.times.append((time.monotonic() - self._began, test.id()))
        super().stopTest(test)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed_ids.add(test.id())

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.failed_ids.add(test.id())

    def addError(self, test, error):
        super().addError(test, error)
        self.failed_ids.add(test.id())

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            self.failed_ids.add(test.id())

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.failed_ids.add(test.id())


def load(pattern):
    loader = unittest.TestLoader()
    if pattern:
        loader.testNamePatterns = [one if "*" in one else f"*{one}*" for one in pattern]
    suite = unittest.TestSuite()
    for path in sorted((HERE / "cases").glob("*/test_*.py")):
        name = f"{path.parent.name}.{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        suite.addTests(loader.loadTestsFromModule(module))
    suite.addTests(unittest.TestLoader().loadTestsFromTestCase(SharedServerStops))
    return suite


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-k", action="append", metavar="PATTERN", help="run only the cases whose names match")
    parser.add_argument("-v", action="store_true", help="name each case, and the slowest at the end")
    parser.add_argument("-f", action="store_true", help="stop at the first failure")
    parser.add_argument("--server", metavar="URL", help="a running server's management service")
    parser.add_argument("--http", metavar="URL", help="its HTTP endpoint")
    options = parser.parse_args()
    if bool(options.server) != bool(options.http):
        parser.error("--server and --http go together")
    if options.server:
        Run.remote = Remote(options.server, options.http)
    elif not binary().exists():
        sys.exit(f"there is no {binary()}; build it first: make build")
    OUTPUT.write_text("")
    faulthandler.dump_traceback_later(RUN_MAX_S, exit=True)

    runner = unittest.TextTestRunner(
        verbosity=2 if options.v else 1, resultclass=Result, failfast=options.f, stream=sys.stdout
    )
    try:
        result = runner.run(load(options.k))
    finally:
        Server.stop_all()
    shutil.rmtree(SCRATCH, ignore_errors=True)

    if options.v:
        for seconds, name in sorted(result.times, reverse=True)[:15]:
            print(f"{seconds:7.2f} s {name}")
    for test, reason in result.skipped:
        print(f"skipped {test.id()}: {reason}")
    failed = len(result.failed_ids)
    passed = len(result.passed_ids - result.failed_ids)
    print(f"{passed} passed, {failed} failed, {len(result.skipped)} skipped", flush=True)
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
