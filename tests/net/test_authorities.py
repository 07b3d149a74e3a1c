"""Where the system's certificate authorities may lie."""

from __future__ import annotations

from pathlib import Path

from qmtls.net.authorities import system_authorities


def test_what_the_environment_names() -> None:
    built = system_authorities({})
    assert len(built) >= 2 and all(path.is_absolute() for path in built)
    assert Path("/etc/ssl/certs/ca-certificates.crt") in built  # Debian's, which pyOpenSSL falls back to
    assert system_authorities({"SSL_CERT_FILE": "/x/ca.pem"}) == (Path("/x/ca.pem"), built[1])
    assert system_authorities({"SSL_CERT_DIR": "/x/certs:/y"}) == (built[0], Path("/x/certs"), Path("/y"))
