/* The compiled step, for one kind of CPU: compiled once for each, with the name of the kind as ISA.

   products.h has the matrix products, functions.h exp, log and tanh, step.h the equations, fence.h what the ranks of a
   node wait at.  Python calls the functions at the end; all sizes were checked there. */

#include "plan.h"
#include "vectors.h"
#include "fence.h"
#include "team.h"

#define BLOCK_ROWS 96
#define BLOCK_BYTES 24576 /* of a panel that is in the cache while it is multiplied */
#define BLOCK_SAMPLES 512
#define ROWS_BYTES 262144 /* of W as it is, which are in the cache while they are multiplied */
#define MOST_AS_IT_IS 1024 /* numbers of such a row */
/* Numbers of a part of A that `times` arranges at a time. */
#define ARRANGED(size, P) (BLOCK_ROWS * (BLOCK_BYTES / (int64_t)(size) / (P)))
#define AHEAD 4 /* samples: that early a row is asked for */
#define MOST_P 32
#define DEEPEST 20 /* levels of a tree of grains that are worked on together: see compiled_grains.py */
#define WHOLE INT64_MAX /* a grain that all samples are in */

static inline int64_t bytes_of(int64_t type) {
    return type <= I8 ? 1 : type <= F16 ? 2 : type == F32 || type == I32 ? 4 : 8;
}

struct products {
    int64_t P; /* samples in a panel */
    void (*times)(int64_t, int64_t, const void *, int64_t, int64_t, const void *, const void *, void *, int64_t, int64_t,
                  int64_t, int64_t, void *);
    void (*gradient)(int64_t, int64_t, int64_t, int64_t, const void *, const void *, void *, int64_t, int64_t, int64_t,
                     int64_t, int64_t, int);
    void (*spread)(int64_t, const void *, void *, int64_t);
    void (*turn)(int64_t, const void *, int64_t, void *);
    void (*turn_back)(int64_t, const void *, void *);
};

enum how { ALONE, CHAIN, PLUS }; /* see `sum_samples_of` in products.h */

/* Sums are added up along the tree of distbp/mathematics/grain_tree.py as they come, from left to right: each is put on
   a stack, and then the uppermost two are added so many times.  `count`: how many sums have come, this one included;
   `depth`: how many are on the stack. */
static inline int64_t merges(int64_t count, int64_t depth, int is_last) {
    return is_last ? depth - 1 : __builtin_ctzll((uint64_t)count);
}

/* Without a run nobody wants to know of the time. */
static inline void begin_laps(struct run *run) {
    if (run)
        run->since = seconds();
}

static inline void lap(struct run *run, enum phase phase) {
    if (!run)
        return;
    const double now = seconds();
    run->seconds[phase] += now - run->since;
    run->since = now;
}

#define REAL float
#define REAL_IS_DOUBLE 0
#define SQRT __builtin_sqrtf
#include "real.h"
#undef REAL
#undef REAL_IS_DOUBLE
#undef SQRT

#define REAL double
#define REAL_IS_DOUBLE 1
#define SQRT __builtin_sqrt
#include "real.h"

#define EXPORT __attribute__((visibility("default")))
#define NAMED(name) PASTE(PASTE(name, _), ISA)

static const struct products *products_of(const struct products *const *widths, int64_t panel) {
    for (; *widths; widths++)
        if ((*widths)->P == panel)
            return *widths;
    return 0;
}

/* How many samples a panel has for pieces of m samples: the narrowest panels that hold them, or the widest ones. */
EXPORT int64_t NAMED(panel)(int64_t is_double, int64_t m) {
    const struct products *const *widths = is_double ? widths_double : widths_float;
    int64_t found = (*widths)->P;
    for (; *widths; widths++)
        if ((*widths)->P >= m)
            found = (*widths)->P;
    return found;
}

/* Whether multiply-adds are rounded once: then the bits are those of all other kinds of which that is true. */
EXPORT int64_t NAMED(is_fused)(void) { return HAS_FMA; }

/* Numbers of `net.arranged` for each thread. */
EXPORT int64_t NAMED(arranged)(int64_t is_double, int64_t panel) {
    return ARRANGED(is_double ? sizeof(double) : sizeof(float), panel);
}

/* A team of T threads, or NULL where there are none to be had. */
EXPORT void *NAMED(start)(int64_t T) { return start_team(T); }
EXPORT void NAMED(stop)(void *team) { stop_team(team); }

/* See `advance` in step.h. */
EXPORT int NAMED(advance)(int64_t is_double, const struct net *net, const struct slice *slice, struct run *run) {
    if (is_double)
        return advance_double(net, products_of(widths_double, net->panel), slice, run);
    return advance_float(net, products_of(widths_float, net->panel), slice, run);
}

/* a^1 … a^F of m samples; Σ L_i and the sum of the metric are added to sums. */
EXPORT int NAMED(forward)(int64_t is_double, const struct net *net, const int64_t *rows, int64_t m, double *sums,
                          struct run *run) {
    begin_laps(run);
    if (is_double) {
        struct piece_double piece = piece_of_double(net, products_of(widths_double, net->panel), rows, m);
        return forward_double(&piece, sums, run);
    }
    struct piece_float piece = piece_of_float(net, products_of(widths_float, net->panel), rows, m);
    return forward_float(&piece, sums, run);
}

/* After that: d^l, ∂L/∂W^l and ∂L/∂b^l for the layers l = from … to, downwards; added to what is there if is_sum. */
EXPORT void NAMED(backward)(int64_t is_double, const struct net *net, int64_t m, int64_t from, int64_t to, int64_t is_sum) {
    if (is_double) {
        struct piece_double piece = piece_of_double(net, products_of(widths_double, net->panel), 0, m);
        piece.is_sum = is_sum;
        backward_double(&piece, from, to, 0);
    } else {
        struct piece_float piece = piece_of_float(net, products_of(widths_float, net->panel), 0, m);
        piece.is_sum = is_sum;
        backward_float(&piece, from, to, 0);
    }
}

/* a^F of m rows of net.x, [m][n_F], as numbers of this type, or times spread plus shift as doubles: see predict.h. */
EXPORT int NAMED(predict)(int64_t is_double, const struct net *net, int64_t m, void *out, const double *spread,
                          const double *shift) {
    if (is_double)
        return predict_double(net, products_of(widths_double, net->panel), m, out, spread, shift);
    return predict_float(net, products_of(widths_float, net->panel), m, out, spread, shift);
}

/* See `node_gradient` in step.h. */
EXPORT int NAMED(node)(int64_t is_double, const struct net *net, const struct tree *tree, const int64_t *rows,
                       int64_t count, int64_t size, void *out, double *sums, struct run *run) {
    begin_laps(run);
    if (is_double)
        return node_gradient_double(net, products_of(widths_double, net->panel), tree, rows, count, size, out, sums, run);
    return node_gradient_float(net, products_of(widths_float, net->panel), tree, rows, count, size, out, sums, run);
}

/* Σ g² of each block of `count` numbers. */
EXPORT void NAMED(squares)(int64_t is_double, int64_t count, const void *g, double *out) {
    for (int64_t first = 0; first < count; first += BLOCK) {
        const int64_t left = count - first, here = left < BLOCK ? left : BLOCK;
        *out++ = is_double ? square_double(here, (const double *)g + first) : square_float(here, (const float *)g + first);
    }
}

/* An update of this slice; numbers: η, 1 - β₁^t, 1 - β₂^t. */
EXPORT void NAMED(update)(int64_t is_double, const struct net *net, const struct slice *slice, const double *numbers) {
    struct job_double of_double = {slice, 1, 1, numbers, 0};
    struct job_float of_float = {slice, 1, 1, numbers, 0};
    if (is_double)
        together(net, update_double, &of_double);
    else
        together(net, update_float, &of_float);
}
