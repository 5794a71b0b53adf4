"""The studies of the paper on MaskNet: what its parts, sizes and masks do."""
