#include "run/largest.h"

#include <algorithm>
#include <atomic>

#include "run/transfer.h"
#include "system/nervous.h"
#include "system/thread_pool.h"

namespace conv1x1 {

namespace {

constexpr size_t tile = nervous ? 16 : size_t{1} << 16;  // elements

struct Search {
  const KernelTable& table;
  const Array& array;
  PixelAxes axes;
  size_t count;
  bool (*stop_asked)(void*);
  void* stop_context;
  std::atomic<uint64_t> largest{0};
};

// Elements of a run, through a buffer where they are not as the kernel takes them; or what was met before.
uint64_t of_run(const Search& s, const char* data, ptrdiff_t step, size_t n, uint64_t most) {
  const LargestFn kernel = s.table.largest[static_cast<size_t>(s.array.dtype)];
  const size_t size = size_of(s.array.dtype);
  if (step == static_cast<ptrdiff_t>(size) && !s.array.swapped) return kernel(data, n, most);
  constexpr size_t chunk = nervous ? 16 : 512;
  alignas(64) char buffer[chunk * 8];
  for (size_t first = 0; first < n; first += chunk) {
    const size_t count = std::min(chunk, n - first);
    const Move move{
        data + static_cast<ptrdiff_t>(first) * step, 0, step, buffer, 0, static_cast<ptrdiff_t>(size), 1, count};
    transfer(s.table, move, {size, s.array.swapped}, {size}, nullptr);
    most = kernel(buffer, count, most);
  }
  return most;
}

bool enter(void*) noexcept { return true; }

void search_tile(void* context, size_t index) noexcept {
  Search& s = *static_cast<Search*>(context);
  uint64_t most = s.largest.load(std::memory_order_relaxed);
  Runs runs(s.axes, index * tile, std::min((index + 1) * tile, s.count));
  for (Run run; runs.next(run);) most = of_run(s, s.array.data + run.x, run.x_step, run.n, most);
  uint64_t so_far = s.largest.load(std::memory_order_relaxed);
  while (most > so_far && !s.largest.compare_exchange_weak(so_far, most, std::memory_order_relaxed)) {
  }
}

bool stop(void* context) {
  const Search& s = *static_cast<const Search*>(context);
  return s.stop_asked && s.stop_asked(s.stop_context);
}

}  // namespace

bool largest(const KernelTable& table, const Array& array, int threads, bool (*stop_asked)(void*), void* stop_context,
             uint64_t& found) {
  Search search{table, array, axes_of(array), 1, stop_asked, stop_context};
  for (const PixelAxis& axis : search.axes) search.count *= axis.n;
  found = 0;
  if (search.count == 0) return true;
  if (!run_job({(search.count + tile - 1) / tile, enter, search_tile, stop, &search}, threads)) return false;
  found = search.largest;
  return true;
}

}  // namespace conv1x1
