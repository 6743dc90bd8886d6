/* A step, in the notation of the text.  Included once for each REAL.

   Work is cut into equal parts for the threads of a rank; where one phase needs what all have written in the phase
   before, `together` waits for all of them. */

#define FN(name) PASTE(name, PASTE(_, REAL))
#define AT(type, pointer) ((type *)(pointer))

/* The part of `count` that belongs to thread t of T, in whole units. */
INLINE int64_t FN(cut)(int64_t count, int64_t unit, int64_t t, int64_t T) {
    const int64_t units = (count + unit - 1) / unit, end = (units * t / T) * unit;
    return end < count ? end : count;
}
#define MY_PART(from, to, count, unit) const int64_t from = FN(cut)(count, unit, t, T), to = FN(cut)(count, unit, t + 1, T)

/* What the threads work on together: a piece of m samples, in `panels` panels, which have room for M; and layer l.
   Its gradient is a sum over samples, or the sum of those over grains of so many samples. */
struct FN(piece) {
    const struct net *net;
    const struct products *products;
    const int64_t *rows;
    int64_t m, panels, M, l, grain;
    REAL *gradient;
    int64_t is_sum; /* whether it is added to what is there */
    _Atomic int is_wrong; /* a row or a class that is not there */
};

/* --- a^1 and y ------------------------------------------------------------------------------------------------------ */

INLINE REAL FN(half)(uint16_t h) {
    union { uint32_t bits; float real; } u = {.bits = (uint32_t)(h & 0x7fff) << 13}, up = {.bits = 0x77800000};
    u.real *= up.real; /* 2^112: the exponents of a half begin at 2^-14 */
    if ((h & 0x7c00) == 0x7c00)
        u.bits |= 0x7f800000;
    u.bits |= (uint32_t)(h & 0x8000) << 16;
    return (REAL)u.real;
}

/* `shift` is subtracted in WIDE, which holds all values of the type. */
#define CONVERT(TYPE, WIDE, value)                                                                                     \
    {                                                                                                                  \
        const TYPE *v = AT(const TYPE, from->rows) + row * n;                                                          \
        const WIDE *restrict shift = from->shift;                                                                      \
        if (shift)                                                                                                     \
            for (int64_t k = 0; k < n; k++)                                                                            \
                out[k] = (REAL)((WIDE)value(v[k]) - shift[k]) * factor[k];                                             \
        else                                                                                                           \
            for (int64_t k = 0; k < n; k++)                                                                            \
                out[k] = (REAL)value(v[k]);                                                                            \
    }
#define SAME(x) (x)

static void FN(convert)(const struct columns *from, int64_t row, REAL *restrict out) {
    const int64_t n = from->width;
    const REAL *restrict factor = from->factor;
    switch (from->type) {
    case U8: CONVERT(uint8_t, REAL, SAME) break;
    case I8: CONVERT(int8_t, REAL, SAME) break;
    case U16: CONVERT(uint16_t, REAL, SAME) break;
    case I16: CONVERT(int16_t, REAL, SAME) break;
    case F16: CONVERT(uint16_t, REAL, FN(half)) break;
    case F32: CONVERT(float, REAL, SAME) break;
    case F64: CONVERT(double, double, SAME) break;
    case I32: CONVERT(int32_t, double, SAME) break;
    case I64: CONVERT(int64_t, double, SAME) break;
    }
}

/* Asks for the beginning of a row in time: the rows of a batch lie anywhere in memory; behind its beginning the CPU sees
   by itself what comes.  (It is inlined because gcc leaves out a call that only asks.) */
INLINE void FN(ask_for)(const struct columns *from, int64_t row) {
    const int64_t bytes = from->width * bytes_of(from->type);
    const char *start = AT(const char, from->rows) + row * bytes;
    for (int64_t at = 0; at < bytes && at < 4096; at += 64)
        __builtin_prefetch(start + at);
}

static void FN(gather)(const void *work, int64_t t, int64_t T) {
    struct FN(piece) *piece = (struct FN(piece) *)work;
    const struct net *net = piece->net;
    const int64_t P = piece->products->P, n_1 = net->layer[1].n, n_F = net->layer[net->F].n;
    const int64_t longest = n_1 > n_F ? n_1 : n_F, *rows = piece->rows;
    REAL *row = AT(REAL, net->row) + t * ((longest + 2 * P - 1) / P * P);
    MY_PART(p0, p1, piece->panels, 1);
    for (int64_t p = p0; p < p1; p++) {
        const int64_t first = p * P, last = first + P < piece->m ? first + P : piece->m;
        for (int64_t i = first; i < last; i++) {
            if (rows[i] < 0 || rows[i] >= net->samples) {
                piece->is_wrong = 1;
                return;
            }
            if (i + AHEAD < piece->m && rows[i + AHEAD] >= 0 && rows[i + AHEAD] < net->samples)
                FN(ask_for)(&net->x, rows[i + AHEAD]);
            FN(convert)(&net->x, rows[i], row);
            piece->products->spread(n_1, row, AT(REAL, net->layer[1].at) + i * P, piece->M * P);
        }
        piece->products->turn(n_1, AT(REAL, net->layer[1].at) + first * P, piece->M * P,
                              AT(REAL, net->layer[1].a) + p * n_1 * P);
        REAL *y = AT(REAL, net->y_panels) + p * n_F * P;
        if (net->classes) {
            for (int64_t i = first; i < last; i++) {
                net->c[i] = net->classes[rows[i]];
                piece->is_wrong |= net->c[i] < 0 || net->c[i] >= (n_F > 1 ? n_F : 2);
            }
            if (net->loss == CROSS_ENTROPY)
                continue;
            for (int64_t j = 0; j < n_F; j++)
                for (int64_t i = first; i < last; i++)
                    y[j * P + i - first] = n_F == 1 ? net->c[i] : net->c[i] == j;
        } else
            for (int64_t i = first; i < last; i++) {
                FN(convert)(&net->y, rows[i], row);
                for (int64_t j = 0; j < n_F; j++)
                    y[j * P + i - first] = row[j];
            }
    }
}

/* --- forward -------------------------------------------------------------------------------------------------------- */

/* Which panels and which neurons of a layer a thread works on. */
struct FN(part) {
    int64_t p0, p1, j0, j1;
};
static struct FN(part) FN(part_of)(const struct FN(piece) *piece, int64_t n, int64_t t, int64_t T) {
    if (piece->panels >= T)
        return (struct FN(part)){FN(cut)(piece->panels, 1, t, T), FN(cut)(piece->panels, 1, t + 1, T), 0, n};
    return (struct FN(part)){0, piece->panels, FN(cut)(n, 12, t, T), FN(cut)(n, 12, t + 1, T)};
}

/* z^l = W^l a^{l-1} + b^l */
static void FN(weigh)(const void *work, int64_t t, int64_t T) {
    const struct FN(piece) *piece = work;
    const struct layer *below = &piece->net->layer[piece->l - 1], *layer = below + 1;
    const struct FN(part) part = FN(part_of)(piece, layer->n, t, T);
    piece->products->times(layer->n, below->n, layer->W, below->n, 1, layer->b, below->a, layer->z, part.p0, part.p1,
                           part.j0, part.j1, AT(REAL, piece->net->arranged) + t * ARRANGED(sizeof(REAL), piece->products->P));
}

INLINE void FN(sigma)(int64_t sigma, int64_t count, const REAL *z, REAL *a) {
    switch (sigma) {
    case IDENTITY: for (int64_t i = 0; i < count; i++) a[i] = z[i]; break;
    case RELU: for (int64_t i = 0; i < count; i++) a[i] = z[i] > 0 ? z[i] : z[i] == z[i] ? 0 : z[i]; break;
    case LEAKY_RELU: for (int64_t i = 0; i < count; i++) a[i] = z[i] > 0 ? z[i] : (REAL)0.01 * z[i]; break;
    case SIGMOID: for (int64_t i = 0; i < count; i++) a[i] = FN(sigmoid_)(z[i]); break;
    case TANH: for (int64_t i = 0; i < count; i++) a[i] = FN(tanh_)(z[i]); break;
    case SOFTPLUS: for (int64_t i = 0; i < count; i++) a[i] = FN(softplus_)(z[i]); break;
    case GELU: for (int64_t i = 0; i < count; i++) a[i] = FN(gelu_)(z[i]); break;
    }
}

/* d ⊙ σ'(z), in place; σ' is made of a, but for softplus and gelu */
INLINE void FN(times_sigma_prime)(int64_t sigma, int64_t count, const REAL *z, const REAL *a, REAL *d) {
    switch (sigma) {
    case IDENTITY: break;
    case RELU: for (int64_t i = 0; i < count; i++) d[i] = a[i] > 0 ? d[i] : 0 * d[i]; break;
    case LEAKY_RELU: for (int64_t i = 0; i < count; i++) d[i] = a[i] > 0 ? d[i] : (REAL)0.01 * d[i]; break;
    case SIGMOID: for (int64_t i = 0; i < count; i++) d[i] *= a[i] * (1 - a[i]); break;
    case TANH: for (int64_t i = 0; i < count; i++) d[i] *= 1 - a[i] * a[i]; break;
    case SOFTPLUS: for (int64_t i = 0; i < count; i++) d[i] *= FN(sigmoid_)(z[i]); break;
    case GELU: for (int64_t i = 0; i < count; i++) d[i] *= FN(gelu_prime_)(z[i]); break;
    }
}

/* a^l = σ(z^l), and, for the gradient, the same with the samples as rows */
static void FN(activate)(const void *work, int64_t t, int64_t T) {
    const struct FN(piece) *piece = work;
    const struct layer *layer = &piece->net->layer[piece->l];
    const int64_t P = piece->products->P, n = layer->n, panels_of_n = (n + P - 1) / P;
    MY_PART(first, last, piece->panels * panels_of_n, 1);
    for (int64_t block = first; block < last; block++) {
        const int64_t p = block / panels_of_n, q = block % panels_of_n, count = n - q * P < P ? n - q * P : P;
        const int64_t at = (p * n + q * P) * P;
        REAL *a = AT(REAL, layer->a) + at;
        FN(sigma)(layer->sigma, count * P, AT(REAL, layer->z) + at, a);
        if (layer->at)
            piece->products->turn_back(count, a, AT(REAL, layer->at) + (q * piece->M + p * P) * P);
    }
}

/* --- L, the metric, and d^F ----------------------------------------------------------------------------------------- */

/* a_j = e^{z_j} / Σ_k e^{z_k}, and L = ln Σ_k e^{z_k} - z_c: both from z - max z, so that nothing overflows */
static void FN(softmax)(const struct FN(piece) *piece, int64_t p) {
    const struct net *net = piece->net;
    const struct layer *last = &net->layer[net->F];
    const int64_t P = piece->products->P, n = last->n, first = p * P;
    const REAL *z = AT(REAL, last->z) + p * n * P;
    REAL *a = AT(REAL, last->a) + p * n * P, most[MOST_P], sum[MOST_P];
    for (int64_t i = 0; i < P; i++)
        most[i] = z[i], sum[i] = 0;
    for (int64_t j = 1; j < n; j++)
        for (int64_t i = 0; i < P; i++)
            most[i] = z[j * P + i] > most[i] ? z[j * P + i] : most[i];
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < P; i++) {
            const REAL e = FN(exp_)(z[j * P + i] - most[i]);
            a[j * P + i] = e;
            sum[i] += e;
        }
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < P; i++)
            a[j * P + i] /= sum[i];
    const int64_t count = piece->m - first < P ? piece->m - first : P;
    for (int64_t i = 0; i < P; i++)
        sum[i] = FN(log_)(sum[i]);
    for (int64_t i = 0; i < count; i++)
        net->loss_of[first + i] = (double)sum[i] - (double)(z[net->c[first + i] * P + i] - most[i]);
}

static void FN(measure_losses)(const struct FN(piece) *piece, int64_t p) {
    const struct net *net = piece->net;
    const struct layer *last = &net->layer[net->F];
    const int64_t P = piece->products->P, n = last->n, first = p * P;
    const int64_t count = piece->m - first < P ? piece->m - first : P;
    const REAL *z = AT(REAL, last->z) + p * n * P, *a = AT(REAL, last->a) + p * n * P;
    const REAL *y = AT(REAL, net->y_panels) + p * n * P;
    double loss[MOST_P] = {0}, metric[MOST_P] = {0};
    if (net->loss == MSE) /* (1/n_F) Σ_j (a_j - y_j)² */
        for (int64_t j = 0; j < n; j++)
            for (int64_t i = 0; i < count; i++) {
                const double error = a[j * P + i] - y[j * P + i], square = error * error;
                loss[i] += square > MOST ? __builtin_inf() : square; /* beyond the numbers of the computation */
            }
    if (net->loss == BINARY_CROSS_ENTROPY) /* (1/n_F) Σ_j [ln(1 + e^{z_j}) - y_j z_j] */
        for (int64_t j = 0; j < n; j++)
            for (int64_t i = 0; i < count; i++)
                loss[i] += (double)FN(softplus_)(z[j * P + i]) - (double)y[j * P + i] * (double)z[j * P + i];
    if (net->loss != CROSS_ENTROPY)
        for (int64_t i = 0; i < count; i++)
            net->loss_of[first + i] = loss[i] / (double)n;
    if (net->metric == SQUARED_ERROR) /* (1/n_F) Σ_j weight_j (a_j - y_j)² */
        for (int64_t j = 0; j < n; j++)
            for (int64_t i = 0; i < count; i++) {
                const double error = a[j * P + i] - y[j * P + i];
                metric[i] += error * error * net->weights[j];
            }
    if (net->metric == BINARY_ACCURACY)
        for (int64_t j = 0; j < n; j++)
            for (int64_t i = 0; i < count; i++)
                metric[i] += (a[j * P + i] > (REAL)0.5) == (y[j * P + i] > (REAL)0.5);
    if (net->metric == ACCURACY) { /* whether the class has the largest output, the first of those that are equal */
        REAL most[MOST_P];
        int32_t c[MOST_P];
        for (int64_t i = 0; i < P; i++)
            most[i] = a[i], c[i] = 0;
        for (int64_t j = 1; j < n; j++)
            for (int64_t i = 0; i < P; i++) {
                const int is_more = a[j * P + i] > most[i];
                most[i] = is_more ? a[j * P + i] : most[i];
                c[i] = is_more ? (int32_t)j : c[i];
            }
        for (int64_t i = 0; i < count; i++)
            net->metric_of[first + i] = c[i] == net->c[first + i];
    } else
        for (int64_t i = 0; i < count; i++)
            net->metric_of[first + i] = metric[i] / (double)n;
}

/* a^F, and L_i and the metric of each sample */
static void FN(judge)(const void *work, int64_t t, int64_t T) {
    const struct FN(piece) *piece = work;
    const struct net *net = piece->net;
    const struct layer *last = &net->layer[net->F];
    const int64_t P = piece->products->P, size = last->n * P;
    MY_PART(p0, p1, piece->panels, 1);
    for (int64_t p = p0; p < p1; p++) {
        if (last->sigma == SOFTMAX)
            FN(softmax)(piece, p);
        else
            FN(sigma)(last->sigma, size, AT(REAL, last->z) + p * size, AT(REAL, last->a) + p * size);
        FN(measure_losses)(piece, p);
    }
}

/* d^F = ∇_a L ⊙ σ'(z^F); for both cross-entropies it is a^F - y */
static void FN(output_error)(const void *work, int64_t t, int64_t T) {
    const struct FN(piece) *piece = work;
    const struct net *net = piece->net;
    const struct layer *last = &net->layer[net->F];
    const int64_t P = piece->products->P, n = last->n, size = n * P;
    const REAL factor = net->loss == MSE ? (REAL)(2.0 / (double)n) : 1;
    MY_PART(p0, p1, piece->panels, 1);
    for (int64_t p = p0; p < p1; p++) {
        const REAL *z = AT(REAL, last->z) + p * size, *a = AT(REAL, last->a) + p * size;
        const REAL *y = AT(REAL, net->y_panels) + p * size;
        REAL *d = AT(REAL, last->d) + p * size;
        if (net->loss == CROSS_ENTROPY) {
            const int64_t first = p * P, count = piece->m - first < P ? piece->m - first : P;
            for (int64_t i = 0; i < size; i++)
                d[i] = a[i];
            for (int64_t i = 0; i < count; i++)
                d[net->c[first + i] * P + i] -= 1;
            continue;
        }
        for (int64_t i = 0; i < size; i++)
            d[i] = (a[i] - y[i]) * factor;
        if (net->loss == MSE)
            FN(times_sigma_prime)(last->sigma, size, z, a, d);
        else if (n > 1)
            for (int64_t i = 0; i < size; i++)
                d[i] /= (REAL)n;
    }
}

/* --- backward ------------------------------------------------------------------------------------------------------- */

/* `start` + Σ_i d_ji over m samples from `first` on: sixteen sums, of every sixteenth sample, which are then added one after
   another */
static REAL FN(sum_of_d)(const struct FN(piece) *piece, int64_t j, int64_t first, int64_t m, REAL start) {
    const struct layer *layer = &piece->net->layer[piece->l];
    const int64_t P = piece->products->P;
    REAL sums[16] = {0}, sum = start;
    for (int64_t i = 0, here; i < m; i += here) {
        const int64_t skipped = (first + i) % P;
        const REAL *d = AT(REAL, layer->d) + ((first + i) / P * layer->n + j) * P + skipped;
        int64_t k = 0;
        here = m - i < P - skipped ? m - i : P - skipped;
        for (; i % 16 == 0 && k + 16 <= here; k += 16)
            for (int64_t s = 0; s < 16; s++)
                sums[s] += d[k + s];
        for (; k < here; k++)
            sums[(i + k) % 16] += d[k];
    }
    for (int64_t s = 0; s < 16; s++)
        sum += sums[s];
    return sum;
}

/* ∂L/∂b_j = Σ_i d_ji, grain by grain */
static void FN(bias_gradient)(const struct FN(piece) *piece, int64_t j0, int64_t j1) {
    const struct layer *layer = &piece->net->layer[piece->l];
    REAL *db = piece->gradient + layer->start + layer->n * layer[-1].n;
    for (int64_t j = j0; j < j1; j++) {
        REAL stack[DEEPEST + 1];
        stack[0] = 0; /* the sum over no samples */
        int64_t depth = 0, done = 0;
        for (int64_t first = 0; first < piece->m; first += piece->grain) {
            const int64_t left = piece->m - first, count = left < piece->grain ? left : piece->grain;
            stack[depth++] = FN(sum_of_d)(piece, j, first, count, piece->is_sum ? db[j] : 0);
            for (int64_t merging = merges(++done, depth, count == left); merging > 0; merging--, depth--)
                stack[depth - 2] += stack[depth - 1];
        }
        db[j] = stack[0];
    }
}

/* ∂L/∂w_jk^l = Σ_i a_k^{l-1} d_j^l and ∂L/∂b_j^l = Σ_i d_j^l over the samples i */
static void FN(gradient)(const void *work, int64_t t, int64_t T) {
    const struct FN(piece) *piece = work;
    const struct layer *below = &piece->net->layer[piece->l - 1], *layer = below + 1;
    const int64_t P = piece->products->P, columns = (below->n + P - 1) / P;
    int64_t j0 = 0, j1 = layer->n, q0 = 0, q1 = columns;
    if (columns >= T)
        q0 = FN(cut)(columns, 1, t, T), q1 = FN(cut)(columns, 1, t + 1, T);
    else
        j0 = FN(cut)(layer->n, 12, t, T), j1 = FN(cut)(layer->n, 12, t + 1, T);
    piece->products->gradient(layer->n, below->n, piece->m, piece->M, layer->d, below->at, piece->gradient + layer->start,
                              j0, j1, q0, q1, piece->grain, (int)piece->is_sum);
    MY_PART(first, last, layer->n, 1);
    FN(bias_gradient)(piece, first, last);
}

/* d^l = (W^{l+1})ᵀ d^{l+1} ⊙ σ'(z^l) */
static void FN(error)(const void *work, int64_t t, int64_t T) {
    const struct FN(piece) *piece = work;
    const struct layer *layer = &piece->net->layer[piece->l], *above = layer + 1;
    const int64_t P = piece->products->P, n = layer->n;
    const struct FN(part) part = FN(part_of)(piece, n, t, T);
    piece->products->times(n, above->n, above->W, 1, n, (const void *)0, above->d, layer->d, part.p0, part.p1, part.j0,
                           part.j1, AT(REAL, piece->net->arranged) + t * ARRANGED(sizeof(REAL), piece->products->P));
    for (int64_t p = part.p0; p < part.p1; p++) {
        const int64_t at = (p * n + part.j0) * P;
        FN(times_sigma_prime)(layer->sigma, (part.j1 - part.j0) * P, AT(REAL, layer->z) + at, AT(REAL, layer->a) + at,
                              AT(REAL, layer->d) + at);
    }
}

/* --- a rank's shard of a batch -------------------------------------------------------------------------------------- */

static struct FN(piece) FN(piece_of)(const struct net *net, const struct products *products, const int64_t *rows,
                                     int64_t m) {
    const int64_t panels = (m + products->P - 1) / products->P;
    return (struct FN(piece)){net, products, rows, m, panels, panels * products->P, 1, WHOLE, net->gradient, 0, 0};
}

/* z^l and a^l for l = 2 … F of the samples of a piece; the sums of each grain are added to `sums`, [grains][SUMS] */
static int FN(forward)(struct FN(piece) *piece, double *sums, struct run *run) {
    const struct net *net = piece->net;
    together(net, FN(gather), piece);
    if (piece->is_wrong)
        return REFUSED;
    lap(run, DATA);
    for (piece->l = 2; piece->l <= net->F; piece->l++) {
        together(net, FN(weigh), piece);
        together(net, piece->l < net->F ? FN(activate) : FN(judge), piece);
    }
    for (int64_t first = 0; first < piece->m; first += piece->grain, sums += SUMS) {
        const int64_t left = piece->m - first, last = left < piece->grain ? piece->m : first + piece->grain;
        for (int64_t i = first; i < last; i++)
            sums[0] += net->loss_of[i], sums[1] += net->metric_of[i];
    }
    lap(run, FORWARD);
    return DONE;
}

/* d^l, ∂L/∂W^l and ∂L/∂b^l for l = from … to, downwards */
static void FN(backward)(struct FN(piece) *piece, int64_t from, int64_t to, struct run *run) {
    const struct net *net = piece->net;
    for (piece->l = from; piece->l >= to; piece->l--) {
        together(net, piece->l == net->F ? FN(output_error) : FN(error), piece);
        together(net, FN(gradient), piece);
    }
    lap(run, BACKWARD);
}

/* Σ_i ∂L_i/∂w over the samples of these rows, in the gradient of this rank */
static int FN(shard_gradient)(const struct net *net, const struct products *products, const int64_t *rows,
                               int64_t count, int64_t size, double *sums, struct run *run) {
    const int64_t pieces = (count + net->room - 1) / net->room;
    REAL *gradient = net->gradient;
    if (count == 0)
        for (int64_t i = 0; i < size; i++)
            gradient[i] = 0;
    for (int64_t i = 0; i < pieces; i++) {
        const int64_t first = count * i / pieces, last = count * (i + 1) / pieces;
        struct FN(piece) piece = FN(piece_of)(net, products, rows + first, last - first);
        piece.is_sum = i > 0;
        if (FN(forward)(&piece, sums, run) == REFUSED)
            return REFUSED;
        FN(backward)(&piece, net->F, 2, run);
    }
    return DONE;
}

INLINE void FN(add)(int64_t count, const REAL *from, REAL *to) {
    for (int64_t i = 0; i < count; i++)
        to[i] += from[i];
}

struct FN(pair) {
    int64_t count;
    const REAL *from;
    REAL *to;
};
static void FN(add_one)(const void *work, int64_t t, int64_t T) {
    const struct FN(pair) *pair = work;
    MY_PART(from, to, pair->count, 64);
    FN(add)(to - from, pair->from + from, pair->to + from);
}

/* S(node): the same over the grains of a node, added up along its tree; in `out`.  `sums`, [grains][SUMS], are added to. */
static int FN(node_gradient)(const struct net *net, const struct products *products, const struct tree *tree,
                             const int64_t *rows, int64_t count, int64_t size, REAL *out, double *sums, struct run *run) {
    const int64_t most = tree->together * tree->grain;
    int64_t depth = 0, done = 0;
    for (int64_t first = 0; first < count; first += most, sums += tree->together * SUMS) {
        const int64_t left = count - first;
        struct FN(piece) piece = FN(piece_of)(net, products, rows + first, left < most ? left : most);
        piece.grain = tree->grain, piece.gradient = depth > 0 ? tree->above[depth - 1] : out;
        if (FN(forward)(&piece, sums, run) == REFUSED)
            return REFUSED;
        FN(backward)(&piece, net->F, 2, run);
        depth++;
        for (int64_t merging = merges(++done, depth, left <= most); merging > 0; merging--, depth--) {
            struct FN(pair) pair = {size, tree->above[depth - 2], depth > 2 ? tree->above[depth - 3] : out};
            together(net, FN(add_one), &pair);
        }
    }
    return DONE;
}

/* --- over the ranks of the node ------------------------------------------------------------------------------------- */

struct FN(job) {
    const struct slice *slice;
    int64_t n;      /* samples of the batch */
    double factor;  /* that shortens the gradient */
    const double *numbers;
    const struct batch *batch; /* of the tree, or NULL */
};

INLINE REAL *FN(own)(const struct slice *slice) { return slice->gradient[slice->own * slice->slots]; }

/* g ← sum / n; where n is a power of 2, a multiplication has the same bits */
INLINE void FN(divide)(int64_t count, int64_t n, const REAL *sum, REAL *g) {
    const REAL divisor = (REAL)n, factor = 1 / divisor;
    if ((n & (n - 1)) == 0)
        for (int64_t i = 0; i < count; i++)
            g[i] = sum[i] * factor;
    else
        for (int64_t i = 0; i < count; i++)
            g[i] = sum[i] / divisor;
}

/* Σ g²: eight sums, of every eighth number, which are then added one after another */
static double FN(square)(int64_t count, const REAL *g) {
    double squares[8] = {0}, square = 0;
    int64_t i = 0;
    for (; i + 8 <= count; i += 8)
        for (int64_t s = 0; s < 8; s++)
            squares[s] += (double)g[i + s] * (double)g[i + s];
    for (; i < count; i++)
        squares[i % 8] += (double)g[i] * (double)g[i];
    for (int64_t s = 0; s < 8; s++)
        square += squares[s];
    return square;
}

/* Part of the sum of all ranks.  It is made in this rank's slice of their gradients, where nobody else reads or writes. */
static const REAL *FN(sum_of_ranks)(const struct FN(job) *job, int64_t first, int64_t count) {
    const struct slice *slice = job->slice;
    const struct batch *batch = job->batch;
    if (!batch) {
        for (int64_t r = 0; r < slice->ranks; r++)
            if (r != slice->own)
                FN(add)(count, AT(REAL, slice->gradient[r]) + first, FN(own)(slice) + first);
        return FN(own)(slice) + first;
    }
    REAL *stack[64];
    int64_t depth = 0;
    for (int64_t i = 0; i < batch->leaves; i++) {
        stack[depth++] = AT(REAL, slice->gradient[batch->leaf[2 * i]]) + first;
        for (int64_t merging = batch->leaf[2 * i + 1]; merging > 0; merging--, depth--)
            FN(add)(count, stack[depth - 1], stack[depth - 2]);
    }
    return stack[0];
}

/* In this rank's slice of its own gradient: ∂L_B/∂w = (1/n) Σ_i ∂L_i/∂w.  Blocks are worked on while they are cached. */
static void FN(add_up)(const void *work, int64_t t, int64_t T) {
    const struct FN(job) *job = work;
    const struct slice *slice = job->slice;
    REAL *own = FN(own)(slice);
    MY_PART(from, to, slice->stop - slice->start, BLOCK);
    for (int64_t first = slice->start + from; first < slice->start + to; first += BLOCK) {
        const int64_t left = slice->start + to - first, count = left < BLOCK ? left : BLOCK;
        FN(divide)(count, job->n, FN(sum_of_ranks)(job, first, count), own + first);
        slice->squares[first / BLOCK] = FN(square)(count, own + first);
    }
    for (int64_t r = 0; r < slice->ranks && slice->has_tail && t == 0; r++)
        if (r != slice->own)
            FN(add)(TAIL, AT(REAL, slice->gradient[r * slice->slots]) + slice->count, own + slice->count);
}

/* SGD: w ← w - η v, v ← μ v + g; Nesterov: w ← w - η (g + μ v) */
static void FN(sgd)(const struct slice *slice, int64_t start, int64_t stop, REAL decay, const struct FN(job) *job) {
    const REAL *restrict gradient = FN(own)(slice);
    REAL *restrict w = slice->w, *restrict v = slice->m;
    const REAL rate = (REAL)job->numbers[0], mu = (REAL)slice->momentum, factor = (REAL)job->factor;
    const int is_nesterov = slice->nesterov != 0;
    if (v)
        for (int64_t i = start; i < stop; i++) {
            const REAL g = gradient[i] * factor + decay * w[i];
            v[i] = v[i] * mu + g;
            w[i] -= (is_nesterov ? g + v[i] * mu : v[i]) * rate;
        }
    else
        for (int64_t i = start; i < stop; i++)
            w[i] -= (gradient[i] * factor + decay * w[i]) * rate;
}

/* Adam: m ← β₁ m + (1-β₁) g, v ← β₂ v + (1-β₂) g², w ← w - η m̂ / (√v̂ + ε); AdamW shrinks w first */
static void FN(adam)(const struct slice *slice, int64_t start, int64_t stop, REAL decay, const struct FN(job) *job) {
    const REAL *restrict gradient = FN(own)(slice);
    REAL *restrict w = slice->w, *restrict m = slice->m, *restrict v = slice->v;
    const REAL beta1 = (REAL)slice->beta1, rest1 = (REAL)(1 - slice->beta1), factor = (REAL)job->factor;
    const REAL beta2 = (REAL)slice->beta2, rest2 = (REAL)(1 - slice->beta2), epsilon = (REAL)slice->epsilon;
    const double *numbers = job->numbers; /* η, 1 - β₁^t, 1 - β₂^t */
    const REAL root = (REAL)__builtin_sqrt(numbers[2]), rate = (REAL)(numbers[0] / numbers[1]);
    const REAL shrunk = slice->rule == ADAMW && decay != 0 ? (REAL)(1 - numbers[0] * slice->decay) : 1;
    const REAL added = slice->rule == ADAMW ? 0 : decay;
    for (int64_t i = start; i < stop; i++) {
        const REAL w_i = w[i] * shrunk, g = gradient[i] * factor + added * w_i;
        m[i] = m[i] * beta1 + g * rest1;
        v[i] = v[i] * beta2 + g * g * rest2;
        w[i] = w_i - m[i] / (SQRT(v[i]) / root + epsilon) * rate;
    }
}

#define AT_ONCE 256 /* numbers of w that are updated while the next ones come */
#define LINE (64 / (int64_t)sizeof(REAL)) /* of the cache */

/* One update of this rank's slice of w, and of the optimizer's vectors */
static void FN(update)(const void *work, int64_t t, int64_t T) {
    const struct FN(job) *job = work;
    const struct slice *slice = job->slice;
    MY_PART(from, to, slice->stop - slice->start, 64);
    for (int64_t i = 0; i < slice->segments; i++) {
        const int64_t *segment = slice->segment + 3 * i;
        const int64_t start = segment[0] > slice->start + from ? segment[0] : slice->start + from;
        const int64_t stop = segment[1] < slice->start + to ? segment[1] : slice->start + to;
        const REAL decay = segment[2] ? (REAL)slice->decay : 0;
        for (int64_t first = start; first < stop; first += AT_ONCE) {
            const int64_t last = first + AT_ONCE < stop ? first + AT_ONCE : stop;
            for (int64_t next = last; slice->ranks > 1 && next < last + AT_ONCE && next < stop; next += LINE)
                ask_to_write(AT(REAL, slice->w) + next);
            (slice->rule == SGD ? FN(sgd) : FN(adam))(slice, first, last, decay, job);
        }
    }
}

/* --- steps, one after another --------------------------------------------------------------------------------------- */

/* What a batch of the next step is made of in the reproducible mode, or NULL. */
static const struct batch *FN(batch_of)(const struct run *run) {
    const struct tree *tree = run->tree;
    for (int64_t i = 0; tree && i < tree->kinds; i++)
        if (tree->batch[i].n == run->lengths[run->step])
            return &tree->batch[i];
    return 0;
}

/* The tail of this rank's gradient: see distbp/engine/reduction.py */
static void FN(tell)(const struct slice *slice, const struct run *run, int64_t samples) {
    REAL *tail = FN(own)(slice) + slice->count;
    const double loss = run->part[run->step * SUMS];
    tail[0] = loss - loss == 0 ? 0 : (REAL)loss;
    tail[1] = (REAL)(samples / DIGIT), tail[2] = (REAL)(samples % DIGIT);
    for (int i = 3; i < TAIL; i++)
        tail[i] = run->step == 0 ? (REAL)run->requests[i - 3] : 0;
}

/* What this rank adds to the gradient of a batch, and tells the others. */
static int FN(compute)(const struct net *net, const struct products *products, const struct slice *slice,
                       struct run *run) {
    const int64_t n = run->lengths[run->step], *rows = run->rows + run->first_row;
    const struct batch *batch = FN(batch_of)(run);
    double *part = run->part + run->step * SUMS;
    int64_t samples = 0;
    part[0] = part[1] = 0;
    if (!run->tree) {
        const int64_t first = n * run->rank / run->size;
        samples = n * (run->rank + 1) / run->size - first;
        if (FN(shard_gradient)(net, products, rows + first, samples, slice->count, part, run) == REFUSED)
            return REFUSED;
    } else if (!batch)
        return REFUSED;
    for (int64_t i = 0; batch && i < batch->nodes; i++) {
        const int64_t from = batch->node[2 * i], to = batch->node[2 * i + 1], grain = run->tree->grain;
        const int64_t first = from * grain, count = (to * grain < n ? to * grain : n) - first;
        double *sums = run->tree->shared + from * SUMS;
        for (int64_t k = 0; k < (to - from) * SUMS; k++)
            sums[k] = 0;
        REAL *out = slice->gradient[slice->own * slice->slots + i];
        if (FN(node_gradient)(net, products, run->tree, rows + first, count, slice->count, out, sums, run) == REFUSED)
            return REFUSED;
        for (int64_t k = 0; k < (to - from) * SUMS; k++)
            part[k % SUMS] += sums[k];
        samples += count;
    }
    FN(tell)(slice, run, samples);
    return DONE;
}

/* Keeps the sums of all grains of a batch; the loss of all where it is not finite, else 0. */
static double FN(flaw_of)(const struct run *run, const struct batch *batch) {
    const double *sums = run->tree->shared;
    double *kept = run->tree->kept + run->step * run->tree->most * SUMS, loss = 0;
    for (int64_t i = 0; i < batch->grains; i++, sums += SUMS, kept += SUMS) {
        for (int k = 0; k < SUMS; k++)
            kept[k] = sums[k];
        loss += sums[0];
    }
    return loss - loss == 0 ? 0 : loss;
}

/* What all ranks have told; whether nobody needs to look before the update is made. */
static int FN(is_calm)(const struct slice *slice, struct run *run) {
    const REAL *agreed = slice->agreed;
    double square = 0, *told = run->agreed + run->step * TAIL;
    for (int64_t i = 0; i < TAIL; i++)
        told[i] = (double)agreed[i];
    if (run->tree)
        told[0] = FN(flaw_of)(run, FN(batch_of)(run));
    for (int64_t i = 0; i < (slice->count + BLOCK - 1) / BLOCK; i++)
        square += slice->squares[i];
    run->length = __builtin_sqrt(square);
    if (!(square - square == 0) || told[0] != 0 || run->calm_steps < 1)
        return 0;
    if (slice->limit > 0 && run->length > slice->limit && slice->limit / run->length < LEAST_NORMAL)
        return 0;
    const double length = slice->limit > 0 && run->length > slice->limit ? slice->limit : run->length;
    return length <= run->calm_length && run->numbers[3 * run->step] <= run->calm_rate;
}

/* Goes on with the steps of `run` until they are done, until somebody has to look at a gradient before the update is
   made, or until the other ranks have been waited for so long that Python should see to its signals. */
static int FN(advance)(const struct net *net, const struct products *products, const struct slice *slice,
                       struct run *run) {
    begin_laps(run);
    while (run->step < run->steps) {
        const int64_t n = run->lengths[run->step];
        const double *numbers = run->numbers + 3 * run->step;
        const int shortens = slice->limit > 0 && run->length > slice->limit;
        struct FN(job) job = {slice, n, shortens ? slice->limit / run->length : 1, numbers, FN(batch_of)(run)};
        switch (run->stage) {
        case COMPUTE:
            if (FN(compute)(net, products, slice, run) == REFUSED)
                return REFUSED;
            run->turn = arrive(slice);
            run->stage = ADD_UP;
            /* fall through */
        case ADD_UP:
            if (!is_over(slice, run->turn))
                return WAITING;
            together(net, FN(add_up), &job);
            run->turn = arrive(slice);
            run->stage = AGREE;
            /* fall through */
        case AGREE:
            if (!is_over(slice, run->turn))
                return WAITING;
            run->is_update = FN(is_calm)(slice, run);
            run->stage = CHANGE;
            lap(run, REDUCTION);
            if (!run->is_update)
                return LOOK;
            run->calm_steps--;
            continue; /* the length of the gradient is known now */
        case CHANGE:
            if (run->is_update)
                together(net, FN(update), &job);
            run->turn = arrive(slice);
            run->stage = NEXT;
            /* fall through */
        case NEXT: {
            if (!is_over(slice, run->turn))
                return WAITING;
            lap(run, UPDATE);
            const double *told = run->agreed + run->step * TAIL;
            const int is_last = !run->is_update || told[3] != 0 || told[4] != 0;
            run->first_row += n;
            run->step++;
            run->stage = COMPUTE;
            if (is_last)
                return DONE;
        }
        }
    }
    return DONE;
}

#undef FN
#undef AT
#undef MY_PART
#undef CONVERT
#undef AT_ONCE
#undef LINE
#undef SAME
