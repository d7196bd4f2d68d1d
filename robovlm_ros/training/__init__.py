"""From bags to a checkpoint: windows, losses, switches, the trainer."""
