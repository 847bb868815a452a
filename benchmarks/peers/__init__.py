"""The systems that ms-edge is compared with.

`systems` lists them and makes an environment for each. Every other file is a program that runs in
one of these environments, so it imports what is installed there and nothing of `benchmarks`. To add
a system, write such a program and list it in `systems`.
"""
