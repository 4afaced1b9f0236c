#!/usr/bin/env python3
"""Runs the black-box suite: python3 test/run.py [-k PATTERN] [--server URL --http URL [--coap URL] [--grpc HOST:PORT]].

Finds every test/cases/GROUP/test_*.py. Starts servers of its own, or is pointed at
a running one by its addresses; cases that start and stop servers are then
skipped. With --known-failures a run is good when every failure stands in that list.
The last line printed is the count.
"""

import argparse
import faulthandler
import functools
import importlib.util
import shutil
import sys
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True

from blackbox import known  # noqa: E402
from blackbox.case import Run, SharedServerStops  # noqa: E402
from blackbox.server import OUTPUT, SCRATCH, Remote, Server, binary  # noqa: E402

# However a case hangs, the run ends. One that somebody else has started may be slow:
# the original takes seconds for each deploy.
RUN_MAX_S = 20 * 60
REMOTE_RUN_MAX_S = 90 * 60


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


def load(pattern=None):
    loader = unittest.TestLoader()
    if pattern:
        loader.testNamePatterns = [one if "*" in one else f"*{one}*" for one in pattern]
    suite = unittest.TestSuite()
    for path in sorted((HERE / "cases").glob("*/test_*.py")):
        name = f"{path.parent.name}.{path.stem}"
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(name, path)
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            spec.loader.exec_module(module)
        suite.addTests(loader.loadTestsFromModule(sys.modules[name]))
    suite.addTests(unittest.TestLoader().loadTestsFromTestCase(SharedServerStops))
    return suite


def cases(suite):
    """The cases themselves."""
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from cases(test)
        else:
            yield test


def spare(suite, expected):
    """Has those cases skipped that the list says are not to be run."""
    for test in cases(suite):
        line = known.line_of(expected, test.id())
        if line and line.not_run:
            test.setUp = functools.partial(test.skipTest, line.reason)
    return suite


def read_known_failures(path):
    try:
        return known.parse(path.read_text(), [test.id() for test in cases(load())])
    except OSError as error:
        sys.exit(f"cannot read the known failures: {error}")
    except known.BadList as error:
        sys.exit(f"{path} is no list of known failures:\n{error}")


def tell(verdict):
    """Says which failures were expected, and which are no more."""
    for name, line in verdict.expected:
        print(f"known failure {name}: {line.reason}")
    for line, passed in verdict.passed:
        print(f"PASSES NOW, so take out line {line.line}: {line.pattern} {line.reason} ({', '.join(passed)})")
    for name in verdict.unknown:
        print(f"NOT KNOWN {name}: it failed and stands in no list")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-k", action="append", metavar="PATTERN", help="run only the cases whose names match")
    parser.add_argument("-v", action="store_true", help="name each case, and the slowest at the end")
    parser.add_argument("-f", action="store_true", help="stop at the first failure")
    parser.add_argument("--server", metavar="URL", help="a running server's management service")
    parser.add_argument("--http", metavar="URL", help="its HTTP endpoint")
    parser.add_argument("--coap", metavar="URL", help="its CoAP endpoint, like coap://localhost:5683; without it nothing is asked there")
    parser.add_argument("--grpc", metavar="HOST:PORT", help="its gRPC endpoint; without it nothing is asked there")
    parser.add_argument("--known-failures", metavar="FILE", type=Path, help="cases that may fail, a pattern and a reason a line (test/known-failures/original.txt)")
    options = parser.parse_args()
    if bool(options.server) != bool(options.http):
        parser.error("--server and --http go together")
    if (options.coap or options.grpc) and not options.server:
        parser.error("--coap and --grpc are for a server that runs already: give --server and --http too")
    if options.server:
        Run.remote = Remote(options.server, options.http, options.coap, options.grpc)
    elif not binary().exists():
        sys.exit(f"there is no {binary()}; build it first: make build")
    expected = read_known_failures(options.known_failures) if options.known_failures else []
    if not Run.remote:
        OUTPUT.write_text("")
    faulthandler.dump_traceback_later(REMOTE_RUN_MAX_S if Run.remote else RUN_MAX_S, exit=True)

    runner = unittest.TextTestRunner(
        verbosity=2 if options.v else 1, resultclass=Result, failfast=options.f, stream=sys.stdout
    )
    try:
        result = runner.run(spare(load(options.k), expected))
    finally:
        Server.stop_all()
    shutil.rmtree(SCRATCH, ignore_errors=True)

    if options.v:
        for seconds, name in sorted(result.times, reverse=True)[:15]:
            print(f"{seconds:7.2f} s {name}")
    for test, reason in result.skipped:
        print(f"skipped {test.id()}: {reason}")
    verdict = known.judge(expected, result.failed_ids, result.passed_ids - result.failed_ids)
    if options.known_failures:
        tell(verdict)
    counts = [f"{len(result.passed_ids - result.failed_ids)} passed", f"{len(verdict.unknown)} failed"]
    if options.known_failures:
        counts.append(f"{len(verdict.expected)} known failures")
    print(", ".join([*counts, f"{len(result.skipped)} skipped"]), flush=True)
    sys.exit(1 if verdict.unknown or not result.passed_ids else 0)


if __name__ == "__main__":
    main()
