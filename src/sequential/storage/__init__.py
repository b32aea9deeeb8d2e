"""Storage: where tasks, runs, calls and snapshots are kept."""
