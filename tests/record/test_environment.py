"""The environment of a run: every state of a git work tree, packages, processes."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mltoolkit.record import environment
from mltoolkit.record.environment import Git, git_state, packages, without_credentials

IDENTITY = {f"GIT_{role}_{what}": text for role in ("AUTHOR", "COMMITTER") for what, text in (("NAME", "A"), ("EMAIL", "a@example.org"))}
GitCommand = Callable[..., str]


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Git's configuration of the user, empty; nothing of this machine is read."""
    path = tmp_path / "gitconfig"
    path.write_text("[init]\ndefaultBranch = main\n")
    for name, value in {"GIT_CONFIG_GLOBAL": str(path), "GIT_CONFIG_NOSYSTEM": "1", **IDENTITY}.items():
        monkeypatch.setenv(name, value)
    return path


@pytest.fixture
def tree(tmp_path: Path, configuration: Path) -> Path:
    """An empty git repository."""
    root = tmp_path / "tree: with \"quotes\" and ümlauts"
    root.mkdir()
    git(root, "init", "-q")
    return root


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def commit_all(root: Path) -> str:
    git(root, "add", "--all", "--force")
    git(root, "commit", "-qm", "a change", "--allow-empty")
    return git(root, "rev-parse", "HEAD")


def contents(root: Path) -> dict[str, tuple[str, bytes]]:
    """Every file of a tree with its kind and content."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.startswith(".git/") or name == ".git" or (path.is_dir() and not path.is_symlink()):
            continue
        if path.is_symlink():
            found[name] = ("link", os.fsencode(os.readlink(path)))
        else:
            found[name] = ("program" if path.stat().st_mode & 0o100 else "file", path.read_bytes())
    return found


def repeated(root: Path, state: Git, place: Path) -> dict[str, tuple[str, bytes]]:
    """The tree that the recorded diff makes of a clean clone at the recorded commit."""
    assert not state.diff_truncated
    clone = place / "clone"
    if state.commit:
        git(place, "clone", "-q", str(root), str(clone))
        git(clone, "checkout", "-q", "--detach", state.commit)
    else:
        git(place, "init", "-q", str(clone))
    (place / "uncommitted.diff").write_bytes(state.diff.encode("utf-8", "surrogateescape"))
    if state.diff:
        git(clone, "apply", "--whitespace=nowarn", str(place / "uncommitted.diff"))
    return contents(clone)


def change_everything(root: Path) -> None:
    """Every kind of change that a work tree can have."""
    noise = random.Random(1).randbytes(3000)
    files: dict[str, bytes] = {
        "changed.py": b"".join(b"line %d\n" % number for number in range(100)),
        "deleted.py": b"x\n",
        "sub/renamed.py": b"".join(b"row %d\n" % number for number in range(50)),
        "picture.png": noise,
        "no end": b"a\nb",
        "windows.txt": b"a\r\nb\r\n",
        "to be empty": b"x\n",
        "tool.sh": b"#!/bin/sh\n",
        "notebook.ipynb": b'{"cells": []}\n',
        "latin1.txt": b"caf\xe9\n",
    }
    for name, content in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content)
    (root / "link").symlink_to("changed.py")
    (root / ".gitignore").write_text("ignored\n")
    (root / ".gitattributes").write_text("*.ipynb diff=jupyternotebook\n*.ipynb merge=jupyternotebook\n*.up diff=upper\n")
    commit_all(root)

    (root / "changed.py").write_bytes(files["changed.py"].replace(b"line 3\n", b"line three\n").replace(b"line 90\n", b""))
    (root / "deleted.py").unlink()
    git(root, "mv", "sub/renamed.py", "moved.py")
    (root / "moved.py").write_bytes((root / "moved.py").read_bytes() + b"one more\n")
    (root / "picture.png").write_bytes(noise[:1000] + b"\0" + noise[1000:])
    (root / "no end").write_bytes(b"a\nb\nc")
    (root / "windows.txt").write_bytes(b"a\r\nB\r\n")
    (root / "to be empty").write_bytes(b"")
    (root / "tool.sh").chmod(0o755)
    (root / "notebook.ipynb").write_bytes(b'{"cells": [1]}\n')
    (root / "latin1.txt").write_bytes(b"caf\xe8\n")
    (root / "link").unlink()
    (root / "link").symlink_to("moved.py")
    (root / "staged.py").write_text("staged\n")
    git(root, "add", "staged.py")
    (root / "staged.py").write_text("staged, and changed again\n")
    (root / "ignored").write_text("ignored")
    untracked: dict[str, bytes] = {
        "new.py": b"new\n", "new dir/deep/x.py": b"x", "empty": b"", "-rf": b"dash\n", "*.py": b"star\n", ":(glob)x": b"magic\n",
        'q"uote\\': b"quote\n", "ta\tb": b"tab\n", "new\nline": b"newline\n", "ünï 🤯": b"unicode\n", "?? x": b"marks\n",
        "new.bin": noise, "new.up": b"up\n", "nul.txt": b"a\0b\n", "R  old": b"r\n", "trailing ": b"space\n", "crlf": b"a\r\n", "n.ipynb": b"{}\n",
    }  # fmt: skip
    for name, content in untracked.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "new.sh").write_bytes(b"#!/bin/sh\n")
    (root / "new.sh").chmod(0o755)
    (root / "new link").symlink_to("changed.py")
    (root / "dangling").symlink_to("/nowhere/at/all")
    (root / "to a folder").symlink_to("sub")
    with open(os.fsencode(root) + b"/caf\xe9.txt", "wb") as file:
        file.write(b"a name that is not UTF-8\n")


# --- where there is nothing, or no commit


def test_no_repository_and_no_folder(tmp_path: Path, configuration: Path) -> None:
    assert git_state(tmp_path) is None
    assert git_state(tmp_path / "nowhere") is None


def test_no_git(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert git_state(tree) is None


def test_a_bare_repository_has_no_work_tree(tmp_path: Path, configuration: Path) -> None:
    git(tmp_path, "init", "-q", "--bare", "bare.git")
    assert git_state(tmp_path / "bare.git") is None


def test_an_empty_repository(tree: Path) -> None:
    assert git_state(tree) == Git(commit=None, branch="main", dirty=False)


def test_no_commit_yet(tree: Path, tmp_path: Path) -> None:
    (tree / "staged.py").write_text("staged\n")
    git(tree, "add", "staged.py")
    (tree / "untracked.py").write_text("untracked\n")
    state = git_state(tree)
    assert state
    assert (state.commit, state.branch, state.dirty, state.diff_bytes) == (None, "main", True, len(state.diff))
    assert repeated(tree, state, tmp_path) == contents(tree)
    assert sorted(contents(tree)) == ["staged.py", "untracked.py"]


def test_clean_and_detached(tree: Path) -> None:
    (tree / "sub").mkdir()
    (tree / "sub" / "a.py").write_text("a")
    first = commit_all(tree)
    assert git_state(tree / "sub") == Git(commit=first, branch="main")
    second = commit_all(tree)
    git(tree, "checkout", "-q", first)
    assert git_state(tree) == Git(commit=first, branch=None)
    git(tree, "checkout", "-q", "-b", "feature/x", second)
    assert git_state(tree) == Git(commit=second, branch="feature/x")


def test_a_linked_work_tree_and_a_hooks_environment(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "a.py").write_text("a\n")
    commit_all(tree)
    git(tree, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    (tmp_path / "side" / "b.py").write_text("b\n")
    for name, value in {"GIT_DIR": f"{tree}/.git", "GIT_INDEX_FILE": "/nowhere/index", "GIT_WORK_TREE": str(tree)}.items():
        monkeypatch.setenv(name, value)
    state = git_state(tmp_path / "side")
    monkeypatch.undo()
    assert state
    assert (state.branch, state.dirty) == ("side", True)
    assert "b.py" in state.diff


# --- the diff


def test_the_diff_makes_the_same_tree_of_a_clean_clone(tree: Path, tmp_path: Path) -> None:
    change_everything(tree)
    index, objects = (tree / ".git" / "index").read_bytes(), sorted((tree / ".git" / "objects").rglob("*"))
    state = git_state(tree)
    assert (tree / ".git" / "index").read_bytes() == index, "looking changes nothing"
    assert sorted((tree / ".git" / "objects").rglob("*")) == objects
    assert state
    assert state.dirty
    assert state.diff_bytes == len(state.diff.encode("utf-8", "surrogateescape"))
    expected = contents(tree)
    del expected["ignored"]
    assert repeated(tree, state, tmp_path) == expected
    assert len(expected) > 35


def test_nobodys_configuration_breaks_the_diff(tree: Path, tmp_path: Path, configuration: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_everything(tree)
    plain = git_state(tree)
    assert plain
    configuration.write_text(
        "[init]\ndefaultBranch = main\n[color]\nui = always\ndiff = always\n[core]\nquotePath = false\nsafecrlf = true\npager = false\n"
        "[diff]\nnoprefix = true\nmnemonicPrefix = true\ncontext = 0\nexternal = false\nrenames = copies\nwordRegex = .\n"
        "submodule = log\nalgorithm = patience\nrelative = true\nwsErrorHighlight = all\nsuppressBlankEmpty = true\n"
        '[diff "jupyternotebook"]\ncommand = nbdev-diff-driver-is-not-to-be-used\n'
        '[diff "upper"]\ntextconv = tr a-z A-Z <\n[status]\nshowUntrackedFiles = no\nrelativePaths = false\nshort = true\nbranch = true\n'
    )
    for name, value in {"GIT_EXTERNAL_DIFF": "false", "GIT_DIFF_OPTS": "--unified=0"}.items():
        monkeypatch.setenv(name, value)
    state = git_state(tree)
    assert state
    assert "jupyternotebook" not in state.diff
    assert '+{"cells": [1]}' in state.diff, "the notebook's own text, not what a driver makes of it"
    expected = contents(tree)
    del expected["ignored"]
    assert repeated(tree, state, tmp_path) == expected


@settings(max_examples=15, deadline=None)
@given(st.dictionaries(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=6), st.binary(max_size=60), max_size=5))
def test_any_untracked_files_come_back(files: dict[str, bytes]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        root = Path(place, "tree")
        git(Path(place), "init", "-q", str(root))
        for name, content in files.items():
            if name not in (".", "..") and not name.lower().startswith(".git"):
                (root / name).write_bytes(content)
        state = git_state(root)
        assert state
        assert repeated(root, state, Path(place)) == contents(root)


def test_a_diff_over_the_limit_is_left_out_as_a_whole(tree: Path) -> None:
    (tree / "a.py").write_text("a\n" * 1000)
    commit_all(tree)
    (tree / "a.py").write_text("b\n" * 1000)
    (tree / "new.py").write_text("new\n")
    whole = git_state(tree)
    assert whole
    assert whole.diff_bytes > 4000
    exact = git_state(tree, whole.diff_bytes)
    assert exact == whole
    for limit in (0, 3, 100, whole.diff_bytes - 1):
        state = git_state(tree, limit)
        assert state
        assert (state.diff, state.diff_truncated, state.dirty) == ("", True, True)
        assert state.diff_bytes > limit
    none = git_state(tree, None)
    assert none
    assert (none.diff, none.diff_truncated, none.diff_bytes, none.dirty) == ("", False, 0, True)


def test_a_change_in_the_moment_of_the_commit_is_seen(tree: Path) -> None:
    for number in range(20):
        (tree / "a.py").write_text(f"a = {number:3d}\n")
        commit_all(tree)
        (tree / "a.py").write_text("a = 999\n")  # the same size, and perhaps the same time
        state = git_state(tree)
        assert state
        assert "+a = 999" in state.diff


def test_a_huge_untracked_file_is_not_read(tree: Path) -> None:
    (tree / "a.py").write_text("a\n")
    commit_all(tree)
    (tree / "a.py").write_text("b\n")
    with (tree / "huge.bin").open("wb") as file:
        file.truncate(4 * 2**40)  # a hole of 4 TB: reading it would take hours
    began = time.monotonic()
    state = git_state(tree)
    assert state
    assert (state.diff, state.diff_truncated, state.diff_bytes) == ("", True, 4 * 2**40)
    assert time.monotonic() - began < 30


def test_many_untracked_files_are_one_question_to_git(tree: Path, tmp_path: Path) -> None:
    commit_all(tree)
    for number in range(3000):
        (tree / f"empty {number}").touch()
    state = git_state(tree)
    assert state
    assert state.diff.count("new file mode") == 3000


def test_what_git_cannot_tell_is_no_diff_instead_of_half_of_one(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "a.py").write_text("a\n")
    commit_all(tree)
    (tree / "a.py").write_text("b\n")
    (tree / "new.py").write_text("new\n")
    run = subprocess.run
    for failing in ("diff", "add", "rev-parse --git-path"):

        def breaking(command: list[str], failing: str = failing, **options: object) -> object:
            broken = f" {failing} " in f" {' '.join(command)} "
            return run(["git", "-C", "/nowhere", "status"] if broken else command, **options)  # type: ignore[call-overload]

        monkeypatch.setattr(subprocess, "run", breaking)
        state = git_state(tree)
        assert state
        assert (state.dirty, state.diff, state.diff_truncated) == (True, "", True), failing

    def hanging(command: list[str], **options: object) -> object:
        raise subprocess.TimeoutExpired(command, 60)

    monkeypatch.setattr(subprocess, "run", hanging)
    assert git_state(tree) is None


def test_a_repository_inside_is_left_out(tree: Path, tmp_path: Path) -> None:
    commit_all(tree)
    (tree / "inner").mkdir()
    git(tree / "inner", "init", "-q")
    (tree / "inner" / "a.py").write_text("a")
    (tree / "b.py").write_text("b")
    state = git_state(tree)
    assert state
    assert list(repeated(tree, state, tmp_path)) == ["b.py"]


# --- credentials


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://example.org/a.git", "https://example.org/a.git"),
        ("https://token@example.org/a.git", "https://example.org/a.git"),
        ("https://me:pass@example.org:8443/a.git", "https://example.org:8443/a.git"),
        ("https://me:p@ss@example.org/a.git", "https://example.org/a.git"),
        ("https://:pass@example.org", "https://example.org"),
        ("postgresql+psycopg2://me:pa/ss@db:5432/mlflow", "postgresql+psycopg2://db:5432/mlflow"),
        ("postgresql://db/mlflow?user=me&password=x%20y&sslmode=on", "postgresql://db/mlflow?user=me&password=***&sslmode=on"),
        ("https://example.org/x?access_token=abc&page=2", "https://example.org/x?access_token=***&page=2"),
        ("http://localhost:5000/a@b", "http://localhost:5000/a@b"),
        ("https://example.org/path:with@signs", "https://example.org/path:with@signs"),
        ("https://example.org?mail=a@b.org", "https://example.org?mail=a@b.org"),
        ("git@example.org:team/a.git", "git@example.org:team/a.git"),
        ("sqlite:////home/me@work/a.db", "sqlite:////home/me@work/a.db"),
        ("cannot reach http://me:pw@h/x, nor https://u:pw@i/y", "cannot reach http://h/x, nor https://i/y"),
        ("'http://me:pw@h/x' by a@b.org", "'http://h/x' by a@b.org"),
        ("", ""),
    ],
)
def test_credentials_are_removed_from_urls(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


def test_the_remote_is_told_without_credentials(tree: Path) -> None:
    git(tree, "remote", "add", "origin", "https://me:hunter2@example.org/team/a.git")
    state = git_state(tree)
    assert state
    assert state.remote == "https://example.org/team/a.git"


# --- packages, machine, person


def test_packages_are_read_off_the_names_of_folders(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for path in (
        first / "Foo.Bar_baz-1.2.dist-info", first / "old-1.0-py3.11.egg-info", first / "older-2.0.egg-info", first / "local-2.0+cpu.dist-info",
        first / "~roken-1.0.dist-info", first / "module", first / "no-version", second / "foo_bar_baz-9.dist-info", second / "only_here-0.dist-info",
    ):  # fmt: skip
        path.mkdir(parents=True)
    (first / "file-3.0-py3.egg-info").write_text("")
    found = packages([str(first), "/nowhere", str(second)])
    assert found == {"file": "3.0", "foo-bar-baz": "1.2", "local": "2.0+cpu", "old": "1.0", "older": "2.0", "only-here": "0"}
    assert list(found) == sorted(found)
    assert environment.requirements(found).splitlines()[1] == "foo-bar-baz==1.2"
    assert environment.requirements({}) == ""


def test_packages_agree_with_the_metadata_of_what_is_installed() -> None:
    from importlib.metadata import distributions

    expected: dict[str, str] = {}
    for each in distributions():
        expected.setdefault(re.sub(r"[-_.]+", "-", each.metadata["Name"]).lower(), each.version)
    assert packages() == dict(sorted(expected.items()))


def test_environment_keeps_the_variables_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANTED", "ünï")
    monkeypatch.setenv("UNWANTED", "x")
    found = environment.environment(["WANTED", "NOT_SET"])
    assert found.variables == {"WANTED": "ünï"}
    assert found.python == ".".join(map(str, sys.version_info[:3]))
    assert found.implementation == "CPython"
    assert 1 <= found.cpu_count <= (os.cpu_count() or 1)
    assert found.memory_bytes
    assert found.memory_bytes > 10**8
    assert "pytest" in found.packages


def test_machines_that_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    monkeypatch.delattr(os, "sysconf")
    found = environment.environment()
    assert (found.cpu_count, found.memory_bytes) == (1, None)


def test_a_person_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody")
    assert environment.user() == "somebody"
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 123_456_789)  # a container's user without a name
    assert environment.user() == "unknown"
    assert environment.host()


# --- processes


def test_a_process_is_known_by_pid_and_start() -> None:
    own = environment.process_start(os.getpid())
    assert own == environment.process_start(os.getpid())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        start = environment.process_start(child.pid)
        assert start is not None
        assert start != own
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, but not yet collected
        assert environment.process_start(child.pid) is None
    assert environment.process_start(child.pid) is None


def test_the_name_of_a_program_does_not_confuse(tmp_path: Path) -> None:
    program = tmp_path / "a) Z 1 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([str(program), "60"]) as child:
        try:
            assert re.fullmatch(r"\w{8}\.\d+:\d+", environment.process_start(child.pid) or "")
        finally:
            child.kill()


def test_where_there_is_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil  # noqa: F401 (before it looks at the platform)

    real = Path.read_bytes
    monkeypatch.setattr(sys, "platform", "darwin")

    def read_bytes(path: Path) -> bytes:
        if str(path).startswith("/proc/"):
            raise FileNotFoundError
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    own = environment.process_start(os.getpid())
    assert own
    assert float(own) == pytest.approx(time.time(), abs=86400 * 365)
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    assert environment.process_start(child.pid) is None


def test_without_a_boot_id_the_start_is_still_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(path: Path, *args: object, **options: object) -> str:
        raise PermissionError

    monkeypatch.setattr(Path, "read_text", unreadable)
    assert re.fullmatch(r":\d+", environment.process_start(os.getpid()) or "")
