"""The HTTP server: everything the command line can do, over the network."""
