/* Outputs for rows of inputs: the forward pass alone, without targets.  Included once for each REAL, behind step.h. */

#define FN(name) PASTE(name, PASTE(_, REAL))
#define AT(type, pointer) ((type *)(pointer))
#define STRIP 64 /* columns */
#define MY_PART(from, to, count, unit) const int64_t from = FN(cut)(count, unit, t, T), to = FN(cut)(count, unit, t + 1, T)

/* A piece of m samples, the rows 0 … m-1 of net.x; where a^F goes to, [m][n_F]: as it is, or a^F · spread + shift. */
struct FN(outputs) {
    struct FN(piece) piece; /* first: what works on a piece works on this */
    void *out;
    const double *spread, *shift;
    _Atomic int is_not_finite;
};

/* Whether a number of many is infinite or NaN. */
INLINE int FN(is_any_not_finite)(int64_t count, const REAL *x) {
    int found = 0;
    for (int64_t i = 0; i < count; i++)
        found |= !(x[i] - x[i] == 0);
    return found;
}

/* Rows become columns: P rows of n numbers, one after another, become [n][P].  A strip of columns stays in the cache. */
static void FN(turn_rows)(int64_t P, int64_t n, const REAL *rows, REAL *a) {
    const int64_t small = 16 / sizeof(REAL), whole = n - n % small;
    for (int64_t k0 = 0; k0 < whole; k0 += STRIP) {
        const int64_t k1 = whole - k0 < STRIP ? whole : k0 + STRIP;
        for (int64_t i = 0; i < P; i += small)
            for (int64_t k = k0; k < k1; k += small)
                PASTE(turn_, REAL)(rows + i * n + k, n, a + k * P + i, P);
    }
    for (int64_t k = whole; k < n; k++)
        for (int64_t i = 0; i < P; i++)
            a[k * P + i] = rows[i * n + k];
}

/* a^1.  Rows that are not numbers of this type, or do not fill a panel, are converted in a room of each thread; lanes
   without a sample are 0. */
static void FN(enter)(const void *work, int64_t t, int64_t T) {
    const struct FN(piece) *piece = work;
    const struct columns *x = &piece->net->x;
    const int64_t P = piece->products->P, n = x->width;
    const int is_as_stored = !x->shift && x->type == (REAL_IS_DOUBLE ? F64 : F32);
    REAL *room = AT(REAL, piece->net->row) + t * n * P;
    MY_PART(p0, p1, piece->panels, 1);
    for (int64_t p = p0; p < p1; p++) {
        const REAL *rows = room;
        if (is_as_stored && (p + 1) * P <= piece->m)
            rows = AT(const REAL, x->rows) + p * P * n;
        else {
            for (int64_t i = 0; i < P && p * P + i < piece->m; i++)
                FN(convert)(x, p * P + i, room + i * n);
            for (int64_t k = (piece->m - p * P) * n; k < P * n; k++)
                room[k] = 0;
        }
        FN(turn_rows)(P, n, rows, AT(REAL, piece->net->layer[1].a) + p * n * P);
    }
}

/* Whether all of z^2 is finite, of which each number is a sum of all inputs of a sample. */
static void FN(look)(const void *work, int64_t t, int64_t T) {
    struct FN(outputs) *outputs = (struct FN(outputs) *)work;
    const struct layer *layer = &outputs->piece.net->layer[2];
    MY_PART(from, to, outputs->piece.panels * layer->n * outputs->piece.products->P, 64);
    if (FN(is_any_not_finite)(to - from, AT(REAL, layer->z) + from))
        outputs->is_not_finite = 1;
}

/* a^F, as rows */
static void FN(leave)(const void *work, int64_t t, int64_t T) {
    struct FN(outputs) *outputs = (struct FN(outputs) *)work;
    const struct FN(piece) *piece = &outputs->piece;
    const struct layer *last = &piece->net->layer[piece->net->F];
    const int64_t P = piece->products->P, n = last->n;
    int found = 0;
    MY_PART(p0, p1, piece->panels, 1);
    for (int64_t p = p0; p < p1; p++) {
        const int64_t first = p * P, count = piece->m - first < P ? piece->m - first : P;
        REAL *a = AT(REAL, last->a) + first * n;
        if (last->sigma == SOFTMAX)
            FN(softmax)(piece, p);
        else
            FN(sigma)(last->sigma, n * P, AT(REAL, last->z) + first * n, a);
        for (int64_t i = 0; i < count; i++)
            for (int64_t j = 0; j < n; j++) {
                const int64_t to = (first + i) * n + j;
                if (outputs->spread) {
                    const double y = (double)a[j * P + i] * outputs->spread[j] + outputs->shift[j];
                    AT(double, outputs->out)[to] = y;
                    found |= !(y - y == 0);
                } else {
                    AT(REAL, outputs->out)[to] = a[j * P + i];
                    found |= !(a[j * P + i] - a[j * P + i] == 0);
                }
            }
    }
    if (found)
        outputs->is_not_finite = 1;
}

/* DONE; LOOK if some number of z^2 or of the outputs is not finite. */
static int FN(predict)(const struct net *net, const struct products *products, int64_t m, void *out,
                       const double *spread, const double *shift) {
    struct FN(outputs) outputs = {FN(piece_of)(net, products, 0, m), out, spread, shift, 0};
    struct FN(piece) *piece = &outputs.piece;
    together(net, FN(enter), &outputs);
    for (piece->l = 2; piece->l <= net->F; piece->l++) {
        together(net, FN(weigh), &outputs);
        if (piece->l == 2)
            together(net, FN(look), &outputs);
        together(net, piece->l < net->F ? FN(activate) : FN(leave), &outputs);
    }
    return outputs.is_not_finite ? LOOK : DONE;
}

#undef FN
#undef AT
#undef MY_PART
#undef STRIP
