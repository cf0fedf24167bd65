// Pooling: the sum, the mean or the largest of each channel over pixels that come one after another.
//
// The order of the sums is part of the definition and depends on the number of pixels alone: blocks of `pool_block` of
// them, each a chain from 0, joined as a tree of neighbours, where the last of an odd number waits for the next round.
// The tree is built as blocks come, like a binary counter, so that it takes a row of sums for each power of two of
// them.
#pragma once

#include <cstddef>

#include "kernels/kernel.h"

namespace conv1x1 {

enum class PoolKind : unsigned char { sum, mean, max };

constexpr size_t pool_block = 64;

class PoolSums {
 public:
  // What `memory`, aligned as numbers are, takes for so many pixels of that many channels.
  static size_t bytes(DType sums, size_t channels, size_t pixels);

  PoolSums(const KernelTable&, DType sums, PoolKind, size_t channels, char* memory);

  // The next pixels, numbers of the type of the sums: channels contiguous, or pixels.
  void add(const char* x, ptrdiff_t pixel, ptrdiff_t channel, size_t pixels);

  // The next 2^level blocks, whole or the last ones, as another object has joined those alone: what a unit of work
  // comes to that begins at a multiple of so many. Only where no block is half done.
  void join(const char* sums, size_t level, size_t pixels);

  // All blocks that came, joined: a sum for each channel; of no pixels 0, or −∞. Nothing can come afterwards.
  const char* joined() { return join_all(); }

  // The result: that, of a mean divided by the number of pixels, and without −0.
  const char* total();

 private:
  char* block() const { return memory_; }
  char* row(size_t level) const;
  void take(const char* x, ptrdiff_t pixel, size_t pixels, size_t channels, char* sums) const;
  void accumulate(const char* x, ptrdiff_t pixel, ptrdiff_t channel, size_t pixels) const;
  void begin_block() const;
  void carry(const char* sums, size_t level);
  char* join_all();

  const PoolFn kernel_;
  const MoveFn move_;
  const DType dtype_;
  const PoolKind kind_;
  const size_t channels_;
  char* const memory_;
  size_t pixels_ = 0;    // that came
  size_t in_block_ = 0;  // of them in the last block, where that is not whole
  size_t blocks_ = 0;    // whole ones: its bits say which rows hold sums
};

}  // namespace conv1x1
