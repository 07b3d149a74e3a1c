"""The floors of docs/ARCHITECTURE.md as a test: who may import whom.

Every module is on a floor; a module imports from lower floors and from its own part only. Below `net/` nothing
touches Twisted, OpenSSL, sockets, threads, clocks or chance. Imports are read from the source; nothing is run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Modules by floor, lowest first. A package stands for all that is in it, unless a module is named by itself.
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"qmtls.lookup", "qmtls.networks", "qmtls.wording"}),
    frozenset(
        f"qmtls.{name}"
        for name in ("smtp.reply", "smtp.address", "smtp.envelope", "smtp.errors", "tls.facts", "tls.pin")
    ),
    frozenset({"qmtls.smtp", "qmtls.tls"}),
    frozenset({"qmtls.smtp.server", "qmtls.smtp.client", "qmtls.smtp.client_lmtp"}),
    frozenset({"qmtls.access", "qmtls.limits", "qmtls.recipients", "qmtls.spool", "qmtls.ledger"}),
    frozenset({"qmtls.delivery"}),
    frozenset({"qmtls.control"}),
    frozenset({"qmtls.net"}),
    frozenset({"qmtls.service", "qmtls.web"}),
    frozenset({"qmtls.tap", "qmtls.cli"}),
    frozenset({"qmtls.workermain"}),
)
NET = next(floor for floor, names in enumerate(FLOORS) if "qmtls.net" in names)
IMPURE = frozenset(
    {"twisted", "OpenSSL", "ssl", "socket", "select", "selectors", "asyncio", "threading", "_thread"}
) | {
    *("concurrent", "multiprocessing", "subprocess", "signal", "time", "sched", "random", "secrets", "uuid"),
}
CLOCK_CALLS = frozenset({"now", "utcnow", "today"})  # of datetime and date
LONGEST = 50  # lines of a function; the aim is 40
FREE = frozenset({"qmtls"})  # the package itself: a version and nothing more


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted((ROOT / "qmtls").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def place(module: str) -> tuple[int, str]:
    """The floor of a module and the name that puts it there; KeyError if nothing does."""
    name = module
    while name:
        for floor, names in enumerate(FLOORS):
            if name in names:
                return floor, name
        name = name.rpartition(".")[0]
    raise KeyError(module)


def part(module: str) -> str:
    """ "qmtls.smtp" for "qmtls.smtp.lines": modules of one part on one floor may use each other."""
    return ".".join(module.split(".")[:2])


def imports(tree: ast.Module, module: str, is_package: bool) -> Iterator[tuple[str, int]]:
    """Every imported module with its line; a name imported from a package counts as that module if it is one."""
    known = modules()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")
                keep = len(above) - node.level + (1 if is_package else 0)
                base = ".".join(above[:keep] + ([base] if base else []))
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield (inner if inner in known else base), node.lineno


def breaches(module: str, source: str, is_package: bool = False) -> list[str]:
    floor, _ = place(module)
    tree = ast.parse(source)
    found = []
    for name, line in imports(tree, module, is_package):
        top = name.partition(".")[0]
        if floor < NET and top in IMPURE:
            found.append(f"{module}:{line} imports {name}: only net/ and above may")
        if top != "qmtls" or name in FREE:
            continue
        if {part(name), part(module)} == {"qmtls.smtp", "qmtls.tls"}:
            found.append(f"{module}:{line} imports {name}: smtp/ and tls/ do not know each other")
        elif place(name)[0] > floor or (place(name)[0] == floor and part(name) != part(module)):
            found.append(f"{module}:{line} imports {name}: not a lower floor")
    if floor < NET:
        found += [f"{module}:{line} reads the clock: time is an argument below net/" for line in clock_calls(tree)]
    return found


def clock_calls(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CLOCK_CALLS:
            owner = node.func.value
            name = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
            if name in ("datetime", "date"):
                yield node.lineno


@pytest.mark.parametrize("module", [name for name in modules() if name not in FREE])
def test_imports_go_down_only(module: str) -> None:
    path = modules()[module]
    try:
        place(module)
    except KeyError:
        pytest.fail(f"{module} is on no floor: name it in docs/ARCHITECTURE.md and here")
    found = breaches(module, path.read_text(), is_package=path.name == "__init__.py")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("module", [name for name in modules() if name not in FREE])
def test_modules_and_functions_stay_readable(module: str) -> None:
    """Hard ends of the aims: 400 lines, and no function that nobody can hold in mind."""
    path = modules()[module]
    source = path.read_text()
    assert source.count("\n") <= 400, f"{path} has more than 400 lines"
    long = [
        f"{path}:{node.lineno} {node.name}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno >= LONGEST
    ]
    assert not long, f"longer than {LONGEST} lines: " + ", ".join(long)


@pytest.mark.parametrize(
    ("module", "source", "said"),
    [
        ("qmtls.smtp.lines", "from qmtls.tls import policy", "do not know each other"),
        ("qmtls.tls.policy", "import qmtls.smtp.reply", "do not know each other"),
        ("qmtls.smtp.lines", "from qmtls.smtp.server import ServerSession", "not a lower floor"),
        ("qmtls.smtp.reply", "from . import events", "not a lower floor"),
        ("qmtls.access", "from qmtls.spool.api import Spool", "not a lower floor"),
        ("qmtls.spool.api", "from qmtls.control import settings", "not a lower floor"),
        ("qmtls.delivery.plan", "def f():\n    import time", "only net/"),
        ("qmtls.control.settings", "from twisted.internet import defer", "only net/"),
        ("qmtls.spool.api", "import datetime\ndatetime.datetime.now()", "reads the clock"),
        ("qmtls.net.ids", "from qmtls.service import relayer", "not a lower floor"),
    ],
)
def test_a_breach_is_seen(module: str, source: str, said: str) -> None:
    assert any(said in line for line in breaches(module, source))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("qmtls.smtp.server", "from qmtls.smtp.lines import x\nfrom .reply import Reply"),
        ("qmtls.net.ids", "import time, random\nfrom twisted.internet import defer"),
        ("qmtls.cli.main", "from qmtls import __version__"),
        ("qmtls.control.settings", "from datetime import datetime\ndatetime.fromtimestamp(0)"),
    ],
)
def test_what_is_allowed_is_allowed(module: str, source: str) -> None:
    assert breaches(module, source) == []


def test_a_module_on_no_floor_is_seen() -> None:
    with pytest.raises(KeyError):
        place("qmtls.elsewhere.thing")


GLOBAL_REACTOR = frozenset({"qmtls.tap", "qmtls.workermain"})


def takes_the_global_reactor(source: str) -> bool:
    """It is an argument everywhere else, or nothing could be tested without one that runs."""
    for node in ast.walk(ast.parse(source)):
        names: set[str] = set()
        if isinstance(node, ast.Import):
            names = {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
        if "twisted.internet.reactor" in names:
            return True
    return False


@pytest.mark.parametrize("module", sorted(set(modules()) - GLOBAL_REACTOR))
def test_the_global_reactor_is_taken_at_the_top_only(module: str) -> None:
    assert not takes_the_global_reactor(modules()[module].read_text()), f"{module} takes the global reactor"


def test_taking_the_global_reactor_is_seen() -> None:
    assert takes_the_global_reactor("from twisted.internet import defer, reactor as r")
    assert takes_the_global_reactor("def f():\n    import twisted.internet.reactor")
    assert takes_the_global_reactor("from twisted.internet.reactor import callLater")
    assert not takes_the_global_reactor("from twisted.internet.epollreactor import EPollReactor")
