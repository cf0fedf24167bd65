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
#include "weights/pack.h"

namespace conv1x1 {

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
  size_t channels() const { return groups * in_channels; }
  const Factors& factors() const { return factors_; }
  bool narrow() const { return narrow_; }  // each weight fits int8
  bool has_bias() const { return given_.bias.data != nullptr; }
  bool is_complex() const { return given_.weight.is_complex; }
  bool has_complex_bias() const { return given_.bias.is_complex; }

 private:
  void look_at_integers();

  const GivenLayer given_;
  Factors factors_;
  bool narrow_ = false;
  static constexpr size_t widths = 5;  // 1, 2, 4, 8, 16
  mutable std::mutex packing_;
  // The second form of real or complex weights comes after the operands, for sums of floats alone.
  mutable std::atomic<const PackedWeights*> packed_[operand_count + float_count][widths] = {};
};

}  // namespace conv1x1
