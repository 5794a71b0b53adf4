"""The simulated world as tables: for the source `simulated`, and for `evergreen simulate`."""
