/* Speech or music? Runs a waveform model of ms-edge on ONNX Runtime's C API:
 *   cc classify.c $(pkg-config --cflags --libs libonnxruntime) -lm -o classify
 *   ./classify MODEL.onnx RECORDING.wav
 */
#include <math.h>
#include <onnxruntime_c_api.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_LABELS 64
#define SILENT 3.1622776601683794e-4 /* a window whose root mean square is below -70 dBFS does not count */

static const OrtApi *ort;

static void fail(const char *what) {
    fprintf(stderr, "classify: %s\n", what);
    exit(1);
}

static void check(OrtStatus *status) {
    if (status) fail(ort->GetErrorMessage(status));
}

static void *checked(void *memory) {
    if (!memory) fail("not enough memory");
    return memory;
}

/* Return an entry of the model's metadata, which is JSON. */
static char *metadata(OrtModelMetadata *all, OrtAllocator *allocator, const char *key) {
    char *value = NULL;
    check(ort->ModelMetadataLookupCustomMetadataMap(all, allocator, key, &value));
    if (!value) fail("the model file has no metadata of ms-edge");
    return value;
}

/* Return the text after "key": in JSON without objects inside objects. */
static const char *after(const char *json, const char *key) {
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    const char *found = strstr(json, quoted);
    if (!found) fail("the metadata of the model lacks an entry");
    return found + strlen(quoted);
}

static double number(const char *json, const char *key) { return strtod(after(json, key), NULL); }

static uint32_t little_endian(const unsigned char *at, int bytes) {
    return bytes ? at[0] | little_endian(at + 1, bytes - 1) << 8 : 0;
}

/* Return the number of bytes from here to the end of a file. */
static size_t rest(FILE *file) {
    long here = ftell(file);
    fseek(file, 0, SEEK_END);
    long end = ftell(file);
    fseek(file, here, SEEK_SET);
    return (size_t)(end - here);
}

/* Return the samples of a WAV file, 16-bit mono PCM at `rate` Hz. Other chunks are skipped. */
static float *read_wav(const char *path, uint32_t rate, size_t *count) {
    FILE *file = fopen(path, "rb");
    if (!file) fail("the recording cannot be opened");
    unsigned char head[12], chunk[8], format[16] = {0};
    if (fread(head, 1, 12, file) < 12 || memcmp(head, "RIFF", 4) || memcmp(head + 8, "WAVE", 4)) fail("no WAV file");
    while (fread(chunk, 1, 8, file) == 8) {
        uint32_t size = little_endian(chunk + 4, 4);
        if (!memcmp(chunk, "data", 4)) {
            if (little_endian(format, 2) != 1 || little_endian(format + 2, 2) != 1 ||
                little_endian(format + 4, 4) != rate || little_endian(format + 14, 2) != 16)
                fail("the recording is not 16-bit mono PCM at the rate of the model");
            size_t stored = size < rest(file) ? size : rest(file); /* a recorder may not have filled in the size */
            unsigned char *bytes = checked(malloc(stored + 1));
            *count = fread(bytes, 1, stored, file) / 2;
            float *samples = checked(malloc((*count + 1) * sizeof(float)));
            for (size_t i = 0; i < *count; i++) samples[i] = (int16_t)little_endian(bytes + 2 * i, 2) / 32768.0f;
            free(bytes);
            fclose(file);
            return samples;
        }
        uint32_t known = memcmp(chunk, "fmt ", 4) ? 0 : size < 16 ? size : 16;
        if (fread(format, 1, known, file) < known || fseek(file, (long)(size - known + (size & 1)), SEEK_CUR)) break;
    }
    fail("the WAV file has no samples");
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 3) fail("usage: classify MODEL.onnx RECORDING.wav");
    ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (!ort) fail("the library of ONNX Runtime is older than its header");
    OrtEnv *env;
    OrtSessionOptions *options;
    OrtSession *session;
    OrtModelMetadata *all;
    OrtAllocator *allocator;
    OrtMemoryInfo *cpu;
    check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "classify", &env));
    check(ort->CreateSessionOptions(&options));
    check(ort->SetIntraOpNumThreads(options, 1)); /* the fastest for a network this small */
    check(ort->CreateSession(env, argv[1], options, &session));
    check(ort->SessionGetModelMetadata(session, &all));
    check(ort->GetAllocatorWithDefaultOptions(&allocator));
    check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &cpu));
    const char *spec = metadata(all, allocator, "ms_edge.frontend");
    const char *decision = metadata(all, allocator, "ms_edge.decision");
    char *names = metadata(all, allocator, "ms_edge.labels"); /* ["speech", "music"] */

    const char *labels[MOST_LABELS];
    size_t n_labels = 0;
    for (char *at = strtok(names, "[\","); at && n_labels < MOST_LABELS; at = strtok(NULL, "[\","))
        if (*at != ' ' && *at != ']') labels[n_labels++] = at;

    double rate = number(spec, "sample_rate_hz");
    size_t length = (size_t)lround(number(spec, "clip_s") * rate), hop = (size_t)lround(number(spec, "hop_s") * rate);
    size_t count;
    float *samples = read_wav(argv[2], (uint32_t)rate, &count);
    if (!count) fail("the recording holds no samples");
    if (count < length) { /* a recording shorter than a window is repeated */
        samples = checked(realloc(samples, length * sizeof(float)));
        for (size_t i = count; i < length; i++) samples[i] = samples[i - count];
        count = length;
    }

    double sums[MOST_LABELS] = {0};
    size_t used = 0;
    for (size_t start = 0, last = 0; !last; start += hop) { /* a window every hop, and one at the end */
        last = start + length >= count;
        float *window = samples + (last ? count - length : start);
        double energy = 0;
        for (size_t i = 0; i < length; i++) energy += (double)window[i] * window[i];
        if (sqrt(energy / (double)length) < SILENT) continue;

        const int64_t shape[] = {1, (int64_t)length};
        const char *inputs[] = {"waveform"}, *outputs[] = {"scores"};
        OrtValue *input, *output = NULL;
        float *scores;
        check(ort->CreateTensorWithDataAsOrtValue(cpu, window, length * sizeof(float), shape, 2,
                                                  ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &input));
        check(ort->Run(session, NULL, inputs, (const OrtValue *const *)&input, 1, outputs, 1, &output));
        check(ort->GetTensorMutableData(output, (void **)&scores));
        for (size_t j = 0; j < n_labels; j++) sums[j] += scores[j];
        used++;
        ort->ReleaseValue(input);
        ort->ReleaseValue(output);
    }
    if (!used) return puts("{\"label\": \"silence\"}") < 0;

    /* The rule of the model: the labels over their thresholds, or else the largest score. */
    char label[4096] = "";
    size_t best = 0;
    int exclusive = strstr(decision, "\"exclusive\"") != NULL;
    const char *threshold = exclusive ? NULL : strchr(after(decision, "thresholds"), '[') + 1;
    for (size_t j = 0; j < n_labels; j++) {
        if (sums[j] > sums[best]) best = j;
        if (exclusive) continue;
        char *next;
        double least = strtod(threshold, &next);
        threshold = next + 1;
        if (sums[j] / (double)used >= least) {
            if (*label) strncat(label, "+", sizeof label - strlen(label) - 1);
            strncat(label, labels[j], sizeof label - strlen(label) - 1);
        }
    }
    printf("{\"label\": \"%s\", \"scores\": {", exclusive ? labels[best] : *label ? label : "other");
    for (size_t j = 0; j < n_labels; j++)
        printf("%s\"%s\": %.6f", j ? ", " : "", labels[j], sums[j] / (double)used);
    puts("}}");
    return 0; /* the system takes back the memory and the session */
}
