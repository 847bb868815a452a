"""Windows to train on: drawn from recordings, put into rooms and channels, kept on disk.

`pool` draws stretches of recordings, `rooms` simulates room responses, `dynamics` compresses and ducks, `scenes` puts sounds
together and says which labels are there, `channel` is what lines and converters do to the sum, and `bank` renders windows
once and keeps them. `signals` holds what they share. To add a kind of sound, begin with `scenes`. These modules import
neither TensorFlow nor Keras, since the processes that render windows import them.
"""
