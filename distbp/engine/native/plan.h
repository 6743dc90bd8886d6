/* What Python tells the compiled step: `plan.py` beside has the same structures, field for field.

   All fields are 8 bytes long.  All arrays belong to Python; only threads are made here. */

#ifndef PLAN_H
#define PLAN_H

#include <stdint.h>

enum sigma { IDENTITY, RELU, LEAKY_RELU, SIGMOID, TANH, SOFTPLUS, GELU, SOFTMAX };
enum loss { MSE, CROSS_ENTROPY, BINARY_CROSS_ENTROPY };
enum metric { ACCURACY, BINARY_ACCURACY, SQUARED_ERROR };
enum rule { SGD, ADAM, ADAMW };
enum type { U8, I8, U16, I16, F16, F32, F64, I32, I64 };
enum phase { DATA, FORWARD, BACKWARD, REDUCTION, UPDATE, PHASES };
enum answer { DONE, WAITING, LOOK, REFUSED };
enum stage { COMPUTE, ADD_UP, AGREE, CHANGE, NEXT };

#define TAIL 6   /* numbers behind a gradient: the flaw of the loss, the samples in two parts, and three requests */
#define SUMS 2   /* of the samples of a rank: Σ L_i, and what the metric is made of */
#define BLOCK 4096 /* numbers of w whose squares are added up by themselves */
#define DIGIT 4096 /* of the number of samples in a tail: see distbp/engine/reduction.py */

/* Layer l.  a, z and d are panels, [p][n][P]; `at` is a with the samples as rows, [q][M][P]: see products.h. */
struct layer {
    int64_t n, sigma;
    int64_t start; /* of W^l in w and in a gradient; b^l stands behind it */
    void *W, *b;   /* in w */
    void *z;       /* where σ' is made of a alone, the same as a */
    void *a, *at, *d;
};

/* Rows of a data set, of `width` values: (value - shift) · factor, or the values where shift is NULL. */
struct columns {
    const void *rows;
    int64_t type, width;
    const void *shift; /* of the type in which it is subtracted */
    const void *factor;
};

struct team;

/* A network, and room for the samples of a piece. */
struct net {
    int64_t F, loss, metric, panel, room;
    int64_t samples;     /* rows of x, and of y or classes */
    struct layer *layer; /* layer[l], l = 1 … F */
    void *gradient;      /* of this rank */
    struct columns x, y;
    const int32_t *classes; /* in the place of y: of all rows */
    const double *weights;  /* of each output, for SQUARED_ERROR */
    int32_t *c;             /* the classes of a piece */
    void *y_panels, *row;
    void *arranged; /* for `times`: of each thread */
    double *loss_of, *metric_of; /* of each sample of a piece */
    struct team *team; /* NULL: one thread */
};

/* The slice of w that this rank adds up and updates, and what the ranks of the node hold together. */
struct slice {
    int64_t start, stop, count; /* of w, which has `count` numbers */
    int64_t ranks, own, has_tail;
    int64_t slots;   /* how many gradients, or sums of grains, each rank has */
    void **gradient; /* of each rank of the node, `slots` of them: count + TAIL numbers each; own * slots is this rank's */
    void *agreed;    /* where the sums of the tails lie */
    void *w, *m, *v; /* m: also the velocity of momentum */
    double *squares; /* Σ g² of each block of w */
    void *fence;
    int64_t spins;
    int64_t rule, nesterov;
    double momentum, beta1, beta2, epsilon, decay, limit;
    int64_t segments; /* of this slice: (start, stop, whether it decays) */
    const int64_t *segment;
};

/* What a batch of n samples is made of in the reproducible mode: see distbp/engine/reproducible.py. */
struct batch {
    int64_t n, grains;
    int64_t nodes; /* of this rank, the i-th of which is left in its slot i */
    const int64_t *node; /* of each: the first grain, and the one behind the last */
    int64_t leaves; /* the nodes of all ranks, from left to right */
    const int64_t *leaf; /* of each: its slot among all of the slice's, and how many additions come behind it */
};

/* The tree of grains. */
struct tree {
    int64_t grain;    /* samples */
    int64_t together; /* grains that are worked on together: a power of 2 */
    int64_t most;     /* grains of the largest batch */
    int64_t kinds;
    const struct batch *batch; /* of each kind */
    void **above;     /* for sums on the way to that of a node */
    double *shared;   /* [most][SUMS], which the ranks of the node hold together: the sums of each grain */
    double *kept;     /* [steps][most][SUMS]: the same, for Python */
};

/* Some steps, one after another, and how far they are. */
struct run {
    int64_t steps, rank, size;
    const struct tree *tree;       /* NULL: a rank's shard is one sum, and the ranks' are added one after another */
    const int64_t *rows, *lengths; /* the rows of all batches, one after another, and how many each has */
    const double *numbers;         /* of each step: η, 1 - β₁^t, 1 - β₂^t */
    double requests[TAIL - 3];     /* of this rank, with the first step */
    double calm_length, calm_rate; /* up to these, an update surely leaves all numbers finite, … */
    int64_t calm_steps;            /* … for so many steps */
    double *part;                  /* [steps][SUMS], of this rank */
    double *agreed;                /* [steps][TAIL] */
    double seconds[PHASES], since; /* since the last lap */
    double length;                 /* |∂L_B/∂w| */
    int64_t step, stage, turn, first_row;
    int64_t is_update; /* what was found at a look: whether to make the update */
};

#endif
