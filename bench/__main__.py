"""All measurements, one after the other."""

from bench import memory, resume, startup, steps

for measurement in (steps, resume, startup, memory):
    measurement.main()
