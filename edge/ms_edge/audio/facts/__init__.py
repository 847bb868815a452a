"""Facts: what a container states about its audio, independent of any decoder.

`dispatch` recognises the container from its first bytes. Each other module reads one family of
containers with bounded work, also on hostile files, and is imported only when it is needed. These
modules may import `ms_edge.audio.riff` and `ms_edge.audio.mpeg`. To support another container, begin
with `dispatch`.
"""
