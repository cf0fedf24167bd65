// Elements on their way between an array and a tile: moved, converted, and their bytes put into this machine's order.
#pragma once

#include "kernels/kernel.h"

namespace conv1x1 {

// The elements of one end of a transfer.
struct Elements {
  size_t size;           // bytes
  bool swapped = false;  // in the other byte order
};

// Rows on pages of their own are strangers to the hardware: those that are converted are asked for so many before their
// turn.
constexpr size_t rows_ahead = 4;
inline bool is_far(ptrdiff_t row) { return row >= 4096 || row <= -4096; }
inline void ask_for(const char* row, size_t bytes) {
  for (size_t byte = 0; byte < bytes; byte += 64) __builtin_prefetch(row + byte);
}

// dst(i, j) = src(i, j), converted (`convert` null: as it is). Nothing is as large as an array on the way.
void transfer(const KernelTable&, const Move&, Elements from, Elements to, ConvertFn convert) noexcept;

// Both parts of complex numbers: the second ones lie so many bytes after the first, for which `move` is written.
void transfer_pairs(const KernelTable&, const Move& move, ptrdiff_t src_part, ptrdiff_t dst_part, Elements from,
                    Elements to, ConvertFn convert) noexcept;

// The same with three axes, each with its length and steps.
struct MoveAxis {
  size_t n;
  ptrdiff_t src, dst;
};
void transfer(const KernelTable&, const char* src, char* dst, const MoveAxis (&)[3], Elements from, Elements to,
              ConvertFn convert) noexcept;

// dst(i, j) += src(i, j), where dst holds numbers of the type of the sums, of `size` bytes.
void accumulate(const KernelTable&, const Move&, Elements from, size_t size, ConvertFn convert, ConvertFn add) noexcept;

}  // namespace conv1x1
