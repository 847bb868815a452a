"""Live: label streams that never end, decision by decision, in bounded memory.

`events` defines what is reported, `online` decides segments while the audio arrives, and `session`
turns blocks of samples into events. `rules` raises alerts, `actions` runs commands and calls URLs for
them, and `systemd` reports to the service manager. May import everything below `cli`. To add a kind of event, add
it to `KINDS` in `events.py` and make it where it happens; every consumer then gets it.
"""
