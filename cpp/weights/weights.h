// A layer's weights: as given, and packed for the kernels.
//
// Packing happens once for each kind of operand and vector width that a call asks for, at the first such
// call; after that the object only gets read. Threads may share it.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>

#include "call/problem.h"
#include "call/result.h"
#include "kernels/kernel.h"
#include "system/memory.h"

namespace conv1x1 {

struct PackedWeights {
  Operand operand;
  size_t width;                              // filters in a panel
  size_t groups, in_channels, out_channels;  // in each group
  // [groups][ceil(out_channels / width)][steps][width], where a step is a channel, or a pair or quad of them side by
  // side; zeros past the last filter and the last channel.
  Buffer panels;
  Buffer rows;  // where plain_rows says so: [groups * out_channels][in_channels, rounded up to whole partials]
  ptrdiff_t row_bytes = 0;
  Buffer bias;    // null for none; [groups][out_channels, rounded up to whole panels], in the type of the sums
  Buffer other;   // likewise; for quads: of pixels of the other type, which had 128 added or taken off; else of
                  // imaginary parts
  Buffer scale;   // of quantized sums, likewise; null for none
  Buffer center;  // null for none; [groups][in_channels], in the type of the sums; of one group again and again
  size_t center_repeats = 1;  // so often, for pixels of few channels to be taken together

  ptrdiff_t panel_bytes() const;
  const char* panel(size_t group, size_t filter) const;  // filter within its group, at its place in its panel
  const char* row(size_t group, size_t filter) const;
  const char* bias_at(size_t group, size_t filter, bool other_one = false) const;  // null for none
  const char* scale_at(size_t group, size_t filter) const;                         // null for none
  const char* center_at(size_t group, size_t channel) const;                       // null for none

 private:
  const char* of_filter(const Buffer&, size_t group, size_t filter) const;
};

// A layer's numbers as given: contiguous and borrowed.
struct Given {
  const char* data = nullptr;
  DType dtype = DType::float32;
  bool is_complex = false;  // two numbers of this type each
};

class Weights {
 public:
  // weight: (groups * out_channels, in_channels); bias, scale: (groups * out_channels) or null; center: (groups *
  // in_channels) or null; at any address. They stay, unchanged, as long as this object. `scale` (float32) makes a
  // quantized layer. Weight and bias may be complex, unless there is a centre.
  Weights(Given weight, Given bias, Given scale, size_t groups, size_t out_channels, size_t in_channels,
          Given center = {});
  ~Weights();
  Weights(const Weights&) = delete;
  Weights& operator=(const Weights&) = delete;

  // Whether numbers of this type are read.
  static bool reads(DType);

  // `form`: plain or imaginary of real weights, pairs or doubled of complex ones; for sums of floats.
  const PackedWeights& packed(Operand, size_t width, Form form = Form::plain) const;

  const size_t groups, out_channels, in_channels;  // channels in each group
  const Factors& factors() const { return factors_; }
  bool narrow() const { return narrow_; }  // each weight fits int8
  bool has_bias() const { return bias_.data != nullptr; }
  bool is_complex() const { return weight_.is_complex; }
  bool has_complex_bias() const { return bias_.is_complex; }

 private:
  std::unique_ptr<PackedWeights> pack(Operand, size_t width, Form) const;
  void look_at_integers();

  Given weight_, bias_, scale_, center_;
  Factors factors_;
  bool narrow_ = false;
  static constexpr size_t widths = 5;  // 1, 2, 4, 8, 16
  mutable std::mutex packing_;
  // The second form of real or complex weights comes after the operands, for sums of floats alone.
  mutable std::atomic<const PackedWeights*> packed_[operand_count + float_count][widths] = {};
};

}  // namespace conv1x1
