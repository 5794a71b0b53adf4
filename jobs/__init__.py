"""Everything that touches the world: one file a step, plus the sources, the settings and the command line."""
