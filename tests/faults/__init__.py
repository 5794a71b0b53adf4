"""Storms of faults: `make test-faults`."""
