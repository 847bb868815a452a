"""The largest allowed differences from TensorFlow at each stage, with the reasons for their sizes."""

from __future__ import annotations

# At the model's own rate.
TOLERANCES = {
    # Relative: the mean of two channels in float32 and in float64 differs by one rounding.
    "samples": 1e-6,
    # Relative to the largest magnitude. Two float32 transforms add in different orders; each term
    # rounds by 6e-8 of the largest.
    "spectrum": 1e-6,
    # Absolute. Just above its floor, the logarithm divides the error above by floor / sum of the
    # window; in recipes that is over 5e-5.
    "features": 1e-3,
    # Relative to the largest logit of the case, or to 1. Near a full-scale tone, features differ by
    # 4e-4; compared with float64, nearly all of it is TensorFlow's rounding. A network with maxima
    # then changes by half of that, elsewhere by a hundredth.
    "logits": 4e-4,
    # Absolute. A score changes by at most a quarter of the change of its logit, and by much less
    # for most scores.
    "scores": 1e-4,
    # Share of windows with another label, without those whose scores are within the tolerance of a
    # border: none.
    "label": 0.0,
}
# For the network alone: both networks get the features that the implementation computed from a real
# recording. Then only the order of sums differs, and a weight that is wrong by a hundredth shows.
# End to end, a narrower tolerance than above would not test the weights: features of loud music
# differ by 2e-4 in a quiet band, and the effect on a score depends on how steep the network is,
# which changes with a few steps of training on another processor.
NETWORK_TOLERANCES = {"logits": 1e-4, "scores": 2.5e-5}
# Absolute, in dB, of the level of the music and its deviation: end to end, where features of a
# full-scale tone change it by 6e-4, and for the network alone, where the order of sums changes it by 2e-5.
LEVEL_TOLERANCE_DB, LEVEL_NETWORK_TOLERANCE_DB = 5e-3, 5e-4
# Scores of windows in a run, compared with scores of the same windows alone: both are the same sums
# of the same features.
STEPS_TOLERANCE = 1e-6
# After resampling, for frequencies that both filters let through (`PASSBAND`). soxr's streaming HQ
# interpolates its coefficients, so it differs from VHQ in float64 by up to 1e-4 of the signal; the
# next lower quality differs by 5e-3.
RESAMPLED = {
    **TOLERANCES,
    "samples": 3e-4,
    # Relative to the largest magnitude of the case. Above the passband both filters fall
    # differently, and the window leaks some of that difference to lower bins.
    "spectrum": 3e-2,
    # The difference above, over the floor, in a bin that holds nothing else. Bands of a mel
    # spectrum differ by less than 0.03.
    "features": 1.5,
    # A network also gets the frequencies above the passband, and how much they matter depends on
    # the network: scores of the bundled one change by 0.008, of an untrained one by 0.1, of a
    # saturated one by 1. They are shown but cannot fail; the stage `samples` tests the resampler.
    "logits": float("inf"),
    "scores": float("inf"),
    # Share of windows whose label is clear.
    "label": 0.05,
}
SURE = 0.5  # margin of the scores from which on a label counts as clear
PASSBAND = 0.88
# Lower precision changes scores by 0.01 and more. It must keep the label of nearly all windows of
# real recordings, and the accuracy, which `quantize` measures. (For the synthetic signals of the
# grid, int8 gives a tenth of the windows another label.)
VARIANT_TOLERANCES = {"label": 0.03}
# For the network on another device than the CPU (TF32 off), whose kernels add in other orders.
DEVICE_TOLERANCES = {"logits": 1e-2, "scores": 1e-3}
