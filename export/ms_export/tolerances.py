"""How far each stage may be from TensorFlow's, and why no nearer."""

from __future__ import annotations

# At the model's own rate.
TOLERANCES = {
    # The mean of two channels in float32 against float64, relative: one rounding.
    "samples": 1e-6,
    # Of the largest magnitude. Two float32 transforms sum in different orders; each term has 6e-8 of the largest.
    "spectrum": 1e-6,
    # Absolute. A logarithm just above its floor divides the above by floor / sum of the window, which recipes keep over 5e-5.
    "features": 1e-3,
    # Of the largest logit of the case, or of 1. Near a full-scale tone features differ by 4e-4, nearly all of it TensorFlow's own
    # rounding (held against float64), and a network that looks for maxima moves by half of that; elsewhere by a hundredth.
    "logits": 4e-4,
    # Absolute. A quarter of the difference of logits at the steepest, and most are far from there.
    "scores": 1e-4,
    # Share of windows with another label, those within the tolerance of a border aside: none.
    "label": 0.0,
}
# Of the network alone: both networks get the features that the implementation computed of a real recording, so that nothing differs
# but the order of their sums, and a weight that is off by a hundredth shows. End to end a narrower tolerance than the above says
# nothing of the weights: features of loud music differ by 2e-4 where a band is quiet, and how far that moves a score is how
# steep the network is, which a few steps of training on another processor change.
NETWORK_TOLERANCES = {"logits": 1e-4, "scores": 2.5e-5}
# Of the scores of windows that share their frames, from those of the same windows one by one: the same sums of the same features.
STEPS_TOLERANCE = 1e-6
# After resampling, where both filters let through what there is (`PASSBAND`). soxr's streaming HQ interpolates its
# coefficients, which costs up to 1e-4 of the signal against VHQ in float64; a step less in quality costs 5e-3.
RESAMPLED = {
    **TOLERANCES,
    "samples": 3e-4,
    # Of the largest magnitude of the case: above the passband both fall, not alike, and a window smears some of that down.
    "spectrum": 3e-2,
    # That over the floor, where a bin holds nothing else. The bands of a mel spectrum stay within 0.03.
    "features": 1.5,
    # A network hears what is above the passband too, and how much it cares is its own affair: the bundled one moves by 0.008, an
    # untrained one by 0.1, a saturated one by 1. Shown, not judged; that the resampler is right is seen in the samples.
    "logits": float("inf"),
    "scores": float("inf"),
    # Of windows that are sure of theirs.
    "label": 0.05,
}
SURE = 0.5  # how far from another label's scores
PASSBAND = 0.88
# A lower precision rounds scores, by 0.01 and more; what is asked of it is the label of nearly all windows of real recordings, and
# accuracy, which `quantize` measures. (Of the grid's own signals, which sound like nothing, int8 labels a tenth otherwise.)
VARIANT_TOLERANCES = {"label": 0.03}
# Of the network on another device than the CPU (TF32 off): other kernels, other orders of summation.
DEVICE_TOLERANCES = {"logits": 1e-2, "scores": 1e-3}
