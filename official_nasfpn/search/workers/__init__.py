"""Workers, which evaluate trials, and launchers, which keep workers running."""
