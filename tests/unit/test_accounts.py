"""Stewards' accounts: a password proves who acts, guessing is slow, and everything about it is on record."""

from __future__ import annotations

from pathlib import Path

import pytest
from argon2 import PasswordHasher
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from typer.testing import CliRunner

from shared import journal as chain
from shared.identity import new_signing_key
from site_node.airlock.accounts import MAX_WRONG, MIN_LENGTH, WINDOW_S, Accounts, check_name, check_strength
from site_node.airlock.accounts_schema import accounts as table
from site_node.airlock.sign_in import PASSWORD_FILE_VARIABLE, read_password
from site_node.cases import PrivateStore, journal
from site_node.cli import app
from site_node.doctor import examine
from site_node.policy import read_policy
from tests.helpers import refused
from tests.review_site import CHEAP, PASSWORD, ReviewSite, review_site
from tests.sites import make_site


class Clock:
    """A time that tests move."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Desk:
    """A store with ada's account and a clock."""

    def __init__(self, private: Path) -> None:
        private.mkdir()
        self.private, self.clock = private, Clock()
        self.store = PrivateStore(private)
        self.accounts = Accounts(self.store, hasher=CHEAP, now=self.clock)
        self.accounts.add("ada", PASSWORD)

    def guess(self, times: int, name: str = "ada") -> None:
        """Gives wrong passwords."""
        for _ in range(times):
            with refused("steward.password"):
                self.accounts.authenticate(name, "not the password")

    def journal(self) -> list[str]:
        """The actions on record, from a chain that holds."""
        with self.store.reading.begin() as connection:
            entries = chain.entries(connection, journal)
        chain.verify(entries)
        return [entry.action for entry in entries]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A desk."""
    return Desk(tmp_path / "private")


def test_the_right_password_signs_in_and_any_other_does_not(desk: Desk) -> None:
    desk.accounts.authenticate("ada", PASSWORD)
    for wrong in ("", PASSWORD + " ", PASSWORD.upper()):
        with refused("steward.password"):
            desk.accounts.authenticate("ada", wrong)


def test_a_name_without_an_account_is_told_the_same_as_a_wrong_password(desk: Desk) -> None:
    told = []
    for name in ("ada", "nobody"):
        with pytest.raises(Exception, match="wrong") as caught:
            desk.accounts.authenticate(name, "not the password")
        told.append(str(caught.value))
    assert told[0] == told[1]
    desk.guess(MAX_WRONG - 1, "nobody")
    with refused("steward.waits"):
        desk.accounts.authenticate("nobody", "not the password")


def test_the_database_holds_an_argon2id_hash_and_nowhere_the_password(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    store = PrivateStore(tmp_path / "private")
    Accounts(store).add("ada", PASSWORD)  # with the costs of a real site
    with store.reading.begin() as connection:
        (hashed,) = connection.execute(select(table.c.password)).scalars()
    assert hashed.startswith("$argon2id$")
    assert PasswordHasher().verify(hashed, PASSWORD)
    assert "m=65536" in hashed
    store.engine.dispose()
    for path in (tmp_path / "private").rglob("*"):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes()


def test_after_five_wrong_passwords_the_account_waits_even_for_the_right_one(desk: Desk) -> None:
    desk.guess(MAX_WRONG)
    with refused("steward.waits"):
        desk.accounts.authenticate("ada", PASSWORD)
    assert desk.accounts.all()[0].waits
    desk.clock.now += WINDOW_S - 1
    with refused("steward.waits"):
        desk.accounts.authenticate("ada", PASSWORD)
    desk.clock.now += 2
    desk.accounts.authenticate("ada", PASSWORD)


def test_a_restart_buys_no_further_guess(desk: Desk) -> None:
    desk.guess(MAX_WRONG)
    desk.store.engine.dispose()
    again = Accounts(PrivateStore(desk.private), hasher=CHEAP, now=desk.clock)
    with refused("steward.waits"):
        again.authenticate("ada", PASSWORD)


def test_a_guess_counts_before_it_is_looked_at(desk: Desk) -> None:
    """Whoever sends many guesses at once has no more of them: each is counted before the slow comparison."""
    counted: list[int] = []

    class Watched(Accounts):
        def _verify(self, hashed: str | None, password: str) -> bool:
            with desk.store.reading.begin() as connection:
                counted.append(self._wrong(connection, "ada"))
            return super()._verify(hashed, password)

    accounts = Watched(desk.store, hasher=CHEAP, now=desk.clock)
    for _ in range(3):
        with refused("steward.password"):
            accounts.authenticate("ada", "not the password")
    assert counted == [1, 2, 3]


def test_the_right_password_forgets_the_wrong_ones_before_it(desk: Desk) -> None:
    for _ in range(3):
        desk.guess(MAX_WRONG - 1)
        desk.accounts.authenticate("ada", PASSWORD)


def test_one_account_waits_and_the_others_do_not(desk: Desk) -> None:
    desk.accounts.add("grace", PASSWORD)
    desk.guess(MAX_WRONG)
    desk.accounts.authenticate("grace", PASSWORD)


def test_wrong_passwords_and_the_waiting_are_in_the_journal_and_made_up_names_are_not(desk: Desk) -> None:
    desk.guess(MAX_WRONG)
    desk.guess(2, "nobody")
    assert desk.journal() == ["steward-add", *["sign-in-wrong"] * MAX_WRONG, "sign-in-waits"]


def test_an_account_is_made_once_and_ends_when_it_is_removed(desk: Desk) -> None:
    with refused("steward.account"):
        desk.accounts.add("ada", PASSWORD)
    desk.accounts.remove("ada")
    with refused("steward.password"):
        desk.accounts.authenticate("ada", PASSWORD)
    with refused("steward.account"):
        desk.accounts.remove("ada")
    assert desk.journal()[:2] == ["steward-add", "steward-remove"]


@pytest.mark.parametrize("name", ["", "Ada", "ada lovelace", "a" * 41, "../ada", "-"])
def test_a_name_that_no_policy_could_list_gets_no_account(desk: Desk, name: str) -> None:
    with refused("steward.name"):
        desk.accounts.add(name, PASSWORD)


@settings(max_examples=60)
@given(st.text(max_size=MIN_LENGTH - 1) | st.sampled_from(["a" * 40, "adaadaadaada", "x" * 1025]))
def test_a_short_or_simple_password_is_refused(password: str) -> None:
    with refused("steward.password-weak"):
        check_strength("ada", password)


def test_long_passwords_of_any_script_are_welcome() -> None:
    check_name("ada")
    for password in ("vier Wörter ohne Sinn", "ένα μακρύ συνθηματικό", "x" * 10 + "yzabcdefgh"):
        check_strength("ada", password)


# At the command line


def run(*words: str, home: Path, stdin: str | None = None) -> tuple[int, str]:
    """(exit code, output) of synthward-site."""
    done = CliRunner().invoke(app, [*words, "--home", str(home), "--json"], input=stdin)
    return done.exit_code, done.output


def test_whoever_acts_must_give_the_password_of_the_name_they_act_under(tmp_path: Path) -> None:
    site = review_site(tmp_path / "site", samples=2)
    home, good, bad = site.home.path, tmp_path / "good", tmp_path / "bad"
    good.write_text(PASSWORD + "\n")
    bad.write_text("not the password\n")
    as_ada = (site.release_id, "--as", "ada")
    last = {
        "review": (),
        "approve": ("--digest", site.digest),
        "reject": ("--reason", "r"),
        "withdraw": ("--reason", "r"),
    }
    for command, more in last.items():
        code, told = run(command, *as_ada, *more, "--password-file", str(bad), home=home)
        assert (code, "steward.password" in told) == (4, True) or "steward.waits" in told, command
        assert run(command, *as_ada, *more, home=home)[0] == 2  # no terminal, no file
    assert site.airlock.release(site.release_id).state.value == "screened"
    assert site.actions("ada") == []
    code, told = run("review", *as_ada, "--password-file", str(good), home=home)
    assert code == 0, told
    assert site.actions("ada") == ["review"]
    code, told = run("approve", *as_ada, "--digest", site.digest, "--password-file", str(good), home=home)
    assert (code, '"state": "approved"' in told) == (0, True)


def test_an_account_without_a_place_in_the_policy_gives_no_right(tmp_path: Path) -> None:
    site = review_site(tmp_path / "site", samples=2)
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    home = site.home.path
    code, told = run("steward", "add", "mallory", "--password-file", str(password), home=home)
    assert (code, '"in_policy": false' in told) == (0, True)
    code, told = run("review", site.release_id, "--as", "mallory", "--password-file", str(password), home=home)
    assert (code, "policy.steward" in told) == (5, True)
    code, told = run("steward", "list", home=home)
    assert code == 0
    assert '"steward": "mallory"' in told
    assert run("steward", "remove", "mallory", home=home)[0] == 0
    assert "mallory" not in read_policy(site.home.policy_file).stewards


def test_the_environment_may_name_the_password_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = review_site(tmp_path / "site", samples=2)
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    monkeypatch.setenv(PASSWORD_FILE_VARIABLE, str(password))
    assert run("review", site.release_id, "--as", "ada", home=site.home.path)[0] == 0
    assert site.actions("ada") == ["review"]


def test_a_password_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "password"
    for text in (PASSWORD, f"{PASSWORD}\n", f"{PASSWORD}\r\n", f"{PASSWORD}\nand a remark\n"):
        path.write_bytes(text.encode())
        assert read_password(path, "") == PASSWORD
    with refused("steward.password-unread"):
        read_password(tmp_path / "nowhere", "")


def test_a_weak_password_makes_no_account(tmp_path: Path) -> None:
    home = make_site(tmp_path / "site", new_signing_key())
    password = tmp_path / "password"
    password.write_text("short")
    code, told = run("steward", "add", "ada", "--password-file", str(password), home=home.path)
    assert (code, "steward.password-weak" in told) == (3, True)
    assert Accounts(PrivateStore(home.private), hasher=CHEAP).all() == []


def test_the_doctor_names_the_steward_who_has_no_account_yet(tmp_path: Path) -> None:
    site = review_site(tmp_path / "site", samples=2)
    assert told_by_doctor(site) == ("ok", "every steward has an account")
    site.accounts.remove("grace")
    assert told_by_doctor(site) == ("warning", "no account yet: grace")


def told_by_doctor(site: ReviewSite) -> tuple[str, str]:
    """(state, text) of the doctor's check of accounts."""
    return next((check.state, check.text) for check in examine(site.home) if check.name == "stewards' accounts")
