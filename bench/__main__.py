"""All measurements, one after the other."""

from bench import memory, resume, startup, steps, storage

for measurement in (steps, storage, resume, startup, memory):
    measurement.main()
