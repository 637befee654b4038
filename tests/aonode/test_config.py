from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aonode import toml_files
from aonode.config import KEYS, Config, load_network, load_settings, write_network
from protocols.errors import Invalid, Reason
from protocols.network import Network, demo_parameters
from tests.protocols.test_network import NETWORK


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_network(tmp_path / "network.toml", NETWORK)
    return tmp_path


def config(folder: Path, text: str = "") -> Path:
    path = folder / "aonode.toml"
    path.write_text(text + 'network = "network.toml"\n', encoding="utf-8")
    return path


def test_a_written_network_is_read_back(tmp_path: Path) -> None:
    empty = Network("empty", NETWORK.ledger_scheduler, NETWORK.profile, demo_parameters())
    for number, network in enumerate((NETWORK, empty)):
        path = tmp_path / f"{number}.toml"
        write_network(path, network)
        first = path.read_bytes()
        assert load_network(path) == network
        assert load_network(path).id == network.id
        write_network(path, load_network(path))
        assert path.read_bytes() == first


def test_defaults_and_the_networks_bootstrap(folder: Path) -> None:
    loaded = load_settings(config(folder), environment={})
    assert loaded.network == NETWORK
    assert loaded.config.bootstrap == NETWORK.bootstrap
    assert loaded.origin["bootstrap"] == "network file"
    assert loaded.origin["listen"] == "default"
    assert loaded.config.listen == Config().listen
    assert set(loaded.origin) == set(KEYS)


def test_the_last_place_wins_and_is_remembered(folder: Path) -> None:
    path = config(folder, 'log_level = "debug"\nmessenger_port = 1\nbootstrap = ["/a"]\n')
    loaded = load_settings(
        path,
        environment={
            "AONODE_MESSENGER_PORT": "2",
            "AONODE_ROLES": "compute, messenger",
            "HOME": "/",
        },
        flags={"roles": ["scheduler"]},
    )
    assert loaded.config.log_level == "debug"
    assert loaded.config.messenger_port == 2
    assert loaded.config.roles == ("scheduler",)
    assert loaded.config.bootstrap == ("/a",)
    origin = loaded.origin
    assert origin["log_level"] == origin["bootstrap"] == str(path)
    assert origin["messenger_port"] == "AONODE_MESSENGER_PORT"
    assert origin["roles"] == "--roles"


def test_paths_of_a_file_are_relative_to_it(folder: Path) -> None:
    loaded = load_settings(config(folder, 'data_dir = "data"\n'), environment={})
    assert loaded.config.data_dir == str(folder / "data")
    given = {"AONODE_DATA_DIR": "here", "AONODE_CONFIG": "elsewhere"}
    assert load_settings(config(folder), environment=given).config.data_dir == "here"


def test_environment_texts_become_values(folder: Path) -> None:
    loaded = load_settings(
        config(folder),
        environment={"AONODE_SOLE_COPY": "true", "AONODE_FOLLOW": "", "AONODE_INBOX_MAX": "9"},
    )
    assert loaded.config.sole_copy is True
    assert loaded.config.follow == ()
    assert loaded.config.inbox_max == 9


@pytest.mark.parametrize(
    ("text", "environment", "flags", "complaint"),
    [
        ('lissten = "x"\n', {}, {}, "did you mean 'listen'?"),
        ("", {"AONODE_LOGLEVEL": "info"}, {}, "did you mean 'log_level'?"),
        ("", {}, {"role": ()}, "did you mean 'roles'?"),
        ("messenger_port = 'x'\n", {}, {}, "messenger_port"),
        ("", {"AONODE_MESSENGER_PORT": "x"}, {}, "AONODE_MESSENGER_PORT"),
        ("", {"AONODE_SOLE_COPY": "perhaps"}, {}, "sole_copy"),
        ("", {}, {"compute_port": 70000}, "--compute-port"),
        ("", {}, {"compute_port": -1}, "--compute-port"),
        ("", {}, {"inbox_max": 0}, "at least 1"),
        ('roles = ["oracle"]\n', {}, {}, "no role"),
        ('log_level = "loud"\n', {}, {}, "log_level"),
        ("fuel_max = 1\n", {}, {}, "unknown key 'fuel_max'"),
        ("data_dir = \n", {}, {}, "is not TOML"),
        ("", {}, {"network": "nowhere.toml"}, "nowhere.toml"),
    ],
)
def test_what_is_wrong_is_named(
    folder: Path,
    text: str,
    environment: dict[str, str],
    flags: dict[str, Any],
    complaint: str,
) -> None:
    with pytest.raises(Invalid) as refusal:
        load_settings(config(folder, text), environment=environment, flags=flags)
    assert refusal.value.reason is Reason.CONFIG
    assert complaint in refusal.value.detail


def test_a_network_file_names_itself_and_the_key(folder: Path) -> None:
    path = folder / "network.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("profile =", "profil ="))
    with pytest.raises(Invalid, match=r"network\.toml.*did you mean 'profile'"):
        load_network(path)


def test_a_file_above_the_bound_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toml_files, "FILE_BYTES_MAX", 100)
    with pytest.raises(Invalid, match="more than 100 bytes"):
        load_network(folder / "network.toml")


KEY = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
PLAIN = st.integers(-(1 << 63), (1 << 63) - 1) | st.text(max_size=9) | st.booleans()
VALUES = PLAIN | st.lists(PLAIN | st.lists(PLAIN, max_size=2), max_size=3)
TABLES = st.dictionaries(KEY, VALUES, max_size=3)


@settings(max_examples=30)
@given(st.dictionaries(KEY, VALUES | st.lists(TABLES, min_size=1, max_size=3) | TABLES, max_size=5))
def test_toml_is_read_back(document: dict[str, Any]) -> None:
    assert tomllib.loads(toml_files.toml(document)) == document
