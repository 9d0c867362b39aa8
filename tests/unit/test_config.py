"""Configuration: every source, every fault at once, in words that name the key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from morgand.base.errors import ConfigError
from morgand.config import Config, check_value, load, parse_listen, with_shared
from morgand.roles.catalog import NAMES


def written(folder: Path, text: str | bytes) -> Path:
    file = folder / "morgan.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def test_nothing_given_is_the_defaults() -> None:
    """No file, no variable, no setting: a valid configuration without sources."""
    config = load(None, {}, roles=NAMES)
    assert config == Config()
    assert config.listen == ("127.0.0.1", 7470)
    assert config.sources == {}


def test_later_sources_win(tmp_path: Path) -> None:
    """File, then environment, then command line; each key remembers where it came from."""
    file = written(tmp_path, "[llm]\ntemperature = 0.1\nmax_tokens = 10\nthreads = 1\n")
    variables = {"MORGAN_LLM__MAX_TOKENS": "20", "MORGAN_LLM__THREADS": "2", "OTHER_LLM__THREADS": "9"}
    config = load(file, variables, ["llm.threads=3"], roles=NAMES)
    assert (config.llm.temperature, config.llm.max_tokens, config.llm.threads) == (0.1, 20, 3)
    assert config.sources == {
        "llm.temperature": "file", "llm.max_tokens": "environment", "llm.threads": "command line"
    }  # fmt: skip


def test_all_faults_at_once(tmp_path: Path) -> None:
    """Faults of every source are listed together; unknown names come with the nearest known one."""
    file = written(
        tmp_path, "top = 1\n[llm]\ntemprature = 1\nmax_tokens = 0\n[hots]\nx = 1\n[roles.lmm]\nprefer = []\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(file, {"MORGAN_LIMITS__QUEUE": "many"}, ["api.listen=nowhere", "nonsense"], roles=NAMES)
    assert caught.value.message.splitlines()[0] == "The configuration has 8 faults:"
    for words in (
        "top: a key outside a section",
        "llm.temprature: unknown key; did you mean 'temperature'?",
        "llm.max_tokens: 0 is out of range; it must be between 1 and 32768.",
        "hots: unknown section; did you mean 'host'?",
        "roles.lmm: unknown role; did you mean 'llm'?",
        "limits.queue: 'many' is not a whole number.",
        "api.listen: 'nowhere' is not an address and a port",
        "--set nonsense: write it as section.key=value.",
    ):
        assert words in caught.value.message


def test_every_path_is_made_whole_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever takes one from the configuration means the same file as everybody else."""
    monkeypatch.setenv("HOME", str(tmp_path))
    config = load(
        None,
        {},
        ["host.data_dir=~/data", "host.profile_override=~/facts.json", "catalog.file=~/c", "catalog.models_dir=m"],
        roles=NAMES,
    )
    assert config.data_dir == tmp_path / "data"
    assert config.profile_override == tmp_path / "facts.json"
    assert config.catalog_file == tmp_path / "c"
    assert config.models_dir == Path.cwd() / "m"
    assert load(None, {}, ["host.data_dir=~/data"], roles=NAMES).models_dir == tmp_path / "data/models"


@pytest.mark.parametrize("raw", ["nan", "inf", "-inf", "2.1", "-0.1", "1e999", "warm", ""])
def test_numbers_that_are_none_or_out_of_range(raw: str) -> None:
    """Not-a-number lies in no range; infinity is over every bound."""
    with pytest.raises(ConfigError, match=r"llm\.temperature"):
        load(None, {}, [f"llm.temperature={raw}"], roles=NAMES)


@pytest.mark.parametrize("raw", ["nan", "inf", "1.5", "true", "[1]", "'5'", "9" * 400, "9" * 5000, "-1", "0x"])
def test_whole_numbers_in_a_file(tmp_path: Path, raw: str) -> None:
    """Whatever stands for a number that is none is a fault, never a crash."""
    file = written(tmp_path, f"[limits]\nqueue = {raw}\n")
    if raw == "'5'":  # a number in quotes says what it means
        assert load(file, {}, roles=NAMES).limits.queue == 5
        return
    with pytest.raises(ConfigError, match=r"has 1 fault:"):
        load(file, {}, roles=NAMES)


@pytest.mark.parametrize(("key", "low", "high"), [("llm.max_tokens", 1, 32768), ("retrieval.passages", 1, 50)])
def test_bounds_are_inclusive(key: str, low: int, high: int) -> None:
    """The bounds themselves are allowed, their neighbours are not."""
    assert (check_value(key, low, NAMES), check_value(key, str(high), NAMES)) == (low, high)
    for wrong in (low - 1, high + 1):
        with pytest.raises(ConfigError, match="out of range"):
            check_value(key, wrong, NAMES)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[llm\n", "is not valid TOML"),
        ("[llm]\nmodel = 'a'\nmodel = 'b'\n", "is not valid TOML"),
        ("[llm]\n[llm]\n", "is not valid TOML"),
        (b"[llm]\nmodel = '\xff\xfe'\n", "is not valid TOML"),
        ("[host]\nlabels = " + "[" * 5000 + "]" * 5000 + "\n", "is not valid TOML"),
        ('[host]\nname = "a\\u0000b"\n', "host.name"),
        ("[host]\nname = 5\n", "host.name: 5 is not a text."),
        ("[host]\nlabels = 'a'\nname = ['a']\n", "host.name: ['a'] is not a text."),
        ("[host]\nlabels = [1]\n", "host.labels: [1] is not a list of texts."),
        ("[host]\nduty = 'alwys'\n", "did you mean 'always'?"),
        ("[catalog]\ndownload = 'perhaps'\n", "catalog.download: 'perhaps' is neither true nor false."),
        ("[catalog]\ndownload = 1\n", "catalog.download: 1 is neither true nor false."),
        ("[roles]\nllm = 3\n", "roles.llm: a role is a section of its own: [roles.llm]."),
        ("[roles.llm]\nforbit = ['a']\n", "did you mean 'forbid'?"),
        ("[host]\ndata_dir = '~no-such-account/x'\n", "there is no such home directory"),
    ],
)  # fmt: skip
def test_faulty_files(tmp_path: Path, content: str | bytes, words: str) -> None:
    """A file that is no TOML, or holds values of the wrong kind, is told in one sentence each."""
    with pytest.raises(ConfigError, match=re.escape(words)):
        load(written(tmp_path, content), {}, roles=NAMES)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A directory is named; a missing file matters only when it was asked for."""
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, {}, roles=NAMES)
    with pytest.raises(ConfigError, match="there is no such file"):
        load(tmp_path / "gone.toml", {}, must_exist=True, roles=NAMES)
    assert load(tmp_path / "gone.toml", {}, roles=NAMES) == Config()


@pytest.mark.parametrize(
    ("raw", "value"),
    [("yes", True), ("ON", True), ("1", True), ("true", True), ("no", False), ("Off", False), ("0", False)],
)
def test_words_for_true_and_false(raw: str, *, value: bool) -> None:
    """Variables and --set are texts; the usual words count."""
    assert load(None, {"MORGAN_CATALOG__DOWNLOAD": raw}, roles=NAMES).catalog.download is value


@pytest.mark.parametrize("raw", ["attic, cellar", '["attic", "cellar"]', "attic,,cellar,"])
def test_lists_in_one_line(raw: str) -> None:
    """Commas or JSON."""
    assert load(None, {}, [f"host.labels={raw}"], roles=NAMES).host.labels == ("attic", "cellar")


def test_roles_from_every_source(tmp_path: Path) -> None:
    """Role sections name hosts; a role with a dash is written with an underscore in a variable."""
    file = written(tmp_path, "[roles.llm]\nprefer = ['big']\n[llm]\nmodel = 'small'\n")
    config = load(file, {"MORGAN_ROLES__LLM_FAST__PREFER": "attic"}, ["roles.db.forbid=laptop"], roles=NAMES)
    told = config.preferences()
    assert (told["llm"].prefer, told["llm"].model) == (("big",), "small")
    assert told["llm-fast"].prefer == ("attic",)
    assert told["db"].forbid == ("laptop",)


def test_role_key_without_a_role() -> None:
    """The fault leads to a section that exists."""
    with pytest.raises(ConfigError, match=r"roles: unknown section"):
        load(None, {}, ["roles.prefer=a"], roles=NAMES)


@pytest.mark.parametrize("text", ["", "7470", ":7470", "host:", "host:x", "host:²", "host:65536", "host:-1", "a:1_0"])
def test_addresses_that_are_none(text: str) -> None:
    """Each is refused with an example."""
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:7470"):
        parse_listen(text)


def test_addresses() -> None:
    """Names, both kinds of numbers, any free port, and none at all."""
    assert parse_listen("[::1]:80") == ("::1", 80)
    assert parse_listen("localhost:0") == ("localhost", 0)
    assert parse_listen("off") is None


def test_shared_settings_lie_over_the_hosts_own() -> None:
    """What the cluster says wins, and is known to come from it."""
    config = with_shared(load(None, {}, ["llm.max_tokens=10"], roles=NAMES), {"llm.max_tokens": 99}, NAMES)
    assert config.llm.max_tokens == 99
    assert config.sources["llm.max_tokens"] == "cluster"
