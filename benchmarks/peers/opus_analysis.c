/* The analysis of the Opus encoder on WAV files (16 kHz mono, 16 bits, header of 44 bytes): means over frames of 20 ms.
   Reads paths from standard input, prints a JSON line a file. Linked with a static libopus, where run_analysis is to be had. */
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "analysis.h"
#include "modes.h"
#include "opus_private.h"
#include "stack_alloc.h"

#define RATE_HZ 16000
#define FRAME 320

static TonalityAnalysisState state;

int main(void)
{
   static char path[65536];
   static short samples[FRAME];
   int error;
   CELTMode *mode = opus_custom_mode_create(48000, 960, &error);
   while (fgets(path, sizeof(path), stdin)) {
      double music = 0, active = 0;
      long frames = 0;
      FILE *file;
      path[strcspn(path, "\n")] = 0;
      file = fopen(path, "rb");
      if (!file || fseek(file, 44, SEEK_SET)) return 1;
      memset(&state, 0, sizeof(state));
      tonality_analysis_init(&state, RATE_HZ);
      while (fread(samples, sizeof(short), FRAME, file) == FRAME) {
         AnalysisInfo info;
         memset(&info, 0, sizeof(info));
         run_analysis(&state, mode, samples, FRAME, FRAME, 0, -2, 1, RATE_HZ, 16, downmix_int, &info);
         if (info.valid) {
            music += info.music_prob * info.activity_probability;
            active += info.activity_probability;
            frames++;
         }
      }
      fclose(file);
      if (!frames || active <= 0) puts("{\"speech\": 0, \"music\": 0}");
      else printf("{\"speech\": %.6f, \"music\": %.6f}\n", 1 - music / active, music / active);
      fflush(stdout);
   }
   return 0;
}
