/* Copies the body of a message into its canonical form (RFC 6376 3.4), 64 octets a step. LF or CRLF becomes CRLF, and
 * the ends of empty lines wait until a character follows; relaxed has one space for white space within a line, and none
 * at its end.
 *
 * Each way to look at 64 octets (their LFs, and the white space that relaxed changes, as bits of a word each) is a
 * function `look`; the code around it exists once, and is compiled for each of them. On x86-64 these are SSE2, which
 * each such processor has, and AVX2, taken where the processor has it; on aarch64 NEON, which each has. The plain one
 * looks at eight octets at a time, on any machine.
 *
 * Promise: nothing is read at or behind `stop`. No step ends between a CR and the octet after it.
 */

#ifndef FASTMAIL_CANONICAL_H
#define FASTMAIL_CANONICAL_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define CANONICAL_STEP 64  /* octets of one step */
#define CANONICAL_AHEAD 128  /* octets that have to be readable from the beginning of a step on */
#define CANONICAL_ALWAYS static inline __attribute__((always_inline))

/* from: the next octet of the body; to: where the next octet of the form goes; ends: line ends that wait; any: a
 * character came; space: relaxed, white space waits for a character behind it in its line. */
struct canonical {
    const uint8_t *from;
    uint8_t *to;
    ptrdiff_t ends;
    int any;
    int space;
};

/* Takes steps that begin before `end`, until fewer than CANONICAL_AHEAD octets are left before `stop`, or a step would
 * end with a CR, of which the next octet says what it is. There is room for two octets for each of the body up to `end`
 * and of a step more, two for each line end that waits, and another step. */
#define CANONICAL_RUN(name, look, copy, attributes)                                                                    \
    attributes static void name(struct canonical *at, const uint8_t *end, const uint8_t *stop, int relaxed) {          \
        const uint8_t *p = at->from;                                                                                   \
        uint8_t *to = at->to;                                                                                          \
        ptrdiff_t ends = at->ends;                                                                                     \
        int space = at->space;                                                                                         \
        while (space && p < stop && (*p == 32 || *p == 9)) /* more of the white space in front of the cut */           \
            p++;                                                                                                       \
        while (p < end && stop - p >= CANONICAL_AHEAD) {                                                               \
            uint64_t lines, odd = look(p, relaxed, &lines), events = lines | odd;                                      \
            ptrdiff_t begin = 0, step = CANONICAL_STEP;                                                                \
            if (p[CANONICAL_STEP - 1] == 13)                                                                           \
                break;                                                                                                 \
            for (;;) {                                                                                                 \
                ptrdiff_t event = events ? __builtin_ctzll(events) : CANONICAL_STEP;                                   \
                ptrdiff_t size = event - begin;                                                                        \
                int line = events & -events & lines ? 1 : 0;                                                           \
                if (line && size && p[event - 1] == 13)                                                                \
                    size--;                                                                                            \
                if (size) {                                                                                            \
                    for (; ends; ends--) {                                                                             \
                        memcpy(to, "\r\n", 2);                                                                         \
                        to += 2;                                                                                       \
                    }                                                                                                  \
                    *to = 32;                                                                                          \
                    to += space;                                                                                       \
                    space = 0;                                                                                         \
                    copy(to, p + begin);                                                                               \
                    to += size;                                                                                        \
                }                                                                                                      \
                if (!events)                                                                                           \
                    break;                                                                                             \
                if (!line) { /* one space is left of the white space here, if a character follows in the line */       \
                    space = 1;                                                                                         \
                    step = event + 1;                                                                                  \
                    while (p + step < stop && (p[step] == 32 || p[step] == 9))                                         \
                        step++;                                                                                        \
                    break;                                                                                             \
                }                                                                                                      \
                ends++;                                                                                                \
                space = 0;                                                                                             \
                begin = event + 1;                                                                                     \
                events &= events - 1;                                                                                  \
            }                                                                                                          \
            p += step;                                                                                                 \
        }                                                                                                              \
        at->any |= to != at->to;                                                                                       \
        at->from = p;                                                                                                  \
        at->to = to;                                                                                                   \
        at->ends = ends;                                                                                               \
        at->space = space;                                                                                             \
    }

/* Each `look` sets bit i of `lines` where octet i is LF. It returns the bits of white space that relaxed may have to
 * change: each TAB, and each space in front of white space, of a line end or of another control. */

/* The high bits of the octets of `word`, as its lowest eight bits: the product moves them to the highest octet. */
CANONICAL_ALWAYS uint64_t canonical_bits(uint64_t word) { return ((word >> 7) * 0x0102040810204080ULL) >> 56; }

/* The high bit of each octet of `word` that is zero; no other bits. */
CANONICAL_ALWAYS uint64_t canonical_zeros(uint64_t word) {
    const uint64_t low = 0x7f7f7f7f7f7f7f7fULL;
    return ~(((word & low) + low) | word | low);
}

CANONICAL_ALWAYS uint64_t canonical_word(const uint8_t *p) {
    uint64_t word;
    memcpy(&word, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

CANONICAL_ALWAYS uint64_t canonical_look_plain(const uint8_t *p, int relaxed, uint64_t *lines) {
    const uint64_t ones = 0x0101010101010101ULL, high = 0x8080808080808080ULL;
    uint64_t found = 0, odd = 0;
#pragma GCC unroll 8
    for (int i = 0; i < CANONICAL_STEP; i += 8) {
        uint64_t word = canonical_word(p + i);
        found |= canonical_bits(canonical_zeros(word ^ (10 * ones))) << i;
        if (relaxed) {
            uint64_t next = canonical_word(p + i + 1);
            uint64_t below = ~(((next & ~high) + (127 - 32) * ones) | next) & high; /* 0 to 32 */
            uint64_t here = canonical_zeros(word ^ (9 * ones)) | (canonical_zeros(word ^ (32 * ones)) & below);
            if (here)
                odd |= canonical_bits(here) << i;
        }
    }
    *lines = found;
    return odd;
}

CANONICAL_ALWAYS void canonical_copy_plain(uint8_t *to, const uint8_t *from) { memcpy(to, from, CANONICAL_STEP); }

CANONICAL_RUN(canonical_run_plain, canonical_look_plain, canonical_copy_plain, )

#if defined(__x86_64__)

CANONICAL_ALWAYS uint64_t canonical_look_sse2(const uint8_t *p, int relaxed, uint64_t *lines) {
    const __m128i lf = _mm_set1_epi8(10), tab = _mm_set1_epi8(9), space = _mm_set1_epi8(32);
    uint64_t found = 0, odd = 0;
#pragma GCC unroll 8
    for (int i = 0; i < CANONICAL_STEP; i += 16) {
        __m128i here = _mm_loadu_si128((const __m128i *)(p + i));
        found |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(here, lf)) << i;
        if (relaxed) {
            __m128i next = _mm_loadu_si128((const __m128i *)(p + i + 1));
            __m128i below = _mm_cmpeq_epi8(_mm_min_epu8(next, space), next);
            __m128i spaces = _mm_and_si128(_mm_cmpeq_epi8(here, space), below);
            __m128i changed = _mm_or_si128(spaces, _mm_cmpeq_epi8(here, tab));
            odd |= (uint64_t)(uint32_t)_mm_movemask_epi8(changed) << i;
        }
    }
    *lines = found;
    return odd;
}

__attribute__((target("avx2"))) CANONICAL_ALWAYS uint64_t canonical_look_avx2(const uint8_t *p, int relaxed,
                                                                              uint64_t *lines) {
    const __m256i lf = _mm256_set1_epi8(10), tab = _mm256_set1_epi8(9), space = _mm256_set1_epi8(32);
    uint64_t found = 0, odd = 0;
#pragma GCC unroll 8
    for (int i = 0; i < CANONICAL_STEP; i += 32) {
        __m256i here = _mm256_loadu_si256((const __m256i *)(p + i));
        found |= (uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(here, lf)) << i;
        if (relaxed) {
            __m256i next = _mm256_loadu_si256((const __m256i *)(p + i + 1));
            __m256i below = _mm256_cmpeq_epi8(_mm256_min_epu8(next, space), next);
            __m256i spaces = _mm256_and_si256(_mm256_cmpeq_epi8(here, space), below);
            __m256i changed = _mm256_or_si256(spaces, _mm256_cmpeq_epi8(here, tab));
            odd |= (uint64_t)(uint32_t)_mm256_movemask_epi8(changed) << i;
        }
    }
    *lines = found;
    return odd;
}

__attribute__((target("avx2"))) CANONICAL_ALWAYS void canonical_copy_avx2(uint8_t *to, const uint8_t *from) {
    __m256i first = _mm256_loadu_si256((const __m256i *)from), second = _mm256_loadu_si256((const __m256i *)(from + 32));
    _mm256_storeu_si256((__m256i *)to, first);
    _mm256_storeu_si256((__m256i *)(to + 32), second);
}

CANONICAL_RUN(canonical_run_sse2, canonical_look_sse2, canonical_copy_plain, )
CANONICAL_RUN(canonical_run_avx2, canonical_look_avx2, canonical_copy_avx2, __attribute__((target("avx2"))))

#endif

#if defined(__aarch64__)

/* One bit for each of 64 octets that are 0 or 255: sums of neighbours, three times, of octets with a bit each. */
CANONICAL_ALWAYS uint64_t canonical_bits_neon(const uint8x16_t found[4]) {
    const uint8x16_t bits = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201ULL));
    uint8x16_t low = vpaddq_u8(vandq_u8(found[0], bits), vandq_u8(found[1], bits));
    uint8x16_t high = vpaddq_u8(vandq_u8(found[2], bits), vandq_u8(found[3], bits));
    low = vpaddq_u8(low, high);
    return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(low, low)), 0);
}

CANONICAL_ALWAYS uint64_t canonical_look_neon(const uint8_t *p, int relaxed, uint64_t *lines) {
    const uint8x16_t lf = vdupq_n_u8(10), tab = vdupq_n_u8(9), space = vdupq_n_u8(32);
    uint8x16_t found[4], odd[4], any = vdupq_n_u8(0);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        uint8x16_t here = vld1q_u8(p + 16 * i);
        found[i] = vceqq_u8(here, lf);
        if (relaxed) {
            uint8x16_t below = vcleq_u8(vld1q_u8(p + 16 * i + 1), space);
            odd[i] = vorrq_u8(vceqq_u8(here, tab), vandq_u8(vceqq_u8(here, space), below));
            any = vorrq_u8(any, odd[i]);
        }
    }
    *lines = canonical_bits_neon(found);
    return relaxed && vmaxvq_u8(any) ? canonical_bits_neon(odd) : 0;
}

CANONICAL_RUN(canonical_run_neon, canonical_look_neon, canonical_copy_plain, )

#endif

/* The ways to look that this machine has, by number; the last one is the quickest, with which a process begins. */
static int canonical_ways(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") ? 3 : 2;
#elif defined(__aarch64__)
    return 2;
#else
    return 1;
#endif
}

static void canonical_run(int way, struct canonical *at, const uint8_t *end, const uint8_t *stop, int relaxed) {
    switch (way) {
#if defined(__x86_64__)
    case 2:
        canonical_run_avx2(at, end, stop, relaxed);
        break;
    case 1:
        canonical_run_sse2(at, end, stop, relaxed);
        break;
#elif defined(__aarch64__)
    case 1:
        canonical_run_neon(at, end, stop, relaxed);
        break;
#endif
    default:
        canonical_run_plain(at, end, stop, relaxed);
    }
}

#endif
