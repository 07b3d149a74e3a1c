"""The adapters: the only place that knows Twisted, OpenSSL, sockets, threads, clocks and chance."""
