"""For the tests of people who write adapters, services and tasks. Needs pytest."""
