"""Live: label streams that never end, decision by decision, in bounded memory.

`events` defines what is reported, `online` decides segments while the audio arrives, and `session`
turns blocks of samples into events. `sources` receives audio through `pipes`, and `monitor` follows
sources and hands each event to consumers: `printing`, `records`, `prometheus`, `rules`, which raises
alerts, `actions`, which runs commands and calls URLs for them, and `systemd`. `watch` classifies a folder that fills. May import
everything below `cli`. To add a kind of event, add it to `KINDS` in `events.py` and make it where it
happens; every consumer then gets it.
"""
