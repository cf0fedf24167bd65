#include "system/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "system/limits.h"

namespace conv1x1 {

namespace {

// Between two looks at a variable that another thread is about to change.
inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Looks for a while, some tens of microseconds, before the system is asked to wait: waking up takes it as long.
template <class Condition>
bool watch(Condition met) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(60);
  do {
    for (int i = 0; i < 32; ++i, relax())
      if (met()) return true;
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

// The caller's share of the units that `next` counts; false when it was stopped.
bool work(const Job& job, std::atomic<size_t>& next) {
  for (;;) {
    const size_t i = next.fetch_add(1, std::memory_order_relaxed);
    if (i >= job.units) return true;
    if (job.stop(job.context)) {
      next.store(job.units, std::memory_order_relaxed);
      return false;
    }
    job.unit(job.context, i);
  }
}

bool work_alone(const Job& job) {
  std::atomic<size_t> next{0};
  return work(job, next);
}

class Pool {
 public:
  bool run(const Job& job, int threads) {
    // Not a mutex: `stop` may run a signal handler that comes back here.
    if (busy_.exchange(true, std::memory_order_acquire)) return work_alone(job);
    next_.store(0, std::memory_order_relaxed);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      start_helpers(static_cast<size_t>(threads - 1));
      keep_off_this_cpu();
      job_ = &job;
      wanted_ = threads - 1;
      jobs_.fetch_add(1, std::memory_order_relaxed);
    }
    wake_.notify_all();
    const bool finished = work(job, next_);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      job_ = nullptr;  // whoever has not come in by now stays out
    }
    const auto all_left = [this] { return inside_.load(std::memory_order_acquire) == 0; };
    if (!watch(all_left)) {
      std::unique_lock<std::mutex> lock(mutex_);
      done_.wait(lock, all_left);
    }
    busy_.store(false, std::memory_order_release);
    return finished;
  }

  // Sends the helpers home after the unit each is at; a job under way is finished by its caller.
  void dismiss() {
    std::vector<std::thread> leaving;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      dismissing_.fetch_add(1, std::memory_order_relaxed);
      leaving.swap(helpers_);
      placed_ = 0;
    }
    wake_.notify_all();
    for (std::thread& helper : leaving) helper.join();
    dismissing_.fetch_sub(1, std::memory_order_relaxed);
  }

 private:
  bool dismissed() const { return dismissing_.load(std::memory_order_relaxed) > 0; }

  void help_with(const Job& job) {
    while (!dismissed()) {
      const size_t i = next_.fetch_add(1, std::memory_order_relaxed);
      if (i >= job.units) return;
      job.unit(job.context, i);
    }
  }

  // As many helpers as the system grants: with fewer, or none, the job still gets done. None while others are being
  // sent home, since they would leave as well.
  void start_helpers(size_t count) {
    if (dismissed()) return;
    try {
      while (helpers_.size() < count) helpers_.emplace_back([this] { help(); });
    } catch (const std::system_error&) {
    } catch (const std::bad_alloc&) {
    }
  }

  // A helper that is woken on its caller's own CPU, as the system likes to do when the others are busy, takes the
  // caller's time instead of adding to it.
  void keep_off_this_cpu() {
    const int cpu = sched_getcpu();
    if (cpu < 0 || (cpu == callers_cpu_ && placed_ == helpers_.size())) return;
    cpu_set_t others;
    if (sched_getaffinity(0, sizeof(others), &others) != 0) return;
    if (CPU_COUNT(&others) > 1) CPU_CLR(cpu, &others);
    for (std::thread& helper : helpers_) pthread_setaffinity_np(helper.native_handle(), sizeof(others), &others);
    callers_cpu_ = cpu;
    placed_ = helpers_.size();
  }

  void help() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return dismissed() || (job_ && wanted_ > 0); });
      if (dismissed()) return;
      const Job& job = *job_;
      --wanted_;
      inside_.fetch_add(1, std::memory_order_relaxed);
      const size_t seen = jobs_.load(std::memory_order_relaxed);
      lock.unlock();
      if (job.enter(job.context)) help_with(job);
      lock.lock();
      if (inside_.fetch_sub(1, std::memory_order_release) == 1) done_.notify_all();
      lock.unlock();
      watch([&] { return jobs_.load(std::memory_order_relaxed) != seen || dismissed(); });
      lock.lock();
    }
  }

  std::atomic<bool> busy_{false};  // a caller's job is running
  std::mutex mutex_;               // guards the members below; the atomics are read without it
  std::condition_variable wake_, done_;
  std::vector<std::thread> helpers_;
  const Job* job_ = nullptr;
  int callers_cpu_ = -1;  // that the first `placed_` helpers keep off
  size_t placed_ = 0;
  int wanted_ = 0;                  // helpers the job may still take
  std::atomic<int> inside_{0};      // helpers at work on it
  std::atomic<size_t> jobs_{0};     // so far
  std::atomic<int> dismissing_{0};  // threads at it: two may fork at once, and both must find that all helpers left
  std::atomic<size_t> next_{0};
};

// Never destroyed: a thread may be inside a call while the process exits. Null in a child that had no memory for it.
Pool* the_pool = nullptr;

std::atomic<int>& num_threads() {
  static std::atomic<int> n{default_num_threads()};
  return n;
}

}  // namespace

void make_pool() {
  if (the_pool) return;
  auto made = std::make_unique<Pool>();
  const auto before = [] {
    if (the_pool) the_pool->dismiss();
  };
  if (pthread_atfork(before, nullptr, [] { the_pool = new (std::nothrow) Pool; }) != 0) throw std::bad_alloc();
  the_pool = made.release();
}

bool run_job(const Job& job, int threads) {
  threads = static_cast<int>(std::min<size_t>(static_cast<size_t>(threads), job.units));
  return threads < 2 || !the_pool ? work_alone(job) : the_pool->run(job, threads);
}

int get_num_threads() { return num_threads().load(std::memory_order_relaxed); }

void set_num_threads(int n) { num_threads().store(n, std::memory_order_relaxed); }

}  // namespace conv1x1
