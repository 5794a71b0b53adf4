"""A storm of faults over a small home, which must then equal one that was never disturbed.

    python -m tests.faults.storm --kills 200 --seed 0 [--storage s3]

In every round one or two runners work on the same days and are killed (SIGKILL) at a random moment;
before it, partitions are deleted, damaged, or left as they are, and in some rounds the disk is full
or read-only. A reader beside them opens everything that is committed, all the time. In the end one
undisturbed run repairs what is left to repair, and everything is compared with the other home:
partitions, versions, aliases, MLflow's metrics and models.

With `--storage s3` the stormy home is in a bucket of a SeaweedFS server, which is killed, too, and
started again a moment later; what is damaged are objects and their local copies.

The home lies on a file system of its own, in a mount namespace that ends with the storm; without
one (util-linux' unshare) the rounds with a full or read-only disk are left out.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from pathlib import Path

from embeddings.storage.objects import StoreError
from jobs.errors import EvergreenError
from jobs.lake import Lake
from jobs.settings import Settings, load_settings
from tests.faults.comparison import differences
from tests.jobs.connect_server import serving
from tests.object_store import Server, harm
from tests.object_store import serving as serving_bucket
from tests.small_logs import write_kuairand

DAYS = [date(2024, 3, 1) + timedelta(days=n) for n in range(3)]
LONGEST_RUN_S = 10.0  # a runner is killed before, while it still has something to do
DISK = "512m"  # of the storm's file system
SETTINGS = """
home = "home"
[source]
kind = "kuairand"
path = "{log}"
[matrix]
min_engagements = 1
[embedding]
name = "author"
dim = 4
[ranker]
batch_size = 32
bootstrap = 20
[validation]
max_bad_share = 1.0
[services]
live = false
"""
IN_A_BUCKET = """
[storage]
url = "s3://evergreen/storm"
endpoint = "{endpoint}"
serve = true
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--kills", type=int, default=200)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--storage", choices=["", "s3"], default="")
    chosen = arguments.parse_args()
    if os.environ.get("EVERGREEN_STORM") != "inside" and in_namespace():
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with bucket_server(Path(folder), chosen.storage) as server:
            found = storm(Path(folder), chosen.kills, chosen.seed, server)
        if mounted():
            subprocess.run(["umount", "--lazy", Path(folder) / "stormy"], check=True)
    for difference in found:
        print(difference)
    where = f" on {chosen.storage}" if chosen.storage else ""
    print(f"seed {chosen.seed}, {chosen.kills} kills{where}: {len(found)} differences")
    sys.exit(1 if found else 0)


def in_namespace() -> bool:
    """Run this command again where it may mount; False where that is not possible."""
    probe = "mount -t tmpfs tmpfs /mnt"
    if shutil.which("unshare") is None:
        return False
    if subprocess.run(["unshare", "-rm", "sh", "-c", probe], capture_output=True).returncode:
        return False
    command = ["unshare", "-rm", sys.executable, "-m", "tests.faults.storm", *sys.argv[1:]]
    environment = os.environ | {"EVERGREEN_STORM": "inside"}
    sys.exit(subprocess.run(command, env=environment).returncode)


@contextmanager
def bucket_server(folder: Path, storage: str) -> Iterator[Server | None]:
    """The server of the bucket that the stormy home is in; None: it is in a folder."""
    if not storage:
        yield None
        return
    with serving_bucket("seaweedfs", folder / "store") as server:
        yield server


def storm(folder: Path, kills: int, seed: int, server: Server | None) -> list[str]:
    """The differences between a home after the storm and one without, in words."""
    write_kuairand(folder / "log", history=True)
    calm, stormy = folder / "calm", folder / "stormy"
    for home in (calm, stormy):
        home.mkdir()
        if home is stormy and mounted():
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", home], check=True
            )
        settings = SETTINGS.format(log=folder / "log")
        if home is stormy and server is not None:
            settings += IN_A_BUCKET.format(endpoint=server.endpoint)
        (home / "settings.toml").write_text(settings)
    with serving(folder) as (_, address):
        run_to_the_end(calm, address="")  # by another Spark: whoever computes, the bytes are equal
        rounds(stormy, address, kills, random.Random(seed), server)
        run_to_the_end(stormy, address)
    found = differences(settings_of(calm), settings_of(stormy), DAYS)
    return [*found, *leftovers(settings_of(stormy))]


def mounted() -> bool:
    return os.environ.get("EVERGREEN_STORM") == "inside"


def settings_of(home: Path) -> Settings:
    return load_settings(home / "settings.toml")


# Runners


def runner(home: Path, address: str, first: date, last: date) -> subprocess.Popen:
    """`evergreen run` in a process group of its own; its output goes to a file beside the home.

    address: of a Spark Connect server; empty for a Spark of its own.
    """
    command = [sys.executable, "-m", "jobs.cli", "--settings", str(home / "settings.toml")]
    command += ["run", "--from", str(first), "--to", str(last)]
    environment = os.environ | {"EVERGREEN_SPARK__REMOTE": address}
    with (home.parent / f"{home.name}.log").open("a") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )


def run_to_the_end(home: Path, address: str) -> None:
    """An undisturbed run of all days. Raises where it fails: nothing may need a person."""
    code = runner(home, address, DAYS[0] - timedelta(days=1), DAYS[-1]).wait()
    if code:
        log = (home.parent / f"{home.name}.log").read_text()
        raise SystemExit(f"The undisturbed run of {home} ended with {code}:\n{log[-5000:]}")


def kill(runners: list[subprocess.Popen]) -> int:
    """Kill the runners that still run; returns how many that were."""
    killed = 0
    for process in runners:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.wait()
    return killed


# Faults


def rounds(
    home: Path, address: str, kills: int, draw: random.Random, server: Server | None
) -> None:
    """Rounds of faults until so many runners were killed."""
    killed = number = 0
    tally: Counter[str] = Counter()
    with reader_beside(home):
        while killed < kills:
            number += 1
            disturb(settings_of(home).lake, draw, tally)
            first = draw.choice([DAYS[0] - timedelta(days=1), *DAYS])
            runners = [runner(home, address, first, DAYS[-1])]
            if draw.random() < 0.3:
                tally["two at once"] += 1
                runners.append(runner(home, address, first, DAYS[-1]))
            with bad_disk(home, draw, tally), dying(server, draw, tally):
                time.sleep(draw.uniform(1.0, LONGEST_RUN_S))
                killed += kill(runners)
            print(f"round {number}: {killed} of {kills} killed; {dict(tally)}", flush=True)


def disturb(lake: Lake, draw: random.Random, tally: Counter[str]) -> None:
    """Delete or damage some partitions, so that there is something to compute."""
    partitions = []
    for step in lake.steps():
        for day in lake.days(step):
            partitions.append((step, day))
    for step, day in draw.sample(partitions, min(len(partitions), draw.randint(5, 25))):
        partition = lake.find(step, day)
        if partition is None:
            continue
        files = sorted(path for path in partition.folder.rglob("*") if path.is_file())
        if files and draw.random() < 0.5:
            tally["damaged"] += 1
            damage(draw.choice(files), draw)
        elif lake.place.shared and partition.files and draw.random() < 0.5:
            tally["objects damaged"] += 1
            name = draw.choice(sorted(partition.files))
            harm(lake.place, partition.folder, name, draw.choice([b"damaged", b""]))
        else:
            tally["deleted"] += 1
            lake.place.clear(partition.home)


def damage(file: Path, draw: random.Random) -> None:
    """Flip a bit, cut the file short, or delete it; not in place, as others may link to it."""
    data = bytearray(file.read_bytes())
    harm = draw.choice(["flip", "cut", "delete"]) if data else "delete"
    file.unlink()
    if harm == "flip":
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        file.write_bytes(data)
    elif harm == "cut":
        file.write_bytes(data[: draw.randrange(len(data))])


@contextmanager
def bad_disk(home: Path, draw: random.Random, tally: Counter[str]) -> Iterator[None]:
    """In some rounds the disk is full or read-only while the block runs."""
    chance = draw.random()
    if not mounted() or chance > 0.2:
        yield
        return
    time.sleep(draw.uniform(1.0, 6.0))
    if chance < 0.1:
        tally["disk full"] += 1
        filler = home / "filler"
        fill(filler)
        yield
        filler.unlink()
        return
    tally["read-only"] += 1
    # Refused while a file is open for writing, as it would be by an administrator's hand.
    made = subprocess.run(["mount", "-o", "remount,ro", home], capture_output=True).returncode == 0
    yield
    if made:
        subprocess.run(["mount", "-o", "remount,rw", home], check=True)


@contextmanager
def dying(server: Server | None, draw: random.Random, tally: Counter[str]) -> Iterator[None]:
    """In some rounds the server of the bucket is killed, and is back a moment later."""
    if server is None or draw.random() > 0.4:
        yield
        return
    time.sleep(draw.uniform(0.5, 6.0))
    tally["server killed"] += 1
    server.kill()
    time.sleep(draw.uniform(0.0, 3.0))
    server.start()
    yield


def fill(file: Path) -> None:
    try:
        with file.open("wb") as stream:
            while True:
                stream.write(bytes(1 << 20))
    except OSError:
        return


# A reader beside


@contextmanager
def reader_beside(home: Path) -> Iterator[None]:
    """Open everything that is committed while the block runs.

    Raises SystemExit where the reader has found something torn that no fault of ours had torn.
    """
    anew = multiprocessing.get_context("spawn")  # a bucket's client does not survive a fork
    stopped = anew.Event()
    reads = anew.Value("i", 0)
    torn = anew.Value("i", 0)
    process = anew.Process(target=read_all, args=(home, stopped, reads, torn))
    process.start()
    yield
    stopped.set()
    process.join()
    print(f"The reader opened {reads.value} partitions; {torn.value} were torn.", flush=True)
    if torn.value or process.exitcode:
        raise SystemExit("A reader found a manifest that names files which never were there.")


def read_all(home: Path, stopped, reads, torn) -> None:
    lake = settings_of(home).lake
    while not stopped.is_set():
        # A server that is gone is no torn commit.
        with suppress(StoreError):
            read_once(lake, reads, torn)
        time.sleep(0.05)


def read_once(lake: Lake, reads, torn) -> None:
    for step in lake.steps():
        for day in lake.days(step):
            partition = lake.find(step, day)
            if partition is None:
                continue
            reads.value += 1
            # The storm damages single files; a commit that is torn has none, or has no folder.
            whole = lake.place.holds(partition.folder) or lake.find(step, day) != partition
            torn.value += bool(partition.files) and not whole


def leftovers(settings: Settings) -> list[str]:
    """What an undisturbed run would not have left: claims that are held, runs that never ended."""
    try:
        staging = list((settings.lake.root / "_staging").iterdir())
    except FileNotFoundError:
        staging = []
    # Swept a day later; a storm takes minutes.
    print(f"{len(staging)} staging folders of killed runners wait to be swept.")
    return []


if __name__ == "__main__":
    try:
        main()
    except EvergreenError as error:
        sys.exit(str(error))
