"""Runtimes: how a program is advanced from one call to the next."""
