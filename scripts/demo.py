"""What `make run` shows: two mail servers on loopback, one message refused, one relayed over pinned TLS.

`alpha` is a relay that only lets in who shows a certificate; `beta` is the destination whose key alpha has pinned.
Both stay up; `make stop` ends them, and so does the next `make run`. Everything lies below .run/.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / ".run"
BIN = Path(sys.executable).parent
PATIENCE = 30.0  # seconds for anything that takes well below one
SENDER = "example@alpha.example"
RECIPIENT = "postmaster@beta.example"


class Server:
    """One home with its service."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.home = RUN / name
        self.me = f"{name}.example"
        self.port = port
        self.log = self.home / "log"
        self._output = self.home / "output"

    def make(self) -> None:
        run("qmtls", "init", str(self.home), "--me", self.me)
        self.control("listen", f"smtp tcp:{self.port}:interface=127.0.0.1\n")

    def control(self, name: str, text: str) -> Path:
        path = self.home / "control" / name
        path.write_text(text)
        return path

    def certificate(self) -> str:
        """The server's certificate, without its key."""
        text = (self.home / "control/servercert.pem").read_text()
        return text[text.index("-----BEGIN CERTIFICATE-----") :]

    def start(self) -> None:
        command = [str(BIN / "twistd"), "-n", "--pidfile=", f"--logfile={self.log}", "qmtls", "--home", str(self.home)]
        with self._output.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=RUN, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        (self.home / "pid").write_text(f"{process.pid}\n")

        def up() -> bool:
            if process.poll() is not None:
                fail(f"{self.name} ended with status {process.returncode}", self.log, self._output)
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5):
                return True
            return False

        wait_for(up, f"{self.name} does not answer on port {self.port}", self.log, self._output)
        say(f"  {self.name}: pid {process.pid}, 127.0.0.1:{self.port}, home {shown(self.home)}, log {shown(self.log)}")


class Dialogue(smtplib.SMTP):
    """smtplib, shown line by line."""

    def putcmd(self, cmd: str, args: str = "") -> None:
        say(f"    C: {cmd} {args}".rstrip())
        super().putcmd(cmd, args)

    def getreply(self) -> tuple[int, bytes]:
        code, text = super().getreply()
        lines = text.decode("ascii", "replace").splitlines() or [""]
        for n, line in enumerate(lines, 1):
            say(f"    S: {code}{' ' if n == len(lines) else '-'}{line}")
        return code, text


def say(line: str = "") -> None:
    print(line, flush=True)


def fail(sentence: str, *logs: Path) -> NoReturn:
    for log in logs:
        if log.is_file():
            say(f"--- the end of {shown(log)}")
            say("\n".join(log.read_text(errors="replace").splitlines()[-20:]))
    sys.exit(f"demo: {sentence}")


def shown(path: Path) -> str:
    return os.path.relpath(path)


def run(program: str, *arguments: str) -> str:
    done = subprocess.run([str(BIN / program), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        fail(f"{program} {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def wait_for(true: Callable[[], bool], otherwise: str, *logs: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > end:
            fail(otherwise, *logs)
        time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses at this moment; held together, so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def stop() -> None:
    """Ends what an earlier run left. A pid is only believed if that process runs with our home."""
    for file in sorted(RUN.glob("*/pid")):
        pid = int(file.read_text())
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if not ours(pid, file.parent):
                break
            os.kill(pid, sign)
            end = time.monotonic() + PATIENCE
            while ours(pid, file.parent) and time.monotonic() < end:
                time.sleep(0.05)
        say(f"stopped {file.parent.name} (pid {pid})")
        file.unlink()


def ours(pid: int, home: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return (
            os.fsencode(home) in words and "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        )
    except OSError:
        return False


def transaction(relay: Server, certificate: Path | None) -> bool:
    """One message to beta by way of alpha. True if alpha took it."""
    context = ssl.create_default_context(cafile=str(relay.home / "clients/ca.pem"))
    if certificate:
        context.load_cert_chain(str(certificate))
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = SENDER, RECIPIENT, "Over TLS all the way"
    message.set_content("This message was let in by a certificate and went out to a pinned key.\n")
    with Dialogue("127.0.0.1", relay.port, "client.example", timeout=PATIENCE) as client:
        client.starttls(context=context)
        if isinstance(client.sock, ssl.SSLSocket):
            say(f"    -- {client.sock.version()}; the server's certificate is verified")
        try:
            client.send_message(message)
        except smtplib.SMTPRecipientsRefused:
            return False
    return True


def main() -> int:
    stop()
    if "--stop" in sys.argv[1:]:
        return 0
    shutil.rmtree(RUN, ignore_errors=True)
    ports = free_ports(2)
    alpha, beta = Server("alpha", ports[0]), Server("beta", ports[1])

    say("Two homes, each with a CA of its own; alpha routes beta.example to beta and pins its certificate:")
    for server in (alpha, beta):
        server.make()
    alpha.control("smtproutes", f"beta.example:127.0.0.1:{beta.port}\n")
    pin = alpha.control("beta.example.pem", beta.certificate())
    for server in (alpha, beta):
        server.start()

    say("\n1. A client without a certificate. TLS alone opens no relay:\n")
    if transaction(alpha, None):
        fail("alpha relayed for a client without a certificate", alpha.log)

    example = alpha.home / "clients/example.pem"
    say(f"\n2. The same with the certificate {shown(example)}, which control/tlsclients names:\n")
    if not transaction(alpha, example):
        fail("alpha refused its own example client", alpha.log)

    inbox = beta.home / "mail/postmaster/new"
    wait_for(lambda: any(inbox.iterdir()), "the message did not arrive", alpha.log, beta.log)
    (delivered,) = inbox.iterdir()
    say(f"\n3. Delivered by beta into {shown(delivered)}:\n")
    say("    " + delivered.read_text().rstrip().replace("\n", "\n    "))
    say(next_steps(alpha, beta, example, pin))
    return 0


def next_steps(alpha: Server, beta: Server, example: Path, pin: Path) -> str:
    qmtls = f"{shown(BIN / 'qmtls')} --home {shown(alpha.home)}"
    send = f"echo hello | {qmtls} send --from {SENDER} --to {RECIPIENT}"
    return f"""
Both servers stay up; `make stop` ends them. To try next:

  See mail wait for its reason: give beta another pin, send a message, list the queue when both have been noticed
    cp {shown(alpha.home / "clients/ca.pem")} {shown(pin)}
    {send}
    sleep 3; {qmtls} queue list
  Put the right pin back: no restart is needed, and the mail goes by itself
    sed -n '/BEGIN CERT/,$p' {shown(beta.home / "control/servercert.pem")} > {shown(pin)}
    sleep 3; ls {shown(beta.home / "mail/postmaster/new")}
  Ask what a home consists of, and what identifies a client
    {qmtls} check
    {qmtls} cert show {shown(example)}
  Relay with another client (swaks with its TLS part, Net::SSLeay)
    swaks --server 127.0.0.1:{alpha.port} --from {SENDER} --to {RECIPIENT} \\
          --tls --tls-cert {shown(example)} --tls-key {shown(example)}
  Watch
    tail -f {shown(alpha.log)} {shown(beta.log)}"""


if __name__ == "__main__":
    sys.exit(main())
