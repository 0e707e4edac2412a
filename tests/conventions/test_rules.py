"""Every rule is right about its own two examples, can be explained, and is chosen as in ruff."""

from __future__ import annotations

import json
import subprocess
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from mltoolkit.conventions import rules as registry
from mltoolkit.conventions.data_rules import data_in_git
from mltoolkit.conventions.job_rules import writes
from mltoolkit.conventions.model import read
from mltoolkit.conventions.packaging import facts
from mltoolkit.conventions.rules import (
    Choice,
    Found,
    Rule,
    Workspace,
    codes,
    example_notebook,
    explain,
    find_rule,
    rules,
)
from mltoolkit.errors import Invalid, SettingsError

RULES = rules()
SINGLE = [code for code, rule in RULES.items() if rule.scope == "notebook" and rule.bad]
SEVERAL = [code for code, rule in RULES.items() if rule.scope == "workspace" and rule.bad]
FAMILIES = {"MLT0", "MLT1", "MLT2", "MLT3", "MLT4", "MLT5", "MLT6", "MLT7", "MLT8"}


def found_in(code: str, *cells: str | dict[str, Any], **options: Any) -> list[tuple[int | None, int | None, str]]:
    notebook = read(example_notebook(cells), **options)
    return [(each.cell, each.line, each.message) for each in RULES[code].check(notebook)]


def workspace_of(root: Path, files: dict[str, str]) -> Workspace:
    workspace = Workspace(root, jobs=[name for name in files if name.endswith("jobs.yaml")])
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
        if name.endswith(".ipynb"):
            notebook = read(example_notebook(tuple(text.split("\n\n"))), name)
            workspace.facts[name] = {**facts(notebook), "writes": writes(notebook)}
    return workspace


# --- examples


@pytest.mark.parametrize("code", SINGLE)
def test_the_bad_example_trips_the_rule_and_the_good_one_does_not(code: str) -> None:
    rule = RULES[code]
    assert isinstance(rule.bad, tuple)
    assert isinstance(rule.good, tuple)
    assert list(rule.check(read(example_notebook(rule.bad), job=rule.job)))
    assert list(rule.check(read(example_notebook(rule.good), job=rule.job))) == []


@pytest.mark.parametrize("code", SEVERAL)
def test_the_bad_workspace_trips_the_rule_and_the_good_one_does_not(code: str, tmp_path: Path) -> None:
    rule = RULES[code]
    assert isinstance(rule.bad, dict)
    assert isinstance(rule.good, dict)
    assert list(rule.check(workspace_of(tmp_path / "bad", rule.bad)))
    assert list(rule.check(workspace_of(tmp_path / "good", rule.good))) == []


@pytest.mark.parametrize("code", RULES)
def test_a_page_says_why_and_what_to_do(code: str) -> None:
    rule = RULES[code]
    page = explain(rule)
    assert rule.summary.endswith(".")
    assert page.startswith(f"{code} {rule.name} ({rule.severity}")
    for part in (rule.summary, rule.why, rule.fix):
        assert part
        assert part in page
    assert ("Bad:" in page) == bool(rule.bad)
    assert rule.default or rule.seen or code == "MLT102"


def test_names_are_unique_and_every_family_is_there() -> None:
    assert len({rule.name for rule in RULES.values()}) == len(RULES)
    assert {code[:4] for code in RULES} == FAMILIES


# --- what a rule must leave alone, and further things it finds


@pytest.mark.parametrize(
    ("code", "cells"),
    [
        ("MLT101", ({"source": "1", "execution_count": 1}, "2", {"source": "3", "execution_count": 2})),
        ("MLT102", ({"source": "1", "execution_count": 2}, {"source": "2", "execution_count": 1})),
        ("MLT103", ("def f():\n    return later\n", "later = 1\nf()")),
        ("MLT103", ("import sys\nif sys.version_info < (3,):\n    text = unicode('')",)),
        ("MLT103", ("if 'x' in globals():\n    print(x)",)),
        ("MLT103", ("%run setup.py", "print(anything)")),
        ("MLT103", ("%%sql\nselect 1", "print(anything)")),
        ("MLT103", ("display(_1); Out; get_ipython()",)),
        ("MLT103", ("class A:\n    x = 1\n    y = x\n    def f(self): return [self.y for _ in range(3)]",)),
        ("MLT103", ("async def f(): ...\nawait f()\nmatch 1:\n    case [a, *b]: print(a, b)\n    case {'k': c, **d}: print(c, d)\n    case e: print(e)",)),
        ("MLT103", ({"source": "nothing", "metadata": {"tags": ["raises-exception"]}},)),
        ("MLT103", ("#| eval: false\nnothing",)),
        ("MLT103", ("def f():\n    global made\n    made = 1\n", "f()", "made")),
        ("MLT104", ("def f(): return later", "later = 1")),
        ("MLT105", ("if (n := 10) > 5: print(n)\nprint([m := 1 for _ in range(2)], m)",)),
        ("MLT107", ({"source": "x = 1;", "execution_count": 1, "outputs": [{"output_type": "stream", "name": "stdout", "text": "1"}]},)),
        ("MLT202", ({"source": "n = 1  # type: int", "metadata": {"tags": ["parameters"]}},)),
        ("MLT205", ("start = '2024-01-01'",)),
        ("MLT301", ("import random, time", "time.sleep(random.random()); print(f'run-{random.random()}')")),
        ("MLT302", ("import numpy as np", "np.random.seed(0)", "np.random.rand()")),
        ("MLT303", ("import random", "random.sample([1, 2], 1)")),
        ("MLT304", ("from sklearn.model_selection import train_test_split", "train_test_split([1], shuffle=False)")),
        ("MLT304", ("import numpy as np\nfrom sklearn.cluster import KMeans", "np.random.seed(1)", "KMeans(3)")),
        ("MLT304", ("from sklearn.cluster import KMeans", "KMeans(**options)")),
        ("MLT306", ("import time", "name = time.strftime('%Y-%m-%d-%H-%M', time.gmtime())")),
        ("MLT306", ("from datetime import datetime", "print(datetime.now())")),
        ("MLT307", ("from datetime import UTC, datetime", "datetime.fromtimestamp(0, UTC)")),
        ("MLT308", ("sorted(list(set('ab')))",)),
        ("MLT309", ("import pandas as pd", "pd.read_csv('https://raw.githubusercontent.com/a/b/0123456789abcdef0123456789abcdef01234567/c.csv')")),
        ("MLT309", ("import pooch", "pooch.retrieve('https://example.org/a.csv', known_hash='sha256:1')")),
        ("MLT311", ("!ls -l", "!pip install x")),
        ("MLT313", ("config = '~/.config/tool'",)),
        ("MLT314", ("import os", "os.environ['REGION'] = 'eu'", "os.environ['REGION']")),
        ("MLT314", ("%env REGION=eu", "import os\nos.getenv('REGION')")),
        ("MLT406", ("#| default_exp a", "#| export\nimport warnings\nwarnings.filterwarnings('ignore')")),
        ("MLT505", ({"source": "f", "metadata": {"tags": ["personal-data"]}, "outputs": [{"output_type": "display_data", "data": {"text/html": ["<th>email</th>"]}}]},)),
        ("MLT506", ({"source": "import pandas as pd\nf['email']", "notebook": {"mltoolkit": {"personal_data": ["email"]}}},)),
        ("MLT507", ({"source": "f", "outputs": [{"output_type": "stream", "text": ["whom to ask: ana@till.org"]}]},)),
        ("MLT508", ("import mlflow", "mlflow.pyfunc.log_model(name='m', python_model='model.py'); mlflow.pyfunc.save_model('m', python_model=file)")),
        ("MLT508", ("import mlflow\nfrom pathlib import Path", "mlflow.pyfunc.log_model(name='m', python_model=Path('model.py'), **more)")),
        ("MLT508", ("import mlflow", "mlflow.sklearn.log_model(model, name='m', serialization_format='skops'); mlflow.xgboost.log_model(model)")),
        ("MLT601", ("url = 'postgresql://user:password@localhost/db'",)),
        ("MLT602", ("password = os.environ['P']\napi_key = '<YOUR KEY 1>'",)),
        ("MLT604", ({"source": "1", "notebook": {"widgets": {"state": {"a": {"value": 3}}}}},)),
        ("MLT803", ("import pandas as pd\npd.set_option('display.precision', None)",)),
        ("MLT804", ("%pdb off",)),
        ("MLT805", ("def ask():\n    return input()",)),
        ("MLT806", ("text = '# TODO'",)),
        ("MLT807", ("x = 1", "")),
    ],
)  # fmt: skip
def test_what_is_in_order_is_left_alone(code: str, cells: tuple[Any, ...]) -> None:
    assert found_in(code, *cells) == []


KEY = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" * 2


@pytest.mark.parametrize(
    ("code", "cells", "where"),
    [
        ("MLT002", ("x = 1\nprint 'x'",), (0, 2)),
        ("MLT003", ({"source": "1", "notebook": {"kernelspec": "odd"}},), (None, None)),
        ("MLT103", ("try:\n    nothing\nexcept ValueError:\n    pass",), (0, 2)),
        ("MLT103", ("x = 1", "del x\nx"), (1, 2)),
        ("MLT105", ("x = x",), (0, 1)),
        ("MLT107", ({"source": "f(2)", "execution_count": 3, "outputs": [{"output_type": "error", "ename": "E", "traceback": ["\x1b[0;31m<ipython-input-3-ab>\x1b[0m in <module>\n----> 1 f(1)"]}]},), (0, None)),
        ("MLT302", ("import numpy as np", "np.random.default_rng()"), (1, 1)),
        ("MLT304", ("from sklearn.model_selection import KFold", "KFold(3, shuffle=True)"), (1, 1)),
        ("MLT305", ("import torch", "torch.randn(3)"), (1, 1)),
        ("MLT306", ("import datetime", "today = datetime.date.today()"), (1, 1)),
        ("MLT307", ("import datetime as dt", "dt.datetime.fromtimestamp(0)"), (1, 1)),
        ("MLT309", ("!wget -q https://example.org/data.zip",), (0, 1)),
        ("MLT310", ("!{sys.executable} -m pip install x",), (0, 1)),
        ("MLT310", ("%conda install x",), (0, 1)),
        ("MLT311", ("import os", "os.system('rm x')"), (1, 1)),
        ("MLT311", ("%%bash\nrm x",), (0, 1)),
        ("MLT313", ("open('C:\\\\Users\\\\ana\\\\a.csv')",), (0, 1)),
        ("MLT314", ("import os", "os.getenv('API_TOKEN')"), (1, 1)),
        ("MLT507", ({"source": "f", "outputs": [{"output_type": "display_data", "data": {"text/plain": "ana@till.org bo@till.org"}}]},), (0, None)),
        ("MLT508", ("from mlflow import sklearn", "sklearn.save_model(model, 'm', serialization_format=sklearn.SERIALIZATION_FORMAT_PICKLE)"), (1, 1)),
        ("MLT508", ("import mlflow", "mlflow.pyfunc.log_model(name='m', python_model=Model())"), (1, 1)),
        ("MLT508", ("import mlflow", "mlflow.pyfunc.log_model(name='m', python_model=lambda x: x)"), (1, 1)),
        ("MLT508", ("import mlflow.statsmodels", "mlflow.statsmodels.log_model(fitted, name='m')"), (1, 1)),
        ("MLT602", ("connect(password='kT9-vq2Lw8z')",), (0, 1)),
        ("MLT602", ("secret_key: str = 'kT9-vq2Lw8z'",), (0, 1)),
        ("MLT603", ({"source": "1", "outputs": [{"output_type": "error", "ename": "E", "evalue": KEY, "traceback": []}]},), (0, None)),
        ("MLT604", ({"source": "1", "notebook": {"widgets": {"state": {"a": {"value": KEY}}}}},), (None, None)),
        ("MLT605", ("import mlflow", "mlflow.log_params({'db_password': p})"), (1, 1)),
        ("MLT803", ({"source": "f", "outputs": [{"output_type": "display_data", "data": {"text/html": ["<table class='dataframe'>", "<tr>" * 150]}}]},), (0, None)),
        ("MLT804", ("%debug",), (0, 1)),
        ("MLT804", ("import pdb\npdb.set_trace()",), (0, 2)),
        ("MLT806", ("pass",), (0, 1)),
        ("MLT806", ("...",), (0, 1)),
    ],
)  # fmt: skip
def test_what_else_is_found(code: str, cells: tuple[Any, ...], where: tuple[int | None, int | None]) -> None:
    found = found_in(code, *cells)
    assert [each[:2] for each in found] == [where]
    assert KEY not in found[0][2]
    assert "kT9" not in found[0][2]


def test_where_a_secret_stood_is_said() -> None:
    assert "widgets" in found_in("MLT604", {"source": "1", "notebook": {"widgets": {"a": KEY}}})[0][2]
    assert "metadata" in found_in("MLT604", {"source": "1", "notebook": {"other": {"a": KEY}}})[0][2]
    assert "traceback" in found_in("MLT603", {"source": "1", "outputs": [{"output_type": "error", "evalue": KEY}]})[0][2]


def test_an_old_format_is_found() -> None:
    old = {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [{"cells": [{"cell_type": "code", "input": "1", "outputs": [], "language": "python", "collapsed": False}]}]}
    found = list(RULES["MLT004"].check(read(json.dumps(old).encode())))
    assert [each.message for each in found] == ["this is notebook format 3.0"]
    assert [each.edit for each in RULES["MLT003"].check(read(json.dumps(old).encode()))] == [None], "the file is not one that a fix could be written to"


def test_other_languages_are_not_read_as_python() -> None:
    julia = {"source": "println(\"a\") end", "notebook": {"kernelspec": {"name": "julia-1.9", "language": "julia"}, "language_info": {"name": "julia"}}}
    notebook = read(example_notebook((julia,)), job=True)
    assert notebook.language == "julia"
    for code in SINGLE:
        assert list(RULES[code].check(notebook)) == [], code


# --- several files


def test_a_module_is_out_of_step_in_three_ways(tmp_path: Path) -> None:
    example = RULES["MLT401"].good
    assert isinstance(example, dict)
    rule = RULES["MLT401"]
    gone = workspace_of(tmp_path / "a", {name: text for name, text in example.items() if name != "shop/prices.py"})
    assert ["does not exist" in each.message for each in rule.check(gone)] == [True]
    more = workspace_of(tmp_path / "b", {**example, "shop/prices.py": example["shop/prices.py"] + "\n# %% ../nbs/00_prices.ipynb #c9\nold = 1\n"})
    assert ["no longer in this notebook" in each.message for each in rule.check(more)] == [True]
    project = {"projects/my-shop/00_prices.ipynb": "#| default_exp prices\n\n#| export\nx = 1\n", "projects/my-shop/my_shop/prices.py": "# %% ../00_prices.ipynb #c1\nx = 1\n"}
    assert list(rule.check(workspace_of(tmp_path / "c", project))) == []
    elsewhere = workspace_of(tmp_path / "d", {"notes/a.ipynb": "#| default_exp prices\n\n#| export\nx = 1\n"})
    assert list(rule.check(elsewhere)) == []


def test_untaught_exports_are_told_of_the_whole_workspace_only(tmp_path: Path) -> None:
    rule = RULES["MLT405"]
    assert isinstance(rule.bad, dict)
    workspace = workspace_of(tmp_path, rule.bad)
    assert [each.message.split("`")[1] for each in rule.check(workspace)] == ["gross"]
    workspace.whole = False
    assert list(rule.check(workspace)) == []
    tested = workspace_of(tmp_path / "b", {**rule.bad, "tests/test_prices.py": "gross(1)"})
    assert list(rule.check(tested)) == []


def test_data_and_models_in_git_are_found(tmp_path: Path) -> None:
    for name, size in {"big.csv": 200_000, "small.csv": 10, "model.pkl": 10, "tests/big.csv": 200_000, "notes.txt": 200_000, "gone.csv": 200_000}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    assert list(data_in_git.check(Workspace(tmp_path))) == [], "there is no git"
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    (tmp_path / "gone.csv").unlink()
    assert sorted(each.path for each in data_in_git.check(Workspace(tmp_path))) == ["big.csv", "model.pkl"]
    assert list(data_in_git.check(Workspace(tmp_path, whole=False))) == []


@pytest.mark.parametrize(
    "text",
    ["", "jobs: [", "- 1", "jobs: 3", "jobs: {a: 1}", "jobs: {[1]: {notebook: a.ipynb}}", "a: &a [*a]", "jobs: {a: {notebook: [1], schedule: 3}}", "\x00", "x: &x {jobs: 1}\n<<: *x"],
)  # fmt: skip
def test_a_broken_jobs_yaml_has_no_jobs(text: str, tmp_path: Path) -> None:
    (tmp_path / "jobs.yaml").write_text(text)
    for code in SEVERAL:
        found = list(RULES[code].check(Workspace(tmp_path, jobs=["jobs.yaml"])))
        assert all(each.path == "jobs.yaml" for each in found)


def test_what_jobs_have_in_common_counts(tmp_path: Path) -> None:
    text = "x-a: &a {timeout: 1m}\nx-b: &b {owner: ana}\njobs:\n  one: {<<: [*a, *b], notebook: sub/one.ipynb, retries: {times: 0}}\n"
    workspace = workspace_of(tmp_path, {"jobs.yaml": text})
    assert [code for code in SEVERAL if list(RULES[code].check(workspace))] == []


# --- the registry


def point(target: str) -> EntryPoint:
    return EntryPoint("mine", target, "mltoolkit.rules")


@pytest.mark.parametrize(
    ("offered", "message"),
    [([1], "offers int where a Rule is expected"), ([RULES["MLT103"]], "offers MLT103, which another package has already"), (3, "cannot be loaded: TypeError")],
)
def test_a_package_that_offers_something_else_is_named(offered: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "MINE", offered, raising=False)
    points = (*(each for each in registry.entries("mltoolkit.rules")), point("mltoolkit.conventions.rules:MINE"))
    monkeypatch.setattr(registry, "entries", lambda group: points)
    with pytest.raises(Invalid, match=message):
        rules()


def test_rules_of_others_join_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Rule("ABC001", "mine", "Mine.", "why", "fix", lambda notebook: [Found("found")], (), ())
    monkeypatch.setattr(registry, "MINE", [mine], raising=False)
    points = (*(each for each in registry.entries("mltoolkit.rules")), point("mltoolkit.conventions.rules:MINE"))
    monkeypatch.setattr(registry, "entries", lambda group: points)
    assert find_rule("abc001") is mine
    assert next(iter(rules())) == "ABC001"


def test_an_unknown_rule_is_refused_with_the_nearest() -> None:
    with pytest.raises(Invalid, match="there is no rule 'MLT1033'; did you mean 'MLT103'"):
        find_rule("MLT1033")


@pytest.mark.parametrize(
    ("select", "ignore", "code", "default", "expected"),
    [
        ("", "", "MLT103", True, True),
        ("", "", "MLT102", False, False),
        ("MLT1", "", "MLT102", False, True),
        ("MLT1", "", "MLT301", True, False),
        ("", "MLT1", "MLT103", True, False),
        ("MLT103", "MLT1", "MLT103", True, True),
        ("MLT1", "MLT103", "MLT103", True, False),
        ("ALL", "MLT1", "MLT103", True, False),
        ("ALL", "", "MLT102", False, True),
        ("", "ALL", "MLT103", True, False),
    ],
)
def test_codes_are_chosen_as_in_ruff(select: str, ignore: str, code: str, default: bool, expected: bool) -> None:
    assert Choice(codes(select), codes(ignore)).has(code, default) is expected


def test_codes_are_read_from_texts_and_lists() -> None:
    assert codes("mlt1, F401 E5") == ("MLT1", "F401", "E5")
    assert codes(["MLT1,F", "ALL"]) == ("MLT1", "F", "")
    with pytest.raises(SettingsError, match="'MLT-1' is not a rule's code"):
        codes("MLT-1")
