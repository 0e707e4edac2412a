"""Known formats: each is found in any surroundings, and nothing else is: read against real files."""

from __future__ import annotations

import base64
import io
import json
import random
import subprocess
import sys
import sysconfig
import textwrap
import uuid
from pathlib import Path

import numpy as np
import pytest

from mltoolkit.record.known_formats import FORMATS, LONGEST_MATCH, find_formats
from mltoolkit.record.redaction import Redactor

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"
ALNUM = LETTERS + DIGITS
URL = ALNUM + "_-"
HEX = DIGITS + "abcdef"
chance = random.Random(0)  # noqa: S311


def some(length: int, alphabet: str = ALNUM) -> str:
    """Random characters, among them a digit, a capital and a small letter if the alphabet has them."""
    must = [letter for letter in "7Rq" if letter in alphabet]
    return "".join(must + chance.choices(alphabet, k=length - len(must)))


def shown(text: str) -> str:
    """`text` as it may be shown."""
    return Redactor().text(text)


def private_key(kind: str = "", header: str = "", lines: int = 4) -> str:
    body = "\n".join([*(some(64, ALNUM + "+/") for _ in range(lines)), some(22, ALNUM + "+/") + "=="])
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{header}{body}\n-----END {kind}PRIVATE KEY-----"


TOKENS = {
    "github-token": [f"gh{kind}_{some(36)}" for kind in "pousr"] + ["github_pat_" + some(22) + "_" + some(59)],
    "gitlab-token": ["glpat-" + some(20, URL), "glpat-" + some(40, URL) + ".01." + some(9, HEX[:16]), "glrt-" + some(20, URL)],
    "npm-token": ["npm_" + some(36)],
    "pypi-token": ["pypi-" + "AgEIcHlwaS5vcmc" + some(140, URL)],
    "aws-access-key-id": ["AKIA" + some(16, LETTERS[:26] + "234567"), "ASIA" + some(16, LETTERS[:26] + "234567")],
    "google-key": ["AIza" + some(35, URL), "ya29." + some(120, URL), "GOCSPX-" + some(28, URL)],
    "databricks-token": ["dapi" + some(32, HEX), "dapi" + some(32, HEX) + "-2"],
    "digitalocean-token": ["dop_v1_" + some(64, HEX)],
    "anthropic-key": ["sk-ant-" + "api03-" + some(93, URL) + "AA"],
    "openai-key": ["sk-" + some(48), "sk-" + some(20) + "T3BlbkFJ" + some(20), "sk-" + "proj-" + some(120, URL)],
    "huggingface-token": ["hf_" + some(34, LETTERS)],
    "slack-token": ["xoxb-" + some(12, DIGITS) + "-" + some(24), "xapp-1-A" + some(10) + "-" + some(12, DIGITS) + "-" + some(64, HEX)],
    "sendgrid-key": ["SG." + some(22, URL) + "." + some(43, URL)],
    "twilio-key": ["SK" + some(32, HEX)],
    "stripe-key": ["sk_live_" + some(24), "rk_live_" + some(99), "sk_test_" + some(24), "whsec_" + some(32)],
    "jwt": [
        "eyJ" + some(17, URL) + ".eyJ" + some(40, URL) + "." + some(43, URL),
        "eyJ" + some(80, URL) + "." + some(342, URL) + "." + some(16, URL) + "." + some(200, URL) + "." + some(22, URL),
    ],
}
KINDS_OF_TOKEN = [(kind, token) for kind, tokens in TOKENS.items() for token in tokens]
IN_CONTEXT = {
    "aws-secret-key": [
        ("aws_secret_access_key = {}", some(40, ALNUM + "+/")),
        ("AWS_SECRET_ACCESS_KEY={}", some(40, ALNUM + "+/")),
        ('{{"SecretAccessKey": "{}", "x": 1}}', some(40, ALNUM + "+/")),
        ('"{{\\"SecretAccessKey\\": \\"{}\\"}}"', some(40, ALNUM + "+/")),
        ("{{&quot;secretAccessKey&quot;: &quot;{}&quot;}}", some(40, ALNUM)),
        ('aws_secret_access_key: str = "{}"', some(40, ALNUM)),
        ("storage_options={{'key': key, 'secret': b'{}'}}", some(40, ALNUM)),
        ("Secret access key: {}", some(40, ALNUM + "/")),
        ('{{"SecretAccessKey":"{}"}}', some(20) + "\\/" + some(19)),
    ],
    "azure-key": [
        ("AccountName=flights;AccountKey={};EndpointSuffix=core.windows.net", some(86, ALNUM + "+/") + "=="),
        ("SharedAccessKeyName=Root;SharedAccessKey={}", some(43, ALNUM + "+/") + "="),
    ],
    "azure-signature": [
        ("https://a.blob.core.windows.net/c?sv=2022-11-02&sp=r&sig={}&se=2030", some(43) + "%3D"),
        ("https://a.blob.core.windows.net/c?sv=2022-11-02\\u0026sig={}", some(43) + "="),
        ('<a href="https://a.blob.core.windows.net/c?sv=2022&amp;sig={}">', some(20) + "%2F" + some(22) + "%3d"),
    ],
    "telegram-token": [("https://api.telegram.org/bot123456789:{}/sendMessage", "AA" + some(33, URL))],
    "webhook": [
        ("https://hooks.slack.com/services/{}", "T" + some(8) + "/B" + some(8) + "/" + some(24)),
        ("https://discord.com/api/webhooks/" + some(18, DIGITS) + "/{}", some(68, URL)),
        ("https://flights.webhook.office.com/webhookb2/{}", f"{uuid.UUID(int=7)}@{uuid.UUID(int=8)}/IncomingWebhook/{some(32, HEX)}"),
    ],
    "authorization": [
        ("Authorization: Bearer {}", some(12)),
        ("{{'Authorization': 'Bearer {}'}}", some(40)),
        ('{{"authorization": "Basic {}"}}', base64.b64encode(b"ann:correct horse").decode()),
        ("b'GET / HTTP/1.1\\r\\nAuthorization: Basic {}\\r\\n'", base64.b64encode(b"ann:correct horse").decode()),
        ("headers = [('Authorization', 'Token {}')]", some(40, HEX)),
        ('curl -H "Proxy-Authorization: bearer {}" https://example.org', "MixedCaseTokenOfWords"),
        ("sent Bearer {} twice", some(30)),
        ("sent Basic {} twice", base64.b64encode(b"ann:correct horse").decode()),
    ],
    "url-password": [
        ("postgresql+psycopg2://ann:{}@db.example.org:5432/flights", "hunter2"),
        ("redis://:{}@localhost/0", "hunter2"),
        ("https://ann%40example.org:{}@example.org", "p%40ss%2Fw"),
        ("https://oauth2:{}@gitlab.example.org/a.git", "p@ss"),
        ('"https:\\/\\/ann:{}@example.org"', "hunter2"),
        ("mongodb://ann:{}@h1:27017,h2:27017/?replicaSet=x", "$ecret!(1)"),
    ],
}
KINDS_IN_CONTEXT = [(kind, frame, body) for kind, cases in IN_CONTEXT.items() for frame, body in cases]


def test_every_format_of_the_table_is_tested():
    assert {form.kind for form in FORMATS} == {"private-key", *TOKENS, *IN_CONTEXT}


@pytest.mark.parametrize(("kind", "token"), KINDS_OF_TOKEN)
@pytest.mark.parametrize(
    "frame",
    ["{}", "token {} here", "'{}'", '{{"a": "{}"}}', "a={}&b=1", "\\n{}\\n", "\x1b[31m{}\x1b[0m", "<td>{}</td>", "%20{}%20", "\\u003d{}\\u0026", "({}, 1)", "x:{},"],
)
def test_a_token_is_found_in_any_surroundings(kind, token, frame):
    assert shown(frame.format(token)) == frame.format(f"[redacted:{kind}]")


@pytest.mark.parametrize(("kind", "token"), KINDS_OF_TOKEN)
def test_a_token_must_begin_a_word(kind, token):
    for before in ("a", "Z", "5", "_", "-"):
        assert shown(before + token) == before + token


@pytest.mark.parametrize(("kind", "frame", "body"), KINDS_IN_CONTEXT)
def test_context_gives_a_secret_away_and_stays(kind, frame, body):
    assert shown(frame.format(body)) == frame.format(f"[redacted:{kind}]")


def test_an_access_key_beside_its_secret():
    pair = f"AKIA{some(16, LETTERS[:26])},{some(40, ALNUM + '+/')}"
    assert shown(f"key,secret\n{pair}\n") == "key,secret\n[redacted:aws-access-key-id],[redacted:aws-secret-key]\n"


@pytest.mark.parametrize("kind", ["", "RSA ", "EC ", "ENCRYPTED ", "OPENSSH "])
@pytest.mark.parametrize("header", ["", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0123ABCD\n\n"])
def test_a_private_key_however_it_is_written(kind, header):
    key = private_key(kind, header)
    gone = "-----[redacted:private-key]-----"
    assert shown(f"key:\n{key}\n") == f"key:\n{gone}\n"
    assert shown(key.replace("\n", "\r\n")) == gone
    assert shown(textwrap.indent(key, "    ")) == f"    {gone}"
    assert shown(textwrap.indent(key, "+")) == f"+{gone}"
    assert shown(textwrap.indent(key, "-")) == f"-{gone}"
    assert shown(json.dumps({"private_key": key + "\n"})) == json.dumps({"private_key": gone + "\n"})
    assert shown(json.dumps(json.dumps([key]))) == json.dumps(json.dumps([gone]))
    assert json.loads(shown(json.dumps({"source": key.splitlines(keepends=True)}, indent=1))) == {"source": [gone]}
    assert shown(repr(key.encode())) == f"b'{gone}'"


def test_a_private_key_on_one_line_and_one_that_is_cut_off():
    assert shown(private_key().replace("\n", " ")) == "-----[redacted:private-key]-----"
    cut = private_key().splitlines()[:3]
    assert shown("\n".join(cut) + "\n...") == "-----[redacted:private-key]\n..."


def test_a_pgp_block_and_two_keys_in_a_row():
    body = "\n".join([some(64), some(64), some(30), "=" + some(4)])
    block = f"-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: GnuPG v2\n\n{body}\n-----END PGP PRIVATE KEY BLOCK-----"
    assert shown(block) == "-----[redacted:private-key]-----"
    gone = "-----[redacted:private-key]-----\n"
    assert shown(private_key() + "\n" + private_key() + "\n") == gone * 2


INNOCENT = [
    "password",
    "the password is secret, the token is in the vault; Basic knowledge, Bearer of news, Authorization: none",
    "Authorization: Bearer <token>",
    "Authorization: Bearer YOUR_TOKEN",
    "Authorization: Basic authentication",
    "headers['Authorization'] = f'Bearer {token}'",
    "postgresql://{user}:{password}@{host}/db",
    "postgresql://ann:${PASSWORD}@db and postgresql://ann:$PASSWORD@db",
    "https://ann:***@example.org https://ann:xxxxx@example.org https://REDACTED:REDACTED@example.org",
    "https://ann:[secret:PASSWORD]@example.org https://ann:[redacted:url-password]@example.org",
    "https://user:%s@host https://user:%(password)s@host https://ann:...@example.org https://u:%PASS%@h",
    "http://localhost:8888/lab/tree/a@b and http://localhost:8080?mail=ann@example.org ssh://git@example.org:22/a",
    r"re.sub(r'://[^:]+:[^@]+@', '://***:***@', url); re.compile('://(.+):(.+)@'); '://.*:.*@'",
    "docker-pullable://ubuntu:20.04@sha256:" + "a1" * 32,
    "github://organisation:repository@main/data.csv models://scope:prefix@databricks/model",
    "12:30://x and a://b",
    'if text.startswith("-----BEGIN PRIVATE KEY-----"): ...',
    '"-----BEGIN PRIVATE KEY-----\\n" + body + "\\n-----END PRIVATE KEY-----"',
    'f"-----BEGIN PRIVATE KEY-----\\n{body}\\n-----END PRIVATE KEY-----"',
    "-----BEGIN CERTIFICATE-----\n" + "A1b2" * 16 + "\n-----END CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----\n" + "A1b2" * 16 + "\n-----END PUBLIC KEY-----",
    "secret_key = " + "a1" * 20,
    "secret = some_function_with_a_rather_long_name_(argument)",
    "sklearn: sk-estimator-doc-link sk-top-container risk-assessment-of-flights-in-2013-by-month-and-carrier",
    "hf_hub_download hf_transferringmanylargefilesinparallel npm_config_registry",
    "AKIA is a prefix, AKIAAAAA too, and SK is Slovakia; dapi, SG. and eyJ. are none",
    "sig = inspect.signature(f); f(sig=signature) ?sig=" + "a1" * 32,
    "mac 00:AA:BB:CC:DD:EE at 12345678:AA",
    "glpat-short ghp_short xoxb-short xoxb-a-word-without-any-number",
    "0123456789abcdef" * 4 + " " + "0123456789ABCDEF" * 2,
    str(uuid.UUID(int=2**127)),
    "Basic " + base64.b64encode(b"no colon in here").decode(),
    "Basic " + base64.b64encode(bytes(range(130, 160))).decode(),
    "Bearer " + "antidisestablishmentarianism",
]


@pytest.mark.parametrize("text", INNOCENT)
def test_what_only_looks_like_a_secret_stays(text):
    assert shown(text) == text


def test_a_match_has_a_longest_length():
    body = "\n".join("A1b2" * 16 for _ in range(2 * LONGEST_MATCH // 65))
    text = f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----"
    (span,) = find_formats(text)
    assert span.end <= LONGEST_MATCH + 5


def real_files() -> list[Path]:
    packages = Path(sysconfig.get_path("purelib"))
    standard = Path(sysconfig.get_path("stdlib"))
    return [
        *(path for path in standard.rglob("*.py") if not {"test", "tests", "site-packages"} & set(path.parts)),
        *packages.glob("*.dist-info/RECORD"),
        *(path for path in packages.rglob("*.ipynb")),
        *packages.glob("nbconvert/**/*.css"),
        *packages.glob("sklearn/**/*.css"),
        *Path(__file__).parents[2].glob("requirements*.lock"),
    ]


def test_real_sources_notebooks_and_locks_stay_byte_for_byte():
    total = 0
    for path in real_files():
        text = path.read_text(encoding="utf-8", errors="replace")
        total += len(text)
        assert [text[span.start - 40 : span.end + 10] for span in find_formats(text)] == [], path
    assert total > 15_000_000


def test_a_log_of_git_stays(tmp_path):
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"]
        return subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    lock = next(path for path in real_files() if path.suffix == ".lock").read_text()
    for end in range(1, 6):
        (tmp_path / "requirements.lock").write_text(lock[: len(lock) * end // 5])
        (tmp_path / "picture.bin").write_bytes(chance.randbytes(5000))
        git("add", ".")
        git("commit", "-q", "-m", f"step {end}")
    log = git("log", "-p", "--binary", "--full-index", "--format=fuller")
    assert log.count("--hash=sha256:") > 500
    assert shown(log) == log


def test_pictures_arrays_and_digests_stay():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), dpi=150)
    figure.subplots().imshow(np.random.default_rng(0).random((300, 300)))
    picture = io.BytesIO()
    figure.savefig(picture)
    for text in (
        base64.b64encode(picture.getvalue()).decode(),
        base64.encodebytes(picture.getvalue()).decode(),
        f'<img src="data:image/png;base64,{base64.b64encode(picture.getvalue()).decode()}">',
        base64.urlsafe_b64encode(chance.randbytes(2_000_000)).decode(),
        chance.randbytes(1_000_000).hex(),
        repr(np.random.default_rng(0).integers(0, 10**12, 5000).tolist()),
        np.array2string(np.random.default_rng(0).random(5000), threshold=10**6),
        "\n".join(str(uuid.UUID(int=chance.getrandbits(128))) for _ in range(20_000)),
    ):
        assert list(find_formats(text)) == []


ADVERSARIAL = [
    *(form.anchors[0] for form in FORMATS),
    "-----BEGIN PRIVATE KEY-----\n",
    "-----BEGIN PRIVATE KEY-----\nProc-Type: 4,E\n",
    "eyJaaaaaaaaaa.eyJaaaaaaaa.",
    "a://a:a@",
    "://a:",
    'secret="',
    "Authorization: ",
    "12345678:AA",
    "\\",
    "[0m",
    "%20",
]


@pytest.mark.parametrize("fragment", ADVERSARIAL)
def test_no_text_makes_the_search_explode(fragment):
    for filling in ("", "a", "\\", "A1\n", "%2B"):
        unit = fragment + filling * 50
        text = unit * (200_000 // len(unit))
        opened: list[int] = []
        spans = list(find_formats(text, opened))
        assert all(0 <= span.start < span.end <= len(text) for span in spans)


def test_importing_takes_only_the_standard_library():
    code = """
        import sys
        before = set(sys.modules)
        import mltoolkit.record.known_formats, mltoolkit.record.redaction
        new = {name.partition(".")[0] for name in set(sys.modules) - before}
        print(sorted(new - set(sys.stdlib_module_names)))
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "['mltoolkit']"


@pytest.mark.parametrize("around", ["{}", "word {} word", "x\n\t{}\x1c", "a=1, '{}',"])
def test_texts_are_not_told_apart_too_soon(around: str) -> None:
    for text in [*(text for texts in TOKENS.values() for text in texts), private_key(), "a://:b@c", "Authorization: Basic " + base64.b64encode(b"ana:Secret1").decode()]:
        whole = around.format(text)
        found = sorted(find_formats(whole))
        assert found, whole
        assert found == sorted(find_formats(whole, [])), "which looks for every anchor in the whole text"
