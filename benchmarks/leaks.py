"""Does decoding leak? ``python benchmarks/leaks.py --videos 10000``.

Decodes good and bad videos over and over, 2,000 to a shard as in long runs, and watches this process and its child:
resident memory, open files, temporary files. Prints one line per shard. Exits 1 if this process holds 20 MB or one open
file more after the last shard than after the first, if a child grows by 50 MB from the first tenth of a shard to its
end, or if a temporary file is left.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline import h5, schemas
from pipeline.decoding import DecodingSettings, decode_shard
from tests.synthetic import make_acquired, make_video

SHARD = 2000
PARENT_MB, CHILD_MB = 20.0, 50.0


def resident_mb(pid: int | str = "self") -> float:
    """-> resident memory of a process, 0 if it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def children() -> list[str]:
    return [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


class Watch(threading.Thread):
    """Samples the largest child's memory while a shard is decoded."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.samples: list[float] = []
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.5):
            self.samples.append(max(map(resident_mb, children()), default=0.0))

    def growth_mb(self) -> float:
        """-> of the last tenth of the samples over the first, the start of the child left out."""
        tenth = max(len(self.samples) // 10, 1)
        return max(self.samples[-tenth:]) - max(self.samples[:2 * tenth])


def seeds(folder: Path) -> list[Path]:
    """-> three videos that each backend reads, one that none does, and one that is no video."""
    paths = [make_video(folder / f"good.{ending}", 1.2, "12", (64, 80)) for ending in ("mp4", "mkv")]
    paths.append(make_video(folder / "b.avi", 1.2, "12", (64, 80), ("-c:v", "mpeg4", "-bf", "2"), ("-c:a", "mp3")))
    (folder / "cut.mp4").write_bytes(paths[0].read_bytes()[:-400])
    (folder / "page.mp4").write_text("<!DOCTYPE html><html></html>")
    return [*paths, folder / "cut.mp4", folder / "page.mp4"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=10_000)
    chosen = parser.parse_args()
    held: list[tuple[float, int]] = []
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tempfile.tempdir = str(folder / "temporary")
        Path(tempfile.tempdir).mkdir()
        os.environ["TMPDIR"] = tempfile.tempdir
        files = seeds(folder)
        for start in range(0, chosen.videos, SHARD):
            count = min(SHARD, chosen.videos - start)
            acquired = make_acquired(folder / "acquired.h5", [files[k % len(files)] for k in range(count)])
            output, watch, begun = h5.Output(folder / "decoded.h5", schemas.DECODED), Watch(), time.monotonic()
            watch.start()
            decode_shard(acquired, 0, ("c3d_frames", "vggish_audio"), DecodingSettings(), frozenset(), output)
            watch.over.set()
            watch.join()
            with h5.read(output.path, schemas.DECODED) as file:
                outcomes = Counter(reason or "ok" for reason in file["reason"].tolist())
            output.path.unlink()
            held.append((resident_mb(), len(os.listdir("/proc/self/fd"))))
            print(f"{start + count} videos, {count / (time.monotonic() - begun):.0f} a second: {dict(outcomes)}; "
                  f"{held[-1][0]:.0f} MB and {held[-1][1]} open files here, child {max(watch.samples):.0f} MB, "
                  f"grown by {watch.growth_mb():.0f} MB", flush=True)
            if watch.growth_mb() > CHILD_MB:
                faults.append(f"a child grew by {watch.growth_mb():.0f} MB")
        if held[-1][0] > held[0][0] + PARENT_MB or held[-1][1] > held[0][1]:
            faults.append(f"this process grew from {held[0][0]:.0f} MB, {held[0][1]} files to {held[-1]}")
        left = [*Path(tempfile.tempdir).iterdir(), *folder.glob(".decoded*")]
        if left:
            faults.append(f"left behind: {', '.join(path.name for path in left)}")
    print("\n".join(faults) or "nothing leaks")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
