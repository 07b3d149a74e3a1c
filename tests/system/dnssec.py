"""nsd with a signed and an unsigned zone, and unbound that checks the signatures: on loopback, ended by the test.

The programs are the system's; the zones are signed here. The signatures of some names are broken on purpose.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import dns.dnssec
import dns.dnssectypes
import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.zone
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.system.waiting import free_port, wait_for

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
SIGNED, PLAIN = "signed.example", "plain.example"
TTL = 300

NSD = """\
server:
  ip-address: 127.0.0.1@{port}
  username: ""
  chroot: ""
  zonesdir: "{directory}"
  database: ""
  pidfile: "{directory}/nsd.pid"
  xfrdfile: "{directory}/xfrd.state"
  zonelistfile: "{directory}/zone.list"
  xfrdir: "{directory}"
  logfile: "{directory}/nsd.log"
  server-count: 1
remote-control:
  control-enable: no
zone:
  name: {signed}
  zonefile: {signed}.zone
zone:
  name: {plain}
  zonefile: {plain}.zone
"""

UNBOUND = """\
server:
  interface: 127.0.0.1@{port}
  access-control: 127.0.0.0/8 allow
  username: ""
  chroot: ""
  directory: "{directory}"
  pidfile: "{directory}/unbound.pid"
  logfile: "{directory}/unbound.log"
  use-syslog: no
  do-daemonize: no
  do-ip6: no
  num-threads: 1
  do-not-query-localhost: no
  module-config: "{modules}"
  {anchor}
  target-fetch-policy: "0 0 0 0 0"
remote-control:
  control-enable: no
stub-zone:
  name: {signed}
  stub-addr: 127.0.0.1@{nsd}
stub-zone:
  name: {plain}
  stub-addr: 127.0.0.1@{nsd}
"""


def programs() -> tuple[str, str]:
    """Where nsd and unbound are; skips the test if they are not there."""
    found = [shutil.which(name, path=PATH) for name in ("nsd", "unbound")]
    if found[0] is None or found[1] is None:
        pytest.skip("nsd or unbound is not installed (scripts/system-packages)")
    return found[0], found[1]


class Names:
    """`signed` and `plain` are lines of zone files. `broken` are names of the signed zone, with blanks between them:
    the signature of the A record is bad, or of the TLSA record where the name is of such. `server` is unbound's
    address and port, `careless` those of one that checks nothing. `at`: a loopback address, of which unbound takes port
    53 too, for those who know of no other port.
    """

    def __init__(self, directory: Path, signed: str, plain: str, broken: str, at: str = "") -> None:
        self._nsd, self._unbound = programs()
        self._directory = directory
        self._running: list[subprocess.Popen[bytes]] = []
        self._port = free_port()
        anchor = self._write_zones(signed, plain, broken)
        self._write("nsd.conf", NSD.format(port=self._port, directory=directory, signed=SIGNED, plain=PLAIN))
        more = f"\n  interface: {at}@53" if at else ""
        self.server = self._configure("unbound", "validator iterator", f'trust-anchor: "{anchor}"{more}')
        self.careless = self._configure("careless", "iterator", "")

    def _write(self, name: str, text: str) -> Path:
        path = self._directory / name
        path.write_text(text)
        return path

    def _configure(self, name: str, modules: str, anchor: str) -> tuple[str, int]:
        port = free_port()
        names = {"signed": SIGNED, "plain": PLAIN, "nsd": self._port}
        text = UNBOUND.format(port=port, directory=self._directory, modules=modules, anchor=anchor, **names)
        self._write(f"{name}.conf", text)
        return "127.0.0.1", port

    def _write_zones(self, signed: str, plain: str, broken: str) -> str:
        """The trust anchor of the signed zone."""
        head = f"@ {TTL} IN SOA ns hostmaster 1 3600 600 86400 {TTL}\n@ {TTL} IN NS ns\nns {TTL} IN A 127.0.0.1\n"
        self._write(f"{PLAIN}.zone", f"$ORIGIN {PLAIN}.\n$TTL {TTL}\n{head}{plain}")
        zone = dns.zone.from_text(f"$TTL {TTL}\n{head}{signed}", SIGNED, relativize=False)
        key = ec.generate_private_key(ec.SECP256R1())
        public = dns.dnssec.make_dnskey(key.public_key(), dns.dnssectypes.Algorithm.ECDSAP256SHA256, flags=257)
        with zone.writer() as writer:
            dns.dnssec.sign_zone(zone, writer, [(key, public)], dnskey_ttl=TTL, lifetime=86_400)
        for name in broken.split():
            _break(zone, name)
        with (self._directory / f"{SIGNED}.zone").open("w") as file:
            zone.to_file(file, relativize=False)
        return f"{SIGNED}. {TTL} IN DNSKEY {public.to_text()}"

    def __enter__(self) -> Self:
        try:
            self._start(self._nsd, "-d", "-c", "nsd.conf")
            for name in ("unbound", "careless"):
                self._start(self._unbound, "-d", "-c", f"{name}.conf")
            for address, port in (("127.0.0.1", self._port), self.server, self.careless):
                wait_for(partial(_answers, address, port), f"an answer from port {port}")
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self, program: str, *arguments: str) -> None:
        path = self._directory / f"{Path(program).name}.out"
        with path.open("ab") as out:
            self._running.append(
                subprocess.Popen(
                    [program, *arguments], cwd=self._directory, stdout=out, stderr=out, start_new_session=True
                )
            )

    def stop(self) -> None:
        """Ends what was started, with its children."""
        for process in self._running:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in self._running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._running.clear()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()


def _break(zone: dns.zone.Zone, name: str) -> None:
    """Turns one bit of the record's signature."""
    owner, kind = dns.name.from_text(name), dns.rdatatype.TLSA if name.startswith("_") else dns.rdatatype.A
    rdataset = zone.find_rdataset(owner, dns.rdatatype.RRSIG, covers=kind)
    (record,) = rdataset
    signature = bytes([record.signature[0] ^ 1]) + record.signature[1:]
    with zone.writer() as writer:
        writer.delete(owner, dns.rdatatype.RRSIG, kind)
        writer.add(owner, rdataset.ttl, record.replace(signature=signature))


def _answers(address: str, port: int) -> bool:
    question = dns.message.make_query(f"ns.{PLAIN}", "A")
    try:
        return bool(dns.query.udp(question, address, timeout=1, port=port).answer)
    except (dns.exception.DNSException, OSError):
        return False
