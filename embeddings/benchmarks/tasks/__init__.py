"""The standard tasks that judge every version: one file each, described in `base`."""
