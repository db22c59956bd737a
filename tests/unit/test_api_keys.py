"""API keys: who comes with one, what a file of them may hold, and how it is replaced."""

from __future__ import annotations

import contextlib
import logging
import os
import traceback
from hashlib import sha256
from math import inf
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.config.problem import ConfigError
from siger_gateway.errors import GatewayError
from siger_gateway.filters import api_keys as module
from siger_gateway.filters.api_key_file import ApiKey, load_keys
from siger_gateway.filters.api_keys import MAX_KEY, ApiKeys, hash_of, new_key
from siger_gateway.filters.identity import Identity
from siger_gateway.tls.certificates import LOOK_INTERVAL

KEY = "siger_" + "k" * 43
HASH = hash_of(KEY)


def entry(*more: str, key: str = KEY, id: str = "a") -> str:
    return "\n    ".join((f"  - id: {id}", f"hash: {hash_of(key)}", "user: alice", *more)) + "\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.yaml"
    path.touch(0o600)
    return path


def keys_of(file: Path, text: str) -> ApiKeys:
    file.write_text(text)
    return ApiKeys(str(file))


def refusal(keys: ApiKeys, key: str | bytes, now: float = 0.0) -> str:
    with pytest.raises(GatewayError) as raised:
        keys.identify(key.encode() if isinstance(key, str) else key, now)
    assert raised.value.status == 401
    return raised.value.reason


def problems(file: Path, text: str) -> list[tuple[int, str, str]]:
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        ApiKeys(str(file))
    assert str(raised.value).startswith(str(file))
    return [(one.line, one.key, one.reason) for one in raised.value.problems]


# Who comes


def test_a_key_shows_who_comes_and_what_they_may(file: Path) -> None:
    more = (
        "roles: [admin, ops]",
        "scopes: [jobs.write, jobs:read]",
        "expires: 2027-01-01T00:00:00Z",
    )
    keys = keys_of(file, "keys:\n" + entry(*more, id="ci-2026"))
    assert keys.identify(KEY.encode(), 0.0) == Identity(
        "alice",
        "api_key",
        frozenset({"admin", "ops"}),
        frozenset({"jobs.write", "jobs:read"}),
        1798761600.0,
        "ci-2026",
    )


def test_what_is_optional_may_be_left_out(file: Path) -> None:
    found = keys_of(file, "keys:\n" + entry()).identify(KEY.encode(), 1e12)
    assert found == Identity("alice", "api_key", expires=inf, key_id="a")


@pytest.mark.parametrize("key", ["", "siger_", KEY[:-1], KEY + "k", KEY.upper(), " " + KEY, HASH])
def test_any_other_key_is_unknown(file: Path, key: str) -> None:
    assert refusal(keys_of(file, "keys:\n" + entry()), key) == "api_key_unknown"


NOBODY = ApiKeys.__new__(ApiKeys)  # one for all examples, without a file
NOBODY._keys = {sha256(KEY.encode()).digest(): ApiKey(b"", Identity("a", "api_key"))}


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_as_a_key(key: bytes) -> None:
    assert refusal(NOBODY, key) == "api_key_unknown"


def test_a_key_that_is_too_long_is_not_even_hashed(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "k" * MAX_KEY
    keys = keys_of(file, "keys:\n" + entry(key=long) + entry(key=long + "k", id="b"))
    assert keys.identify(long.encode(), 0.0).key_id == "a"
    monkeypatch.setattr(module, "sha256", None)
    assert refusal(keys, long + "k") == "api_key_unknown"


def test_the_whole_digest_is_compared_even_if_the_look_up_was_wrong(file: Path) -> None:
    keys = keys_of(file, "keys:\n" + entry())
    (right,) = keys._keys.values()
    keys._keys = {sha256(b"other").digest(): right}
    assert refusal(keys, "other") == "api_key_unknown"


def test_a_key_ends_at_its_time(file: Path) -> None:
    keys = keys_of(file, "keys:\n" + entry("expires: 1970-01-01T01:00:00+00:00"))
    assert keys.identify(KEY.encode(), 3599.9).expires == 3600.0
    assert refusal(keys, KEY, 3600.0) == "api_key_expired"


def test_a_user_may_have_several_keys(file: Path) -> None:
    keys = keys_of(file, "keys:\n" + entry(id="old") + entry(key="other", id="new"))
    found = [keys.identify(key, 0.0) for key in (KEY.encode(), b"other")]
    assert [(one.user, one.key_id) for one in found] == [("alice", "old"), ("alice", "new")]
    assert repr(keys) == f"<ApiKeys {file} 2 keys>"


def test_new_keys_differ_and_are_long_enough() -> None:
    keys = {new_key() for _ in range(1000)}
    assert len(keys) == 1000
    assert all(len(key) == 49 and key.startswith("siger_") for key in keys)


def test_a_hash_is_that_of_the_whole_key_as_any_tool_makes_it() -> None:
    # printf %s test | sha256sum
    assert hash_of("test") == (
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    )


# The file


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2027-01-01T00:00:00Z", 1798761600.0),
        ("'2027-01-01T00:00:00Z'", 1798761600.0),
        ("2027-01-01t00:00:00z", 1798761600.0),
        ("2027-01-01 00:00:00Z", 1798761600.0),
        ("2027-01-01T02:00:00+02:00", 1798761600.0),
        ("2026-12-31T23:30:00-00:30", 1798761600.0),
        ("2027-01-01T00:00:00.5Z", 1798761600.5),
        ("1969-12-31T23:59:59Z", -1.0),
        ("9999-12-31T23:59:59-23:59", 253402387139.0),
    ],
)
def test_the_end_is_a_time_of_rfc_3339(file: Path, text: str, seconds: float) -> None:
    file.write_text("keys:\n" + entry(f"expires: {text}"))
    (key,) = load_keys(str(file)).values()
    assert key.identity.expires == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("2027-01-01", "2027-01-01T00:00:00", "2027-02-30T00:00:00Z", "2027-01-01T00:00Z"),
        *("soon", "", "1798761600", "2027-01-01T24:00:01Z", "2027-01-01T00:00:00+25:00"),
        *("'\u0662027-01-01T00:00:00Z'", "'2027-01-01T00:00:00Z '"),
    ],
)
def test_any_other_end_is_refused(file: Path, text: str) -> None:
    wanted = "expected date, time and zone (RFC 3339), such as 2027-01-01T00:00:00Z"
    assert problems(file, "keys:\n" + entry(f"expires: {text}")) == [(5, "keys[0].expires", wanted)]


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("bcrypt:$2b$12$abcdefghijklmnopqrstuv", "hashes of this form are not supported"),
        ("$2b$12$abcdefghijklmnopqrstuvabcdefgh", "hashes of this form are not supported"),
        ("$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ", "hashes of this form are not supported"),
        ("argon2id:abc", "hashes of this form are not supported"),
        ("md5:d41d8cd98f00b204e9800998ecf8427e", "hashes of this form are not supported"),
        (HASH[7:], '"sha256:" is missing'),
        (KEY, "this is a key; write its hash, and make another key"),
        (HASH[:-1], "expected sha256: and 64 hexadecimal digits"),
        (HASH + "0", "expected sha256: and 64 hexadecimal digits"),
        ("SHA256" + HASH[6:], "expected sha256: and 64 hexadecimal digits"),
        ("", "expected sha256: and 64 hexadecimal digits"),
        ("hunter2", "expected sha256: and 64 hexadecimal digits"),
    ],
)
def test_hashes_of_another_form_are_refused_and_not_repeated(
    file: Path, written: str, why: str
) -> None:
    text = f"keys:\n  - id: a\n    user: alice\n    hash: '{written}'\n"
    ((line, key, reason),) = problems(file, text)
    assert (line, key) == (4, "keys[0].hash")
    assert reason.startswith(why)
    assert not written or written not in reason


@pytest.mark.parametrize(
    ("text", "line", "key", "why"),
    [
        ("", 1, "", 'expected "keys:" and a list'),
        ("key: []\n", 1, "", 'expected "keys:" and a list'),
        ("- a\n", 1, "", 'expected "keys:" and a list'),
        ("keys: []\nmore: 1\n", 2, "more", "unknown key"),
        ("keys: {a: 1}\n", 1, "keys", "expected a list, found a mapping"),
        ("keys:\n", 1, "keys", "expected a list, found nothing"),
        ("keys: [a]\n", 1, "keys[0]", "expected a mapping, found a string"),
        (f"keys:\n  - {{hash: '{HASH}', user: a}}\n", 2, "keys[0].id", "this key is required"),
        ("keys:\n  - {id: a, user: a}\n", 2, "keys[0].hash", "this key is required"),
        (f"keys:\n  - {{id: a, hash: '{HASH}'}}\n", 2, "keys[0].user", "this key is required"),
        ("keys:\n" + entry("role: [a]"), 5, "keys[0].role", "unknown key"),
        ("keys:\n" + entry("roles: admin"), 5, "keys[0].roles", "expected a list, found a string"),
        ("keys:\n" + entry("roles: [a, '']"), 5, "keys[0].roles[1]", "expected printable ASCII"),
        ("keys:\n" + entry("roles: ['a,b']"), 5, "keys[0].roles[0]", "expected printable ASCII"),
        ("keys:\n" + entry("roles: [a, a]"), 5, "keys[0].roles[1]", "the same again"),
        ("keys:\n" + entry("roles: [1]"), 5, "keys[0].roles[0]", "expected text, found a number"),
        ("keys:\n" + entry("scopes: [a b]"), 5, "keys[0].scopes[0]", "expected printable ASCII"),
        ("keys:\n" + entry("user: bob"), 5, "keys[0].user", "duplicate key"),
        ("keys:\n" + entry() + entry(key="b"), 5, "keys[1].id", "the same as in line 2"),
        ("keys:\n" + entry() + entry(id="b"), 6, "keys[1].hash", "the same as in line 3"),
        ("keys:\n" + entry(id="a.b"), 2, "keys[0].id", "expected a name of letters"),
        ("keys:\n" + entry(id="a" * 65), 2, "keys[0].id", "expected a name of letters"),
        ("keys:\n" + entry(id="2026"), 2, "keys[0].id", "expected text, found a number"),
        ("keys:\n" + entry(id=KEY), 2, "keys[0].id", "this looks like a key or a hash"),
        ("keys:\n" + entry(id=HASH[7:]), 2, "keys[0].id", "this looks like a key or a hash"),
        ("keys:\n  - {a: 1\n", 3, "", "not valid YAML"),
        ("keys: !!python/object:os.system []\n", 1, "keys", "the YAML tag"),
    ],
)
def test_a_mistake_is_told_with_its_line(
    file: Path, text: str, line: int, key: str, why: str
) -> None:
    found = problems(file, text)
    assert [one for one in found if one[:2] == (line, key) and one[2].startswith(why)], found


@pytest.mark.parametrize(
    "user",
    ["''", "' a'", "'a '", "'\u00e4'", '"a\\tb"', '"a\\nb"', '"a\\0"', "'" + "a" * 257 + "'"],
)
def test_a_user_has_to_be_safe_as_a_field_value(file: Path, user: str) -> None:
    text = f"keys:\n  - {{id: a, hash: '{HASH}', user: {user}}}\n"
    ((line, key, _),) = problems(file, text)
    assert (line, key) == (2, "keys[0].user")


def test_all_mistakes_are_told_at_once(file: Path) -> None:
    text = "keys:\n" + entry("expires: soon", "roles: [1]") + "  - {id: '', x: 1}\nmore: 1\n"
    keys = [key for _, key, _ in problems(file, text)]
    assert keys == ["keys[0].expires", "keys[0].roles[0]"] + [
        f"keys[1].{name}" for name in ("hash", "user", "id", "x")
    ] + ["more"]


def test_a_missing_file_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        ApiKeys(str(tmp_path / "no"))


SECRETS = [KEY, HASH, HASH[7:], HASH[7:].upper(), "A/+b" * 11, "$2b$12$" + "abcdefg./" * 5]
TEMPLATES = [
    "keys:\n  - %s\n",
    "keys:\n  - %s: 1\n",
    "keys:\n  - {id: a, user: b, hash: '%s', x: 1}\n",
    "keys:\n  - {id: a, user: b, hash: %s\n",
    "keys:\n  - {id: '%s', user: b, hash: c}\n",
    "keys:\n  - {id: a, user: ['%s'], hash: c}\n",
    "keys:\n  - {id: a, user: '%s\\n ', hash: c}\n",
    "keys:\n  - {id: a, user: b, hash: !%s c}\n",
    "keys:\n  - {id: a, user: b, hash: *%s }\n",
    "keys:\n  - {id: a, user: b, hash: c, expires: '%s', roles: ['%s ']}\n",
    "keys:\n  - {id: a, user: b, %s: c, %s: d}\n",
    "keys:\n  - id: a\n   %s: d\n",
    "%s: []\n",
    "%%%s\n---\n",
    "'%s'",
    "keys: &%s [*%s]\n",
    "keys:\n  - {id: a, user: b, <<: '%s'}\n",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_no_message_repeats_a_key_or_a_hash(file: Path, template: str, secret: str) -> None:
    file.write_text(template.replace("%s", secret).replace("%%", "%"))
    with pytest.raises(ConfigError) as raised:
        ApiKeys(str(file))
    said = "".join(traceback.format_exception(raised.value)) + repr(raised.value.problems)
    for start in range(len(secret) - 16):
        assert secret[start : start + 16] not in said


@given(st.text(alphabet="keys:[]{}-&*!|>%'\"\n #idhashuser,", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    read, write = os.pipe()
    os.write(write, text.encode())
    os.close(write)
    with contextlib.suppress(ConfigError):
        assert load_keys(f"/dev/fd/{read}") == {}
    os.close(read)


def test_nothing_that_is_printed_shows_a_hash(file: Path) -> None:
    keys = keys_of(file, "keys:\n" + entry())
    (key,) = keys._keys.values()
    for shown in (repr(keys), str(keys), repr(key), repr(key.identity)):
        assert HASH[7:23] not in shown
        assert repr(key.digest)[2:12] not in shown


# Changes


class TestChanges:
    OTHER = "keys:\n" + entry(key="other", id="b")

    def test_the_file_is_looked_at_only_every_interval(self, file: Path) -> None:
        keys = keys_of(file, "keys:\n" + entry())
        keys.look(100.0)
        file.write_text(self.OTHER)
        keys.look(100.0 + LOOK_INTERVAL - 0.1)
        assert keys.identify(KEY.encode(), 0.0).key_id == "a"
        keys.look(100.0 + LOOK_INTERVAL)
        assert keys.identify(b"other", 0.0).key_id == "b"
        assert refusal(keys, KEY) == "api_key_unknown"

    def test_an_unchanged_file_is_not_read(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keys = keys_of(file, "keys:\n" + entry())
        monkeypatch.setattr(module, "load_keys", None)
        keys.look(100.0)
        keys.look(200.0)
        assert len(keys) == 1

    def test_a_file_that_is_replaced_as_editors_and_kubernetes_do_is_taken_over(
        self, file: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "1.yaml").write_text(self.OTHER)
        link = tmp_path / "link.yaml"
        keys_of(file, "keys:\n" + entry())
        link.symlink_to(file)
        keys = ApiKeys(str(link))
        (tmp_path / "new").symlink_to(tmp_path / "1.yaml")
        (tmp_path / "new").rename(link)
        keys.look(100.0)
        assert keys.identify(b"other", 0.0).key_id == "b"

    @pytest.mark.parametrize("broken", ["", "keys:\n", OTHER + "  - {id: b}\n", "keys: [", "\x00"])
    def test_a_broken_file_is_logged_once_and_never_replaces_the_working_one(
        self, file: Path, caplog: pytest.LogCaptureFixture, broken: str
    ) -> None:
        caplog.set_level(logging.INFO)
        keys = keys_of(file, "keys:\n" + entry())
        file.write_text(broken)
        for now in (100.0, 200.0, 300.0):
            keys.look(now)
        (record,) = caplog.records
        assert (record.levelname, record.message) == ("ERROR", "changed API keys are not used")
        assert record.fields["problems"][0].startswith(f"{file}:")  # type: ignore[attr-defined]
        assert keys.identify(KEY.encode(), 0.0).key_id == "a"
        assert refusal(keys, "other") == "api_key_unknown"
        file.write_text(self.OTHER)
        keys.look(400.0)
        assert keys.identify(b"other", 0.0).key_id == "b"

    def test_a_file_that_has_gone_leaves_the_keys(
        self, file: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        keys = keys_of(file, "keys:\n" + entry())
        file.unlink()
        for now in (100.0, 200.0):
            keys.look(now)
        assert [one.message for one in caplog.records] == ["changed API keys are not used"]
        assert keys.identify(KEY.encode(), 0.0).key_id == "a"

    def test_the_log_never_holds_a_key_or_a_hash(
        self, file: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        keys = keys_of(file, "keys:\n" + entry())
        for number, template in enumerate((*TEMPLATES, "keys:\n" + entry(id="c")), 1):
            file.write_text(template.replace("%s", KEY))
            keys.look(number * 100.0)
            file.write_text(template.replace("%s", HASH))
            keys.look(number * 100.0 + 50.0)
        said = "".join(repr(vars(one)) for one in caplog.records)
        assert "API keys renewed" in said
        assert KEY[:20] not in said
        assert HASH[7:20] not in said

    @pytest.mark.parametrize(
        ("mode", "said"),
        [
            (0o600, []),
            (0o640, []),
            (0o644, ["every user of this machine may read the API keys"]),
            (0o606, ["every user of this machine may write the API keys"]),
        ],
    )
    def test_the_log_warns_of_a_file_that_is_open_to_all(
        self, file: Path, caplog: pytest.LogCaptureFixture, mode: int, said: list[str]
    ) -> None:
        file.chmod(mode)
        keys = keys_of(file, "keys:\n" + entry())
        assert [one.message for one in caplog.records] == said
        file.write_text(self.OTHER)
        keys.look(100.0)
        assert [one.message for one in caplog.records] == said * 2
