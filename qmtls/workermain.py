"""The process of one of several workers: `python -m qmtls.workermain ORDER`, started by the supervisor only.

ORDER is JSON: where the parts are, and which inherited descriptors are listening sockets. Standard input is a pipe
that the supervisor holds: when it closes, the worker ends. Lines for the log go to standard output.
"""

from __future__ import annotations

import json
import os
import sys
from typing import IO, Any, cast

from qmtls.net.reactor import install as install_reactor

install_reactor()

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.stdio import StandardIO
from twisted.logger import globalLogBeginner, textFileLogObserver

from qmtls.net.doors import Door, Role
from qmtls.net.linelog import LineLog
from qmtls.net.mainlog import without_chatter
from qmtls.service.listening import CannotServe, adopt
from qmtls.service.places import Places, places
from qmtls.service.worker import Worker
from qmtls.spool.api import SpoolError
from qmtls.tap import install_signals, start_snapshot, tune_interpreter

reactor: Any = _reactor


class SupervisorGone(Protocol):
    """Standard input: nothing is ever said; its end is the order to stop."""

    def connectionLost(self, reason: object = None) -> None:
        if reactor.running:
            reactor.stop()


def main(order: str) -> int:
    asked = json.loads(order)
    where: Places = places(**asked["places"])
    # A descriptor of its own: StandardIO closes 1 when the supervisor is gone, and the next file opened would be 1.
    lines = LineLog(reactor, os.dup(1), f"[{asked['number']}] ")
    usual: Any = textFileLogObserver(cast("IO[str]", lines))
    usual.formatEvent = without_chatter(usual.formatEvent)
    globalLogBeginner.beginLoggingTo([usual], redirectStandardIO=False)
    try:
        worker = Worker(reactor, where, start_snapshot(where), lines.say)
        # Before the first word: by that the supervisor knows that a signal will not end us.
        install_signals(worker.live.reload, worker.relayer.make_all_due)
        for fd, family, role, proxied in asked["sockets"]:
            worker.listens(adopt(reactor, fd, family, worker.factory(Door(Role(role), proxied))))
            os.close(fd)
        worker.start()
    except (CannotServe, OSError, SpoolError) as problem:
        lines.say(f"cannot start: {problem}")
        lines.flush()
        return 1
    tune_interpreter()
    reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(worker.stop()))
    StandardIO(SupervisorGone())
    reactor.run()
    lines.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
