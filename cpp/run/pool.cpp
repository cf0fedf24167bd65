#include "run/pool.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "call/types.h"

namespace conv1x1 {

namespace {

template <class T, class Fn>
void for_each(char* numbers, size_t n, Fn fn) {
  T* all = reinterpret_cast<T*>(numbers);
  for (size_t i = 0; i < n; ++i) all[i] = fn(all[i]);
}

}  // namespace

size_t PoolSums::bytes(DType sums, size_t channels, size_t pixels) {
  size_t rows = 2;  // a block, and one more level than there are powers of two
  for (size_t blocks = (pixels + pool_block - 1) / pool_block; blocks > 0; blocks /= 2) ++rows;
  return rows * channels * size_of(sums);
}

PoolSums::PoolSums(const KernelTable& table, DType sums, PoolKind kind, size_t channels, char* memory)
    : kernel_(table.pool[static_cast<size_t>(sums)]),
      move_(table.move[log2_of(size_of(sums))]),
      dtype_(sums),
      kind_(kind),
      channels_(channels),
      memory_(memory) {}

char* PoolSums::row(size_t level) const { return memory_ + (level + 1) * channels_ * size_of(dtype_); }

void PoolSums::begin_block() const {
  const bool max = kind_ == PoolKind::max;
  const auto fill = [&](auto number) {
    for_each<decltype(number)>(block(), channels_, [&](auto) {
      return max ? -std::numeric_limits<decltype(number)>::infinity() : decltype(number){0};
    });
  };
  dtype_ == DType::float64 ? fill(double{}) : fill(float{});
}

void PoolSums::take(const char* x, ptrdiff_t pixel, size_t pixels, size_t channels, char* sums) const {
  kernel_({x, pixel, pixels, channels, sums, kind_ == PoolKind::max});
}

// Channels that are not contiguous are turned, some of them at a time.
void PoolSums::accumulate(const char* x, ptrdiff_t pixel, ptrdiff_t channel, size_t pixels) const {
  constexpr size_t wide = 32;
  alignas(64) char turned[pool_block * wide * 8];
  const ptrdiff_t size = static_cast<ptrdiff_t>(size_of(dtype_)), pitch = static_cast<ptrdiff_t>(wide) * size;
  if (channel == size || channels_ == 1) return take(x, pixel, pixels, channels_, block());
  for (size_t c = 0; c < channels_; c += wide) {
    const size_t n = std::min(wide, channels_ - c);
    const ptrdiff_t first = static_cast<ptrdiff_t>(c);
    move_({x + first * channel, pixel, channel, turned, pitch, size, pixels, n});
    take(turned, pitch, pixels, n, block() + first * size);
  }
}

void PoolSums::add(const char* x, ptrdiff_t pixel, ptrdiff_t channel, size_t pixels) {
  pixels_ += pixels;
  while (pixels > 0) {
    if (in_block_ == 0) begin_block();
    const size_t n = std::min(pool_block - in_block_, pixels);
    accumulate(x, pixel, channel, n);
    x += static_cast<ptrdiff_t>(n) * pixel;
    pixels -= n;
    in_block_ = (in_block_ + n) % pool_block;
    if (in_block_ == 0) carry(block(), 0);
  }
}

void PoolSums::join(const char* sums, size_t level, size_t pixels) {
  pixels_ += pixels;
  carry(sums, level);
}

// A neighbour that waits on a level is the one before.
void PoolSums::carry(const char* sums, size_t level) {
  const size_t taken = size_t{1} << level;
  for (; blocks_ >> level & 1; sums = row(level++)) take(sums, 0, 1, channels_, row(level));
  std::memcpy(row(level), sums, channels_ * size_of(dtype_));
  blocks_ += taken;
}

char* PoolSums::join_all() {
  if (pixels_ == 0) begin_block();
  if (in_block_ > 0) carry(block(), 0);
  in_block_ = 0;
  char* sums = nullptr;
  for (size_t level = 0; blocks_ >> level; ++level) {
    if (!(blocks_ >> level & 1)) continue;
    if (sums) take(sums, 0, 1, channels_, row(level));
    sums = row(level);
  }
  return sums ? sums : block();
}

const char* PoolSums::total() {
  char* const sums = join_all();
  const auto finish = [&](auto count) {
    for_each<decltype(count)>(sums, channels_,
                              [&](auto sum) { return kind_ == PoolKind::mean ? sum / count : sum + 0; });
  };
  dtype_ == DType::float64 ? finish(static_cast<double>(pixels_)) : finish(static_cast<float>(pixels_));
  return sums;
}

}  // namespace conv1x1
