"""Runs the services of a process file: started in order, each awaited until it answers, and stopped together.

Every service leads a session of its own, so that stopping it reaches all that it forked and nothing else, and Ctrl-C in
the terminal reaches only us. Knows nothing of what the services are: that is in jobs/local/services.py.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from jobs.errors import EvergreenError

HOST = "127.0.0.1"
PATIENCE_S = {
    signal.SIGINT: 15.0,
    signal.SIGTERM: 5.0,
    signal.SIGKILL: 5.0,
}  # how a service is asked to stop, and how long it has


class ServiceError(EvergreenError):
    """A service that cannot start or has stopped by itself; tells its last log lines."""


@dataclass(frozen=True)
class Service:
    """One line of the process file: where it answers, and what has to answer before it starts."""

    name: str
    command: str
    port: int | None = None
    port_option: str = ""  # the setting that changes its port, as a person would set it
    health: str = ""  # HTTP path that answers 2xx when it is ready; '' waits for the port alone
    after: tuple[str, ...] = ()
    patience_s: float = 120.0  # it may take this long to answer

    @property
    def address(self) -> str:
        return f"{'http' if self.health else 'sc'}://{HOST}:{self.port}" if self.port else ""

    def ready(self) -> bool:
        if not self.health:
            return self.port is None or is_open(self.port)
        try:
            return httpx.get(self.address + self.health, timeout=5).is_success
        except httpx.HTTPError:
            return False


def read_procfile(path: Path, known: Mapping[str, Mapping]) -> list[Service]:
    """The services of a process file, `name: command` lines, in its order. known: what to add to each, by name."""
    lines = [
        line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")
    ]
    pairs = [line.split(":", 1) for line in lines]
    return [
        Service(name.strip(), command.strip(), **known.get(name.strip(), {}))
        for name, command in pairs
    ]


@dataclass
class Running:
    """A started service."""

    service: Service
    process: subprocess.Popen
    log: Path

    def last_words(self, n: int = 15) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-n:]
        return f"Its log is {self.log}; the last lines:\n" + "\n".join(lines)

    def members(self) -> list[psutil.Process]:
        """Every living process of its session, itself and all that it forked, orphans too."""
        found = []
        for process in psutil.process_iter():
            with suppress(ProcessLookupError, psutil.NoSuchProcess):
                if (
                    os.getsid(process.pid) == self.process.pid
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process)
        return found

    def stop(self) -> None:
        """SIGINT to the leader, which knows how to end its own; then SIGTERM and SIGKILL to all that is left."""
        for how, patience_s in PATIENCE_S.items():
            left = self.members()
            for process in left:
                if how is not signal.SIGINT or process.pid == self.process.pid:
                    with suppress(psutil.NoSuchProcess):
                        process.send_signal(how)
            psutil.wait_procs(left, timeout=patience_s)
            if not self.members():
                break
        self.process.wait()


class Supervisor:
    """Runs services; `stop` ends all that this object started, and only that."""

    def __init__(self, services: list[Service], logs: Path, env: Mapping[str, str]) -> None:
        self.services, self.logs, self.env = services, logs, dict(env)
        self.running: dict[str, Running] = {}

    def start(
        self,
        tell: Callable[[str], None] = print,
        before: Mapping[str, Callable[[], None]] | None = None,
    ) -> None:
        """Start all and wait until each answers. before: what to do just before a service starts, by its name."""
        if taken := taken_ports(self.services):
            raise ServiceError("\n".join(taken))
        self.logs.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        for service in self.services:
            for needed in service.after:
                self.wait(needed)
            if before and service.name in before:
                before[service.name]()
            self.running[service.name] = self._spawn(service)
        for service in self.services:
            self.wait(service.name)
            tell(
                f"{service.name:<22} {service.address or 'running':<26} {time.monotonic() - began:5.1f} s"
            )

    def _spawn(self, service: Service) -> Running:
        log = self.logs / f"{service.name}.log"
        with log.open("w") as stream:
            process = subprocess.Popen(
                ["bash", "-c", service.command],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd=self.logs,
                env=self.env,
                start_new_session=True,
            )
        return Running(service, process, log)

    def wait(self, name: str) -> None:
        """Until the service answers. Raises ServiceError when one dies first or this one takes longer than it may."""
        running = self.running[name]
        deadline = time.monotonic() + running.service.patience_s
        while not running.service.ready():
            self.check()
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"Service '{name}' did not answer at {running.service.address}{running.service.health} within "
                    f"{running.service.patience_s:.0f} s. {running.last_words()}"
                )
            time.sleep(0.2)

    def check(self) -> None:
        """Raises ServiceError when a service has ended by itself."""
        for running in self.running.values():
            if (code := running.process.poll()) is not None:
                raise ServiceError(
                    f"Service '{running.service.name}' ended by itself with code {code}. {running.last_words()}"
                )

    def stop(self) -> None:
        """Stop what was started, the last first."""
        for running in reversed(self.running.values()):
            running.stop()
        self.running.clear()


def is_open(port: int) -> bool:
    """Does somebody listen there?"""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def taken_ports(services: list[Service]) -> list[str]:
    """One sentence for each port that somebody else holds: which, who, and the setting that changes it."""
    return [
        f"Port {s.port} of {s.name} is taken by {holder(s.port)}. Stop it, or choose another port: {s.port_option}."
        for s in services
        if s.port and is_open(s.port)
    ]


def holder(port: int) -> str:
    """Who listens on a port, as far as this user may see."""
    with suppress(psutil.Error):
        for found in psutil.net_connections("tcp"):
            if (
                found.status == psutil.CONN_LISTEN
                and found.laddr
                and found.laddr.port == port
                and found.pid
            ):
                return f"process {found.pid} ({shlex.join(filter(None, psutil.Process(found.pid).cmdline()))[:80]})"
    return "another process"
