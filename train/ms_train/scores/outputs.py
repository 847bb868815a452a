"""From a network's outputs to those of the exported model: logits, and one probability for each
label.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from ms_train.errors import RunError

SAME = 1e-5  # largest difference between scores of the same weights, computed in another order
WINDOW_SCORES = (
    "window_scores"  # the layer whose mean over windows is the answer of a network that answers every so many frames
)


def with_logits(
    network: keras.Model, labels: tuple[str, ...], decision: str, feature_shape: tuple[int, ...] | None = None
) -> keras.Model:
    """Return the same network with two outputs: logits (batch, outputs) and scores (batch, labels).

    Scores are probabilities in label order. `independent` labels get a sigmoid each. `exclusive`
    labels get a softmax; two exclusive labels from one neuron get a sigmoid p, which becomes the
    columns 1 - p and p. A network that ends in this activation is split before it. A network that
    ends in no activation gives logits already. With `feature_shape`, the network's input must have
    this shape, or this shape and a channel, which the returned network adds. Some batches must then
    also give the same scores as the network itself. Raises RunError(`bad-network`) for any other
    input or output.
    """
    plain = isinstance(network, keras.Sequential) or type(network).__name__ == "Functional"
    if not plain or not network.built or len(network.inputs) != 1 or len(network.outputs) != 1:
        raise RunError(
            "bad-network",
            f"{network.name!r}: only Sequential and functional networks of one input and one output can be exported.",
        )
    network = keras.Model(
        network.inputs[0], network.outputs[0], name=network.name
    )  # no lists or dictionaries around them
    channel = feature_shape is not None and _has_channel(network, feature_shape)
    outputs = network.outputs[0]
    columns = outputs.shape[-1]
    one_neuron = columns == 1 and decision == "exclusive" and len(labels) == 2
    if len(outputs.shape) != 2 or (columns != len(labels) and not one_neuron):
        raise RunError(
            "bad-network",
            f"{network.name!r}: gives {tuple(outputs.shape[1:])} values a clip, and there are {len(labels)} labels ({', '.join(labels)}).",
        )
    wanted = "sigmoid" if one_neuron or decision == "independent" else "softmax"
    windows = window_scores(network)
    end = outputs if windows is None else windows
    logits, activation = _before_activation(end, {layer.name for layer in network.layers})
    if activation not in ("linear", wanted):
        raise RunError(
            "bad-network",
            f"{network.name!r}: ends in {activation}; {decision} labels need {wanted}, or logits (no activation).",
        )
    taken = {layer.name for layer in network.layers}
    scores = keras.layers.Activation(wanted, name=_free_name("probability", taken))(logits)
    if one_neuron:
        scores = _Both(name=_free_name("both", taken))(scores)
    if windows is not None:
        logits, scores = keras.layers.GlobalAveragePooling1D()(logits), keras.layers.GlobalAveragePooling1D()(scores)
    served = keras.Model(network.inputs[0], [logits, scores], name=network.name)
    if feature_shape is not None:
        _require_same(network, served, activation, (*feature_shape, 1) if channel else feature_shape)
    if feature_shape is not None and channel:
        features = keras.Input(feature_shape, name="features")
        served = keras.Model(features, served(keras.layers.Reshape((*feature_shape, 1))(features)), name=network.name)
    return served


def window_scores(network: keras.Model) -> keras.KerasTensor | None:
    """Return the output of the layer `window_scores`, (batch, windows, outputs), if the network is
    its mean over windows.
    """
    windows = _averaged(network.outputs[0])
    return windows if windows is not None and windows._keras_history.operation.name == WINDOW_SCORES else None


def of_windows(served: keras.Model) -> keras.Model | None:
    """Return the network of `with_logits` without its mean over windows: logits and scores (batch,
    windows, ...).

    Return None for a network without such a mean.
    """
    windows = [_averaged(output) for output in served.outputs]
    return None if None in windows else keras.Model(served.inputs[0], windows, name=served.name)


def _averaged(outputs: keras.KerasTensor) -> keras.KerasTensor | None:
    """Return the tensor whose mean along the second axis an output is; None if it is not such a
    mean.
    """
    layer, node, _ = outputs._keras_history
    if not isinstance(layer, keras.layers.GlobalAveragePooling1D):
        return None
    (windows,) = layer._inbound_nodes[node].input_tensors
    return windows


def _require_same(network: keras.Model, served: keras.Model, activation: str, clip_shape: tuple[int, ...]) -> None:
    """Raise RunError if the scores differ from the network's own, for example because its
    activation would be applied twice.
    """
    low = {layer.compute_dtype for layer in network.layers} & {"float16", "bfloat16"}
    if low:
        raise RunError(
            "bad-network",
            f"{network.name!r}: computes in {low.pop()}; build it in float32 and give it the same weights (set_weights).",
        )
    probe = np.random.default_rng(0).standard_normal((16, *clip_shape)).astype(np.float32)
    for gain in (1, 10):
        own = np.asarray(network(gain * probe, training=False), np.float64)
        _, scores = served(gain * probe, training=False)
        scores = np.asarray(scores, np.float64)
        if not np.isfinite(own).all():
            raise RunError("bad-network", f"{network.name!r}: answers noise with what is no number.")
        if activation == "linear":
            if own.min() < 0 or own.max() > 1:
                return
        elif not np.abs(scores[:, -own.shape[1] :] - own).max() <= SAME:
            raise RunError(
                "bad-network", f"{network.name!r}: its {activation} is not over the labels; let it end in one that is."
            )
    if activation == "linear":
        last = network.outputs[0]._keras_history.operation
        raise RunError(
            "bad-network",
            f"{network.name!r}: gives probabilities already, through a layer {type(last).__name__} that hides how; let it end in its"
            " softmax or sigmoid, or in logits.",
        )


def _has_channel(network: keras.Model, feature_shape: tuple[int, ...]) -> bool:
    """Return whether the network's input has a channel axis after the axes of the features."""
    batch, *found = network.input_shape
    if batch is not None:
        raise RunError("bad-network", f"{network.name!r}: has room for {batch} clips at a time, not for any number.")
    if network.inputs[0].dtype != "float32":
        raise RunError("bad-network", f"{network.name!r}: takes {network.inputs[0].dtype}, and features are float32.")
    for wanted in (feature_shape, (*feature_shape, 1)):
        if len(found) == len(wanted) and all(have in (None, want) for have, want in zip(found, wanted, strict=True)):
            return len(wanted) > len(feature_shape)
    raise RunError(
        "bad-network",
        f"{network.name!r}: takes clips of {_by(found)}, and the front end makes {_by(feature_shape)}.",
    )


def _by(shape: Sequence[int | None]) -> str:
    return " x ".join("any" if size is None else str(size) for size in shape)


class _Both(keras.layers.Layer):
    def call(self, probability: keras.KerasTensor) -> keras.KerasTensor:
        return keras.ops.concatenate([1.0 - probability, probability], axis=-1)


def _free_name(wanted: str, taken: set[str]) -> str:
    while wanted in taken:
        wanted += "_"
    return wanted


def _before_activation(outputs: keras.KerasTensor, taken: set[str]) -> tuple[keras.KerasTensor, str]:
    """Return the input of the last activation, and its name; the outputs and `linear` if there is
    none.
    """
    layer, node, _ = outputs._keras_history
    before = layer._inbound_nodes[node].input_tensors[0] if layer._inbound_nodes else outputs
    if isinstance(layer, keras.layers.Softmax):
        return before, "softmax"
    if isinstance(layer, keras.layers.ReLU | keras.layers.LeakyReLU | keras.layers.PReLU | keras.layers.ELU):
        return before, type(layer).__name__
    if not isinstance(layer, keras.layers.Activation | keras.layers.Dense):
        return outputs, "linear"
    name = getattr(layer.activation, "__name__", type(layer.activation).__name__).lower()
    if name == "linear":
        return outputs, "linear"
    if isinstance(layer, keras.layers.Activation):
        return before, name
    plain = keras.layers.Dense.from_config(
        {**layer.get_config(), "activation": None, "name": _free_name("logits", taken)}
    )
    logits = plain(before)
    plain.set_weights(layer.get_weights())
    return logits, name
