"""Settings: which value wins, what a settings.ini may hold, and what is refused."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mltoolkit import settings
from mltoolkit.errors import SettingsError
from mltoolkit.settings import SETTINGS

ANOTHER = {  # a value for each setting that differs from its default: as text, as found
    "tracking_uri": ("http://mlflow.example.org:5000", "http://mlflow.example.org:5000"),
    "artifact_root": ("s3://bucket/artifacts", "s3://bucket/artifacts"),
    "job_store": ("postgresql://jobs@db/jobs", "postgresql://jobs@db/jobs"),
    "smtp": ("smtps://jobs@mail.example.org", "smtps://jobs@mail.example.org"),
    "mail_from": ("jobs@example.org", "jobs@example.org"),
    "data_root": ("s3://bucket/data", "s3://bucket/data"),
    "seed": ("7", 7),
    "timeout": ("90m", 5400.0),
    "cell_timeout": ("none", None),
    "start_timeout": ("7.5", 7.5),
    "grace": ("0", 0.0),
    "variables": ("LANG, TZ", ["LANG", "TZ"]),
    "diff_limit": ("10kB", 10_000),
    "output_limit": ("1 MiB", 1_048_576),
    "spool": ("no", False),
    "metric_limit": ("1000", 1000),
    "artifact_limit": ("none", None),
    "warm": ("no", False),
    "preload": ("pandas, polars", ["pandas", "polars"]),
    "warm_idle": ("5m", 300.0),
    "check_select": ("MLT1, F", ["MLT1", "F"]),
    "check_ignore": ("MLT306", ["MLT306"]),
    "check_exclude": ("archive/*, old.ipynb", ["archive/*", "old.ipynb"]),
    "check_per_file_ignores": ("nbs/*: MLT3, MLT4; old/*: ALL; nbs/*: F", {"nbs/*": ("MLT3", "MLT4", "F"), "old/*": ("ALL",)}),
    "check_severity": ("MLT306: error", {"MLT306": ("error",)}),
    "telemetry": ("yes", True),
    "system_metrics": ("on", True),
    "allow_pickle": ("true", True),
}


def write_ini(folder: Path, text: str | bytes) -> Path:
    path = folder / "settings.ini"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# --- the table


@pytest.mark.parametrize("row", SETTINGS.values(), ids=lambda row: row.name)
def test_each_row_is_documented_and_has_a_default_of_its_type(row: settings.Setting, bare_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(f"MLTOOLKIT_{row.name.upper()}", raising=False)
    assert re.fullmatch(r"[A-Z].{20,120}\.", row.help), "help is one sentence"
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", row.name)
    found = settings.resolve(row.name)
    assert (found.name, found.origin, found.help) == (row.name, "default", row.help)
    assert "{local}" not in str(found.value)
    assert row.name in ANOTHER, "the tests below know a value for it"


def test_command_prints_every_setting_with_value_origin_and_help(bare_workspace: Path) -> None:
    write_ini(bare_workspace, "[mltoolkit]\nseed = 11\n")
    command = [str(Path(sys.executable).with_name("mltoolkit")), "settings"]
    environment = {**os.environ, "MLTOOLKIT_TIMEOUT": "2h"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert list(rows)[1:] == list(SETTINGS)
    for name, row in SETTINGS.items():
        assert row.help in rows[name]
    assert re.search(r"^seed +11 +/.*settings\.ini ", rows["seed"])
    assert re.search(r"^timeout +7200 +MLTOOLKIT_TIMEOUT ", rows["timeout"])
    assert re.search(r"^grace +10 +default ", rows["grace"])


# --- which value wins


@pytest.mark.parametrize("name", SETTINGS)
def test_argument_then_variable_then_file_then_default(name: str, bare_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, expected = ANOTHER[name]
    monkeypatch.delenv(f"MLTOOLKIT_{name.upper()}", raising=False)
    default = settings.resolve(name)
    assert default.origin == "default"
    assert default.value != expected

    path = write_ini(bare_workspace, f"[mltoolkit]\n{name.upper()} = {text}\n")
    assert (settings.resolve(name).value, settings.resolve(name).origin) == (expected, str(path))

    third = {"variables": "HOME", "warm": "yes", "spool": "yes", "telemetry": "no", "allow_pickle": "off", "system_metrics": "no"}.get(name, str(SETTINGS[name].default))
    write_ini(bare_workspace, f"[mltoolkit]\n{name} = {third}\n")
    monkeypatch.setenv(f"MLTOOLKIT_{name.upper()}", text)
    found = settings.resolve(name)
    assert (found.value, found.origin) == (expected, f"MLTOOLKIT_{name.upper()}")

    monkeypatch.setenv(f"MLTOOLKIT_{name.upper()}", third)
    found = settings.resolve(name, text)
    assert (found.value, found.origin) == (expected, "argument")
    assert settings.get(name, text) == expected


def test_mlflows_own_variable_comes_after_ours_and_before_the_file(bare_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ini(bare_workspace, "[mltoolkit]\ntracking_uri = http://file.example.org\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example.org")
    found = settings.resolve("tracking_uri")
    assert (found.value, found.origin) == ("http://mlflow.example.org", "MLFLOW_TRACKING_URI")
    monkeypatch.setenv("MLTOOLKIT_TRACKING_URI", "http://ours.example.org")
    found = settings.resolve("tracking_uri")
    assert (found.value, found.origin) == ("http://ours.example.org", "MLTOOLKIT_TRACKING_URI")
    assert settings.get("tracking_uri", "http://argument.example.org") == "http://argument.example.org"
    monkeypatch.setenv("MLTOOLKIT_TRACKING_URI", "")  # an empty variable says nothing
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert settings.get("tracking_uri") == "http://file.example.org"


def test_values_are_read_when_asked_for(bare_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in (1, 2):
        write_ini(bare_workspace, f"[mltoolkit]\nseed = {seed}\n")
        assert settings.get("seed") == seed
    monkeypatch.setenv("MLTOOLKIT_SEED", "3")
    assert settings.get("seed") == 3
    assert [row.name for row in settings.listing()] == list(SETTINGS)
    assert {row.name: row.value for row in settings.listing()}["seed"] == 3


@pytest.mark.parametrize(("name", "value"), [("seed", 0), ("telemetry", False), ("variables", ""), ("grace", 0.0)])
def test_an_argument_that_is_false_is_still_given(name: str, value: Any, bare_workspace: Path) -> None:
    write_ini(bare_workspace, "[mltoolkit]\nseed = 9\ntelemetry = yes\nvariables = HOME\ngrace = 3\n")
    assert settings.resolve(name, value).origin == "argument"
    assert not settings.get(name, value)


# --- where the workspace is


def test_nearest_settings_file_upwards_wins_over_git(bare_workspace: Path) -> None:
    inner = bare_workspace / "projects" / "flights" / "deep"
    inner.mkdir(parents=True)
    (bare_workspace / "projects" / ".git").mkdir()
    assert settings.workspace(inner) == bare_workspace
    assert settings.workspace(inner / "not-there.ipynb") == bare_workspace
    write_ini(inner.parent, "[mltoolkit]\n")
    assert settings.workspace(inner) == inner.parent
    assert settings.workspace(str(inner.parent / "settings.ini")) == inner.parent


def test_without_a_settings_file_git_decides_and_else_the_folder(tmp_path: Path) -> None:
    inner = tmp_path / "repository" / "notebooks"
    inner.mkdir(parents=True)
    assert settings.workspace(inner) == inner
    (tmp_path / "repository" / ".git").write_text("gitdir: elsewhere\n")  # as in a worktree or submodule
    assert settings.workspace(inner) == tmp_path / "repository"
    assert not settings.is_workspace(tmp_path / "repository")
    assert settings.get("tracking_uri", start=inner) == f"sqlite:///{tmp_path}/repository/.mltoolkit/mlflow.db"


def test_a_link_into_the_workspace_is_followed(bare_workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(bare_workspace)
    assert settings.workspace(tmp_path / "link") == bare_workspace


@pytest.mark.parametrize(
    ("path", "project"),
    [
        ("projects/flights/01.ipynb", "flights"),
        ("projects/flights/deep/er/01.ipynb", "flights"),
        ("projects/01.ipynb", None),
        ("nbs/projects/flights/01.ipynb", None),
        ("../elsewhere/projects/flights/01.ipynb", None),
        ("projects/../nbs/00.ipynb", None),
    ],
)
def test_project_of(path: str, project: str | None, bare_workspace: Path) -> None:
    assert settings.project_of(bare_workspace / path, bare_workspace) == project


def test_local_state_hides_from_git_and_keeps_what_is_there(bare_workspace: Path) -> None:
    folder = settings.local(bare_workspace)
    assert folder == bare_workspace / ".mltoolkit"
    (folder / ".gitignore").write_text("*\n!kept\n")
    assert settings.local(bare_workspace) == folder
    assert (folder / ".gitignore").read_text() == "*\n!kept\n"


# --- settings files that are broken, or somebody else's


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"seed = 1\n",
        b"[DEFAULT]\nrepo = mine\nlib_name = mine\n",
        b"[other]\nkey = value\n",
        b"[other]\nno value here without a sign\n",
        b"[other]\n\xff\xfe caf\xe9\n",
        b"# [mltoolkit] is another program\n[broken\n",
        b"\x00\x01\x02",
    ],
)
def test_a_foreign_settings_file_is_not_ours(text: bytes, bare_workspace: Path) -> None:
    inner = bare_workspace / "inner"
    inner.mkdir()
    write_ini(inner, text)
    assert not settings.is_workspace(inner)
    assert settings.workspace(inner) == bare_workspace
    assert settings.get("seed", start=inner) == 0


def test_a_folder_called_settings_ini_is_not_ours(bare_workspace: Path) -> None:
    (bare_workspace / "inner" / "settings.ini").mkdir(parents=True)
    assert settings.workspace(bare_workspace / "inner") == bare_workspace


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"[mltoolkit]\nseed\n", "[line 2]: 'seed\\n'"),
        (b"[mltoolkit]\nseed = 1\nseed = 2\n", "option 'seed' in section 'mltoolkit' already exists"),
        (b"[mltoolkit]\n[mltoolkit]\n", "section 'mltoolkit' already exists"),
        (b"key = 1\n[mltoolkit]\n", "no section headers"),
        (b"[mltoolkit]\nvariables = caf\xe9\n", "not UTF-8 text: byte 27; save it as UTF-8"),
    ],
)
def test_a_broken_settings_file_of_ours_is_one_line_with_the_place(text: bytes, says: str, bare_workspace: Path) -> None:
    path = write_ini(bare_workspace, text)
    with pytest.raises(SettingsError) as caught:
        settings.get("seed")
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (caught.value.path, caught.value.exit_code) == (str(path), 2)  # type: ignore[attr-defined]


def test_bom_crlf_and_other_sections_are_fine(bare_workspace: Path) -> None:
    text = "[DEFAULT]\nlib_name = mine\n[mltoolkit]\nseed: 5\nvariables = LANG,\n  TZ\n# comment\n[other]\nx = 1\n"
    write_ini(bare_workspace, b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert settings.get("seed") == 5
    assert settings.get("variables") == ["LANG", "TZ"]
    write_ini(bare_workspace, b"\xef\xbb\xbf[mltoolkit]\nseed = 6\n")
    assert settings.get("seed") == 6


def test_percent_signs_are_kept(bare_workspace: Path) -> None:
    write_ini(bare_workspace, "[mltoolkit]\ntracking_uri = postgresql://u:a%40b%(x)s@db/mlflow\n")
    assert settings.get("tracking_uri") == "postgresql://u:a%40b%(x)s@db/mlflow"


def test_unknown_names_are_refused_with_the_nearest(bare_workspace: Path) -> None:
    with pytest.raises(SettingsError, match="no setting is called 'sead'; did you mean 'seed'") as caught:
        settings.get("sead")
    assert caught.value.setting == "sead"  # type: ignore[attr-defined]
    write_ini(bare_workspace, "[mltoolkit]\ntimout = 3\n")
    with pytest.raises(SettingsError, match=r"settings.ini: no setting is called 'timout'; did you mean 'timeout'"):
        settings.get("seed")


def test_unreadable_file_says_why(bare_workspace: Path) -> None:
    (bare_workspace / "settings.ini").unlink()
    (bare_workspace / "settings.ini").symlink_to("settings.ini")  # a loop
    with pytest.raises(SettingsError, match=r"cannot read .*settings.ini: Too many levels"):
        settings.workspace(bare_workspace)


# --- types


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("seed", "abc", "invalid literal"),
        ("seed", float("inf"), "cannot convert float infinity"),
        ("seed", [], "int()"),
        ("timeout", "soon", "a duration is written 90, 90s, 20m, 2h or none"),
        ("timeout", "-5", "a duration is written"),
        ("timeout", -5, "a duration is written"),
        ("timeout", float("nan"), "a duration is written"),
        ("timeout", "nones", "a duration is written"),
        ("timeout", "5 weeks", "a duration is written"),
        ("grace", "none", "a grace time must end; 0 means at once"),
        ("grace", float("inf"), "a grace time must end"),
        ("diff_limit", "-1", "a size is written 1000, 100kB, 10MB or 1GiB"),
        ("diff_limit", "10 furlongs", "a size is written"),
        ("telemetry", "maybe", "a switch is written yes or no"),
        ("telemetry", 1, "'int' object"),
        ("variables", 3, "'int' object"),
    ],
)
def test_wrong_values_are_refused_with_name_value_and_origin(
    name: str, value: Any, says: str, bare_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError) as caught:
        settings.get(name, value)
    assert str(caught.value).startswith(f"setting {name} = {value!r} (argument): ")
    assert says in str(caught.value)
    assert (caught.value.setting, str(caught.value.value)) == (name, str(value))  # type: ignore[attr-defined]
    if isinstance(value, str):
        monkeypatch.setenv(f"MLTOOLKIT_{name.upper()}", value)
        with pytest.raises(SettingsError, match=rf"\(MLTOOLKIT_{name.upper()}\)"):
            settings.get(name)
        monkeypatch.delenv(f"MLTOOLKIT_{name.upper()}")
        write_ini(bare_workspace, f"[mltoolkit]\n{name} = {value}\n")
        with pytest.raises(SettingsError, match=r"settings\.ini\): "):
            settings.get(name)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90), ("90s", 90), (" 1.5 M ", 90), ("20m", 1200), ("2h", 7200), ("1d", 86400), ("none", None), ("None", None),
        ("0", None), ("0s", None), ("0.0", None), (0, None), (0.0, None), (90, 90), (2.5, 2.5), (1e-05, 1e-05), (float("inf"), None),
    ],
)  # fmt: skip
def test_durations(text: str | float, seconds: float | None) -> None:
    assert settings.duration(text) == seconds


@given(st.integers(1, 10**9), st.sampled_from(["", "s", "m", "h", "d"]), st.sampled_from(["", " "]))
def test_durations_are_proportional_to_their_number(number: int, unit: str, space: str) -> None:
    one = settings.duration(f"1{unit}")
    assert one is not None
    assert settings.duration(f"{number}{space}{unit}") == number * one


@given(st.text(max_size=12))
def test_any_text_is_a_value_or_a_value_error(text: str) -> None:
    for convert in (settings.duration, settings.size):
        found: float | None = None
        with contextlib.suppress(ValueError):
            found = convert(text)
        assert found is None or found >= 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10", 10), (10, 10), ("1kB", 1000), ("1KIB", 1024), ("1.5 MB", 1_500_000), ("2gb", 2 * 10**9), ("0", 0), ("3b", 3)],
)
def test_sizes(text: str | int, expected: int) -> None:
    assert settings.size(text) == expected


@pytest.mark.parametrize("text", ["1", "yes", "TRUE", " on ", "0", "no", "False", "off", True, False])
def test_switches(text: str | bool, bare_workspace: Path) -> None:
    assert settings.get("telemetry", text) is (str(text).strip().lower() in ("1", "yes", "true", "on"))


@pytest.mark.parametrize(
    ("given_as", "found"),
    [
        ("mlruns.db", "{root}/mlruns.db"),
        ("/srv/mlruns", "/srv/mlruns"),
        ("~/mlruns", "{home}/mlruns"),
        ("sqlite:///mine.db", "sqlite:///{root}/mine.db"),
        ("sqlite:////srv/mine.db", "sqlite:////srv/mine.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("file:///srv/mlruns", "file:///srv/mlruns"),
        ("postgresql://u@db/m", "postgresql://u@db/m"),
    ],
)
def test_relative_places_are_relative_to_the_workspace(given_as: str, found: str, bare_workspace: Path) -> None:
    inner = bare_workspace / "inner"
    inner.mkdir()
    expected = found.format(root=bare_workspace, home=Path.home())
    assert settings.get("tracking_uri", given_as, start=inner) == expected


# --- telemetry


def test_telemetry_is_off_unless_the_workspace_allows_it(bare_workspace: Path) -> None:
    quiet: dict[str, str] = {"DO_NOT_TRACK": "0"}
    settings.silence(quiet)
    assert quiet == {"DO_NOT_TRACK": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}  # what a person has set stays
    write_ini(bare_workspace, "[mltoolkit]\ntelemetry = on\n")
    loud: dict[str, str] = {}
    settings.silence(loud, start=bare_workspace)
    assert loud == {}
