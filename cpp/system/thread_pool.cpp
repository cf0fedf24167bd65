#include "system/thread_pool.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

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
  struct Helper {
    std::thread thread;
    std::condition_variable wake;
    std::atomic<size_t> asked{0};   // the last job that wants it
    std::atomic<int> last_cpu{-1};  // where it was when that was done
    bool sleeps = false;            // guarded by the pool's mutex
    bool placed = false;            // may run where `allowed_` says; likewise
  };

 public:
  bool run(const Job& job, int threads) {
    // Not a mutex: `stop` may run a signal handler that comes back here.
    if (busy_.exchange(true, std::memory_order_acquire)) return work_alone(job);
    next_.store(0, std::memory_order_relaxed);
    size_t asked = 0;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      asked = start_helpers(static_cast<size_t>(threads - 1));
      place(asked);
      job_ = &job;
      ++jobs_;
      for (size_t i = 0; i < asked; ++i) helpers_[i]->asked.store(jobs_, std::memory_order_relaxed);
      for (size_t i = 0; i < asked; ++i)
        if (helpers_[i]->sleeps) helpers_[i]->wake.notify_one();
    }
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
    std::vector<std::unique_ptr<Helper>> leaving;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      dismissing_.fetch_add(1, std::memory_order_relaxed);
      leaving.swap(helpers_);
      for (const auto& helper : leaving) helper->wake.notify_one();
    }
    for (const auto& helper : leaving) helper->thread.join();
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
  // sent home, since they would leave as well. How many of those wanted there are.
  size_t start_helpers(size_t count) {
    if (dismissed()) return 0;
    try {
      while (helpers_.size() < count) {
        auto made = std::make_unique<Helper>();
        Helper& helper = *made;
        helpers_.reserve(count);
        helper.thread = std::thread([this, &helper] { help(helper); });
        helpers_.push_back(std::move(made));
      }
    } catch (const std::system_error&) {
    } catch (const std::bad_alloc&) {
    }
    return std::min(helpers_.size(), count);
  }

  // Helpers may run wherever the process may, even if their caller is pinned to one CPU; but those that were last met
  // on their caller's CPU keep off it. A helper that is woken there, as the system likes to do when the others are
  // busy, takes the caller's time instead of adding to it.
  void place(size_t count) {
    const int cpu = sched_getcpu();
    cpu_set_t all, process;
    if (cpu < 0 || sched_getaffinity(0, sizeof(all), &all) != 0) return;
    if (sched_getaffinity(getpid(), sizeof(process), &process) == 0) CPU_OR(&all, &all, &process);
    if (!CPU_EQUAL(&all, &allowed_)) {
      allowed_ = all;
      for (const auto& helper : helpers_) helper->placed = false;
    }
    if (CPU_COUNT(&all) > 1) CPU_CLR(cpu, &all);
    for (size_t i = 0; i < count; ++i) {
      Helper& helper = *helpers_[i];
      if (helper.placed && helper.last_cpu.load(std::memory_order_relaxed) != cpu) continue;
      helper.placed = pthread_setaffinity_np(helper.thread.native_handle(), sizeof(all), &all) == 0;
      helper.last_cpu.store(-1, std::memory_order_relaxed);
    }
  }

  void help(Helper& self) {
    size_t seen = 0;
    const auto wanted = [&] { return self.asked.load(std::memory_order_relaxed) != seen || dismissed(); };
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      self.sleeps = true;
      self.wake.wait(lock, wanted);
      self.sleeps = false;
      if (dismissed()) return;
      seen = self.asked.load(std::memory_order_relaxed);
      if (job_ && seen == jobs_) {
        const Job& job = *job_;
        inside_.fetch_add(1, std::memory_order_relaxed);
        lock.unlock();
        if (job.enter(job.context)) help_with(job);
        self.last_cpu.store(sched_getcpu(), std::memory_order_relaxed);
        lock.lock();
        if (inside_.fetch_sub(1, std::memory_order_release) == 1) done_.notify_all();
      }
      lock.unlock();
      watch(wanted);
      lock.lock();
    }
  }

  std::atomic<bool> busy_{false};  // a caller's job is running
  std::mutex mutex_;               // guards the members below; the atomics are read without it
  std::condition_variable done_;
  std::vector<std::unique_ptr<Helper>> helpers_;
  const Job* job_ = nullptr;
  size_t jobs_ = 0;                 // so far
  cpu_set_t allowed_{};             // to the process and the last caller
  std::atomic<int> inside_{0};      // helpers at work on the job
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
