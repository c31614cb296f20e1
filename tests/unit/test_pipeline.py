# Copyright: Lifeboat contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Chains of real processes: every way in which one of them, the source, the sink or the clock can fail."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.lifeboat.dr.plugins.module_utils.base import pipeline
from ansible_collections.lifeboat.dr.plugins.module_utils.base.errors import LifeboatError
from ansible_collections.lifeboat.dr.plugins.module_utils.base.pipeline import Command, Finished, HashingWriter

LONG = 60  # nothing here lasts that long unless it is not killed


def sh(script: str, **env: str) -> Command:
    return Command(["sh", "-c", script], env or None)


def run(*scripts: str, **options: Any) -> list[Finished]:
    commands = [sh(script) if isinstance(script, str) else script for script in scripts]
    return pipeline.run(commands, attempted="try", subject="it", **{"timeout": LONG, **options})


@pytest.fixture
def mark() -> str:
    """A word in the command lines of a test's processes, by which those still alive are found."""
    return f"mark-{os.getpid()}-{time.monotonic_ns()}"


def alive(mark: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (entry / "cmdline").read_bytes() and ") Z " not in (entry / "stat").read_text():
                found.append(entry.name)
        except OSError:
            continue
    return found


def gone(mark: str) -> None:
    """All of them, once the kernel has done with what was killed."""
    for _ in range(500):
        if not alive(mark):
            return
        time.sleep(0.01)
    raise AssertionError(alive(mark))


# A chain's failures: what runs, and what the error must name (and must not).
FAILURES: list[tuple[str, list[str], str]] = [
    ("first of three", ["echo no such table >&2; exit 3", "cat", "cat"], "sh: no such table (exit 3)"),
    ("middle of three", ["exec yes", "head -c 5; echo bad block >&2; exit 4", "cat"], "sh: bad block (exit 4)"),
    ("last of three", ["exec yes", "exec cat", "echo full >&2; exit 5"], "sh: full (exit 5)"),
    ("only one", ["exit 1"], "sh ended with exit 1"),
    ("first says nothing", ["exit 9", "cat"], "sh ended with exit 9"),
    ("killed", ["kill -KILL $$", "cat"], "sh ended with signal 9"),
    ("first and last", ["echo one >&2; exit 1", "cat >/dev/null; echo two >&2; exit 2"], "one"),
    ("missing binary", [], "lifeboat-no-such-tool: No such file or directory"),
]  # fmt: skip


@pytest.mark.parametrize(("scripts", "words"), [case[1:] for case in FAILURES], ids=[case[0] for case in FAILURES])
@pytest.mark.parametrize("sink", [True, False], ids=["sink", "no sink"])
def test_any_failing_process_fails_the_chain(scripts: list[str], words: str, sink: bool) -> None:
    commands = [sh(script) for script in scripts] or [sh("sleep 600"), Command(["lifeboat-no-such-tool"])]
    with pytest.raises(LifeboatError) as error:
        pipeline.run(
            commands,
            attempted="dump",
            subject="shop",
            sink=io.BytesIO() if sink else None,
            timeout=LONG,
            remedy="Look.",
        )
    assert words in error.value.cause
    assert (error.value.attempted, error.value.subject, error.value.remedy) == ("dump", "shop", "Look.")


def test_the_same_chain_passes_when_nothing_fails() -> None:
    sink = io.BytesIO()
    finished = run("cat; echo end", "tr a-z A-Z", source=io.BytesIO(b"begin\n"), sink=sink)
    assert sink.getvalue() == b"BEGIN\nEND\n"
    assert [process.status for process in finished] == [0, 0]


@pytest.mark.parametrize(
    "position",
    [0, 1, 2],
)
def test_the_first_failure_kills_the_chain(position: int, mark: str) -> None:
    """One that neither reads nor writes would never notice by itself that another one is gone."""
    scripts = [f"sleep 600 # {mark}"] * 3
    scripts[position] = f"exit 7 # {mark}"
    with pytest.raises(LifeboatError, match="exit 7"):
        run(*(f": {mark}; {script}" for script in scripts))
    assert alive(mark) == []


def test_a_timeout_kills_the_chain_and_leaves_no_process(mark: str) -> None:
    with pytest.raises(LifeboatError, match=r"no end after 0 s.*lifeboat_timeout"):
        run(f"sleep 600 # {mark}; :", f"cat # {mark}; :", timeout=0.3)
    assert alive(mark) == []


@pytest.mark.parametrize("script", ["sleep 600", "while :; do echo x; sleep 0.05; done", "exec >/dev/null; sleep 600"])
@pytest.mark.parametrize("sink", [None, io.BytesIO()], ids=["unread", "read"])
def test_another_thread_ends_a_chain(mark: str, script: str, sink: Any) -> None:
    unwanted = threading.Event()
    threading.Timer(0.3, unwanted.set).start()
    with pytest.raises(LifeboatError):
        run(f": {mark}; {script}", timeout=60, sink=sink, unwanted=unwanted)
    assert unwanted.is_set() and alive(mark) == []


def test_a_timeout_in_the_middle_of_output(mark: str) -> None:
    with pytest.raises(LifeboatError, match="no end after"):
        run(f"while :; do echo {mark}; sleep 0.05; done", sink=io.BytesIO(), timeout=0.4)
    assert alive(mark) == []


def test_a_program_that_never_falls_silent_has_no_more_time() -> None:
    class Slow:
        writes = 0

        def write(self, data: bytes, /) -> None:
            time.sleep(0.1)  # the pipe is full again before it is read again
            self.writes += 1
            if self.writes > 50:
                pytest.fail("it was read far beyond its time")

    with pytest.raises(LifeboatError, match="no end after"):
        run("yes", sink=Slow(), timeout=0.4)


@pytest.mark.slow
def test_what_ignores_sigterm_is_killed(mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two graces of 5 s are for real tools; here they are over at once."""
    real = subprocess.Popen.wait
    monkeypatch.setattr(
        subprocess.Popen, "wait", lambda self, timeout=None: real(self, None if timeout is None else timeout / 25)
    )
    with pytest.raises(LifeboatError, match="no end after"):
        run(f"trap '' TERM; : {mark}; while :; do sleep 0.05; done", timeout=0.3)
    assert alive(mark) == []


def test_sigpipe_is_a_consequence_never_the_culprit() -> None:
    """`yes` is killed by SIGPIPE because its reader gave up; the reader's own words are what helps."""
    with pytest.raises(LifeboatError, match=r"sh: disk is broken \(exit 2\)"):
        run("exec yes", "head -c 9 >/dev/null; exec <&-; sleep 0.3; echo disk is broken >&2; exit 2")


def test_sigpipe_alone_is_a_failure() -> None:
    """`yes | head` says all is well in a shell. A dump whose reader stopped early is not a dump."""
    with pytest.raises(LifeboatError, match="yes ended with signal 13"):
        pipeline.run([Command(["yes"]), Command(["head", "-c", "9"])], attempted="try", subject="it", timeout=LONG)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_failing_sink_stops_the_chain_and_tells_its_own_error(code: int, mark: str) -> None:
    class Full(io.RawIOBase):
        def write(self, data: Any, /) -> int:
            raise OSError(code, os.strerror(code), "/backup/file")

    with pytest.raises(OSError, match=os.strerror(code)) as error:
        run(f": {mark}; exec yes {mark}", f": {mark}; exec cat", sink=HashingWriter(Full()))  # type: ignore[arg-type]
    assert error.value.errno == code
    assert alive(mark) == []


def test_a_real_full_file_system() -> None:
    with pytest.raises(OSError, match="No space left") as error, Path("/dev/full").open("wb", buffering=0) as full:
        run("exec yes", sink=full)
    assert error.value.errno == errno.ENOSPC


def test_a_failing_source_fails_the_chain() -> None:
    """Half a dump fed to psql must not count as a whole one."""

    class Broken(io.RawIOBase):
        calls = 0

        def read(self, size: int = -1, /) -> bytes:
            self.calls += 1
            if self.calls > 1:
                raise EOFError("compressed file ended before the end-of-stream marker was reached")
            return b"half"

    sink = io.BytesIO()
    with pytest.raises(LifeboatError, match="reading its input: compressed file ended"):
        run("cat", source=Broken(), sink=sink)  # type: ignore[arg-type]


def test_a_process_that_ends_before_its_input_does_is_judged_by_its_status() -> None:
    run("head -c 3 >/dev/null", source=io.BytesIO(b"x" * 5_000_000))
    with pytest.raises(LifeboatError, match="enough"):
        run("head -c 3 >/dev/null; echo enough >&2; exit 1", source=io.BytesIO(b"x" * 5_000_000))


def test_an_accepted_status_is_no_failure() -> None:
    accepted: Callable[[Finished], bool] = lambda done: done.status == 0 or "warning" in done.stderr  # noqa: E731
    finished = run("echo warning >&2; exit 1", "cat", ok=accepted)
    assert [process.status for process in finished] == [1, 0]
    with pytest.raises(LifeboatError, match="an error"):
        run("echo an error >&2; exit 1", "cat", ok=accepted)


def test_stderr_may_be_larger_than_any_pipe() -> None:
    """A tool that prints more than a pipe holds would hang if nobody read it; only the end of its output is kept."""
    finished = run("head -c 3000000 /dev/zero | tr '\\0' x >&2; echo; echo the end >&2")
    assert finished[0].stderr.endswith("the end")
    assert len(finished[0].stderr) <= pipeline.STDERR_KEPT


PEM = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\nhunter2\n-----END OPENSSH PRIVATE KEY-----"
# What is said, what of it is secret ("hunter2" where nothing is given), and what must still be there.
FORMS: dict[str, tuple[str, str, str]] = {
    "a setting": ("password=hunter2 host=db", "hunter2", "host=db"),
    "quoted as SQL does": ("PGPASSWORD='it''s hunter2' x", "hunter2", " x"),
    "quoted with a backslash": (r"host=db password='it\'s hunter2' dbname=shop", "hunter2", "dbname=shop"),
    "in double quotes": ('passwd: "two hunter2" x', "hunter2", " x"),
    "a quote that is cut off": ("password: 'two hunter2", "hunter2", "password"),
    "an AWS variable": ("AWS_SECRET_ACCESS_KEY=abc/d+e", "abc/d+e", "AWS_SECRET_ACCESS_KEY"),
    "with spaces": ("Token = abcdef", "abcdef", "Token"),
    "a short name": ("DB_PASS=hunter2", "hunter2", "DB_PASS"),
    "as YAML": ("POSTGRES_PASSWORD: hunter2\nname: shop", "hunter2", "name: shop"),
    "as ODBC": ("Server=db;Uid=app;Pwd=hunter2;", "hunter2", "Uid=app"),
    "JSON": ('{"user": "app", "password": "hunter2", "port": 5432}', "hunter2", '"port": 5432}'),
    "JSON without spaces": ('{"password":"hunter2","port":5432}', "hunter2", '"port":5432}'),
    "JSON with an escape": (r'{"password": "x\"hunter2", "port": 5432}', "hunter2", '"port": 5432}'),
    "JSON in JSON": (r'{"said": "{\"password\": \"hunter2\", \"a\": 1}"}', "hunter2", r"\"a\": 1}"),
    "JSON, a number": ('{"db_password": 73001982}', "73001982", "db_password"),
    "JSON, camel case": ('{"clientSecret": "hunter2", "accessToken": "hunter2"}', "hunter2", "clientSecret"),
    "a Docker login": ('{"auths": {"r.io": {"auth": "YXBwOmh1bnRlcjI="}}}', "YXBwOmh1bnRlcjI", "r.io"),
    "a Python dictionary": ("{'password': 'hunter2', 'port': 1}", "hunter2", "'port': 1}"),
    "Python bytes": ("{'password': b'hunter2'}", "hunter2", "password"),
    "a pair": ("[('password', 'hunter2'), ('a', 'b')]", "hunter2", "('a', 'b')"),
    "Ruby": ("{:password=>hunter2}", "hunter2", "password"),
    "a list of arguments": ("['psql', '--password', 'hunter2', '--list']", "hunter2", "'--list'"),
    "a command line": ("tool --password hunter2 --list", "hunter2", "--list"),
    "a command line with =": ("tool --db-password=hunter2 --list", "hunter2", "--list"),
    "curl": ("curl -u app:hunter2 http://x/", "hunter2", "http://x/"),
    "sshpass": ("sshpass -p hunter2 ssh host", "hunter2", "ssh host"),
    ".netrc": ("machine github.com login app password hunter2", "hunter2", "login app"),
    "SQL": ("ALTER ROLE app PASSWORD 'it''s hunter2' LOGIN", "hunter2", "LOGIN"),
    "SQL with an escape": (r"CREATE USER app WITH ENCRYPTED PASSWORD E'x\'hunter2' LOGIN", "hunter2", "LOGIN"),
    "SQL in dollars": ("ALTER ROLE app PASSWORD $x$hunter2$x$ LOGIN", "hunter2", "LOGIN"),
    "SQL of MySQL": ("CREATE USER app IDENTIFIED BY 'hunter2'", "hunter2", "CREATE USER app"),
    "a SCRAM verifier": ("rolpassword SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:a2V5 x", "c3RvcmVk", " x"),
    "an md5 verifier": ("app md5d41d8cd98f00b204e9800998ecf8427e x", "d41d8cd98f", "app"),
    "an age identity": ("AGE-SECRET-KEY-1QQPQYSZQGPQ x", "QQPQYSZQGPQ", " x"),
    "an age identity of a plugin": ("AGE-PLUGIN-YUBIKEY-1QQPQYSZQGPQ x", "QQPQYSZQGPQ", " x"),
    "a private key": (f"a {PEM} b", "b3BlbnNzaC1rZXk", " b"),
    "a private key that is cut off": (PEM[:-20], "hunter2", ""),
    "a private key in JSON": (json.dumps({"key": PEM, "a": 1}), "hunter2", '"a": 1}'),
    "an address": ("postgresql://app:pa$$@db:5432/shop", "pa$$", "://app:********@db:5432/shop"),
    "an address without a user": ("redis://:hunter2@cache:6379/0", "hunter2", "@cache:6379/0"),
    "a slash in the password": ("postgresql://app:pa/hunter2@db:5432/shop", "hunter2", "@db:5432/shop"),
    "an at sign in the password": ("amqp://app:pa@hunter2@mq/x", "hunter2", "@mq/x"),
    "a token for a user": ("https://hunter2hunter2@github.com/a/b", "hunter2", "@github.com/a/b"),
    "a token in an address": ("http://x/a?token=hunter2&page=2", "hunter2", "&page=2"),
    "a key in an address": ("http://x/a?page=2&api_key=hunter2", "hunter2", "page=2"),
    "a signature": ("https://x/a?X-Amz-Date=1&X-Amz-Signature=abcdef0123&b=1", "abcdef0123", "&b=1"),
    "Azure's signature": ("https://x/a?sv=2022&sig=abc%2Fdef0123%3D&se=1", "def0123", "&se=1"),
    "a session token": ("https://x/a?X-Amz-Security-Token=IQoJb3JpZ2lu&b=1", "IQoJb3JpZ2lu", "&b=1"),
    "a one-time password": ("otpauth://totp/app?secret=JBSWY3DP&issuer=x", "JBSWY3DP", "issuer=x"),
    "Slack": ("https://hooks.slack.com/services/T0/B0/hunter2 x", "hunter2", " x"),
    "a bearer": ("Authorization: Bearer hunter2hunter2\r\nHost: x", "hunter2", "Host: x"),
    "basic": ("authorization: Basic YXBwOmh1bnRlcjI=", "YXBwOmh1bnRlcjI", "authorization"),
    "a scheme of its own": ("Authorization: token hunter2", "hunter2", "Authorization"),
    "AWS": (
        "Authorization: AWS4-HMAC-SHA256 Credential=A/2026/s3, SignedHeaders=host, Signature=0123abcd",
        "0123abcd", "Authorization",
    ),
    "headers in Python": ("{'Authorization': 'Bearer hunter2x', 'Host': 'x'}", "hunter2x", "'Host': 'x'"),
    "a bearer by itself": ("it sent bearer hunter2hunter2", "hunter2", "it sent bearer"),
    "a key of its own": ("X-Api-Key: hunter2", "hunter2", "X-Api-Key"),
    "a cookie": ("Set-Cookie: sid=hunter2; Path=/\nHost: x", "hunter2", "Host: x"),
    "a JSON Web Token": ("x eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.c2lnbmF0dXJl y", "c2lnbmF0dXJl", " y"),
    "GitHub": ("x ghp_0123456789abcdef y", "0123456789abcdef", " y"),
    "GitLab": ("x glpat-0123456789abcdef y", "0123456789abcdef", " y"),
    "Amazon's name of a key": ("x AKIAIOSFODNN7EXAMPLE y", "IOSFODNN7EXAMPLE", " y"),
    "Slack's bot": ("x xoxb-0123456789-abcdef y", "0123456789-abcdef", " y"),
    "Stripe": ("x sk_live_0123456789abcdef y", "0123456789abcdef", " y"),
    "XML": ("<Key>a</Key><SecretAccessKey>hunter2</SecretAccessKey>", "hunter2", "<Key>a</Key>"),
    "HTML": ('<input type="text" name="db_password" type="x" value="hunter2">', "hunter2", "db_password"),
    "percent-encoded": ("body=user%3Dapp%26password%3Dhunter2%26a%3D1", "hunter2", "%26a%3D1"),
    "percent-encoded JSON": ("q=%7B%22password%22%3A%22hunter2%22%7D", "hunter2", "%22%7D"),
}  # fmt: skip
# What nobody may lose: our own words, PostgreSQL's, and names that look like more than they are.
HARMLESS = [
    "no secrets here",
    'FATAL:  password authentication failed for user "app"',
    "secrets.tar.gz.age: its SHA-256 differs",
    "/etc/lifeboat/shop.secrets.json: no such file",
    "vault_access_key or vault_secret_key is not set",
    "Set them in lifeboat_secrets (vaulted) and deploy.",
    "tokens: 3, passwords of 3 roles, password_encryption = scram-sha-256",
    "http://127.0.0.1:9000/uploads/mail@example.org",
    "ssh://git@github.com/a/b and git@github.com:a/b.git",
    "https://example.org:8443/a?page=2&list-type=2&key-marker=a",
    '{"password": null, "token": false}',
    "Give --vault-password-file vault.txt, then run it again.",
    "02:42:ac:11:00:02, 2026-11-24T03:30:00Z, d41d8cd98f00b204e9800998ecf8427e",
    "the signature is good: SHA256:0123456789abcdef",
]


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_blanked_in_every_form_in_which_it_is_told(form: str) -> None:
    said, secret, kept = FORMS[form]
    shown = pipeline.scrub(said)
    assert secret in said
    assert secret not in shown
    assert pipeline.BLANK in shown
    assert kept in shown
    assert pipeline.scrub(shown) == shown, "what has been scrubbed stays as it is"
    if "cut off" not in form:
        assert secret not in pipeline.scrub(f"{said}\n{said}")


@pytest.mark.parametrize("said", HARMLESS)
def test_other_words_stay(said: str) -> None:
    assert pipeline.scrub(said) == said


def test_a_hostile_text_takes_no_longer_than_another() -> None:
    """64 kB of what begins like a secret and never is one, in processor time: the machine may be busy."""
    parts = [
        "password",
        'token=\\"',
        "--token ",
        "://a:",
        "<password",
        "PASSWORD $x$",
        "'token', ",
        "&code",
        "%3D",
        "-",
    ]
    for part in parts:
        began = time.process_time()
        pipeline.scrub(part * (pipeline.STDERR_KEPT // len(part)))
        assert time.process_time() - began < 5, part


def test_secrets_are_scrubbed_from_what_tools_say() -> None:
    script = 'printf "%s\\n" "$SAID" >&2; exit 1'
    said = "postgresql://app:pa$$@db:5432/shop password=hunter2"
    with pytest.raises(LifeboatError) as error:
        pipeline.run([sh(script, SAID=said)], attempted="try", subject="it")
    status, _, err = pipeline.probe(sh(script, SAID=said))
    assert status == 1
    for told in (error.value.cause, str(error.value), err):
        assert "********" in told
        assert "hunter2" not in told
        assert "pa$$" not in told


ROWS = """pg_restore: error: could not execute query: ERROR:  new row violates check constraint
DETAIL:  Failing row contains (1, 4111-1111-1111-1111).
CONTEXT:  COPY card, line 1: "4111-1111-1111-1111"
STATEMENT:  INSERT INTO card VALUES ('4111-1111-1111-1111')"""


def test_rows_are_never_quoted() -> None:
    with pytest.raises(LifeboatError) as error:
        pipeline.run([sh('printf "%s\\n" "$SAID" >&2; exit 1', SAID=ROWS)], attempted="try", subject="it")
    assert "violates check constraint" in error.value.cause
    assert "4111" not in str(error.value)


# What psql prints with VERBOSITY=verbose, what is shown of it, and the code that errors carry.
VERBOSE = [
    (
        "psql:<stdin>:2: ERROR:  57014: canceling statement due to statement timeout\nLOCATION:  F, postgres.c:3400",
        "psql:<stdin>:2: ERROR:  canceling statement due to statement timeout",
        "57014",
    ),
    (
        "WARNING:  01000: mind\nLOCATION:  exec, pl_exec.c:1\nERROR:  23505: duplicate key\nDETAIL:  Key (a)=(4111) is."
        "\nSCHEMA NAME:  public\nTABLE NAME:  t\nCONSTRAINT NAME:  t_pkey\nLOCATION:  _bt_check, nbtinsert.c:664",
        "WARNING:  mind / ERROR:  duplicate key",
        "23505",
    ),
    ("エラー:  42P01: ない\nLINE 1: x\n場所:  parserOpenTable, parse.c:14", "エラー:  ない / LINE 1: x", "42P01"),
    ("ERROR:  P0001: x\nERROR:  40P01: said by x\nLOCATION:  f, a.c:1", "ERROR:  x / ERROR:  said by x", "P0001"),
    ('psql: error: FATAL:  role "a" does not exist', 'psql: error: FATAL:  role "a" does not exist', ""),
    ("tool: ERROR: 57014: it is not psql", "tool: ERROR: 57014: it is not psql", ""),
]


@pytest.mark.parametrize(("said", "shown", "code"), VERBOSE)
def test_errors_carry_the_code_and_show_the_words(said: str, shown: str, code: str) -> None:
    with pytest.raises(LifeboatError) as error:
        pipeline.run([sh('printf "%s\n" "$SAID" >&2; exit 3', SAID=said)], attempted="try", subject="it")
    assert (error.value.cause, error.value.sqlstate, error.value.exit_status) == (f"sh: {shown} (exit 3)", code, 3)


# A command that could not be run at all: on standard output, and only then, docker exec says why.
NOT_RUN = [
    ("echo no such tool; exit 127", "sh: no such tool (exit 127)", 127),
    ("echo no right; exit 126", "sh: no right (exit 126)", 126),
    ("echo answer; echo why >&2; exit 127", "sh: why (exit 127)", 127),
    ("echo answer; exit 125", "sh ended with exit 125", 125),
]


@pytest.mark.parametrize(("script", "cause", "status"), NOT_RUN)
def test_what_could_not_be_run_says_why(script: str, cause: str, status: int) -> None:
    with pytest.raises(LifeboatError) as error:
        pipeline.output(sh(script), attempted="try", subject="it")
    assert (error.value.cause, error.value.exit_status) == (cause, status)


def test_a_command_that_is_not_there_has_the_status_that_shells_give_it() -> None:
    with pytest.raises(LifeboatError, match="No such file") as error:
        pipeline.output(Command(["lifeboat-no-such-tool"]), attempted="try", subject="it")
    assert error.value.exit_status == 127


def test_secrets_travel_in_the_environment_and_the_locale_is_plain() -> None:
    command = Command(["sh", "-c", 'echo "$LC_ALL $PGPASSWORD"'], {"PGPASSWORD": "x y'\"$\\"})
    assert pipeline.output(command, attempted="try", subject="it") == "C.UTF-8 x y'\"$\\\n"


def test_a_chain_deaf_to_its_input_does_not_block_on_it() -> None:
    run("exit 0", source=io.BytesIO(b"x" * (8 << 20)))


def test_output_that_is_no_text_is_an_error() -> None:
    with pytest.raises(LifeboatError, match="sh printed bytes that are not UTF-8, from byte 2 on"):
        pipeline.output(sh(r"printf 'ab\377'"), attempted="try", subject="it")


def test_output_is_bounded() -> None:
    with pytest.raises(LifeboatError, match="more than 1000 bytes"):
        pipeline.output(Command(["yes"]), attempted="try", subject="it", limit=1000)


PROBES = [
    ("exit 0", 0, "", ""),
    ("echo out; echo err >&2; exit 4", 4, "out\n", "err"),
    ("kill -TERM $$", -15, "", ""),
]


@pytest.mark.parametrize(("script", "status", "out", "err"), PROBES)
def test_probe_tells_a_failure_as_an_answer(script: str, status: int, out: str, err: str) -> None:
    assert pipeline.probe(sh(script)) == (status, out, err)


def test_probe_of_what_cannot_run(tmp_path: Path) -> None:
    assert pipeline.probe(Command(["lifeboat-no-such-tool"]))[0] == 127
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    status, _, err = pipeline.probe(Command([str(tmp_path / "tool")]))
    assert (status, "Permission denied" in err) == (126, True)
    assert pipeline.probe(Command(["sleep", "600"]), timeout=0.1) == (124, "", "no answer after 0 s")


LEFT: list[tuple[str, list[str]]] = [
    ("by the only one", ["sh -c 'sleep 600; : {mark}' & echo out"]),
    ("by the first", ["sh -c 'sleep 600; : {mark}' & echo out", "cat"]),
    ("by the last", ["echo out", "sh -c 'sleep 600; : {mark}' & cat"]),
    ("deaf", ["(trap '' TERM HUP; sh -c 'sleep 600; : {mark}') & echo out"]),
]


@pytest.mark.parametrize("scripts", [case[1] for case in LEFT], ids=[case[0] for case in LEFT])
@pytest.mark.parametrize("sink", [True, False], ids=["sink", "no sink"])
def test_what_a_process_left_behind_is_not_waited_for_and_does_not_stay(
    scripts: list[str], sink: bool, mark: str
) -> None:
    """It has the end of the pipe that is read: without its end the chain took all of its time, and it outlived that."""
    taken, began = io.BytesIO(), time.monotonic()
    run(*(script.format(mark=mark) for script in scripts), sink=taken if sink else None)
    assert time.monotonic() - began < LONG / 2
    assert taken.getvalue() == (b"out\n" if sink else b"")
    gone(mark)


def test_what_took_itself_away_is_not_waited_for() -> None:
    """As a daemon does, which is meant to stay."""
    taken, began = io.BytesIO(), time.monotonic()
    run("setsid sleep 30 & echo out", sink=taken)
    assert (taken.getvalue(), time.monotonic() - began < 15) == (b"out\n", True)


def test_a_time_limit_ends_what_was_started_too(mark: str) -> None:
    with pytest.raises(LifeboatError, match="no end after"):
        run(f"sh -c 'sleep 600; : {mark}' & wait", timeout=0.5, sink=io.BytesIO())
    gone(mark)


def test_an_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_ANSWER", 1 << 20)
    status, out, err = pipeline.probe(Command(["head", "-c", "2M", "/dev/zero"]))
    assert (status, out, err) == (126, "", "more than 1048576 bytes")
    status, _out, err = pipeline.probe(sh("head -c 3M /dev/zero | tr '\\0' x >&2; echo last >&2; exit 3"))
    assert (status, err[-5:], len(err) <= pipeline.STDERR_KEPT) == (3, "xlast", True)


def test_a_long_line_is_cut() -> None:
    with pytest.raises(LifeboatError) as error:
        run("head -c 40000 /dev/zero | tr '\\0' x >&2; echo >&2; echo last >&2; exit 3")
    assert error.value.cause.endswith("xxx… / last (exit 3)")
    assert len(error.value.cause) < 600


def test_what_a_probe_said_is_cut_where_it_is_told() -> None:
    """As most callers do: what it said last is the cause."""
    _status, _out, err = pipeline.probe(sh("head -c 65536 /dev/zero | tr '\\0' x >&2; echo >&2; echo last >&2; exit 3"))
    error = LifeboatError("ask", "a tool", err.strip())
    assert len(str(error)) < 5000
    first, last = error.cause.split("\n")
    assert (first.startswith("xxx"), first[-20:], last) == (True, f"… ({len(err) - 5} characters)", "last")
    assert LifeboatError("ask", "x", "one\ntwo\n").cause == "one\ntwo"


@pytest.mark.parametrize("stacks", ["runtime stack:", "goroutine 1 gp=0xc000002380 m=0 [running]:"])
def test_of_a_crash_in_go_the_cause_is_told(stacks: str) -> None:
    """Pages of stacks follow it, and the last lines of a text are what is told."""
    said = f"fatal error: out of memory\n\n{stacks}\nmain.main()\n" + "\t/x.go:1 +0x1\n" * 9
    status, _out, err = pipeline.probe(sh('printf %s "$SAID" >&2; exit 2', SAID=said))
    assert (status, err) == (2, "fatal error: out of memory")
    other = f"{stacks}\nx"
    assert pipeline.probe(sh('printf %s "$SAID" >&2', SAID=other))[2] == other, "no crash"


def test_the_memory_of_a_process_is_bounded() -> None:
    """And that of what it starts: `docker` does not read a project, its plugin does."""
    takes = f"{sys.executable} -c 'len(bytearray(200 << 20))' & wait $!"
    assert pipeline.probe(sh(takes))[0] == 0
    status, _out, err = pipeline.probe(dataclasses.replace(sh(takes), memory=100 << 20))
    assert (status, "MemoryError" in err) == (1, True)


BIG = """
import resource, sys
from ansible_collections.lifeboat.dr.plugins.module_utils.base import pipeline
writer = pipeline.HashingWriter()
produce = pipeline.Command(["head", "-c", str(128 << 20), "/dev/zero"])
pipeline.run([produce, pipeline.Command(["cat"])], attempted="x", subject="y", sink=writer)
with open("/dev/zero", "rb") as zero:
    class Part:
        left = 96 << 20
        def read(self, size):
            size = min(size, self.left); self.left -= size
            return zero.read(size)
    count = pipeline.HashingWriter()
    pipeline.run([pipeline.Command(["cat"])], attempted="x", subject="y", source=Part(), sink=count)
with open("/proc/self/status") as status:  # ru_maxrss would count the parent's memory from before exec
    peak = next(line.split()[1] for line in status if line.startswith("VmHWM"))
print(writer.size, writer.sha256, count.size, peak)
"""


@pytest.mark.slow
def test_a_big_stream_takes_no_more_memory_than_a_small_one() -> None:
    """128 MB out of a chain and 96 MB into one: every byte counted and hashed, memory flat."""
    path = next(item for item in sys.path if item.endswith(".ansible/collections"))
    done = subprocess.run(
        [sys.executable, "-c", BIG], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    size, digest, fed, peak = done.stdout.split()
    expected = hashlib.sha256()
    for _ in range(128):
        expected.update(bytes(1 << 20))
    assert (int(size), digest, int(fed)) == (128 << 20, expected.hexdigest(), 96 << 20)
    assert int(peak) < 64 << 10, "kilobytes"


def test_hashing_writer_writes_through(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        writer = HashingWriter(file)
        writer.write(b"ab")
        writer.write(b"c")
    assert (tmp_path / "file").read_bytes() == b"abc"
    assert (writer.size, writer.sha256) == (3, hashlib.sha256(b"abc").hexdigest())


def test_an_interrupt_leaves_no_process(mark: str) -> None:
    """Ctrl-C while a dump runs: the exception goes up, the chain goes down."""

    class Interrupted:
        def write(self, data: bytes, /) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(f": {mark}; exec yes {mark}", sink=Interrupted())
    assert alive(mark) == []
    assert signal.getsignal(signal.SIGPIPE) != signal.SIG_DFL, "Python's own SIGPIPE handling must stay"
