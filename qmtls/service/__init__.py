"""The running program: workers, relayer, reload, assembly."""
