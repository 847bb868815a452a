"""Training windows: drawn from recordings, put into rooms and channels, and stored on disk.

`pool` draws stretches of recordings, `rooms` simulates room responses, `dynamics` compresses and
ducks, `scenes` mixes sounds and decides which labels are present, `channel` simulates lines and
converters, `codecs` encodes and decodes, and `bank` renders windows once and keeps them in a
`store`. `augmentations` names the augmentations, and `masks` hides parts of features. These modules
may import `ms_edge`, `ms_train.signals`, `ms_train.datasets` and each other. They may not import
TensorFlow or Keras, because the processes that render windows import them. To add a kind of sound,
begin with `scenes`.
"""
