"""Several machines: luigid and two runners that share a folder and the scheduler; one is killed in the middle."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import time

import pytest

from tests.running import Run, kill, make_folder, report_of

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("cluster")]


@pytest.fixture
def scheduler(tmp_path):
    """A luigid of our own; -> its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "luigid.cfg").write_text("[scheduler]\nworker_disconnect_delay = 4\nretry_delay = 2\n")
    daemon = subprocess.Popen(
        [sys.executable, "-c", "from luigi.cmdline import luigid; luigid()", "--port", str(port),
         "--address", "127.0.0.1", "--state-path", str(tmp_path / "state.pickle")],
        env={"LUIGI_CONFIG_PATH": str(tmp_path / "luigid.cfg"), "PATH": "/usr/bin:/bin"}, cwd=tmp_path,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield port
    finally:
        daemon.kill()
        daemon.wait()


def test_a_machine_that_dies_is_replaced_and_the_result_is_the_same(tmp_path, scheduler):
    make_folder(tmp_path)
    alone = Run(tmp_path, "alone")
    result = alone.luigi()
    assert result.returncode == 0, result.stderr[-3000:]

    shared = Run(tmp_path, "shared")
    shared.workers = 1
    shared.settings["core"] = {"default-scheduler-port": scheduler}
    command = [sys.executable, "-m", "tasks", "run", *shared.words()]
    text = shared.config().read_text().replace("local_scheduler = true", "local_scheduler = false")
    shared.config = lambda: (tmp_path / "shared.cfg")  # type: ignore[method-assign]
    (tmp_path / "shared.cfg").write_text(text)
    first, second = shared.start(*command), shared.start(*command)
    time.sleep(8)
    assert first.poll() is None and second.poll() is None, (tmp_path / "shared.out").read_text()[-3000:]
    kill(first, random.Random(0), child_first=False)
    late = shared.start(*command)
    assert second.wait(timeout=900) == 0, (tmp_path / "shared.out").read_text()[-3000:]
    assert late.wait(timeout=300) == 0, (tmp_path / "shared.out").read_text()[-3000:]

    contents = shared.contents()
    assert contents == alone.contents()
    assert (report_of(shared.luigi()) / "scores.csv").read_bytes() == (report_of(result) / "scores.csv").read_bytes()
