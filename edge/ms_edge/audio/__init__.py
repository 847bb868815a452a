"""Audio input: read files, standard input, file objects and arrays as mono float32 blocks.

`file` opens a path, a file object or an array, and `source` converts what it decodes to mono blocks
at one sample rate. `opening` determines the format of a file; `riff`, `mpeg`, `parts`, `containers`
and `raw` each know one format, and `streams` gives the bytes to libsndfile. `media` decodes with
FFmpeg, in a process of its own (`pyav_child` or the program), and `facts` says what a container
states about its audio. These modules may import `ms_edge.arrays`, `ms_edge.errors` and each other.
To support another format, begin with `containers`.
"""
