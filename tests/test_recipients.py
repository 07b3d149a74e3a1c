"""Who a local recipient is, whatever the control directory looked like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.recipients import Alias, Recipients, VirtualDomains
from qmtls.smtp.address import Address
from qmtls.tls.policy import Origin

HERE = Origin("control/aliases", 1)
BOXES = {"joe", "ann", "shop", "shop-sales", "both", "postmaster"}


def address(text: str) -> Address:
    user, _, domain = text.rpartition("@")
    return Address(user, domain) if user else Address(domain, "")


def aliases(text: dict[str, str]) -> dict[str, Alias]:
    return {
        name: Alias(
            name, tuple(address(word if "@" in word else f"{word}@here.example") for word in words.split()), HERE
        )
        for name, words in text.items()
    }


OURS = Recipients(
    locals=frozenset({"here.example", "local.example"}),
    aliases=aliases(
        {
            "info": "joe ann@else.example",
            "info@local.example": "ann",
            "team": "joe info ann joe",
            "both": "both x@else.example",
            "gone": "nobody nothing",
            "half": "nobody joe",
            "abroad": "x@else.example",
            "round": "about",
            "about": "round",
            "deals@virtual.example": "joe",
            "shop-forward": "f@else.example",
            "to-virtual": "sales@virtual.example any@virtual.example",
            "all": "ann all@local.example",
            "kept": "joe+kept",
            "own+x": "x@else.example",
        }
    ),
    virtual=VirtualDomains(
        {
            "virtual.example": "shop",
            "joe@virtual.example": "",
            ".below.example": "shop",
            "empty.example": "nobody",
            "ann@user.example": "ann",
            "forward.example": "abroad",
        }
    ),
    postmaster_host="here.example",
    percent_hosts=frozenset({"here.example"}),
)


def is_mailbox(path: Address) -> bool:
    return path.local_part in BOXES


def resolved(to: str, ours: Recipients = OURS, boxes: set[str] | None = None) -> str | None:
    known = BOXES if boxes is None else boxes
    found = ours.resolve(address(to), lambda path: path.local_part in known)
    return None if found is None else " ".join(map(str, found))


@pytest.mark.parametrize(
    ("to", "stored"),
    [
        ("joe@here.example", "joe@here.example"),
        ("Joe@LOCAL.example.", "Joe@LOCAL.example."),  # as it is
        ("nobody@here.example", None),
        ("x@else.example", "x@else.example"),
        # aliases
        ("info@here.example", "joe@here.example ann@else.example"),
        ("INFO@Here.Example", "joe@here.example ann@else.example"),
        ("info@local.example", "ann@here.example"),
        ("info@else.example", "info@else.example"),
        ("team@here.example", "joe@here.example ann@here.example ann@else.example"),
        ("both@here.example", "both@here.example x@else.example"),
        ("all@here.example", "ann@here.example"),  # there is no mailbox "all" to keep a copy in
        ("gone@here.example", None),
        ("half@here.example", "joe@here.example"),
        ("abroad@local.example", "x@else.example"),
        ("round@here.example", None),
        # virtual domains
        ("sales@virtual.example", "sales@virtual.example"),
        ("any@VIRTUAL.example", "any@VIRTUAL.example"),
        ('"a b"@virtual.example', '"a b"@virtual.example'),
        ("deals@virtual.example", "joe@here.example"),
        ("forward@virtual.example", "f@else.example"),
        ("joe@virtual.example", "joe@virtual.example"),  # an exception: remote
        ("x@a.b.below.example", "x@a.b.below.example"),
        ("any@empty.example", None),
        ("ann@user.example", "ann@user.example"),
        ("joe@user.example", "joe@user.example"),  # remote
        ("any@forward.example", "x@else.example"),
        ("to-virtual@here.example", "sales@virtual.example any@virtual.example"),
        # extensions
        ("joe+list@here.example", "joe+list@here.example"),
        ("Joe+A+b@here.example", "Joe+A+b@here.example"),
        ("nobody+list@here.example", None),
        ("+joe@here.example", None),
        ('"joe+a b"@here.example', None),
        ("info+x@here.example", "joe@here.example ann@else.example"),
        ("info+x@local.example", "ann@here.example"),
        ("any+x@virtual.example", "any+x@virtual.example"),
        ("deals+x@virtual.example", "joe@here.example"),
        ("forward+x@virtual.example", "f@else.example"),
        ("joe+x@else.example", "joe+x@else.example"),
        ("joe+x@virtual.example", "joe+x@virtual.example"),  # remote, as joe is
        ("ann+x@user.example", "ann+x@user.example"),
        ("kept@here.example", "joe+kept@here.example"),
        ("own+x@here.example", "x@else.example"),
        ("\u212aept@here.example", None),  # the Kelvin sign is no k
        # postmaster
        ("postmaster", "postmaster"),
        ("postmaster@here.example", "postmaster@here.example"),
        ("PostMaster@virtual.example", "PostMaster@virtual.example"),  # the catch-all takes him
        ("postmaster@empty.example", "postmaster@here.example"),
    ],
)
def test_what_is_stored(to: str, stored: str | None) -> None:
    assert resolved(to) == stored


def test_the_user_s_own_mailbox_goes_before_the_catch_all() -> None:
    assert OURS.names(address("Sales@virtual.example")) == ("shop-sales", "shop")
    assert OURS.names(address("x@else.example")) == ()
    assert resolved("any@virtual.example", boxes={"shop-sales"}) is None
    assert resolved("sales@virtual.example", boxes={"shop-sales"}) == "sales@virtual.example"


def test_an_exact_name_goes_before_one_without_its_extension() -> None:
    assert OURS.names(address("Joe+List@here.example")) == ("joe+list", "joe")
    assert OURS.names(address("a+b@virtual.example")) == ("shop-a+b", "shop-a", "shop")
    assert resolved("info+x@here.example", boxes={"info+x"}) == "info+x@here.example"
    assert str(OURS.local_form(address("Joe+x@here.example"))) == "Joe+x@here.example"
    assert str(OURS.local_form(address("a+b@virtual.example"))) == "shop-a+b@virtual.example"
    alias = OURS.alias_for(address("info+x@local.example"))
    assert alias is not None and alias.name == "info@local.example"


def test_an_alias_may_keep_its_copy_under_an_extension() -> None:
    ours = Recipients(OURS.locals, aliases({"joe": "joe+kept x@else.example"}), postmaster_host="here.example")
    assert resolved("joe@here.example", ours) == "joe+kept@here.example x@else.example"


def test_locals_go_before_virtual_domains() -> None:
    ours = Recipients(frozenset({"a.example"}), virtual=VirtualDomains({"a.example": "shop", "": "rest"}))
    assert ours.names(address("joe@a.example")) == ("joe",)
    assert ours.names(address("joe@b.example")) == ("rest-joe", "rest")


def test_the_most_exact_line_of_virtualdomains_counts() -> None:
    lines = {"u@x.a.example": "1", "x.a.example": "2", ".a.example": "3", ".example": "4", "": "5", "y.a.example": ""}
    ours = VirtualDomains(lines)
    found = [ours.prepend("u", host) for host in ("x.a.example", "z.a.example", "b.example", "test", "y.a.example")]
    assert found == ["1", "3", "4", "5", ""]
    assert ours.prepend("v", "x.a.example") == "2"
    assert ours.prepend("u+x", "x.a.example") == "1"


@pytest.mark.parametrize("name", ["postmaster", "postmaster@here.example", "Postmaster@empty.example"])
def test_postmaster_is_never_refused(name: str) -> None:
    nobody = resolved(name, boxes=set())
    assert nobody is not None and nobody.lower().startswith("postmaster")
    line = aliases({"postmaster": "joe"})
    served = Recipients(OURS.locals, line, OURS.virtual, "here.example")
    assert resolved(name, served) == "joe@here.example"
    assert resolved(name, served, boxes={"postmaster"}) == nobody  # joe is gone; his own mailbox takes it


def test_postmaster_of_a_host_without_local_domains() -> None:
    ours = Recipients(virtual=VirtualDomains({"v.example": "v"}))
    assert resolved("postmaster", ours) == "postmaster"
    assert resolved("postmaster@v.example", ours) == "postmaster"
    assert resolved("postmaster@else.example", ours) == "postmaster@else.example"


def test_the_address_that_qmail_writes_into_delivered_to() -> None:
    forms = {"sales@Virtual.example": "shop-sales@Virtual.example", "Joe@here.example": "Joe@here.example"}
    assert {text: str(OURS.local_form(address(text))) for text in forms} == forms


@pytest.mark.parametrize(
    ("to", "meant"),
    [
        ("ann%else.example@here.example", "ann@else.example"),
        ("a%b%c.example@HERE.example", "a%b@c.example"),
        ("a%b.example%here.example@here.example", "a@b.example"),
        ("ann%else.example@local.example", "ann%else.example@local.example"),  # not listed
        ("%else.example@here.example", "%else.example@here.example"),
        ("ann%@here.example", "ann%@here.example"),
        ("a.%else.example@here.example", "a.%else.example@here.example"),  # or an address that is none would come out
        ('"a b%else.example%c"@here.example', '"a b%else.example%c"@here.example'),
        ('"a%b c"@here.example', '"a%b c"@here.example'),
        ("joe@here.example", "joe@here.example"),
    ],
)
def test_percenthack(to: str, meant: str) -> None:
    assert str(OURS.rewritten(address(to))) == meant


def test_mail_of_this_host_is_never_refused() -> None:
    for to, stored in (
        ("info@here.example", "joe@here.example ann@else.example"),
        ("nobody@here.example", "nobody@here.example"),
        ("info%local.example@here.example", "ann@here.example"),
    ):
        assert " ".join(map(str, OURS.expand(address(to), is_mailbox))) == stored


def test_trouble_with_the_disk_is_the_caller_s() -> None:
    def broken(_: Address) -> bool:
        raise OSError

    with pytest.raises(OSError):
        OURS.resolve(address("joe@here.example"), broken)


USERS = st.sampled_from(["a", "b", "c", "v", "v-a", "postmaster"])
HOSTS = st.sampled_from(["here.example", "v.example", "else.example", ""])
PATHS = st.builds(Address, USERS, HOSTS)
LINES = st.dictionaries(USERS | st.builds("{}@{}".format, USERS, HOSTS), st.lists(PATHS, max_size=4), max_size=6)


@given(PATHS, LINES, st.sets(USERS))
def test_whatever_the_aliases_only_what_can_be_delivered_comes_out(
    to: Address, lines: dict[str, list[Address]], boxes: set[str]
) -> None:
    ours = Recipients(
        frozenset({"here.example"}),
        {name: Alias(name, tuple(targets), HERE) for name, targets in lines.items()},
        VirtualDomains({"v.example": "v"}),
        "here.example",
    )
    found = ours.resolve(to, lambda path: path.local_part in boxes)
    if found is None:
        assert to.local_part != "postmaster" and ours.names(to)
        return
    assert found and len(set(found)) == len(found)
    for path in found:
        names = ours.names(path)
        assert not names or path.local_part == "postmaster" or any(name in boxes for name in names)
