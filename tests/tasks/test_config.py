"""Settings: luigi.cfg, the dataclasses and the command line say the same."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from luigi.configuration import LuigiConfigParser

from pipeline.errors import SettingsError
from tasks import config


def test_every_section_is_its_dataclass(configure):
    for name, kind in config.settings_classes().items():
        if name != "paths":
            assert config.settings(name) == kind(), name


def test_every_setting_is_documented():
    for name, kind in config.settings_classes().items():
        untold = [field.name for field in dataclasses.fields(kind) if f"``{field.name}``" not in kind.__doc__]
        assert untold == [], f"[{name}]"


def test_values_reach_the_dataclass(configure):
    configure(extraction={"threads": "2", "precision": "fast"}, decoding={"keep": "true"})
    assert config.settings("extraction").threads == 2
    assert config.settings("decoding").keep is True


def test_ranges_are_checked(configure):
    configure(extraction={"threads": "0"})
    with pytest.raises(SettingsError, match=r"\[extraction\] threads: found 0, expected 1 or more"):
        config.settings("extraction")
    configure(extraction={"threads": "many"})
    with pytest.raises(SettingsError, match=r"\[extraction\] of luigi.cfg: .*many"):
        config.settings("extraction")


@pytest.mark.parametrize("section, key, message", [
    ("decodng", "keep", r"section \[decodng\] is unknown; did you mean 'decoding'"),
    ("decoding", "kep", r"\[decoding\] has no key 'kep'; did you mean 'keep'"),
])
def test_unknown_names_are_errors(configure, section, key, message):
    configure(**{section: {key: "1"}})
    with pytest.raises(SettingsError, match=message):
        config.check()


def test_the_shipped_file_is_valid(configure, monkeypatch):
    parser = LuigiConfigParser()
    parser.read([str(Path(__file__).parents[2] / "luigi.cfg")])
    monkeypatch.setattr(LuigiConfigParser, "_instance", parser)
    config.forget()
    config.check()
    for name in config.settings_classes():
        config.settings(name)


def test_what_changes_nothing_is_not_in_a_digest(configure):
    for section, key in (("decoding", "keep"), ("decoding", "timeout_s"), ("extraction", "device")):
        assert key in dataclasses.asdict(config.settings(section))
        assert key not in config.content(config.settings(section))
    assert "threads" in config.content(config.settings("extraction"))
    assert config.content(config.settings("acquire")) == dataclasses.asdict(config.settings("acquire"))


def test_looking_does_not_load_torch():
    script = "import sys, tasks, tasks.operate, tasks.__main__; tasks.RunBenchmark().report().path(); " \
             "sys.exit(int('torch' in sys.modules))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
