// How many processors this process may use: its affinity, its cgroup's quota, and what the environment says.
#pragma once

namespace conv1x1 {

// The CPUs this process may run on, no more than its cgroup's quota or OMP_NUM_THREADS; or CONV1X1_NUM_THREADS,
// whatever the others say. Throws std::invalid_argument where that is not a whole number ≥ 1.
int default_num_threads();

// The CPUs that cgroup v2 or v1 files below `root` allow this process, rounded up; 0 for no limit.
int cgroup_cpus(const char* root);

}  // namespace conv1x1
