"""The files about our own recipients together, in the compiled directory and by themselves."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from qmtls.control.recipients import load_recipients
from qmtls.control.settings import ControlError
from qmtls.recipients import Recipients
from qmtls.smtp.address import Address
from tests.control.directory import compiled, problems, warnings, write

FILES: dict[str, str | bytes] = {
    "me": "mail.example.org\n",
    "locals": "a.example\nb.example\n",
    "virtualdomains": "v.example:v\n",
    "aliases": "info: joe, x@else.example\n",
    "percenthack": "# text\nA.example\n",
    "envnoathost": "B.example.\n",
}


def test_every_file_has_its_say(tmp_path: Path) -> None:
    settings = compiled(tmp_path, FILES)
    ours = settings.recipients
    assert ours.locals == settings.access.locals == settings.routing.locals == {"a.example", "b.example"}
    assert ours.postmaster_host == settings.access.postmaster_host == "b.example"
    assert ours.percent_hosts == {"a.example"}
    assert settings.routing.virtual is ours.virtual
    assert ours.resolve(Address("info", "a.example"), lambda path: path.local_part == "joe") == (
        *(Address("joe", "b.example"), Address("x", "else.example")),
    )
    assert not settings.warnings


def test_the_same_by_themselves(tmp_path: Path) -> None:
    write(tmp_path, {**FILES, "databytes": "being edited"})
    ours = load_recipients(tmp_path, "mail.example.org")
    assert (sorted(ours.locals), ours.postmaster_host, [*ours.aliases]) == (
        ["a.example", "b.example"],
        "b.example",
        ["info"],
    )
    write(tmp_path, {"aliases": "info\n"})
    with pytest.raises(ControlError, match="has no colon"):
        load_recipients(tmp_path, "mail.example.org")


def test_nothing_but_a_name(tmp_path: Path) -> None:
    ours = compiled(tmp_path, {"me": "mail.example.org\n"}).recipients
    assert ours == load_recipients(tmp_path, "mail.example.org")
    assert ours == Recipients(frozenset({"mail.example.org"}), postmaster_host="mail.example.org")


def test_names_without_a_domain(tmp_path: Path) -> None:
    assert compiled(tmp_path, {**FILES, "envnoathost": "else.example\n"}).recipients.postmaster_host == "a.example"
    assert "else.example is not in locals" in warnings(tmp_path, {**FILES, "envnoathost": "else.example\n"})[0]
    assert "is no host name" in problems(tmp_path, {**FILES, "envnoathost": "a b\n"})[0]
    assert "is no host name" in problems(tmp_path, {**FILES, "percenthack": "a b\n"})[0]


def test_ten_thousand_of_each(tmp_path: Path) -> None:
    """Loaded in well below a second; bounds that only a slow design meets, also on a busy machine."""
    count = 10_000
    write(
        tmp_path,
        {
            "me": "a.example\n",
            "aliases": "".join(f"name{n}: user{n}, n{n}@else.example\n" for n in range(count)),
            "virtualdomains": "".join(f"d{n}.example:v{n}\n" for n in range(count)),
        },
    )
    began = time.process_time()
    ours = load_recipients(tmp_path, "a.example")
    loaded = time.process_time() - began
    assert (len(ours.aliases), len(ours.virtual.prepends)) == (count, count)
    aliased, virtual = Address("name77", "a.example"), Address("someone", "d77.example")
    began = time.process_time()
    for _ in range(1000):
        ours.resolve(aliased, lambda path: True)
        ours.resolve(virtual, lambda path: True)
    each = (time.process_time() - began) / 2000
    assert loaded < 2 and each < 100e-6, (loaded, each)
