"""Reports: pages that show, play and correct what was found in recordings, totals, and cut recordings.

`job` turns recordings and records into pages, `page` fills one page and `index` the list of all,
`document` adds style, scripts and the policy that allows these alone, `drawing` draws a timeline as
SVG, and `sound` holds the waveform and the scores that it shows. The pages' own HTML, CSS and
JavaScript are the files beside these modules; `make report-assets` puts wavesurfer.js into
`assets`. The documentation site has a page that shows recordings with the same files. `summary`
adds up results; `summary_tables` and `summary_chart` write the totals. `cut` copies the parts of
recordings that have a label. `dialogue` finds music that is too loud under speech. These modules may
import everything in `ms_edge` except `scoring`, `archive`, `live` and `cli`. To add something to a
page, begin with `recording.html`.
"""
