/* The matrix products of a step, for panels of LANES x VECTORS samples.  Included once for each REAL and width, which is
   VECTORS vectors of BYTES bytes; TILE rows of a result are worked on together.

   A panel is a contiguous array [k][P] of P = LANES x VECTORS samples: row k holds the numbers of neuron k.  So a sample
   is a lane, and the activations of a layer of n neurons are panels one after another, [p][n][P].  What a product
   reads lies in memory as it reads it: nothing needs to be rearranged but W.

   Each element of a result is a sum over k (or over samples) in ascending order, of one fused multiply-add after
   another.  So its bits depend neither on the number of lanes, nor on tiles, blocks or threads.

   Sums over samples may be cut into grains: each is a sum by itself, and these are added up along the tree of
   distbp/mathematics/grain_tree.py.  The number of additions behind each grain says the whole tree: see `merges`. */

#define VECTOR PASTE(PASTE(REAL, _), BYTES)
#define LANES (BYTES / (int)sizeof(REAL))
#define FMA PASTE(fma_, VECTOR)
#define P (LANES * VECTORS)
#define FN(name) PASTE(name, PASTE(PASTE(_, VECTOR), PASTE(_, VECTORS)))

/* c[r][.] = start + Σ_k a[r, k] b[k][.], for r < ROWS: all ROWS x P sums stay in registers.
   The numbers a[r, k] are `row` apart for the next r, and `step` apart for the next k.  The sums start from c if
   is_sum, else from start[r], else from 0. */
INLINE void FN(tile_of)(const int ROWS, int64_t K, const REAL *a, int64_t row, int64_t step, const REAL *b, REAL *c,
                        const REAL *start, int is_sum) {
    VECTOR sum[12][VECTORS]; /* no array of ROWS: one of variable length would not stay in registers */
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++)
            sum[r][v] = is_sum  ? *(const VECTOR *)(c + r * P + v * LANES)
                        : start ? start[r] - (VECTOR){0}
                                : (VECTOR){0};
    const REAL *every_third[4]; /* few pointers: registers are few */
#pragma GCC unroll 4
    for (int i = 0; i < (ROWS + 2) / 3; i++)
        every_third[i] = a + 3 * i * row;
    for (int64_t k = 0; k < K; k++, b += P) {
        VECTOR b_k[VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++)
            b_k[v] = *(const VECTOR *)(b + v * LANES);
#pragma GCC unroll 12
        for (int r = 0; r < ROWS; r++) {
            const VECTOR a_rk = every_third[r / 3][r % 3 * row] - (VECTOR){0};
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++)
                sum[r][v] = FMA(a_rk, b_k[v], sum[r][v]);
        }
#pragma GCC unroll 4
        for (int i = 0; i < (ROWS + 2) / 3; i++)
            every_third[i] += step;
    }
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++)
            *(VECTOR *)(c + r * P + v * LANES) = sum[r][v];
}

/* How many of so many rows are worked on together: these numbers have code of their own. */
INLINE int FN(rows)(int64_t left) {
    return left >= TILE ? TILE : left >= 8 && TILE > 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}
#if TILE > 8
#define FOR_ROWS(rows, call)                                                                                           \
    switch (rows) {                                                                                                    \
    case TILE: call(TILE); break;                                                                                      \
    case 8: call(8); break;                                                                                            \
    case 4: call(4); break;                                                                                            \
    case 2: call(2); break;                                                                                            \
    default: call(1);                                                                                                  \
    }
#else
#define FOR_ROWS(rows, call)                                                                                           \
    switch (rows) {                                                                                                    \
    case TILE: call(TILE); break;                                                                                      \
    case 4: call(4); break;                                                                                            \
    case 2: call(2); break;                                                                                            \
    default: call(1);                                                                                                  \
    }
#endif

/* In the three forms that are met: A as it is, Aᵀ as it is, and A arranged for it. */
static __attribute__((noinline)) void FN(tile)(int rows, int64_t K, const REAL *a, int64_t row, int64_t step,
                                               const REAL *b, REAL *c, const REAL *start, int is_sum) {
#define AS_IT_IS(ROWS) FN(tile_of)(ROWS, K, a, row, 1, b, c, start, is_sum)
#define TRANSPOSED(ROWS) FN(tile_of)(ROWS, K, a, 1, step, b, c, start, is_sum)
#define ARRANGED_FOR(ROWS) FN(tile_of)(ROWS, K, a, 1, ROWS, b, c, start, is_sum)
    if (step == rows && row == 1)
        FOR_ROWS(rows, ARRANGED_FOR)
    else if (step == 1)
        FOR_ROWS(rows, AS_IT_IS)
    else
        FOR_ROWS(rows, TRANSPOSED)
#undef AS_IT_IS
#undef TRANSPOSED
#undef ARRANGED_FOR
}

/* Copies `rows` rows of A, K numbers each, so that a tile finds its numbers one after another: out[k][r] = A[r, k]. */
INLINE void FN(arrange_rows)(const int ROWS, int64_t K, const REAL *A, int64_t row, int64_t step, REAL *out) {
    const int64_t small = 16 / sizeof(REAL);
    int64_t k = 0;
    if (row == 1) {
        for (; k < K; k++)
            for (int r = 0; r < ROWS; r++)
                out[k * ROWS + r] = A[k * step + r];
        return;
    }
    for (; ROWS % small == 0 && k + small <= K; k += small)
        for (int r = 0; r < ROWS; r += (int)small)
            PASTE(turn_, REAL)(A + r * row + k, row, out + k * ROWS + r, ROWS);
    for (; k < K; k++)
        for (int r = 0; r < ROWS; r++)
            out[k * ROWS + r] = A[r * row + k];
}

/* The same of n rows, tile after tile; `step` is 1 or `row` is. */
static void FN(arrange)(int64_t n, int64_t K, const REAL *A, int64_t row, int64_t step, REAL *out) {
    for (int64_t j = 0, rows; j < n; j += rows, out += rows * K) {
        rows = FN(rows)(n - j);
#define CALL(ROWS) FN(arrange_rows)(ROWS, K, A + j * row, row, step, out)
        FOR_ROWS(rows, CALL)
#undef CALL
    }
}

/* Whether the beginnings of TILE rows, so many numbers apart, find room beside each other in a cache that puts what is
   4096 bytes apart into the same place, of which there are few. */
INLINE int FN(lie_apart)(int64_t row) {
    int lines[64] = {0}, most = 0;
    for (int r = 0; r < TILE; r++) {
        const int here = ++lines[(uint64_t)(r * row) * sizeof(REAL) / 64 % 64];
        most = here > most ? here : most;
    }
    return most <= 2;
}

/* `times` with A as it is, block after block of its rows. */
static void FN(times_as_it_is)(int64_t n, int64_t K, const REAL *A, int64_t row, int64_t step, const REAL *start,
                               const REAL *a, REAL *z, int64_t p0, int64_t p1, int64_t j0, int64_t j1) {
    const int64_t most = ROWS_BYTES / (int64_t)sizeof(REAL) / K / TILE * TILE, block = most < TILE ? TILE : most;
    for (int64_t i0 = j0; i0 < j1; i0 += block) {
        const int64_t i1 = j1 - i0 < block ? j1 : i0 + block;
        for (int64_t p = p0; p < p1; p++)
            for (int64_t j = i0, rows; j < i1; j += rows) {
                rows = FN(rows)(i1 - j);
                FN(tile)((int)rows, K, A + j * row, row, step, a + p * K * P, z + (p * n + j) * P,
                         start ? start + j : start, 0);
            }
    }
}

/* z[p][j][.] = start[j] + Σ_k A[j, k] a[p][k][.] for the panels p0 … p1-1 and the rows j0 … j1-1 of A, which has n x K numbers.
   A is W^l (row = K, step = 1), or (W^{l+1})ᵀ (row = 1, step = n).  `arranged` has room for BLOCK_ROWS rows of a block
   of A.  Without `start` the sums start from 0. */
static void FN(times)(int64_t n, int64_t K, const void *A_, int64_t row, int64_t step, const void *start_,
                      const void *a_, void *z_, int64_t p0, int64_t p1, int64_t j0, int64_t j1, void *arranged) {
    const REAL *A = A_, *start = start_, *a = a_;
    REAL *z = z_, *packed = arranged;
    const int64_t block = BLOCK_BYTES / (int64_t)sizeof(REAL) / P;
    const int are_few = p1 - p0 < (step == 1 ? 8 : 4) && (step == 1 || K <= 64); /* panels to arrange A for */
    if (are_few || (step == 1 && K <= MOST_AS_IT_IS && FN(lie_apart)(row))) {
        FN(times_as_it_is)(n, K, A, row, step, start, a, z, p0, p1, j0, j1);
        return;
    }
    for (int64_t k0 = 0; k0 < K; k0 += block) {
        const int64_t k_count = K - k0 < block ? K - k0 : block;
        for (int64_t i0 = j0; i0 < j1; i0 += BLOCK_ROWS) {
            const int64_t i1 = j1 - i0 < BLOCK_ROWS ? j1 : i0 + BLOCK_ROWS;
            FN(arrange)(i1 - i0, k_count, A + i0 * row + k0 * step, row, step, packed);
            for (int64_t p = p0; p < p1; p++)
                for (int64_t j = i0, rows; j < i1; j += rows) {
                    rows = FN(rows)(i1 - j);
                    FN(tile)((int)rows, k_count, packed + (j - i0) * k_count, 1, rows, a + (p * K + k0) * P,
                             z + (p * n + j) * P, start ? start + j : start, k0 > 0);
                }
        }
    }
}

/* c[r][.] = Σ_i d[r, i] x[i][.] over m samples i, of which the first is the one behind `skipped` samples of a panel; the
   panels of d are `panel` apart.  CHAIN: the sum goes on from what is in c; PLUS: the sum is then added to that. */
INLINE void FN(sum_samples_of)(const int ROWS, int64_t m, int64_t skipped, const REAL *d, int64_t panel, const REAL *x,
                               REAL *c, int64_t c_row, enum how how) {
    VECTOR sum[12][VECTORS]; /* no array of ROWS: one of variable length would not stay in registers */
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++)
            sum[r][v] = how == CHAIN ? *(const VECTOR *)(c + r * c_row + v * LANES) : (VECTOR){0};
    for (; m > 0; d += panel) {
        const int64_t here = m < P - skipped ? m : P - skipped;
        const REAL *d_i = d + skipped;
        /* The panels of d are too far apart for the CPU to foresee which comes next. */
#pragma GCC unroll 24
        for (int r = 0; r < ROWS * P * (int)sizeof(REAL) / 64; r++)
            __builtin_prefetch(d + panel + r * 64 / (int)sizeof(REAL));
        for (int64_t i = 0; i < here; i++, x += P, d_i++) {
            VECTOR x_i[VECTORS];
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++)
                x_i[v] = *(const VECTOR *)(x + v * LANES);
#pragma GCC unroll 12
            for (int r = 0; r < ROWS; r++) {
                VECTOR d_ri = d_i[r * P] - (VECTOR){0};
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; v++)
                    sum[r][v] = FMA(d_ri, x_i[v], sum[r][v]);
            }
        }
        m -= here, skipped = 0;
    }
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) {
            VECTOR *out = (VECTOR *)(c + r * c_row + v * LANES);
            *out = how == PLUS ? *out + sum[r][v] : sum[r][v];
        }
}

static __attribute__((noinline)) void FN(sum_samples)(int rows, int64_t m, int64_t skipped, const REAL *d, int64_t panel,
                                                      const REAL *x, REAL *c, int64_t c_row, enum how how) {
#define CALL(ROWS) FN(sum_samples_of)(ROWS, m, skipped, d, panel, x, c, c_row, how)
    FOR_ROWS(rows, CALL)
#undef CALL
}

/* The same of m samples in grains, which are added up along their tree. */
static void FN(sum_grains)(int rows, int64_t m, int64_t grain, const REAL *d, int64_t panel, const REAL *x, REAL *c,
                           int64_t c_row) {
    REAL above[DEEPEST][12 * P];
    int64_t depth = 0, done = 0;
    for (int64_t first = 0; first < m; first += grain) {
        const int64_t count = m - first < grain ? m - first : grain;
        int64_t merging = merges(++done, depth + 1, first + grain >= m);
        const enum how how = merging > 0 ? PLUS : ALONE;
        if (how == ALONE)
            depth++;
        else
            merging--;
        REAL *to = depth > 1 ? above[depth - 2] : c;
        FN(sum_samples)(rows, count, first % P, d + first / P * panel, panel, x + first * P, to, depth > 1 ? P : c_row, how);
        for (; merging > 0; merging--, depth--) {
            const REAL *from = above[depth - 2];
            REAL *sum = depth > 2 ? above[depth - 3] : c;
            const int64_t row = depth > 2 ? P : c_row;
            for (int64_t r = 0; r < rows; r++)
                for (int64_t k = 0; k < P; k++)
                    sum[r * row + k] += from[r * P + k];
        }
    }
}

/* All columns of these rows, of m samples that are one grain, or several. */
INLINE void FN(sum_tile)(int rows, int64_t m, int64_t grain, const REAL *d, int64_t panel, const REAL *x, REAL *c,
                         int64_t c_row, int is_sum) {
    if (m > grain)
        FN(sum_grains)(rows, m, grain, d, panel, x, c, c_row);
    else
        FN(sum_samples)(rows, m, 0, d, panel, x, c, c_row, is_sum ? CHAIN : ALONE);
}

/* The same for the last columns, `width` of them, which do not fill a vector. */
static void FN(sum_edge)(int rows, int64_t m, int64_t grain, const REAL *d, int64_t panel, const REAL *x, REAL *c,
                         int64_t c_row, int64_t width, int is_sum) {
    REAL edge[12 * P] = {0};
    for (int r = 0; r < rows && is_sum; r++)
        for (int64_t k = 0; k < width; k++)
            edge[r * P + k] = c[r * c_row + k];
    FN(sum_tile)(rows, m, grain, d, panel, x, edge, P, is_sum);
    for (int r = 0; r < rows; r++)
        for (int64_t k = 0; k < width; k++)
            c[r * c_row + k] = edge[r * P + k];
}

/* ∂L/∂w_jk = Σ_i d_ji a_ki over m samples, for the rows j0 … j1-1 and the columns of the panels q0 … q1-1.
   d is [p][n][P]; `at` is a with the samples as rows, in panels of P neurons, [q][M][P]; dW is n x K, added to if
   is_sum, which several grains are not. */
static void FN(gradient)(int64_t n, int64_t K, int64_t m, int64_t M, const void *d_, const void *at_, void *dW_,
                         int64_t j0, int64_t j1, int64_t q0, int64_t q1, int64_t grain, int is_sum) {
    const REAL *d = d_, *at = at_;
    REAL *dW = dW_;
    const int64_t block = m > grain ? m : BLOCK_SAMPLES;
    for (int64_t first = 0; first < m; first += block) {
        const int64_t count = m - first < block ? m - first : block;
        const int adds = is_sum || first > 0;
        for (int64_t i0 = j0; i0 < j1; i0 += BLOCK_ROWS) {
            const int64_t i1 = j1 - i0 < BLOCK_ROWS ? j1 : i0 + BLOCK_ROWS;
            for (int64_t q = q0; q < q1; q++) {
                const REAL *x = at + (q * M + first) * P;
                const int64_t width = K - q * P < P ? K - q * P : P;
                for (int64_t j = i0, rows; j < i1; j += rows) {
                    rows = FN(rows)(i1 - j);
                    const REAL *d_j = d + (first / P * n + j) * P;
                    REAL *c = dW + j * K + q * P;
                    if (width == P)
                        FN(sum_tile)((int)rows, count, grain, d_j, n * P, x, c, K, adds);
                    else
                        FN(sum_edge)((int)rows, count, grain, d_j, n * P, x, c, K, width, adds);
                }
            }
        }
    }
}

/* A sample, n contiguous numbers, becomes a row of `at`: P numbers in each panel, which are `panel` apart. */
static void FN(spread)(int64_t n, const void *sample, void *at_, int64_t panel) {
    const REAL *from = sample;
    REAL *at = at_;
    for (; n >= P; n -= P, from += P, at += panel)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++)
            *(VECTOR *)(at + v * LANES) = *(const VECTOR *)(from + v * LANES);
    for (int64_t k = 0; k < n; k++)
        at[k] = from[k];
}

/* Rows become columns: the first `rows` x `columns` numbers of P rows of P numbers. */
static void FN(turn_square)(const REAL *from, int64_t rows, int64_t columns, REAL *to) {
    const int64_t small = 16 / sizeof(REAL);
    if (rows < P || columns < P) {
        for (int64_t i = 0; i < rows; i++)
            for (int64_t k = 0; k < columns; k++)
                to[k * P + i] = from[i * P + k];
        return;
    }
    for (int64_t i = 0; i < P; i += small)
        for (int64_t k = 0; k < P; k += small)
            PASTE(turn_, REAL)(from + i * P + k, P, to + k * P + i, P);
}

/* P samples of `at` become a panel of a. */
static void FN(turn)(int64_t n, const void *at_, int64_t panel, void *a_) {
    const REAL *at = at_;
    REAL *a = a_;
    for (; n > 0; n -= P, at += panel, a += P * P)
        FN(turn_square)(at, P, n < P ? n : P, a);
}

/* At most P rows of a panel of a become the same of `at`. */
static void FN(turn_back)(int64_t count, const void *a, void *at) { FN(turn_square)(a, count, P, at); }

static const struct products FN(products) = {P, FN(times), FN(gradient), FN(spread), FN(turn), FN(turn_back)};

#undef VECTOR
#undef FMA
#undef P
#undef FN
#undef FOR_ROWS
#undef LANES
#undef BYTES
#undef VECTORS
#undef TILE
