from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.control.compile import compile_control
from qmtls.control.describe import describe
from qmtls.control.settings import ControlError
from qmtls.tls.policy import Level
from tests.control.directory import compiled, problems, warnings, write
from tests.tls.pki import NOW, certificate, crl, host, key_pem, pem

LEAF, CA = host("mx.example.org"), certificate("ca", ca=True)
BUNDLE = key_pem("host") + pem(LEAF)
SAMPLE = Path(__file__).parents[2] / "etc" / "control"


def test_a_name_is_enough(tmp_path: Path) -> None:
    settings = compiled(tmp_path, {"me": "Mail.Example.org.\n"})
    assert settings.me == settings.greeting == settings.helo_host == "mail.example.org"
    assert settings.bounce_host == settings.double_bounce_host == "mail.example.org"
    assert (settings.bounce_from, settings.double_bounce_to) == ("MAILER-DAEMON", "postmaster")
    assert (settings.data_bytes, settings.queue_lifetime) == (0, 604800.0)
    assert (settings.policy_lifetime, settings.delay_warn, settings.bounce_style) == (604800.0, 14400.0, "dsn")
    assert settings.policy_retest == 300.0
    assert (settings.timeout_smtpd, settings.timeout_remote, settings.timeout_connect) == (1200.0, 1200.0, 60.0)
    assert (settings.concurrency_remote, settings.concurrency_local) == (20, 10)
    assert settings.client_trust is None
    assert settings.server_credential is None and settings.client_credential is None
    assert (settings.server_ciphers, settings.client_ciphers) == ("DEFAULT:!kRSA", "DEFAULT")
    assert settings.tls.default.level is Level.DANE
    assert not settings.dns_servers and not settings.listeners and not settings.warnings


def test_every_file_has_its_say(tmp_path: Path) -> None:
    settings = compiled(
        tmp_path,
        {
            "smtpgreeting": "mail.example.org Hello",
            "helohost": "[192.0.2.1]",
            "databytes": "1000000\n# text\n",
            "timeoutsmtpd": "60",
            "timeoutremote": "61",
            "timeoutconnect": "62",
            "queuelifetime": "0",
            "policylifetime": "1209600",
            "policyretest": "60",
            "delaywarn": "0",
            "bouncestyle": "QSBMF",
            "concurrencyremote": "0",
            "concurrencylocal": "1",
            "bouncefrom": "bounce",
            "bouncehost": "B.example",
            "doublebounceto": "twice",
            "doublebouncehost": "d.example",
            "dnsserver": "192.0.2.53\n[::1]:5353\n",
            "listen": "smtp tcp:25\nsmtps  tcp6:465\n",
            "smtproutes": ":relay.example\n",
            "tlsdefault": "encrypt",
            "tlsserverciphers": "HIGH\n!aNULL\n",
            "tlsclientciphers": "",
            "clientca.pem": pem(CA),
            "clientcrl.pem": pem(crl("ca", NOW)),
            "servercert.pem": BUNDLE,
            "clientcert.pem": BUNDLE,
            "mx.example.pem": pem(LEAF),
            "tlspolicy": "a.example secure\n",
            "notlshosts/b.example": "",
            "tlshosts/exhaustivelist": "",
        },
    )
    assert (settings.greeting, settings.helo_host) == ("mail.example.org Hello", "[192.0.2.1]")
    assert (settings.data_bytes, settings.queue_lifetime) == (1000000, 0.0)
    assert (settings.policy_lifetime, settings.delay_warn, settings.bounce_style) == (1209600.0, 0.0, "qsbmf")
    assert settings.policy_retest == 60.0
    assert (settings.timeout_smtpd, settings.timeout_remote, settings.timeout_connect) == (60.0, 61.0, 62.0)
    assert (settings.concurrency_remote, settings.concurrency_local) == (0, 1)
    assert (settings.bounce_from, settings.bounce_host) == ("bounce", "b.example")
    assert (settings.double_bounce_to, settings.double_bounce_host) == ("twice", "d.example")
    assert settings.dns_servers == (("192.0.2.53", 53), ("::1", 5353))
    assert [(one.role, one.endpoint) for one in settings.listeners] == [("smtp", "tcp:25"), ("smtps", "tcp6:465")]
    assert settings.routing.routes[""].relay == "relay.example"
    assert settings.routing.locals == settings.access.locals
    assert (settings.server_ciphers, settings.client_ciphers) == ("HIGH:!aNULL", "DEFAULT")
    assert settings.client_trust is not None and settings.client_trust.authorities == (CA,)
    assert settings.client_trust.crls is not None
    assert settings.server_credential is not None and settings.server_credential.chain == (LEAF,)
    assert settings.client_credential is not None
    assert settings.tls.default.level is Level.ENCRYPT
    assert (set(settings.tls.pins), set(settings.tls.lines)) == ({"mx.example"}, {"a.example"})
    assert settings.tls.exhaustive is not None and set(settings.tls.no_tls) == {"b.example"}


def test_no_directory() -> None:
    with pytest.raises(ControlError, match="is no directory"):
        compile_control(Path("/nonexistent/control"))


def test_a_missing_name_says_how_to_mend_it(tmp_path: Path) -> None:
    with pytest.raises(ControlError) as caught:
        compile_control(tmp_path)
    assert str(caught.value) == "control/me: does not exist; write this host's full name into it, in one line"
    assert problems(tmp_path, {"me": "a b"})[0].startswith("control/me:1: 'a b' is no host name")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        *((name, "ten", "is no whole number") for name in ("databytes", "timeoutsmtpd", "concurrencylocal")),
        *((name, "0", "0 is out of range") for name in ("timeoutsmtpd", "timeoutremote", "timeoutconnect")),
        *((name, "", "the first line is empty") for name in ("queuelifetime", "helohost", "doublebounceto")),
        ("databytes", "-1", "is no whole number"),
        ("policylifetime", "-1", "is no whole number"),
        ("policyretest", "5m", "is no whole number"),
        ("delaywarn", "4h", "is no whole number"),
        ("bouncestyle", "mime", "is no form of failure reports"),
        ("databytes", "10M", "is no whole number"),
        ("concurrencyremote", "20 # connections", "is no whole number"),
        ("timeoutconnect", "9999999", "out of range"),
        ("helohost", "a b", "is no host name"),
        ("smtpgreeting", "grüezi", "cannot be sent as greeting"),
        ("bouncefrom", "a@b", "cannot stand before the @"),
        ("bouncehost", "user@host", "is no host name"),
        ("dnsserver", "dns.example", "is no IP address"),
        ("dnsserver", "192.0.2.1:x", "is no whole number"),
        ("listen", "smtp", "is no role with an endpoint"),
        ("listen", "pop3 tcp:110", "is no role with an endpoint"),
        ("tlsserverciphers", "$(x)", "is no OpenSSL cipher list"),
        ("tlspolicy", "a.example wat", "is no level"),
        ("tlsdefault", "half-dane", "not one to write"),
        ("tlsclients", "alice", "is no e-mail address"),
        ("smtproutes", "a", "has no colon"),
        ("servercert.pem", "", "no private key"),
        ("clientcert.pem", pem(LEAF), "no private key"),
        ("clientca.pem", "", "no certificate"),
        ("clientcrl.pem", "", "no complete revocation list"),
        ("clientcrl.pem", pem(crl("ca", NOW)), "of no use without clientca.pem"),
        ("tlssenders", "a.example", "is not a domain with what it demands"),
        ("clientcerts/a.example.pem", "", "no private key"),
        ("clientcerts/a.example", "none", "is no name of a next hop"),
        ("tlshosts", "file", "cannot be listed"),
        ("tlspolicy/x", "", "is a directory"),
    ],
)
def test_each_file_is_refused_with_a_sentence(tmp_path: Path, name: str, content: str | bytes, words: str) -> None:
    (problem,) = problems(tmp_path, {name: content})
    assert words in problem
    assert problem.startswith("control/" + name.partition("/")[0])


def test_one_run_shows_every_problem(tmp_path: Path) -> None:
    found = problems(tmp_path, {"me": "", "databytes": "x", "tlspolicy": "a b\nc d\n", "servercert.pem": "x"})
    assert [problem.split(": ")[0] for problem in found] == [
        *("control/me:1", "control/databytes:1", "control/tlspolicy:1", "control/tlspolicy:2"),
        "control/servercert.pem",
    ]


def test_a_key_that_others_can_read_is_refused_with_the_command_that_mends_it(tmp_path: Path) -> None:
    write(tmp_path, {"servercert.pem": BUNDLE})
    (tmp_path / "servercert.pem").chmod(0o644)
    (tmp_path / "clientcert.pem").symlink_to("servercert.pem")
    with pytest.raises(ControlError) as caught:
        compile_control(tmp_path)
    mends = [problem.mend for problem in caught.value.problems]
    assert mends == [f"chmod 0640 {tmp_path}/servercert.pem", f"chmod 0640 {tmp_path}/clientcert.pem"]
    (tmp_path / "clientcert.pem").chmod(0o640)
    assert compile_control(tmp_path).client_credential is not None


def test_e_mail_rules_without_a_ca_are_told(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"tlsclients": "alice@example.org\nsha256:" + "ab" * 32 + "\n"}
    assert [line.split(": ")[0] for line in warnings(tmp_path, files)] == ["control/tlsclients:1"]
    assert warnings(tmp_path, {**files, "clientca.pem": pem(CA)}) == []


def test_a_bad_pin_file_stops_its_own_mail_only(tmp_path: Path) -> None:
    settings = compiled(tmp_path, {"mx.example.pem": "garbage"})
    assert settings.tls.pins["mx.example"].problem


def test_the_sample_directory_compiles_as_it_is(tmp_path: Path) -> None:
    control = tmp_path / "control"
    shutil.copytree(SAMPLE, control)
    settings = compile_control(control)
    assert settings.me == "mail.example.org"
    assert settings.warnings == ()
    assert settings.tls.lines == {} and settings.access.clients.rules == () and settings.access.networks == ()


FILES = [
    *("me", "smtpgreeting", "helohost", "localiphost", "locals", "rcpthosts", "morercpthosts", "badmailfrom"),
    *("databytes", "timeoutsmtpd", "smtproutes", "relaynetworks", "tlsclients", "servercert.pem", "clientcert.pem"),
    *("clientca.pem", "clientcrl.pem", "mx.example.pem", "tlshosts/mx.example.pem", "notlshosts/a", "dnsserver"),
    *("tlsserverciphers", "listen", "tlspolicy", "tlsdefault", "bouncefrom", "virtualdomains"),
    *("aliases", "percenthack", "envnoathost", "authroutes", "bouncestyle", "delaywarn", "policylifetime"),
    "policyretest",
]
WORDS = st.sampled_from(
    [
        *("a.example", ".b", "[c]:25", " ", "\t", "\n", "\r\n", ":", "::", "=", "|", "#", '"', "may", "secure", "pin"),
        *(
            "match=",
            "sha256:",
            "spki:",
            "ab" * 32,
            "until=",
            "2027-01-01",
            "tafile=",
            "me",
            "protocols=",
            "192.0.2.0/24",
        ),
        *("lmtp:", "smtps:", "unix:", "qsbmf"),
        *("@", "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----", "0", "9" * 20, "ü", "%", "/", "..", "$"),
    ]
)
CONTENT = st.one_of(
    st.binary(max_size=300),
    st.lists(WORDS, max_size=20).map(lambda words: "".join(words).encode()),
    st.sampled_from([BUNDLE, pem(CA), pem(LEAF), pem(crl("ca", NOW)), key_pem("host"), BUNDLE[:300]]),
)


@given(st.dictionaries(st.sampled_from(FILES), CONTENT, max_size=8))
def test_whatever_the_files_hold_only_control_errors_come_out(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        control = Path(directory)
        try:
            settings = compiled(control, dict(files))
        except ControlError as error:
            assert error.problems and all(str(problem).isprintable() for problem in error.problems)
            assert len(describe(error, NOW.timestamp())) == len(error.problems)
        else:
            assert all(str(finding).isprintable() for finding in describe(settings, NOW.timestamp()))
