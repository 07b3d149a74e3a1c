"""Tables made at random: whatever `import` carries as the same is decided the same by the model and by our rules."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from qmtls.cli.foreign.demand import Demand
from qmtls.cli.foreign.postfix import import_postfix
from qmtls.cli.foreign.postfix_model import SMTP_TRANSPORTS
from qmtls.cli.foreign.proof import Peer, compare
from qmtls.cli.foreign.writing import plan, would_be

DIGEST = ":".join(["0A"] * 32)
DOMAINS = ("a.test", "sub.a.test", "x.sub.a.test", "b.test", "c.b.test")
KEYS = (*DOMAINS, ".a.test", ".test", ".sub.a.test", "[gw.test]", "[gw.test]:587", "[gw.test]:25", "A.test")
POLICIES = (
    *("none", "may", "encrypt", "verify", "secure", "dane", "dane-only", "half-dane", "strict", "MAY"),
    *(
        "none match=x",
        "may ciphers=high",
        "encrypt protocols=>=TLSv1.3",
        "encrypt protocols=!TLSv1.3",
        "encrypt match=x",
    ),
    *("verify match=hostname", "verify match=nexthop:dot-nexthop", "secure match=mx.test", "secure, match=.x.test"),
    *("secure match=a.test match=b.test", "encrypt exclude=3DES:RC4", "encrypt servername=x.test", "may enable_rpk=no"),
    *(f"fingerprint match={DIGEST}", f"fingerprint match={DIGEST.replace(':', '')}|{DIGEST}", "fingerprint"),
    *(
        "fingerprint match=00:11",
        "verify tafile=none.pem",
        "encrypt connection_reuse=no",
        "encrypt {protocols = TLSv1.2}",
    ),
)
ROUTES = ("smtp:[gw.test]", "relay:[gw.test]:587", "smtp:[gw.test]:submission", "smtp:", ":", "[gw.test]", "local:")
MAINS = (
    "",
    "smtp_tls_security_level = may\n",
    "smtp_tls_security_level = dane\nsmtp_dns_support_level = dnssec\n",
    "smtp_tls_security_level = encrypt\nsmtp_tls_mandatory_protocols = >=TLSv1.3\n",
    "smtp_tls_security_level = verify\nsmtp_tls_verify_cert_match = nexthop\n",
    f"smtp_tls_security_level = fingerprint\nsmtp_tls_fingerprint_cert_match = {DIGEST}\n",
    "smtp_tls_security_level = may\nrelayhost = [gw.test]\n",
)
SYSTEM = "smtp_tls_CAfile = /etc/ssl/certs/ca-certificates.crt\ncompatibility_level = 3.6\nmyhostname = mx.test\n"
lines = st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(POLICIES)), max_size=8)
routes = st.lists(st.tuples(st.sampled_from((*DOMAINS, ".a.test", "*")), st.sampled_from(ROUTES)), max_size=3)


@settings(max_examples=150, deadline=None)
@given(lines, routes, st.sampled_from(MAINS))
def test_what_is_the_same_is_the_same(
    table: list[tuple[str, str]], transport: list[tuple[str, str]], main: str
) -> None:
    with TemporaryDirectory() as scratch:
        directory = Path(scratch)
        texts = {
            "main.cf": SYSTEM
            + main
            + "smtp_tls_policy_maps = hash:/p/tls_policy\ntransport_maps = hash:/p/transport\n",
            "tls_policy": "".join(f"{key} {policy}\n" for key, policy in table),
            "transport": "".join(f"{key} {route}\n" for key, route in transport),
        }
        for file, text in texts.items():
            (directory / file).write_text(text)
        control = directory / "control"
        report, postfix = import_postfix([directory / "main.cf"], control)
        wanted = plan(control, report.written, report.copies, "test")
        assert not wanted.conflicts
        compiled = would_be(control, wanted.files)
        compared = list(
            compare(
                postfix.decide,
                compiled,
                [Peer(name, "mx.test") for name in DOMAINS if postfix.route(name)[0] in SMTP_TRANSPORTS],
            )
        )
        assert all(row.before or row.after or row.problem for row in report.rows)
        if not report.has_findings:
            assert all(one.equal for one in compared), compared
        for one in compared:
            assert one.equal or at_least(one.ours, one.theirs), one


def at_least(ours: Demand, theirs: Demand) -> bool:
    """What could not be carried must not let anything through that Postfix would have stopped."""
    order = ("none", "may", "dane", "encrypt")
    if ours.waits or (theirs.level == "none" and not theirs.waits):
        return True
    if theirs.waits:
        return ours.level == "dane-only" and "DNSSEC" in theirs.waits  # which is what our own look-ups are for
    if theirs.level not in order:
        return False
    return ours.level not in order or order.index(ours.level) >= order.index(theirs.level)
