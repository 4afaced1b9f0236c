"""How the server fetches: by the system's proxy settings and roots."""

import ssl
import subprocess
import unittest

from blackbox import folders
from blackbox.case import OwnServerCase, need_tool
from blackbox.server import LocalSite, sends


class Fetching(OwnServerCase):
    def fetch(self, url):
        return self.manage("/uploadURL", {"name": "fetched", "env": "binary", "threads": 1, "url": url})

    def site(self, answers, context=None):
        site = LocalSite(answers, context)
        self.addCleanup(site.close)
        return site

    def test_by_the_proxy_of_the_environment(self):
        # A proxy is asked for the whole URL.
        asked = "http://far-away.invalid/a.zip"
        site = self.site({asked: sends(folders.sample("echo-binary"))})
        self.start(http_proxy=site.url, no_proxy=None, NO_PROXY=None)
        answer = self.fetch(asked)
        self.assertEqual(answer.status, 200, answer.text)
        self.answers("fetched", "x", "x")

    def certificates(self):
        """An authority and a certificate by it for this machine; their files."""
        need_tool(self, "openssl")
        folder = self.folder({"extensions": "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n"})

        def openssl(*arguments):
            subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, stdin=subprocess.DEVNULL)

        key = ["-newkey", "rsa:2048", "-nodes", "-subj"]
        openssl("req", "-x509", *key, "/CN=Authority of the suite", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2")
        openssl("req", *key, "/CN=localhost", "-keyout", "site.key", "-out", "site.csr")
        openssl(
            "x509", "-req", "-in", "site.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", "site.pem", "-days", "2", "-extfile", "extensions",
        )
        return folder

    def test_over_https_by_the_systems_roots_only(self):
        folder = self.certificates()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "site.pem", folder / "site.key")
        site = self.site({"/a.zip": sends(folders.sample("echo-binary"))}, context)
        self.start(SSL_CERT_FILE=folder / "ca.pem")
        answer = self.fetch(site.url + "/a.zip")
        self.assertEqual(answer.status, 200, answer.text)
        self.answers("fetched", "x", "x")
        self.ends_clean(self.server)
        self.start()
        self.refused(self.fetch(site.url + "/a.zip"), (422, 502), "127.0.0.1")
        self.assertEqual(self.names(), [])

    def test_a_system_without_certificates_fetches_what_needs_none(self):
        site = self.site({"/a.zip": sends(folders.sample("echo-binary"))})
        self.start(SSL_CERT_FILE=self.folder({"none.pem": ""}) / "none.pem", SSL_CERT_DIR=None)
        answer = self.fetch(site.url + "/a.zip")
        self.assertEqual(answer.status, 200, answer.text)
        self.answers("fetched", "x", "x")
        self.refused(self.fetch(site.url.replace("http:", "https:") + "/a.zip"), 502, "ca-certificates")


if __name__ == "__main__":
    unittest.main()
