"""What happened, kept for questions. History only: mail never waits for it and never depends on it."""
