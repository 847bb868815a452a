"""Windows to train on: drawn from recordings, put into rooms and channels, kept on disk.

`pool` draws stretches of recordings, `rooms` simulates room responses, `dynamics` compresses and ducks, `scenes` puts sounds
together and says which labels are there, `channel` is what lines and converters do to the sum, `codecs` encodes and decodes, and
`bank` renders windows once and keeps them in a `store`. `augmentations` gives them names, and `masks` hides parts of features.
These modules may import `ms_edge`, `ms_train.signals`, `ms_train.datasets` and each other; neither TensorFlow nor Keras, since
the processes that render windows import them. To add a kind of sound, begin with `scenes`.
"""
