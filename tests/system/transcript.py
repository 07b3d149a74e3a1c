"""Transcripts: text files that say what a client hears from a real service, and what is changed meanwhile.

    = FILE      the control file FILE becomes the lines behind it that begin with "| ", and is reloaded
    - NAME      that certificate is revoked: clientcrl.pem, and a reload
    $ COMMAND   an order to `qmtls`, and a reload
    > NAME      a new client, which shows that certificate ("nobody": none), says STARTTLS and EHLO
    < NAME      the client of that name, connected before
    C: LINE     it sends this line
    S: LINE     it hears this line; * is anything

`{gate.sha256}` and the like are a certificate's (`Shown`). What a client hears must be complete. "#" is for people.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.system.client import SmtpClient, client_context
from tests.system.house import House
from tests.system.pki import Authority, Credential

FILES = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


@dataclass(frozen=True)
class Shown:
    """A certificate as the files name it."""

    credential: Credential

    @property
    def sha256(self) -> str:
        return self.credential.sha256

    @property
    def spki(self) -> str:
        digest = Hash(SHA256())
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        digest.update(self.credential.certificate.public_key().public_bytes(*form))
        return base64.b64encode(digest.finalize()).decode()


@dataclass
class Play:
    """One transcript being played to `house`."""

    house: House
    authority: Authority
    certificates: Mapping[str, Credential]
    scratch: Path
    clients: dict[str, SmtpClient] = field(default_factory=dict)
    revoked: list[Credential] = field(default_factory=list)

    def play(self, path: Path) -> None:
        lines = self._filled(path.read_text()).splitlines()
        client: SmtpClient | None = None
        for number, line in enumerate(lines):
            where = f"{path.name}:{number + 1}"
            mark, rest = line[:2].strip(), line[2:].lstrip(" ") if line[:1] in "CS" else line[2:]
            match mark:
                case "" | "#" | "|":
                    continue
                case "=":
                    following = lines[number + 1 :]
                    end = next((n for n, one in enumerate(following) if not one.startswith("| ")), len(following))
                    self.house.control(rest, "".join(f"{one[2:]}\n" for one in following[:end]))
                    self.house.reload()
                case "-":
                    self.revoked.append(self.certificates[rest])
                    self.house.control("clientcrl.pem", self.authority.crl(*self.revoked))
                    self.house.reload()
                case "$":
                    self.house.qmtls(*rest.split())
                    self.house.reload()
                case ">":
                    client = self.clients[rest] = self._connect(rest)
                case "<":
                    client = self.clients[rest]
                case "C:":
                    assert client is not None, where
                    client.send(rest.encode() + b"\r\n")
                case "S:":
                    assert client is not None, where
                    heard = client.read_line().decode()
                    pattern = ".*".join(map(re.escape, rest.split("*")))
                    assert re.fullmatch(pattern, heard), f"{where}: heard {heard!r}"
                case _:
                    raise AssertionError(f"{where}: {line!r} says nothing")
        for name, open_client in self.clients.items():
            assert str(open_client.command("NOOP")) == "250 2.0.0 ok", f"{name} heard more than {path.name} says"

    def close(self) -> None:
        for client in self.clients.values():
            client.close()

    def _connect(self, name: str) -> SmtpClient:
        shown = None
        if name in self.certificates:
            shown = self.certificates[name].write(self.scratch / f"{name}.pem")
        client = SmtpClient(self.house.port)
        client.starttls(client_context(None, shown))
        return client

    def _filled(self, text: str) -> str:
        known = {name: Shown(credential) for name, credential in self.certificates.items()}
        return re.sub(r"\{(\w+)\.(\w+)\}", lambda found: str(getattr(known[found[1]], found[2])), text)
