"""Policy heads: one file each."""
