"""Certificates as an operator would make them: an authority of one's own, and what it
signs, by the openssl command.

Knows how certificates are made, whole or with one thing wrong. Must not know who
shows them to whom.
"""

import base64
import hashlib
import ssl
import subprocess
import time
from pathlib import Path

DAY_S = 24 * 3600
# One that nobody waits for: RSA of 2048 bits takes long to make, ECDSA does not.
_EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_RSA = ("-newkey", "rsa:2048", "-nodes")
_AUTHORITY = """
[ca]
default_ca = this
[this]
new_certs_dir = {folder}
database = {folder}/index.txt
certificate = {folder}/root.pem
private_key = {folder}/root.key
rand_serial = yes
default_md = sha256
unique_subject = no
policy = anything
[anything]
commonName = optional
organizationName = optional
organizationalUnitName = optional
countryName = optional
serialNumber = optional
"""


def openssl(*arguments, given=None):
    """Runs the openssl command; what it printed, in bytes."""
    run = subprocess.run(
        ["openssl", *map(str, arguments)], input=given, capture_output=True, timeout=60
    )
    if run.returncode:
        raise RuntimeError(f"openssl {arguments[0]}: {run.stderr.decode(errors='replace')}")
    return run.stdout


class Certificate:
    """A certificate (with those between it and a root, if any) and its key, in files
    of PEM."""

    def __init__(self, certificate, key):
        self.certificate = Path(certificate)
        self.key = Path(key)

    @property
    def der(self):
        """The certificate itself."""
        text = self.certificate.read_text()
        end = "-----END CERTIFICATE-----\n"
        return ssl.PEM_cert_to_DER_cert(text[: text.index(end) + len(end)])

    @property
    def fingerprint(self):
        """SHA-256 of the certificate, in lower-case hex."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def pin(self):
        """SHA-256 of the public key, as curl's --pinnedpubkey takes it."""
        return pin(self.der)

    def environment(self):
        """What a server is told of it."""
        return {"TF_TLS_CERTIFICATE": self.certificate, "TF_TLS_KEY": self.key}

    def copy_to(self, folder):
        """The same in other files, which may be changed."""
        copy = Certificate(folder / "copy.pem", folder / "copy.key")
        copy.replace_by(self)
        return copy

    def replace_by(self, other):
        """Puts another certificate into these files, the key first."""
        for to, of in ((self.key, other.key), (self.certificate, other.certificate)):
            new = to.with_suffix(".new")
            new.write_bytes(of.read_bytes())
            new.chmod(0o600)
            new.rename(to)


def pin(der):
    """The same of any certificate in DER."""
    key = openssl("x509", "-inform", "der", "-pubkey", "-noout", given=der)
    spki = openssl("pkey", "-pubin", "-outform", "der", given=key)
    return "sha256//" + base64.b64encode(hashlib.sha256(spki).digest()).decode()


class Authority:
    """An authority of one's own, in a folder of its own."""

    def __init__(self, folder, name="tinyFaaS test root"):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.root = self.folder / "root.pem"
        self.key = self.folder / "root.key"
        self._config = self.folder / "ca.cnf"
        self._config.write_text(_AUTHORITY.format(folder=self.folder))
        (self.folder / "index.txt").touch()
        openssl(
            *("req", "-x509", *_EC, "-subj", f"/CN={name}", "-days", 30),
            *("-keyout", self.key, "-out", self.root),
        )
        self._made = 0

    def issue(
        self,
        subject="/CN=localhost",
        names=("DNS:localhost", "IP:127.0.0.1", "IP:::1"),
        usage="serverAuth",
        begins_in=-DAY_S,
        ends_in=DAY_S,
        rsa=False,
        chained=True,
    ):
        """A certificate that is valid from and until so many seconds from now.
        `chained` puts the authority's own behind it."""
        self._made += 1
        base = self.folder / f"issued-{self._made}"
        request, key, out = (base.with_suffix(end) for end in (".csr", ".key", ".pem"))
        openssl(
            *("req", "-new", *(_RSA if rsa else _EC), "-utf8", "-subj", subject),
            *("-keyout", key, "-out", request),
        )
        extensions = [f"extendedKeyUsage = {usage}", "basicConstraints = CA:FALSE"]
        if names:
            extensions.append(f"subjectAltName = {', '.join(names)}")
        extension_file = base.with_suffix(".ext")
        extension_file.write_text("\n".join(extensions) + "\n")
        when = [time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + s))
                for s in (begins_in, ends_in)]
        openssl(
            *("ca", "-batch", "-notext", "-config", self._config, "-utf8", "-preserveDN"),
            *("-in", request, "-out", out, "-extfile", extension_file),
            *("-startdate", when[0], "-enddate", when[1]),
        )
        if chained:
            out.write_text(out.read_text() + self.root.read_text())
        return Certificate(out, key)

    def client(self, subject="/O=Sensors/CN=sensor-1", **more):
        """A certificate for who calls."""
        return self.issue(subject, names=(), usage="clientAuth", **more)


def trusting(root, client=None, alpn=("http/1.1",), **versions):
    """A context of a client that trusts this root, and shows this certificate."""
    context = ssl.create_default_context(cafile=str(root))
    if client:
        context.load_cert_chain(client.certificate, client.key)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    for name, version in versions.items():
        setattr(context, name, version)
    return context
