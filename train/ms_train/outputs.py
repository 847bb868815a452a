"""From what a network gives to what is served: logits, and one probability per label."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from ms_edge.errors import MsEdgeError


def with_logits(
    network: keras.Model, labels: tuple[str, ...], decision: str, feature_shape: tuple[int, ...] | None = None
) -> keras.Model:
    """The same network with two outputs: logits (batch, outputs) and scores (batch, labels), probabilities in label order.

    `independent` labels get a sigmoid each; `exclusive` ones a softmax over them, or, of two labels from one neuron, a
    sigmoid p that becomes the two columns 1 - p, p. A network that ends in that activation is split before it, one
    that ends in none gives logits already. With `feature_shape` its input must be that, or that and a channel, which
    the answer adds itself. Raises MsEdgeError(`bad-network`) for any other end or beginning.
    """
    if isinstance(network, keras.Sequential) and network.built:
        network = keras.Model(network.inputs[0], network.outputs[0], name=network.name)
    if type(network).__name__ != "Functional" or len(network.inputs) != 1 or len(network.outputs) != 1:
        raise MsEdgeError(
            "bad-network",
            f"{network.name}: only Sequential and functional networks of one input and one output can be exported.",
        )
    channel = feature_shape is not None and _has_channel(network, feature_shape)
    outputs = network.outputs[0]
    columns = outputs.shape[-1]
    one_neuron = columns == 1 and decision == "exclusive" and len(labels) == 2
    if len(outputs.shape) != 2 or (columns != len(labels) and not one_neuron):
        raise MsEdgeError(
            "bad-network",
            f"{network.name}: gives {tuple(outputs.shape[1:])} values a clip, and there are {len(labels)} labels ({', '.join(labels)}).",
        )
    wanted = "sigmoid" if one_neuron or decision == "independent" else "softmax"
    logits, activation = _before_activation(outputs)
    if activation not in ("linear", wanted):
        raise MsEdgeError(
            "bad-network",
            f"{network.name}: ends in {activation}; {decision} labels need {wanted}, or logits (no activation).",
        )
    scores = keras.layers.Activation(wanted, name="ms_edge_probability")(logits)  # names that no network of others has
    if one_neuron:
        scores = _Both(name="ms_edge_both")(scores)
    served = keras.Model(network.inputs[0], [logits, scores], name=network.name)
    if channel:
        features = keras.Input(feature_shape, name="features")
        served = keras.Model(features, served(keras.layers.Reshape((*feature_shape, 1))(features)), name=network.name)
    return served


def _has_channel(network: keras.Model, feature_shape: tuple[int, ...]) -> bool:
    """Whether the network's clips have a channel axis after the features' own."""
    batch, *found = network.input_shape
    if batch is not None:
        raise MsEdgeError("bad-network", f"{network.name}: has room for {batch} clips at a time, not for any number.")
    if network.inputs[0].dtype != "float32":
        raise MsEdgeError("bad-network", f"{network.name}: takes {network.inputs[0].dtype}, and features are float32.")
    for wanted in (feature_shape, (*feature_shape, 1)):
        if len(found) == len(wanted) and all(have in (None, want) for have, want in zip(found, wanted, strict=True)):
            return len(wanted) > len(feature_shape)
    raise MsEdgeError(
        "bad-network",
        f"{network.name}: takes clips of {_by(found)}, and the front end makes {_by(feature_shape)}.",
    )


def _by(shape: Sequence[int | None]) -> str:
    return " x ".join("any" if size is None else str(size) for size in shape)


class _Both(keras.layers.Layer):
    def call(self, probability: keras.KerasTensor) -> keras.KerasTensor:
        return keras.ops.concatenate([1.0 - probability, probability], axis=-1)


def _before_activation(outputs: keras.KerasTensor) -> tuple[keras.KerasTensor, str]:
    """What goes into the last activation, and its name; the outputs themselves and `linear` where there is none."""
    layer, node, _ = outputs._keras_history
    before = layer._inbound_nodes[node].input_tensors[0] if layer._inbound_nodes else outputs
    if isinstance(layer, keras.layers.Softmax):
        return before, "softmax"
    if isinstance(layer, keras.layers.Activation):
        return before, layer.activation.__name__
    if isinstance(layer, keras.layers.Dense) and layer.activation is not keras.activations.linear:
        name = layer.activation.__name__
        plain = keras.layers.Dense.from_config({**layer.get_config(), "activation": None})
        logits = plain(before)
        plain.set_weights(layer.get_weights())
        return logits, name
    return outputs, "linear"
