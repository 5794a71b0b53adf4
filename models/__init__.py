"""The models that rank: features, rankers, training, metrics, storage and serving."""

import os

# Before torch is imported, which reads it once: its threads would otherwise wait for each other in
# loops that take a core. On a machine with other work, two threads then took five times the CPU.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
