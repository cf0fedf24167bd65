// A layer's weights: as given, and packed for the kernels.
//
// Packing happens once for each type of arithmetic and vector width that a call asks for, at the first such
// call; after that the object only gets read. Threads may share it.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>

#include "kernel.h"

namespace conv1x1 {

// Memory for vectors: 64-byte aligned, uninitialised; throws std::bad_alloc.
struct FreeAligned {
  void operator()(char* p) const noexcept;
};
using Buffer = std::unique_ptr<char[], FreeAligned>;
Buffer allocate(size_t bytes);

struct PackedWeights {
  DType dtype;
  size_t width;                              // filters in a panel
  size_t groups, in_channels, out_channels;  // in each group
  Buffer panels;  // [groups][ceil(out_channels / width)][in_channels][width], zeros past the last filter
  Buffer rows;    // where plain_rows says so: [groups * out_channels][in_channels, rounded up to whole partials]
  ptrdiff_t row_bytes = 0;
  Buffer bias;  // null for none; [groups][out_channels, rounded up to whole panels]

  ptrdiff_t panel_bytes() const;
  const char* panel(size_t group, size_t filter) const;  // filter within its group, at its place in its panel
  const char* row(size_t group, size_t filter) const;
  const char* bias_at(size_t group, size_t filter) const;  // null for none
};

class Weights {
 public:
  // weight: (groups * out_channels, in_channels), bias: (groups * out_channels) or null; both contiguous and
  // borrowed: they must stay, unchanged, as long as this object.
  Weights(const char* weight, DType dtype, const char* bias, DType bias_dtype, size_t groups, size_t out_channels,
          size_t in_channels);
  ~Weights();
  Weights(const Weights&) = delete;
  Weights& operator=(const Weights&) = delete;

  const PackedWeights& packed(DType arithmetic, size_t width) const;

  const size_t groups, out_channels, in_channels;  // channels in each group

 private:
  std::unique_ptr<PackedWeights> pack(DType arithmetic, size_t width) const;

  DType dtype_, bias_dtype_;
  const char *weight_, *bias_;
  static constexpr size_t widths = 5;  // 1, 2, 4, 8, 16
  mutable std::mutex packing_;
  mutable std::atomic<const PackedWeights*> packed_[dtype_count][widths] = {};
};

}  // namespace conv1x1
