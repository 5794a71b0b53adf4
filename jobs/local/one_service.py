"""One service of the process file in the foreground, as a container runs it.

Its variables and command line are those that it has in `evergreen up`.
"""

from __future__ import annotations

import os
from typing import NoReturn

from jobs.errors import SettingsError
from jobs.local.environment import environment
from jobs.local.services import external_services, preparations, services
from jobs.local.supervisor import Service
from jobs.names import near
from jobs.settings import Settings


def run_service(settings: Settings, name: str) -> NoReturn:
    """Replace this process by a service. Raises SettingsError where there is none of this name."""
    service = service_of(settings, name)
    env = environment(settings)
    logs = settings.home / "logs"  # where `evergreen up` starts it
    logs.mkdir(parents=True, exist_ok=True)
    prepare = preparations(settings).get(name)
    if prepare:
        prepare()
    os.chdir(logs)
    # The signals of a container and the exit code are the service's own.
    os.execvpe("bash", ["bash", "-c", service.command], env)


def service_of(settings: Settings, name: str) -> Service:
    """The service of this name. Raises SettingsError where the settings start none."""
    for external in external_services(settings):
        if external.name == name:
            raise SettingsError(
                f"The service {name} is elsewhere: {external}. Remove that setting to run it here."
            )
    known = {service.name: service for service in services(settings)}
    if name not in known:
        close = near(name, known)
        suggestion = f" Did you mean {close[0]}?" if close else ""
        raise SettingsError(
            f"There is no service '{name}'.{suggestion} The services are {', '.join(known)}."
        )
    return known[name]
