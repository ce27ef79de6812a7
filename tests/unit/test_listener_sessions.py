"""Logins: what a cookie is worth, for how long, and how often an address may try."""

from __future__ import annotations

import hashlib

import pytest

from cauda.core import passwords
from cauda.listener.sessions import SESSION_S, Sessions

PASSWORD = "correct horse battery"


@pytest.fixture
def clock() -> list[float]:
    return [1_800_000_000.0]


@pytest.fixture
def sessions(clock: list[float]) -> Sessions:
    return Sessions({"it": passwords.hashed(PASSWORD)}, lambda: clock[0])


def test_a_hash_is_scrypt_of_the_password_with_its_own_salt() -> None:
    """Recomputed with the standard library from what the text says of itself."""
    kept = passwords.hashed(PASSWORD)
    _, cost, block, parallel, salt, digest = kept.split(":")
    n, r, p = 2 ** int(cost), int(block), int(parallel)
    again = hashlib.scrypt(PASSWORD.encode(), salt=bytes.fromhex(salt), n=n, r=r, p=p, maxmem=2**27, dklen=32)
    assert digest == again.hex()
    assert n * r * 128 >= 16 * 2**20  # RFC 7914's cost for interactive logins
    assert passwords.hashed(PASSWORD) != kept


@pytest.mark.parametrize("kept", [None, "", "plain:correct horse battery", "scrypt:15:8:1:00:00"])
def test_what_is_no_hash_lets_nobody_in(kept: str | None) -> None:
    assert not passwords.verified("", kept)
    assert not passwords.verified(PASSWORD, kept)


def test_a_short_password_is_not_taken() -> None:
    with pytest.raises(ValueError, match="12"):
        passwords.hashed("elevenchars")


def test_who_knows_the_password_has_a_session_for_a_shift(sessions: Sessions, clock: list[float]) -> None:
    made = sessions.login("it", PASSWORD)
    assert made is not None
    assert sessions.of(made.cookie) == made
    clock[0] += SESSION_S + 1
    assert sessions.of(made.cookie) is None


@pytest.mark.parametrize(("name", "password"), [("it", "wrong horse battery"), ("nobody", PASSWORD), ("", "")])
def test_nobody_else_has(sessions: Sessions, name: str, password: str) -> None:
    assert sessions.login(name, password) is None


def test_a_cookie_that_was_changed_in_any_character_is_worth_nothing(sessions: Sessions) -> None:
    made = sessions.login("it", PASSWORD)
    assert made is not None
    for place, char in enumerate(made.cookie):
        other = "A" if char != "A" else "B"
        forged = sessions.of(made.cookie[:place] + other + made.cookie[place + 1 :])
        assert forged is None, place
    assert sessions.of(made.cookie + "=") is None
    assert sessions.of("") is None


def test_another_listeners_cookie_is_worth_nothing(sessions: Sessions, clock: list[float]) -> None:
    made = sessions.login("it", PASSWORD)
    assert made is not None
    assert Sessions({"it": passwords.hashed(PASSWORD)}, lambda: clock[0]).of(made.cookie) is None


def test_after_a_logout_a_copy_of_the_cookie_is_worth_nothing(sessions: Sessions) -> None:
    made = sessions.login("it", PASSWORD)
    assert made is not None
    sessions.end(made)
    assert sessions.of(made.cookie) is None


def test_a_form_token_belongs_to_one_session(sessions: Sessions) -> None:
    one, other = sessions.anonymous(), sessions.anonymous()
    assert one.form_token != other.form_token
    assert one.user is None
    again = sessions.of(one.cookie)
    assert again is not None
    assert again.form_token == one.form_token


def test_an_address_that_guesses_has_to_wait_and_another_has_not(sessions: Sessions, clock: list[float]) -> None:
    waits = [sessions.throttle.wait_s("10.0.0.1") for _ in range(6)]
    assert waits[:5] == [0.0] * 5
    assert waits[5] > 0
    assert sessions.throttle.wait_s("10.0.0.2") == 0.0
    clock[0] += waits[5]
    assert sessions.throttle.wait_s("10.0.0.1") == 0.0
    assert sessions.throttle.wait_s("10.0.0.1") > 0


def test_addresses_are_forgotten_before_they_fill_the_memory(sessions: Sessions) -> None:
    for number in range(10_000):
        sessions.throttle.wait_s(f"10.{number}")
    assert len(sessions.throttle._tried) < 5000
