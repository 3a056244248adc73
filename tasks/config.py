"""Settings: one section of luigi.cfg per concern, one frozen dataclass per section.

The dataclasses hold the defaults, the ranges and the documentation; here they only become Luigi configuration, so that
every key can also be given on the command line (``--decoding-timeout-s 60``).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_args, get_origin, get_type_hints

import luigi
from luigi.cmdline_parser import CmdlineParser
from luigi.configuration import get_config

from pipeline.errors import SettingsError


@dataclass(frozen=True)
class PathSettings:
    """``root``: folder of all artefacts; may lie on a shared file system.

    ``features``: folder of features in the released layout to train on; empty: those extracted here.
    """

    root: str = "data"
    features: str = ""


class CommaParameter(luigi.Parameter):
    """A tuple written ``a, b, c``."""

    def __init__(self, element: Callable[[str], Any] = str, **options):
        super().__init__(**options)
        self.element = element

    def parse(self, text: str) -> tuple:
        return tuple(self.element(part.strip()) for part in text.split(",") if part.strip())

    def serialize(self, value) -> str:
        return ",".join(str(part) for part in value)

    def normalize(self, value) -> tuple:
        return self.parse(value) if isinstance(value, str) else tuple(value)


def settings_classes() -> dict[str, type]:
    """-> section -> dataclass, in flow order. None of these imports loads torch."""
    from extractors.settings import ExtractionSettings, WeightsSettings
    from model.settings import TrainingSettings
    from pipeline.acquire import AcquireSettings
    from pipeline.datasets import DATASETS
    from pipeline.decoding import DecodingSettings
    from pipeline.labels import LabelSettings
    from pipeline.report import ReportSettings
    from pipeline.splits import SplitSettings

    return {
        "paths": PathSettings, **{name: dataset.settings for name, dataset in DATASETS.items()},
        "acquire": AcquireSettings, "decoding": DecodingSettings, "weights": WeightsSettings,
        "extraction": ExtractionSettings, "labels": LabelSettings, "split": SplitSettings,
        "training": TrainingSettings, "report": ReportSettings,
    }


# Sections that Luigi itself reads.
LUIGI_SECTIONS = {
    "core", "worker", "scheduler", "retcode", "resources", "logging", "execution_summary", "email", "batch_notifier",
    "task_history", "metrics", "sendgrid", "smtp", "cors", "database", "DEFAULT",
}


def parameter(field: dataclasses.Field, kind: Any) -> Any:
    """-> the Luigi parameter of a dataclass field."""
    options: dict[str, Any] = {"default": field.default}
    if get_origin(kind) is tuple:
        return CommaParameter(get_args(kind)[0], **options)
    if kind is bool:
        return luigi.BoolParameter(parsing=luigi.BoolParameter.EXPLICIT_PARSING, **options)
    return {int: luigi.IntParameter, float: luigi.FloatParameter, str: luigi.Parameter}[kind](**options)


@functools.cache
def sections() -> dict[str, type[luigi.Config]]:
    """-> section -> luigi.Config class with one parameter per field of its dataclass."""
    made = {}
    for name, settings_class in settings_classes().items():
        hints = get_type_hints(settings_class)
        fields = {field.name: parameter(field, hints[field.name]) for field in dataclasses.fields(settings_class)}
        made[name] = type(name, (luigi.Config,), {"__module__": __name__, "__doc__": settings_class.__doc__, **fields})
    return made


_read: dict[tuple, Any] = {}  # a run of thousands of tasks asks tens of thousands of times


def settings(name: str) -> Any:
    """-> the settings dataclass of a section, from luigi.cfg and the command line, with its ranges checked."""
    key = (name, CmdlineParser.get_instance(), id(get_config()))
    if key not in _read:
        try:
            values = sections()[name]().param_kwargs
        except ValueError as error:
            raise SettingsError(f"[{name}] of luigi.cfg: {error.__cause__ or error}") from error
        _read[key] = settings_classes()[name](**values)
    return _read[key]


def change(section: str, key: str, value: str) -> None:
    """Set what luigi.cfg could say, for this process."""
    get_config().set(section, key, value)
    _read.clear()


def content(values: Any) -> dict[str, Any]:
    """-> what of a settings dataclass can change an artefact: all of it, unless it says so itself in ``content()``."""
    return values.content() if hasattr(values, "content") else dataclasses.asdict(values)


def dataset_settings(dataset: str) -> Any:
    """-> the settings of a dataset: the section of its name."""
    return settings(dataset)


def follow_named_scheduler(words: list[str]) -> None:
    """Whoever names a scheduler on the command line means it, whatever [core] local_scheduler says."""
    options = {word.partition("=")[0].replace("--core-", "--") for word in words}
    if options & {"--scheduler-host", "--scheduler-url"} and "--local-scheduler" not in options:
        change("core", "local_scheduler", "false")


_checked: set[int] = set()


def check() -> None:
    """Raise SettingsError for a section or key of the configuration that nothing reads. Looks once."""
    found = get_config()
    if id(found) in _checked:
        return
    known = {name: {field.name for field in dataclasses.fields(kind)} for name, kind in settings_classes().items()}
    families = set(luigi.task_register.Register.task_names())
    for section in found.sections():
        if section not in known:
            if section not in LUIGI_SECTIONS | families:
                raise SettingsError(f"luigi.cfg: section [{section}] is unknown{suggestion(section, known)}")
            if section in LUIGI_SECTIONS:
                continue
            known[section] = set(luigi.task_register.Register.get_task_cls(section).get_param_names(True))
        for key in found[section]:
            if key.replace("-", "_") not in known[section] and key not in found.defaults():
                raise SettingsError(
                    f"luigi.cfg: [{section}] has no key {key!r}{suggestion(key, known[section])}"
                )
    _checked.add(id(found))


def forget() -> None:
    """Read the configuration again; tests call it when they change it."""
    _checked.clear()
    _read.clear()


def suggestion(word: str, known) -> str:
    near = get_close_matches(word, known, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"
