"""A Spark executor in a pod: what the image runs as `python -m jobs.spark.executor`.

A driver on `k8s://…` describes an executor to its pod in environment variables, and leaves it to
the image to start it. Spark's own images have a shell script for that; this one has pip's PySpark.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

BACKEND = "org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend"
JAVA_OPTION = "SPARK_JAVA_OPT_"  # followed by a number: the order in which the JVM is given them
ARGUMENTS = {  # option of the backend -> variable that the driver sets
    "--driver-url": "SPARK_DRIVER_URL",
    "--executor-id": "SPARK_EXECUTOR_ID",
    "--cores": "SPARK_EXECUTOR_CORES",
    "--app-id": "SPARK_APPLICATION_ID",
    "--hostname": "SPARK_EXECUTOR_POD_IP",
    "--resourceProfileId": "SPARK_RESOURCE_PROFILE_ID",
    "--podName": "SPARK_EXECUTOR_POD_NAME",
}


def command(env: Mapping[str, str], spark_home: Path) -> list[str]:
    """The command line of the executor that a driver has described.

    Raises KeyError for a variable that is missing: then no driver has created this pod.
    """
    java = Path(env["JAVA_HOME"]) / "bin" / "java" if env.get("JAVA_HOME") else Path("java")
    names = [name for name in env if name.startswith(JAVA_OPTION)]
    names.sort(key=lambda name: int(name.removeprefix(JAVA_OPTION)))
    memory = env["SPARK_EXECUTOR_MEMORY"]
    classpath = [f"{spark_home}/conf", f"{spark_home}/jars/*", env.get("SPARK_EXTRA_CLASSPATH", "")]
    line = [str(java), *(env[name] for name in names), f"-Xms{memory}", f"-Xmx{memory}"]
    line += ["-cp", ":".join(filter(None, classpath)), BACKEND]
    for option, variable in ARGUMENTS.items():
        line += [option, env[variable]]
    return line


def main() -> None:
    """Replace this process by the executor. Its own arguments, Spark's `executor`, say nothing."""
    (spark_home,) = find_spec("pyspark").submodule_search_locations  # type: ignore[union-attr,misc]
    line = command(os.environ, Path(spark_home))
    os.execvp(line[0], line)


if __name__ == "__main__":
    main()
