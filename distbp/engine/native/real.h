/* All that there is for one REAL: the products in the widths that this kind of CPU is good at, the functions, the step. */

#if defined(__AVX512F__)
#define BYTES 64
#define VECTORS 2
#define TILE 12
#include "products.h"
#define BYTES 64
#define VECTORS 1
#define TILE 12
#include "products.h"
#define BYTES 32
#define VECTORS 1
#define TILE 12
#include "products.h"
#elif defined(__AVX2__)
#define BYTES 32
#define VECTORS 2
#define TILE 6
#include "products.h"
#define BYTES 32
#define VECTORS 1
#define TILE 12
#include "products.h"
#elif defined(__aarch64__)
#define BYTES 16
#define VECTORS 4
#define TILE 6
#include "products.h"
#else
#define BYTES 16
#define VECTORS 2
#define TILE 6
#include "products.h"
#endif
#define BYTES 16
#define VECTORS 1
#define TILE 12
#include "products.h"

#define OF(bytes, vectors) &PASTE(PASTE(products_, REAL), PASTE(_##bytes, _##vectors))
/* The widest first. */
static const struct products *const PASTE(widths_, REAL)[] = {
#if defined(__AVX512F__)
    OF(64, 2), OF(64, 1), OF(32, 1),
#elif defined(__AVX2__)
    OF(32, 2), OF(32, 1),
#elif defined(__aarch64__)
    OF(16, 4),
#else
    OF(16, 2),
#endif
    OF(16, 1), 0};
#undef OF

#include "functions.h"
#include "step.h"
#include "predict.h"
