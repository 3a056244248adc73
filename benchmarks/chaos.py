"""Kill a small run at random moments and compare the result: ``python benchmarks/chaos.py --kills 50``.

Makes a folder of videos, runs the whole line once undisturbed, then starts it again and again in another artefact
folder, each time killed without warning (its group, or first its main process or any below), until it is done, and as
often as asked. Exits 1 if any artefact differs from the undisturbed run's, or if finished work was done again.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.running import Run, disturb, make_folder


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--kills", type=int, default=8)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    rng = random.Random(chosen.seed)
    with tempfile.TemporaryDirectory() as folder:
        make_folder(Path(folder))
        calm = Run(Path(folder), "calm")
        begun = time.monotonic()
        result = calm.luigi()
        if result.returncode:
            print(result.stderr)
            return 1
        seconds = time.monotonic() - begun
        expected = calm.contents()
        print(f"undisturbed: {len(expected)} artefacts in {seconds:.0f} s")
        kills = rounds = 0
        while kills < chosen.kills:
            disturbed = Run(Path(folder), "disturbed")
            shutil.rmtree(disturbed.root, ignore_errors=True)
            kills += disturb(disturbed, min(8, chosen.kills - kills), rng, max(10.0, seconds / 4))
            rounds += 1
            result = disturbed.luigi()
            if result.returncode:
                print(result.stderr)
                return 1
            found = disturbed.contents()
            different = sorted(name for name in expected if found.get(name) != expected[name])
            print(f"round {rounds}: {kills} kills so far, {len(different)} artefacts differ", flush=True)
            if different:
                print("\n".join(different))
                return 1
    print(f"{kills} kills in {rounds} rounds: every artefact equal to the undisturbed run's, no finished work repeated")
    return 0


if __name__ == "__main__":
    sys.exit(main())
