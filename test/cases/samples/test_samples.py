"""The sample functions that tinyFaaS's users know."""

import json
import unittest

from blackbox.case import Case


class Samples(Case):
    def test_echo(self):
        for environment, sample in (("python3", "echo"), ("nodejs", "echo-js"), ("binary", "echo-binary")):
            with self.subTest(sample=sample):
                name = self.deploy(environment, sample)
                self.answers(name, "Hello, edge ☃!\n", "Hello, edge ☃!\n")
                self.answers(name, "")
                self.answers(name, "", "")

    def test_sieve(self):
        name = self.deploy("nodejs", "sieve-of-eratosthenes")
        self.answers(name, "Found 1229 primes under 10000\n")

    def test_show_headers(self):
        name = self.deploy("python3", "show-headers")
        shown = json.loads(self.call(name, headers={"lab": "edge", "user-agent": "suite"}).text)
        self.assertEqual((shown["Lab"], shown["User-Agent"]), ("edge", "suite"))

    def test_show_headers_js(self):
        name = self.deploy("nodejs", "show-headers-js")
        shown = json.loads(self.call(name, headers={"Lab": "edge", "User-Agent": "suite"}).text)
        self.assertEqual((shown["lab"], shown["user-agent"]), ("edge", "suite"))


if __name__ == "__main__":
    unittest.main()
