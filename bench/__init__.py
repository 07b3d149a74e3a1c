"""The project's benchmark: mail servers side by side, driven by their documented interfaces only."""
