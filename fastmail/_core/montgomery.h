/* s^65537 mod n for numbers of 1024 to 4096 bits: what verifying an RSA signature is (RFC 8017 5.2.2).
 *
 * Numbers are blocks of eight words of 64 bits, the lowest word first. Products mod n are Montgomery's (P. Montgomery,
 * "Modular multiplication without trial division", 1985): a * b / R mod n, where R = 2^(512 * blocks). A block by a block
 * is 64 instructions that multiply, whose sums are two chains with a carry flag each (Intel's ADX: adcx, adox).
 *
 * All that is computed with is public: the time it takes depends on the numbers, so it must never see a private key.
 * montgomery_able says whether this processor has the instructions; where it has not, nothing here may be called. */

#ifndef FASTMAIL_MONTGOMERY_H
#define FASTMAIL_MONTGOMERY_H

#include <stdint.h>
#include <string.h>

enum { MONTGOMERY_BLOCK = 8, MONTGOMERY_BLOCKS = 8, MONTGOMERY_WORDS = 64 };

#if defined(__x86_64__) && defined(__LP64__)
#include <cpuid.h>
#include <immintrin.h>

static int montgomery_able(void) {
    unsigned int a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_BMI2) && (b & bit_ADX);
}

/* One row: the word in rdx times the eight words at a, added to r0..r7, of which r0 is then done (`keep` stores it) and
 * takes the ninth word of the sum. That cannot overflow: (2^64 - 1) * (2^512 - 1) + 2^512 - 1 has nine words. */
#define MONTGOMERY_STEP(at, low, high)                                                                                 \
    "mulx " #at "(%[a]), %%rax, %%rcx\n adcx %%rax, %%" #low "\n adox %%rcx, %%" #high "\n"
#define MONTGOMERY_ROW(r0, r1, r2, r3, r4, r5, r6, r7, keep)                                                           \
    "xorl %%eax, %%eax\n" /* both carry flags are 0 */                                                                 \
    MONTGOMERY_STEP(0, r0, r1) MONTGOMERY_STEP(8, r1, r2) MONTGOMERY_STEP(16, r2, r3) MONTGOMERY_STEP(24, r3, r4)      \
    MONTGOMERY_STEP(32, r4, r5) MONTGOMERY_STEP(40, r5, r6) MONTGOMERY_STEP(48, r6, r7)                                \
    "mulx 56(%[a]), %%rax, %%rcx\n adcx %%rax, %%" #r7 "\n" keep                                                       \
    "movl $0, %%eax\n movq %%rax, %%" #r0 "\n adox %%rcx, %%" #r0 "\n adcx %%rax, %%" #r0 "\n"
/* Eight rows; `factor` puts each row's word in rdx. Behind them r8..r15 have the upper half of the sum. */
#define MONTGOMERY_ROWS(factor, keep)                                                                                  \
    factor(0, r8) MONTGOMERY_ROW(r8, r9, r10, r11, r12, r13, r14, r15, keep(0, r8))                                    \
    factor(8, r9) MONTGOMERY_ROW(r9, r10, r11, r12, r13, r14, r15, r8, keep(8, r9))                                    \
    factor(16, r10) MONTGOMERY_ROW(r10, r11, r12, r13, r14, r15, r8, r9, keep(16, r10))                                \
    factor(24, r11) MONTGOMERY_ROW(r11, r12, r13, r14, r15, r8, r9, r10, keep(24, r11))                                \
    factor(32, r12) MONTGOMERY_ROW(r12, r13, r14, r15, r8, r9, r10, r11, keep(32, r12))                                \
    factor(40, r13) MONTGOMERY_ROW(r13, r14, r15, r8, r9, r10, r11, r12, keep(40, r13))                                \
    factor(48, r14) MONTGOMERY_ROW(r14, r15, r8, r9, r10, r11, r12, r13, keep(48, r14))                                \
    factor(56, r15) MONTGOMERY_ROW(r15, r8, r9, r10, r11, r12, r13, r14, keep(56, r15))
#define MONTGOMERY_EACH(one)                                                                                           \
    one(0, r8) one(8, r9) one(16, r10) one(24, r11) one(32, r12) one(40, r13) one(48, r14) one(56, r15)
#define MONTGOMERY_LOAD(at, r) "movq " #at "(%[t]), %%" #r "\n"
#define MONTGOMERY_KEEP(at, r) "movq %%" #r ", " #at "(%[t])\n"
#define MONTGOMERY_ADD(at, r) "adcq " #at "(%[t]), %%" #r "\n"
#define MONTGOMERY_NEXT /* go on to the next block: add what t has there, and the carry of the block before */         \
    "leaq 64(%[t]), %[t]\n leaq 64(%[a]), %[a]\n"                                                                      \
    "movq %[carry], %%rax\n addq $-1, %%rax\n" MONTGOMERY_EACH(MONTGOMERY_ADD)                                         \
    "movl $0, %%eax\n adcq $0, %%rax\n movq %%rax, %[carry]\n"
#define MONTGOMERY_GIVEN(at, r) "movq " #at "(%[b]), %%rdx\n"
/* The factor by which the lowest word becomes 0; that word is not stored. */
#define MONTGOMERY_FOUND(at, r) "movq %[inverse], %%rdx\n imulq %%" #r ", %%rdx\n movq %%rdx, " #at "(%[b])\n"
#define MONTGOMERY_GONE(at, r) ""
/* All registers but two are in use: AddressSanitizer, which keeps variables elsewhere, would need one more. */
#define MONTGOMERY_TIGHT __attribute__((noinline, no_sanitize("address")))
#define MONTGOMERY_USED "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "cc", "memory"

/* t += a * b for `count` blocks of a and one of b; t has a block more. Returns the carry; `carry` is one into the second
 * block of t. */
MONTGOMERY_TIGHT static uint64_t montgomery_times(uint64_t *t, const uint64_t *a, const uint64_t *b, uint64_t carry,
                                                  int64_t count) {
    __asm__ volatile(MONTGOMERY_EACH(MONTGOMERY_LOAD)
                     "1:\n" MONTGOMERY_ROWS(MONTGOMERY_GIVEN, MONTGOMERY_KEEP) MONTGOMERY_NEXT
                     "decq %[count]\n jnz 1b\n" MONTGOMERY_EACH(MONTGOMERY_KEEP)
                     : [carry] "+m"(carry), [t] "+D"(t), [a] "+S"(a), [count] "+m"(count)
                     : [b] "b"(b)
                     : MONTGOMERY_USED);
    return carry;
}

/* Adds a multiple of n to t, of which the lowest block of t becomes 0; here by the lowest block of n only. `b` gets the
 * factors, `inverse` is -1/n mod 2^64. Returns the carry into the third block of t. */
MONTGOMERY_TIGHT static uint64_t montgomery_factors(uint64_t *t, const uint64_t *n, uint64_t *b, uint64_t inverse) {
    uint64_t carry = 0;
    __asm__ volatile(MONTGOMERY_EACH(MONTGOMERY_LOAD) MONTGOMERY_ROWS(MONTGOMERY_FOUND, MONTGOMERY_GONE)
                     MONTGOMERY_NEXT MONTGOMERY_EACH(MONTGOMERY_KEEP)
                     : [carry] "+m"(carry), [t] "+D"(t), [a] "+S"(n)
                     : [b] "b"(b), [inverse] "m"(inverse)
                     : MONTGOMERY_USED);
    return carry;
}

/* Adds a carry to the words from t to `end`, and returns the one that is left. */
static uint64_t montgomery_carry(uint64_t *t, const uint64_t *end, uint64_t carry) {
    for (; carry && t < end; t++)
        carry = ++*t == 0;
    return carry;
}

/* a - n for numbers of so many words; returns 1 if n is the larger one. */
static int montgomery_less(uint64_t *out, const uint64_t *a, const uint64_t *n, int words) {
    unsigned char borrow = 0;
    for (int i = 0; i < words; i++) {
        unsigned long long word;
        borrow = _subborrow_u64(borrow, a[i], n[i], &word);
        out[i] = word;
    }
    return borrow;
}

/* out = t / R mod n, below R. t has twice as many blocks as n. */
static void montgomery_reduce(uint64_t *out, uint64_t *t, const uint64_t *n, uint64_t inverse, int blocks) {
    uint64_t factors[MONTGOMERY_BLOCK], over = 0;
    int words = MONTGOMERY_BLOCK * blocks;
    const uint64_t *end = t + 2 * words;
    for (int i = 0; i < blocks; i++, t += MONTGOMERY_BLOCK) {
        uint64_t carry = montgomery_factors(t, n, factors, inverse);
        carry = montgomery_times(t + MONTGOMERY_BLOCK, n + MONTGOMERY_BLOCK, factors, carry, blocks - 1);
        over += montgomery_carry(t + words + MONTGOMERY_BLOCK, end, carry);
    }
    if (over) /* at most 1: a sum below R^2 + R * n */
        montgomery_less(out, t, n, words);
    else
        memcpy(out, t, words * sizeof *t);
}

static void montgomery_multiply(uint64_t *out, const uint64_t *a, const uint64_t *b, const uint64_t *n,
                                uint64_t inverse, int blocks) {
    uint64_t t[2 * MONTGOMERY_WORDS];
    memset(t, 0, 2 * MONTGOMERY_BLOCK * blocks * sizeof *t);
    for (int i = 0; i < blocks; i++)
        montgomery_times(t + MONTGOMERY_BLOCK * i, a, b + MONTGOMERY_BLOCK * i, 0, blocks);
    montgomery_reduce(out, t, n, inverse, blocks);
}

/* The same of a and a: products of two different blocks are computed once, and doubled. */
static void montgomery_square(uint64_t *a, const uint64_t *n, uint64_t inverse, int blocks) {
    uint64_t t[2 * MONTGOMERY_WORDS];
    int words = MONTGOMERY_BLOCK * blocks;
    memset(t, 0, 2 * words * sizeof *t);
    for (int i = 0; i + 1 < blocks; i++) {
        uint64_t *block = a + MONTGOMERY_BLOCK * i;
        montgomery_times(t + MONTGOMERY_BLOCK * (2 * i + 1), block + MONTGOMERY_BLOCK, block, 0, blocks - 1 - i);
    }
    for (int i = 2 * words - 2; i > 0; i -= 2) { /* the lowest block is 0 */
        __m128i two = _mm_loadu_si128((const __m128i *)(t + i)), below = _mm_loadu_si128((const __m128i *)(t + i - 1));
        _mm_storeu_si128((__m128i *)(t + i), _mm_or_si128(_mm_add_epi64(two, two), _mm_srli_epi64(below, 63)));
    }
    for (int i = 0; i < blocks; i++) {
        uint64_t *block = a + MONTGOMERY_BLOCK * i, *at = t + 2 * MONTGOMERY_BLOCK * i;
        montgomery_carry(at + 2 * MONTGOMERY_BLOCK, t + 2 * words, montgomery_times(at, block, block, 0, 1));
    }
    montgomery_reduce(a, t, n, inverse, blocks);
}

/* out = s^65537 mod n, below n. s is below n; n is odd, and its highest bit is set; there are two blocks at least;
 * `square` is R^2 mod n. */
static void montgomery_power(uint64_t *out, const uint64_t *s, const uint64_t *n, const uint64_t *square,
                             uint64_t inverse, int blocks) {
    uint64_t power[MONTGOMERY_WORDS], less[MONTGOMERY_WORDS];
    montgomery_multiply(power, s, square, n, inverse, blocks); /* s * R */
    for (int i = 0; i < 16; i++)
        montgomery_square(power, n, inverse, blocks);
    montgomery_multiply(out, power, s, n, inverse, blocks);
    if (!montgomery_less(less, out, n, MONTGOMERY_BLOCK * blocks)) /* once is enough, as R is below 2 * n */
        memcpy(out, less, MONTGOMERY_BLOCK * blocks * sizeof *out);
}

#else

static int montgomery_able(void) { return 0; }

static void montgomery_power(uint64_t *out, const uint64_t *s, const uint64_t *n, const uint64_t *square,
                             uint64_t inverse, int blocks) {
    (void)out, (void)s, (void)n, (void)square, (void)inverse, (void)blocks;
}

#endif
#endif
