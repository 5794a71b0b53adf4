"""A classic session opens no port to other machines."""

from __future__ import annotations

import psutil


def test_every_port_of_a_session_is_bound_to_loopback(spark):
    """Those of the driver, and those between the JVM and Python, which a Python job opens."""
    rows = spark.range(3).mapInArrow(lambda batches: batches, "id long").count()
    assert rows == 3
    jvm = psutil.Process(spark.sparkContext._gateway.proc.pid)
    addresses = []
    for process in [jvm, *jvm.children(recursive=True)]:
        for connection in process.net_connections():
            if connection.status == psutil.CONN_LISTEN:
                addresses.append(connection.laddr)
    assert len(addresses) >= 2  # the driver and py4j, at least
    assert {address.ip.removeprefix("::ffff:") for address in addresses} == {"127.0.0.1"}
