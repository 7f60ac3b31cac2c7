/* Every statistic of a run of values from one pass over its bytes.
 *
 * A plain shared library without Python's headers: one build serves every Python, and callers
 * hold no lock of the interpreter. For x86-64 alone: the loops are compiled twice, for AVX2 and
 * for AVX-512, and which of them run is chosen when they are called. What they find is the same,
 * and the same as NumPy's way: counts and extremes exactly, sums up to rounding in float64.
 *
 * As in moments.py, NaN, Inf, zero and subnormal are comparisons of the bit pattern.
 */

#include <cpuid.h>
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

/* Values looked at together: a few pages, and few enough for counters of 16 bits. */
#define CHUNK 4096
/* The same where nothing but counts is kept: summing them costs as much as some hundred values. */
#define SCREENED 65536

/* Asks for what lies a page ahead: Intel's Xeons stop fetching by themselves at the end of each,
 * and read half as much without. Beyond the last value nothing happens. */
#define AHEAD 4096
#define FETCH(at) _mm_prefetch((const char *)(at) + AHEAD, _MM_HINT_T0)

enum { F64, F32, BF16, F16 };
enum { I8, U8, I16, U16, I32, U32, I64, U64 };

/* What is known so far; min and max begin at +inf and -inf. */
struct tally {
    int64_t nan, inf, zero, subnormal, below_fp16, finite;
    double min, max, sum, squares;
};

/* What a screen counts. */
struct screened { int64_t nan, inf, zero; };

/* Bit patterns without the sign, see FloatFormat in floats.py. */
struct format16 { uint16_t infinity, smallest_normal, vanishing; };
struct format32 { uint32_t infinity, smallest_normal, vanishing; };
struct format64 { uint64_t infinity, smallest_normal, vanishing; };

static const struct format16 AS_BF16 = {0x7F80, 0x0080, 0x3300};
static const struct format16 AS_F16 = {0x7C00, 0x0400, 0x0000};
static const struct format32 AS_F32 = {0x7F800000u, 0x00800000u, 0x33000000u};
static const struct format64 AS_F64 = {
    0x7FF0000000000000u, 0x0010000000000000u, 0x3E60000000000000u};

static inline float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float bf16_value(uint16_t bits) { return float_of((uint32_t)bits << 16); }

/* Finite values only: exponent and mantissa move to their places in F32, and multiplying by the
 * difference of the exponent biases gives the exact value, subnormals included. */
static inline float f16_value(uint16_t bits)
{
    uint32_t patterns = ((uint32_t)(bits & 0x8000) << 16) | ((uint32_t)(bits & 0x7FFF) << 13);
    return float_of(patterns) * 0x1p112f;
}

static inline void spread(struct tally *t, double low, double high)
{
    t->min = low < t->min ? low : t->min;
    t->max = high > t->max ? high : t->max;
}

#define NAME_(name, suffix) name##_##suffix
#define NAME(name, suffix) NAME_(name, suffix)
#define FN(name) NAME(name, VARIANT)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
#define VARIANT avx2
#define WIDTH 256
#include "moments.inc"
#include "gram.inc"
#undef VARIANT
#undef WIDTH
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push( \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"))), \
    apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")
#endif
#define VARIANT avx512
#define WIDTH 512
#include "moments.inc"
#include "gram.inc"
#undef VARIANT
#undef WIDTH
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

/* 0: neither, 1: AVX2, 2: AVX-512. A test asks for less than there is. */
static int allowed = 2;

static int level(void)
{
    static int found = -1;
    if (found < 0) {
        __builtin_cpu_init();
        unsigned a, b, c = 0, d; /* not every compiler's builtin knows F16C by name */
        int f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
        int avx2 = f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
        int avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                     __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                     __builtin_cpu_supports("avx512vl");
        found = avx512 ? 2 : avx2 ? 1 : 0;
    }
    return found < allowed ? found : allowed;
}

/* Returns which loops will run; 0 is none, and nothing else here may be called then. */
int sentinel_level(int most)
{
    allowed = most;
    return level();
}

#define CHOOSE(name, ...) \
    if (level() == 2) \
        name##_avx512(__VA_ARGS__); \
    else \
        name##_avx2(__VA_ARGS__)

/* Adds `count` little-endian values at `data`, at any alignment, to the tally. */
void sentinel_floats(int format, const void *data, int64_t count, struct tally *t)
{
    CHOOSE(floats, format, data, count, t);
}

/* Adds `count` little-endian values at `data`, at any alignment, to the counts. */
void sentinel_screen(int format, const void *data, int64_t count, struct screened *t)
{
    CHOOSE(screen, format, data, count, t);
}

/* Counts zeros, and lowers and raises the ends; those of U64 are bit patterns. */
void sentinel_integers(
    int kind, const void *data, int64_t count, int64_t *zero, int64_t *low, int64_t *high)
{
    CHOOSE(integers, kind, data, count, zero, low, high);
}

/* Adds how often each byte occurs. */
void sentinel_histogram(const uint8_t *data, int64_t count, int64_t *found)
{
    /* Four tables: equal bytes that follow one another do not wait for one another. */
    while (count > 0) {
        uint32_t tables[4][256] = {{0}};
        int64_t size = count < (1 << 30) ? count : (1 << 30), at = 0;
        for (; at + 8 <= size; at += 8) {
            uint64_t eight;
            memcpy(&eight, data + at, 8);
            for (int shift = 0; shift < 64; shift += 8)
                tables[shift / 8 % 4][eight >> shift & 0xFF]++;
        }
        for (; at < size; at++)
            tables[0][data[at]]++;
        for (int code = 0; code < 256; code++)
            found[code] += (int64_t)tables[0][code] + tables[1][code] + tables[2][code] +
                           tables[3][code];
        data += size;
        count -= size;
    }
}

/* Adds the Gram matrix [vectors, vectors] of `vectors` times `length` little-endian values at
 * `data`, at any alignment: of the columns of a tall matrix (`by_rows`), or the rows of a wide
 * one. Nothing is done for more vectors than there is room for, which returns 0. */
int sentinel_gram(
    int format, int by_rows, const void *data, int64_t vectors, int64_t length, double *gram)
{
    if (vectors < 1 || vectors > MOST_VECTORS)
        return 0;
    CHOOSE(gram, format, by_rows, data, (int)vectors, length, gram);
    return 1;
}

#include "batch.inc"
