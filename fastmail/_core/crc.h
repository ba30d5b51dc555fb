/* CRC-32 as zlib computes it, by instructions of the processor for it.

fm_crc_able tells whether this processor has them. fm_crc works anywhere, an octet at a time where they are missing.
The register is inverted before and after, as zlib does, so that fm_crc(b, fm_crc(a, 0)) is the checksum of a and b.

x86-64: carry-less multiplication. Four registers of 16 octets each hold what 64 octets stand for; the next 64 are added
to them after both halves of each were multiplied by x^(512 + 64 -+ 32) mod P. So the octets of a message become fewer
and its remainder mod P, which is the checksum, stays the same. (V. Gopal and others, "Fast CRC Computation for Generic
Polynomials Using PCLMULQDQ Instruction", Intel 2009.) aarch64: an instruction for eight octets. */
#ifndef FM_CRC_H
#define FM_CRC_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FM_CRC_POLYNOMIAL 0xedb88320u   /* bits in reverse order, without the highest */

static uint32_t fm_crc_table[256];      /* filled by fm_crc_begin */
static int fm_crc_able;

static uint32_t fm_crc_octets(uint32_t state, const unsigned char *p, size_t n) {
    while (n--) state = fm_crc_table[(state ^ *p++) & 0xff] ^ state >> 8;
    return state;
}

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define FM_CRC_LEAST 64                 /* octets below which the table is as quick */

static int fm_crc_supported(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("pclmul") != 0;
}

__attribute__((target("pclmul,sse2")))
static __m128i fm_crc_fold(__m128i x, __m128i by, __m128i next) {
    __m128i low = _mm_clmulepi64_si128(x, by, 0x00), high = _mm_clmulepi64_si128(x, by, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

__attribute__((target("pclmul,sse2")))
static uint32_t fm_crc_long(uint32_t state, const unsigned char *p, size_t n) {
    /* x^(d + 32) and x^(d - 32) mod P for d of 512 and of 128 bits, in reverse order and shifted by one */
    const __m128i by512 = _mm_set_epi64x(0x1c6e41596, 0x154442bd4), by128 = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0);
    const __m128i *from = (const __m128i *)p;
    __m128i a = _mm_xor_si128(_mm_loadu_si128(from), _mm_cvtsi32_si128((int)state));
    __m128i b = _mm_loadu_si128(from + 1), c = _mm_loadu_si128(from + 2), d = _mm_loadu_si128(from + 3);
    unsigned char rest[16];
    for (from += 4, n -= 64; n >= 64; from += 4, n -= 64) {
        a = fm_crc_fold(a, by512, _mm_loadu_si128(from));
        b = fm_crc_fold(b, by512, _mm_loadu_si128(from + 1));
        c = fm_crc_fold(c, by512, _mm_loadu_si128(from + 2));
        d = fm_crc_fold(d, by512, _mm_loadu_si128(from + 3));
    }
    a = fm_crc_fold(fm_crc_fold(fm_crc_fold(a, by128, b), by128, c), by128, d);
    for (; n >= 16; from++, n -= 16) a = fm_crc_fold(a, by128, _mm_loadu_si128(from));
    _mm_storeu_si128((__m128i *)rest, a);
    return fm_crc_octets(fm_crc_octets(0, rest, sizeof rest), (const unsigned char *)from, n);
}

#elif defined(__aarch64__) && defined(__linux__) && defined(__GNUC__) && defined(__AARCH64EL__)
#include <sys/auxv.h>
#define FM_CRC_LEAST 8

static int fm_crc_supported(void) { return (getauxval(AT_HWCAP) & 1UL << 7) != 0; }   /* HWCAP_CRC32 */

static uint32_t fm_crc_long(uint32_t state, const unsigned char *p, size_t n) {
    uint64_t eight;
    for (; n >= 8; p += 8, n -= 8) {
        memcpy(&eight, p, 8);
        __asm__(".arch_extension crc\n\tcrc32x %w0, %w0, %x1" : "+r"(state) : "r"(eight));
    }
    return fm_crc_octets(state, p, n);
}

#else
#define FM_CRC_LEAST ((size_t)-1)
static int fm_crc_supported(void) { return 0; }
static uint32_t fm_crc_long(uint32_t state, const unsigned char *p, size_t n) { return fm_crc_octets(state, p, n); }
#endif

static void fm_crc_begin(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t state = i;
        for (int bit = 0; bit < 8; bit++) state = state >> 1 ^ (state & 1 ? FM_CRC_POLYNOMIAL : 0);
        fm_crc_table[i] = state;
    }
    fm_crc_able = fm_crc_supported();
}

static uint32_t fm_crc(const unsigned char *p, size_t n, uint32_t crc) {
    if (fm_crc_able && n >= FM_CRC_LEAST) return ~fm_crc_long(~crc, p, n);
    return ~fm_crc_octets(~crc, p, n);
}
#endif
