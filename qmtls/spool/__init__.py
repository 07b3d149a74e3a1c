"""The queue on disk: one file per message, two implementations of one interface."""
