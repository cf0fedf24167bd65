// A pool of threads that helps its caller.
//
// The caller works too, and units of work are claimed one by one from a counter: a helper that the system does not
// schedule costs nothing. One job runs at a time; a caller that finds the pool busy does its job alone. As many
// helpers are woken as it wants. They look out for the next one for some tens of microseconds, and then sleep; they run
// wherever the process may, but keep off their caller's CPU. They are started by the first job that wants them and
// joined before a fork; the child starts with a pool of its own. Not done here: priorities, nested jobs, other pinning,
// long spinning, an orderly end at exit.
#pragma once

#include <cstddef>

namespace conv1x1 {

struct Job {
  size_t units;
  bool (*enter)(void* context) noexcept;               // first on each helper; false: this one cannot take part
  void (*unit)(void* context, size_t index) noexcept;  // once for each index below `units`, on any of the threads
  bool (*stop)(void* context);                         // between units, on the caller only: true drops the rest
  void* context;
};

// Makes the pool, without threads, and sees to forks. Once, before the first job and while nobody forks: else a child
// could find the pool half made. Throws std::bad_alloc.
void make_pool();

// Runs the job on at most `threads` threads, this one included; false when `stop` said so.
bool run_job(const Job& job, int threads);

// How many threads a job gets when its caller does not say. At first what `default_num_threads` says, which may throw.
int get_num_threads();
void set_num_threads(int n);

}  // namespace conv1x1
