"""TLS as facts, policy and verdict: pure functions over values. Knows nothing of SMTP or sockets."""
