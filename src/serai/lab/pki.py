"""The lab's certificate authority and one certificate per host, for libvirt control and migration over TLS."""

import shutil
from pathlib import Path

from serai.lab.command import run_command
from serai.lab.plan import LabHost

_DAYS = 30
_KEY_TYPE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
_CA_CERTIFICATE = "ca-cert.pem"
_CA_KEY = "ca-key.pem"


def make_authority(directory: Path) -> None:
    """Make the CA key and certificate in directory."""
    directory.mkdir(mode=0o700, parents=True)
    run_command(
        [
            *("openssl", "req", "-x509", *_KEY_TYPE, "-keyout", _CA_KEY, "-out", _CA_CERTIFICATE),
            *("-days", str(_DAYS), "-subj", "/O=serai lab/CN=serai lab CA"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        ],
        cwd=directory,
    )


def make_host_certificate(authority: Path, host: LabHost, directory: Path) -> None:
    """Make a host's key and certificate, under the names that QEMU and libvirt look for.

    directory gets QEMU's names (server-cert.pem, client-cert.pem, ...) and libvirt's client names
    (cacert.pem, clientcert.pem, clientkey.pem), so that it serves as `pkipath` of a `qemu+tls` URI too.
    """
    directory.mkdir(mode=0o700, parents=True)
    key, request, certificate = directory / "server-key.pem", directory / "request.pem", directory / "server-cert.pem"
    extensions = directory / "extensions.cnf"
    extensions.write_text(
        "basicConstraints=CA:FALSE\n"
        f"subjectAltName=DNS:{host.name},IP:{host.underlay}\n"
        "keyUsage=digitalSignature,keyEncipherment\n"
        "extendedKeyUsage=serverAuth,clientAuth\n"
    )
    run_command(
        ["openssl", "req", *_KEY_TYPE, "-keyout", key, "-out", request, "-subj", f"/O=serai lab/CN={host.name}"]
    )
    run_command(
        [
            *("openssl", "x509", "-req", "-in", request, "-out", certificate, "-days", str(_DAYS)),
            *("-CA", authority / _CA_CERTIFICATE, "-CAkey", authority / _CA_KEY),
            *("-extfile", extensions, "-set_serial", str(int(host.underlay))),
        ]
    )
    request.unlink()
    extensions.unlink()
    for source, copies in (
        (authority / _CA_CERTIFICATE, (_CA_CERTIFICATE, "cacert.pem")),
        (certificate, ("client-cert.pem", "clientcert.pem")),
        (key, ("client-key.pem", "clientkey.pem")),
    ):
        for copy in copies:
            shutil.copy(source, directory / copy)
