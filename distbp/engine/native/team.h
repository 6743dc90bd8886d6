/* The threads of a rank, which do their parts of a phase together.

   Between two phases a thread spins for a moment, for the next one comes soon; then it sleeps. */

#include <pthread.h>
#include <stdlib.h>

typedef void phase_function(const void *work, int64_t t, int64_t T);

struct team {
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    _Atomic uint32_t phases, left, sleepers; /* phases that were begun; threads that are not done with the last one */
    int is_over;
    phase_function *phase;
    const void *work;
    int64_t T, started;
    pthread_t thread[]; /* of the parts 1 … T-1; part 0 is done by who calls `together` */
};

struct member {
    struct team *team;
    int64_t t;
};

#define TURNS 2000 /* that a thread spins */

static void *take_part(void *argument) {
    const struct member me = *(struct member *)argument;
    struct team *team = me.team;
    free(argument);
    for (uint32_t seen = 0;; seen++) {
        for (int i = 0; i < TURNS && atomic_load(&team->phases) == seen; i++)
            pause_briefly();
        if (atomic_load(&team->phases) == seen) {
            pthread_mutex_lock(&team->mutex);
            atomic_fetch_add(&team->sleepers, 1);
            while (atomic_load(&team->phases) == seen)
                pthread_cond_wait(&team->wake, &team->mutex);
            atomic_fetch_sub(&team->sleepers, 1);
            pthread_mutex_unlock(&team->mutex);
        }
        if (team->is_over)
            return 0;
        team->phase(team->work, me.t, team->T);
        atomic_fetch_sub(&team->left, 1);
    }
}

static void begin_phase(struct team *team) {
    atomic_fetch_add(&team->phases, 1);
    if (atomic_load(&team->sleepers)) {
        pthread_mutex_lock(&team->mutex);
        pthread_cond_broadcast(&team->wake);
        pthread_mutex_unlock(&team->mutex);
    }
}

/* All parts of a phase; when it comes back, they are done. */
static void together(const struct net *net, phase_function *phase, const void *work) {
    struct team *team = net->team;
    if (!team || team->T == 1) {
        phase(work, 0, 1);
        return;
    }
    team->phase = phase, team->work = work;
    atomic_store(&team->left, (uint32_t)(team->T - 1));
    begin_phase(team);
    phase(work, 0, team->T);
    for (int64_t i = 0; atomic_load(&team->left); i++)
        if (i < TURNS)
            pause_briefly();
        else
            sched_yield();
}

static void stop_team(struct team *team) {
    team->is_over = 1;
    begin_phase(team);
    for (int64_t t = 1; t <= team->started; t++)
        pthread_join(team->thread[t - 1], 0);
    pthread_cond_destroy(&team->wake);
    pthread_mutex_destroy(&team->mutex);
    free(team);
}

/* NULL where the system has no more threads, or no memory. */
static struct team *start_team(int64_t T) {
    struct team *team = calloc(1, sizeof *team + (size_t)T * sizeof(pthread_t));
    if (!team)
        return 0;
    team->T = T;
    pthread_mutex_init(&team->mutex, 0);
    pthread_cond_init(&team->wake, 0);
    for (int64_t t = 1; t < T; t++) {
        struct member *member = malloc(sizeof *member);
        if (member)
            *member = (struct member){team, t};
        if (!member || pthread_create(&team->thread[t - 1], 0, take_part, member)) {
            free(member);
            stop_team(team);
            return 0;
        }
        team->started = t;
    }
    return team;
}
