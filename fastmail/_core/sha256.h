/* SHA-256 (FIPS 180-4) by the instructions that x86-64 processors have for it.
 *
 * sha256_able says whether this processor has them; where it has not, nothing here may be called. */

#ifndef FASTMAIL_SHA256_H
#define FASTMAIL_SHA256_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { SHA256_BLOCK = 64, SHA256_DIGEST = 32 };

/* buffer: the octets behind the last whole block, of `size` that came. */
struct sha256 {
    uint32_t state[8];
    uint8_t buffer[SHA256_BLOCK];
    uint64_t size;
};

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#include <immintrin.h>

static int sha256_able(void) {
    unsigned int a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_SSSE3) || !(c & bit_SSE4_1))
        return 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_SHA);
}

static const uint32_t sha256_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

/* `count` blocks. The instructions want the state as words ABEF and CDGH, the highest word first. */
__attribute__((target("sha,sse4.1,ssse3"))) static void sha256_blocks(uint32_t *state, const uint8_t *p, size_t count) {
    const __m128i order = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    __m128i dcba = _mm_loadu_si128((const __m128i *)state), hgfe = _mm_loadu_si128((const __m128i *)(state + 4));
    __m128i cdab = _mm_shuffle_epi32(dcba, 0xb1), efgh = _mm_shuffle_epi32(hgfe, 0x1b);
    __m128i abef = _mm_alignr_epi8(cdab, efgh, 8), cdgh = _mm_blend_epi16(efgh, cdab, 0xf0);
    for (; count; count--, p += SHA256_BLOCK) {
        __m128i words[4], first = abef, second = cdgh;
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) { /* four rounds each */
            __m128i *next = &words[i & 3], both;
            if (i < 4)
                *next = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(p + 16 * i)), order);
            else
                *next = _mm_sha256msg2_epu32(
                    _mm_add_epi32(_mm_sha256msg1_epu32(*next, words[(i + 1) & 3]),
                                  _mm_alignr_epi8(words[(i + 3) & 3], words[(i + 2) & 3], 4)),
                    words[(i + 3) & 3]);
            both = _mm_add_epi32(*next, _mm_loadu_si128((const __m128i *)(sha256_constants + 4 * i)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, both);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(both, 0x0e));
        }
        abef = _mm_add_epi32(abef, first);
        cdgh = _mm_add_epi32(cdgh, second);
    }
    __m128i feba = _mm_shuffle_epi32(abef, 0x1b), dchg = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)state, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128((__m128i *)(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

#else

static int sha256_able(void) { return 0; }

static void sha256_blocks(uint32_t *state, const uint8_t *p, size_t count) { (void)state, (void)p, (void)count; }

#endif

static void sha256_begin(struct sha256 *sum) {
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(sum->state, start, sizeof start);
    sum->size = 0;
}

static void sha256_add(struct sha256 *sum, const uint8_t *p, size_t n) {
    size_t held = sum->size % SHA256_BLOCK, whole;
    sum->size += n;
    if (held) {
        size_t part = SHA256_BLOCK - held < n ? SHA256_BLOCK - held : n;
        memcpy(sum->buffer + held, p, part);
        if (held + part < SHA256_BLOCK)
            return;
        sha256_blocks(sum->state, sum->buffer, 1);
        p += part;
        n -= part;
    }
    whole = n / SHA256_BLOCK;
    sha256_blocks(sum->state, p, whole);
    memcpy(sum->buffer, p + whole * SHA256_BLOCK, n % SHA256_BLOCK);
}

/* The digest of all that came. Nothing may be added afterwards. */
static void sha256_end(struct sha256 *sum, uint8_t *digest) {
    size_t held = sum->size % SHA256_BLOCK;
    uint64_t bits = sum->size * 8;
    sum->buffer[held++] = 0x80;
    if (held > SHA256_BLOCK - sizeof bits) {
        memset(sum->buffer + held, 0, SHA256_BLOCK - held);
        sha256_blocks(sum->state, sum->buffer, 1);
        held = 0;
    }
    memset(sum->buffer + held, 0, SHA256_BLOCK - sizeof bits - held);
    for (int i = 0; i < 8; i++)
        sum->buffer[SHA256_BLOCK - 1 - i] = (uint8_t)(bits >> 8 * i);
    sha256_blocks(sum->state, sum->buffer, 1);
    for (int i = 0; i < SHA256_DIGEST; i++)
        digest[i] = (uint8_t)(sum->state[i / 4] >> (24 - 8 * (i % 4)));
}

#endif
