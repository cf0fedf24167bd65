#include "system/limits.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>

namespace conv1x1 {

namespace {

int affinity_cpus() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// The leading whole number of a text, or 0.
int leading_number(const char* text) {
  if (!text) return 0;
  char* end = nullptr;
  const long n = std::strtol(text, &end, 10);
  return end != text && n >= 1 && n <= 1 << 20 ? static_cast<int>(n) : 0;
}

int cpus_of_quota(double quota, double period) {
  if (!(quota > 0 && period > 0)) return 0;
  return static_cast<int>(std::clamp(std::ceil(quota / period), 1.0, 1e6));
}

}  // namespace

int cgroup_cpus(const char* root) {
  const std::string top = std::string(root) + "/sys/fs/cgroup";
  int cpus = 0;
  const auto lower = [&](double quota, double period) {
    const int n = cpus_of_quota(quota, period);
    cpus = n && (!cpus || n < cpus) ? n : cpus;
  };
  // A quota holds for everything below it. Inside a container the path may be the host's: then only the top is there.
  const auto for_each_level = [&](std::string path, const auto& look) {
    for (;; path.erase(path.rfind('/'))) {
      look(path);
      if (path.find('/') == std::string::npos) break;
    }
  };
  const auto version_2 = [&](const std::string& path) {
    std::ifstream file(top + path + "/cpu.max");
    std::string quota;
    double period = 0;
    if (file >> quota >> period) lower(std::strtod(quota.c_str(), nullptr), period);
  };
  const auto version_1 = [&](const std::string& path) {
    const std::string group = top + "/cpu" + path;
    std::ifstream quota_file(group + "/cpu.cfs_quota_us"), period_file(group + "/cpu.cfs_period_us");
    double quota = 0, period = 0;
    if (quota_file >> quota && period_file >> period) lower(quota, period);
  };
  std::string path_2, path_1;  // of this process, in each hierarchy
  std::ifstream membership(std::string(root) + "/proc/self/cgroup");
  for (std::string line; std::getline(membership, line);) {  // number:controllers:path
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    if (controllers == ",,") path_2 = line.substr(second + 1);
    if (controllers.find(",cpu,") != std::string::npos) path_1 = line.substr(second + 1);
  }
  for_each_level(path_2, version_2);
  for_each_level(path_1, version_1);
  return cpus;
}

int default_num_threads() {
  if (const char* text = std::getenv("CONV1X1_NUM_THREADS")) {
    const std::string whole = text;
    const int n = leading_number(text);
    if (n == 0 || whole.find_first_not_of("0123456789") != std::string::npos)
      throw std::invalid_argument("CONV1X1_NUM_THREADS is '" + whole + "', expected a whole number ≥ 1");
    return n;
  }
  int n = affinity_cpus();
  if (const int quota = cgroup_cpus("")) n = std::min(n, quota);
  if (const int omp = leading_number(std::getenv("OMP_NUM_THREADS"))) n = std::min(n, omp);
  return n;
}

}  // namespace conv1x1
