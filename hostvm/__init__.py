"""Machines: spec, state, drivers, disks, ssh, forwards, agent."""
