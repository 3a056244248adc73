"""Several machines: luigid and runners that share a folder and the scheduler; one machine dies, so does luigid.

A machine is a network and a host name of its own (namespaces) where the system allows that, else only a host name. Each
has its working folder and its folder for temporary files.
"""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.running import Run, kill, told

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("run")]

NAMES = ("north", "south", "west")
ALONE = """
import os, socket
socket.gethostname = lambda: os.environ["MACHINE"]
"""


class Machines:
    """``command(name, words)``: the words that run these on that machine; ``address(name)``: of luigid, seen there."""

    def __init__(self, stack: contextlib.ExitStack):
        self.stack = stack
        self.pids: dict[str, int] = {}
        try:
            self.connect()
        except (OSError, subprocess.SubprocessError):
            self.pids.clear()

    def connect(self) -> None:
        """The first machine, which has the scheduler, has a cable to each of the others."""
        for number, name in enumerate(NAMES):
            inside = self.entered(NAMES[0], "-U", "-n") if number else ["unshare", "--user", "--map-root-user"]
            self.pids[name] = self.hold([*inside, *(["unshare"] if number else []), "--net", "--uts", "sleep", "900"])
            self.on(name, "hostname", name)
            self.on(name, "ip", "link", "set", "lo", "up")
            if number:
                self.on(NAMES[0], "ip", "link", "add", f"to{number}", "type", "veth", "peer", "name", "up0", "netns",
                        str(self.pids[name]))
                for at, device, end in ((NAMES[0], f"to{number}", 1), (name, "up0", 2)):
                    self.on(at, "ip", "address", "add", f"10.77.{number}.{end}/24", "dev", device)
                    self.on(at, "ip", "link", "set", device, "up")

    def hold(self, command: list[str]) -> int:
        """-> the process that keeps a machine's namespaces."""
        process = self.stack.enter_context(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        self.stack.callback(process.kill)
        own = [Path(f"/proc/self/ns/{kind}").readlink() for kind in ("net", "uts")]
        for _ in range(100):
            if process.poll() is not None:
                raise OSError("no namespaces here")
            if all(Path(f"/proc/{process.pid}/ns/{kind}").readlink() not in (mine, *self.others(kind))
                   for kind, mine in zip(("net", "uts"), own, strict=True)):
                return process.pid
            time.sleep(0.05)
        raise OSError("no namespaces here")

    def others(self, kind: str) -> list[Path]:
        return [Path(f"/proc/{pid}/ns/{kind}").readlink() for pid in self.pids.values()]

    def entered(self, name: str, *kinds: str) -> list[str]:
        return ["nsenter", "-t", str(self.pids[name]), *kinds, "--preserve-credentials"]

    def on(self, name: str, *words: str) -> None:
        subprocess.run(self.command(name, words), check=True, capture_output=True)

    def command(self, name: str, words) -> list[str]:
        return [*(self.entered(name, "-U", "-n", "-u") if self.pids else []), *words]

    def address(self, name: str) -> str:
        number = NAMES.index(name)
        return f"10.77.{number}.1" if self.pids and number else "127.0.0.1"


@pytest.fixture
def machines():
    with contextlib.ExitStack() as stack:
        yield Machines(stack)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_a_machine_and_the_scheduler_die_and_the_result_is_the_same(tmp_path, finished, machines):
    shared, port = Run(finished.folder, "shared"), free_port()
    shared.workers = 1
    shared.settings["core"] = {"rpc-retry-wait": 1, "rpc-retry-attempts": 60}
    (tmp_path / "luigid.cfg").write_text("[scheduler]\nworker_disconnect_delay = 4\nretry_delay = 2\n")
    (tmp_path / "sitecustomize.py").write_text("" if machines.pids else ALONE)
    command = [sys.executable, "-m", "tasks", "run", *shared.words(), "--scheduler-port", str(port)]
    daemon = [sys.executable, "-c", "from luigi.cmdline import luigid; luigid()", "--port", str(port),
              "--state-path", str(tmp_path / "state.pickle")]

    def start(name, words, **more):
        (tmp_path / name).mkdir(exist_ok=True)
        environment = {"MACHINE": name, "TMPDIR": str(tmp_path / name), **more}
        return shared.start(*machines.command(name, words), name=name, cwd=tmp_path / name, **environment)

    def machine(name):
        path = f"{tmp_path}:{shared.environment()['PYTHONPATH']}"
        return start(name, [*command, f"--scheduler-host={machines.address(name)}"], PYTHONPATH=path)

    def said(name):
        return (finished.folder / f"{name}.out").read_text()

    def done(count):
        """Wait until so many shards have their features."""
        for _ in range(3000):
            if len(list(shared.root.glob("clip_features/folder/*.h5"))) >= count:
                return
            time.sleep(0.1)
        pytest.fail("\n".join(said(name)[-2000:] for name in NAMES))

    with contextlib.ExitStack() as stack:
        def until_the_end(process):
            stack.callback(kill, process, random.Random(0))
            return process

        luigid = until_the_end(start(NAMES[0], daemon, LUIGI_CONFIG_PATH=str(tmp_path / "luigid.cfg")))
        first, second = (until_the_end(machine(name)) for name in NAMES[:2])
        done(1)
        kill(first, random.Random(0))
        late = until_the_end(machine(NAMES[2]))
        done(4)
        kill(luigid, random.Random(0))
        until_the_end(start(NAMES[0], daemon, LUIGI_CONFIG_PATH=str(tmp_path / "luigid.cfg")))
        assert second.wait(timeout=900) == 0, said(NAMES[1])[-3000:]
        assert late.wait(timeout=300) == 0, said(NAMES[2])[-3000:]

    contents = shared.contents()
    assert contents == {name: content for name, content in finished.contents().items() if name in contents}
    assert len(list(shared.root.glob("report/folder/*.h5"))) == 1
    made = Counter(words[2] for name in NAMES for words in told(said(name), "done") if words[0] == "ExtractFeatures")
    assert len(made) == 8 and set(made.values()) == {1}, "a shard was computed twice"
