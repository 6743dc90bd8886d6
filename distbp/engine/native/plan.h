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
    void *W, *b;   /* in w */
    void *dW, *db; /* in the gradient of this rank */
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
    void **gradient; /* of each rank of the node: count + TAIL numbers; gradient[own] is this rank's */
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

/* Some steps, one after another, and how far they are. */
struct run {
    int64_t steps, rank, size;
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
