"""What every task shares: identity, completeness, one artefact, one log file, errors as one line.

Identity. ``digest`` is a significant parameter that the task computes for itself: from its family, the schema
version, the settings that change its content and the digests of its inputs. Two hosts whose settings differ have
different tasks.

Completeness. An artefact records the content ids of its inputs. A task is complete if all tasks above it are, and its
artefact exists and was made from the content ids that its inputs have now.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import logging
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, TextIO

import luigi
from luigi.cmdline_parser import CmdlineParser
from luigi.configuration import get_config

from pipeline import provenance
from pipeline.datasets import dataset_named
from pipeline.errors import DamagedArtefact, PipelineError, SettingsError
from pipeline.h5 import Output, Schema
from pipeline.progress import Progress
from pipeline.storage import storage_errors
from tasks import config, console
from tasks.targets import HDF5Target

logger = logging.getLogger("luigi-interface")

FAILED = "failed"  # how the last part of the log of a task begins that did not end well

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)

_digests: dict[tuple, str] = {}
_values: dict[tuple, list[tuple[str, Any]]] = {}


class UsageError(SystemExit):
    """Ends the program with one line and exit code 1: the request can't be understood."""


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what the user can mend into a UsageError, whose message is all that is printed."""
    try:
        yield
    except PipelineError as error:
        raise UsageError(f"error: {error}") from error


def forget() -> None:
    """Drop all that is remembered about settings and tasks; tests call it when they change the configuration."""
    _digests.clear()
    _values.clear()
    config.forget()
    luigi.Task.clear_instance_cache()


def lock_path(path: Path) -> Path:
    """-> the file whose lock is the right to write ``path``."""
    return path.with_name(f".{path.name}.lock")


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the one right to write ``path`` on this machine; a dead holder's lock is gone with it.

    On a file system without locks two runs at once may make the same artefact, each a whole one; a warning says so.
    """
    with open(lock_path(path), "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            warn_of_no_locks(path.parent)
        yield


@functools.cache
def warn_of_no_locks(folder: Path) -> None:
    logger.warning("%s: its file system has no locks: start one run at a time there, or use luigid", folder)


class ArtefactTask(luigi.Task):
    """One artefact. Subclasses declare ``schema``, ``folder``, ``stages`` and say inputs, settings, name and build."""

    dataset = luigi.Parameter(default="demo", description="demo, folder, ucf, activitynet or vggsound")
    digest = luigi.Parameter(default="", description="computed from the settings; never needed by hand")

    schema: ClassVar[Schema]
    folder: ClassVar[str]
    stages: ClassVar[tuple[str, ...]] = ()
    not_in_digest: ClassVar[tuple[str, ...]] = ("digest", "shard")

    # What a subclass says about itself.

    def inputs(self) -> dict[str, ArtefactTask]:
        """-> name -> task whose artefact this one is made from."""
        return {}

    def settings(self) -> dict[str, Any]:
        """-> everything but parameters and inputs that changes the content."""
        return {}

    def name(self) -> str:
        """-> readable part of the file name."""
        return self.folder

    def build(self, output: Output) -> None:
        """Make the artefact: one call into the packages below."""
        raise TypeError(f"{type(self).__name__} does not say how it is built")

    # Identity.

    @classmethod
    @functools.cache
    def get_params(cls):
        """Looked up once per class: a run makes its thousands of tasks many times over."""
        return super().get_params()

    @classmethod
    def get_param_values(cls, params, args, kwargs):
        """Values for the same words under the same configuration are made once, too."""
        request = (cls, CmdlineParser.get_instance(), id(get_config()), tuple(args), tuple(kwargs.items()))
        if request not in _values:
            _values[request] = cls.make_param_values(params, super().get_param_values(params, args, kwargs))
        return _values[request]

    @classmethod
    def make_param_values(cls, params, given):
        values = dict(given)
        with one_line_errors():
            config.check()
            cls.normalise(values)
            key = (cls, *(value for name, value in sorted(values.items()) if name not in cls.not_in_digest))
            if key not in _digests:
                draft = object.__new__(cls)
                draft.__dict__.update(values)
                _digests[key] = draft.compute_digest()
            if values["digest"] not in ("", _digests[key]):
                raise SettingsError(
                    f"{cls.__name__}: found digest {values['digest']}, expected {_digests[key]}; "
                    "this host's settings differ from those of the host that asked: use one luigi.cfg"
                )
            values["digest"] = _digests[key]
        return [(name, values[name]) for name, _ in params]

    @classmethod
    def normalise(cls, values: dict[str, Any]) -> None:
        """Bring parameters that mean the same to one form; raises PipelineError for one that means nothing."""
        dataset_named(values["dataset"])

    def compute_digest(self) -> str:
        parameters = {n: self.__dict__[n] for n, _ in self.get_params() if n not in self.not_in_digest}
        return provenance.digest({
            "task": type(self).__name__,
            "schema": [self.schema.name, self.schema.version],
            "parameters": parameters,
            "settings": self.settings(),
            "inputs": {name: task.digest for name, task in self.inputs().items()},
        })

    # Files.

    def path(self) -> Path:
        if "_path" not in self.__dict__:
            root = Path(config.settings("paths").root)
            self._path = root / self.folder / self.dataset / f"{self.name()}-{self.digest[:8]}.h5"
        return self._path

    def output(self) -> HDF5Target:
        return HDF5Target(self.path())

    def input_path(self, name: str) -> Path:
        return self.inputs()[name].path()

    # Completeness.

    def requires(self):
        return list(self.inputs().values())

    def complete(self) -> bool:
        return self.current({})

    def current(self, memo: dict[str, bool]) -> bool:
        """-> whether the artefact is there and was made from what its inputs are now. ``memo``: answers so far."""
        if self.task_id not in memo:
            facts = self.output().facts()
            upstream = all(task.current(memo) for task in self.inputs().values())
            memo[self.task_id] = upstream and facts is not None and self.made_from_these(facts)
        return memo[self.task_id]

    def made_from_these(self, facts: dict[str, Any]) -> bool:
        """-> whether an artefact with these facts is this task's, made from what its inputs are now."""
        return facts["digest"] == self.digest and facts["inputs"] == self.input_ids() and not self.lacking(facts)

    def lacking(self, facts: dict[str, Any]) -> str:
        """-> what an artefact with these facts, although of this task, is not enough for; empty for nothing."""
        return ""

    def input_ids(self) -> dict[str, str]:
        """-> content ids of the inputs, by name; they exist."""
        return {name: task.content_id() for name, task in self.inputs().items()}

    def content_id(self) -> str:
        facts = self.output().facts()
        return facts["content_sha256"] if facts else ""

    # Work.

    def run(self) -> None:
        """Build the artefact under a lock, unless another run on this machine has just done it."""
        Progress.listener = self.tell
        path = self.path()
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.log_path().touch()
        with storage_errors(path), lock(path):
            if not self.complete():
                console.started(self)
                started = time.monotonic()
                with open(self.log_path(), "w", encoding="utf-8") as log:
                    self.run_logged(Output(path, self.schema, self.attributes()), log)
                console.done(self, time.monotonic() - started)
        self.clean_up()

    def run_logged(self, output: Output, log: TextIO) -> None:
        """Build; the log file tells the settings, the environment and, from ``on_failure``, what went wrong."""
        log.write(f"{self}\n" + "".join(f"{key}: {value}\n" for key, value in output.attributes.items()))
        log.flush()
        started = time.monotonic()
        with storage_errors(output.path):
            self.build(output)
        log.write(f"done in {time.monotonic() - started:.1f} s, content {self.content_id()}\n")

    def log_path(self) -> Path:
        return self.path().with_suffix(".log")

    def on_failure(self, exception):
        """Luigi calls it in the task's process, wherever the task failed: say so, set a damaged input aside."""
        trace = "".join(traceback.format_exception(exception))
        logged = self.record_failure(trace)
        console.failed(self, exception, self.log_path() if logged else None)
        if not logged and not isinstance(exception, PipelineError):
            console.say(trace)
        if isinstance(exception, DamagedArtefact) and Path(exception.path).is_file():
            logger.warning("set aside as %s; run again to make it anew", HDF5Target(Path(exception.path)).set_aside())
        return super().on_failure(exception)

    def record_failure(self, text: str) -> bool:
        """Append what went wrong to the log; -> whether that was possible, as it is not on a disk that is read-only."""
        if not isinstance(self.output(), HDF5Target):
            return False
        try:
            with open(self.log_path(), "a", encoding="utf-8") as log:
                log.write(f"\n{FAILED} at {time.strftime('%Y-%m-%d %H:%M:%S')}\n{text}\n")
        except OSError:
            return False
        return True

    def clean_up(self) -> None:
        """Remove what nothing needs any more once this artefact is there."""

    def identity(self) -> dict[str, Any]:
        """-> all that the digest covers but the schema, and the shard."""
        return provenance.plain({
            "task_parameters": {name: value for name, value in self.param_kwargs.items() if name != "digest"},
            "settings": self.settings(),
            "input_digests": {name: task.digest for name, task in self.inputs().items()},
        })

    def attributes(self) -> dict[str, Any]:
        """-> facts that the artefact carries: identity, settings, inputs and environment."""
        facts = {"task": str(self), "digest": self.digest, "inputs": self.input_ids()}
        return {**facts, **self.identity(), "provenance": provenance.environment()}

    def tell(self, text: str, fraction: float) -> None:
        """Show progress in the scheduler's web page. One that can't be reached is not told again, and stops nothing."""
        if self.set_status_message and self.set_progress_percentage:  # Luigi sets them while a task runs
            try:
                self.set_status_message(text)
                self.set_progress_percentage(round(100 * fraction))
            except Exception as error:
                Progress.listener = None
                logger.warning("the scheduler is not told the progress of %s any more: %s", self, error)
