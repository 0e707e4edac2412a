"""A sweep whose notebook and outputs lie in an object store: a real S3 API on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from conftest import notebook_of

from mltoolkit.errors import NotebookInvalid
from mltoolkit.execution.sweep import sweep
from mltoolkit.notebook import document
from mltoolkit.record import runs


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty bucket."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    variables = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="notebooks")
    yield "s3://notebooks"
    server.stop()


def test_there_and_back(workspace: Path, tiny: str, bucket: str) -> None:
    import boto3

    store = boto3.client("s3")
    store.put_object(Bucket="notebooks", Key="in/a.ipynb", Body=nbformat.writes(notebook_of("print(x * 2)", parameters="x: int = 1", kernel=tiny)).encode())
    done = sweep(f"{bucket}/in/a.ipynb", {"x": "3..4"}, output=f"{bucket}/out/{{x}}.ipynb", workers=2)
    assert done.status == "succeeded", [point.message for point in done.points]
    assert sorted(each["Key"] for each in store.list_objects_v2(Bucket="notebooks", Prefix="out/")["Contents"]) == ["out/3.ipynb", "out/4.ipynb"]
    assert document.read(f"{bucket}/out/4.ipynb").cells[-1].outputs[0].text == "8\n"
    run = runs.find(str(done.points[1].run_id))
    assert (run.notebook, run.output) == (f"{bucket}/in/a.ipynb", f"{bucket}/out/4.ipynb")
    with pytest.raises(NotebookInvalid, match="none"):
        sweep(f"{bucket}/in/none.ipynb", {"x": [1]})
