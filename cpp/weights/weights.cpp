#include "weights/weights.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace conv1x1 {

namespace {

// No nearer to 0 than the integer is.
double bound_of(Given from, size_t index) {
  if (from.dtype == DType::uint64) return bound(number_at<uint64_t>(from.data, index));
  if (from.dtype != DType::int64) return number(from, index);
  const int64_t value = number_at<int64_t>(from.data, index);
  return value < 0 ? -bound(0 - static_cast<uint64_t>(value)) : bound(static_cast<uint64_t>(value));
}

}  // namespace

bool Weights::reads(DType dtype) {
  switch (dtype) {
    case DType::float32:
    case DType::float64:
    case DType::int8:
    case DType::uint8:
    case DType::int16:
    case DType::uint16:
    case DType::int32:
    case DType::boolean:
    case DType::int64:
    case DType::uint64: return true;
    default: return false;
  }
}

Weights::Weights(Given weight, Given bias, Given scale, size_t groups_, size_t out_channels_, size_t in_channels_,
                 Given center)
    : groups(groups_), out_channels(out_channels_), in_channels(in_channels_), given_{weight,      bias,
                                                                                      scale,       center,
                                                                                      groups_,     out_channels_,
                                                                                      in_channels_} {
  factors_.in_channels = in_channels;
  factors_.quantized = scale.data != nullptr;
  factors_.centered = center.data != nullptr;
  factors_.integers =
      is_integer(weight.dtype) && (!bias.data || is_integer(bias.dtype)) && (!center.data || is_integer(center.dtype));
  if (factors_.integers) look_at_integers();
}

Weights::~Weights() {
  for (auto& of_operand : packed_)
    for (auto& packed : of_operand) delete packed.load();
}

void Weights::look_at_integers() {
  double low = 0, high = 0;
  for (size_t i = 0; i < groups * out_channels * in_channels; ++i) {
    low = std::min(low, bound_of(given_.weight, i));
    high = std::max(high, bound_of(given_.weight, i));
  }
  for (size_t k = 0; given_.bias.data && k < groups * out_channels; ++k)
    factors_.largest_bias = std::max(factors_.largest_bias, std::abs(bound_of(given_.bias, k)));
  for (size_t c = 0; given_.center.data && c < groups * in_channels; ++c)
    factors_.largest_center = std::max(factors_.largest_center, std::abs(bound_of(given_.center, c)));
  factors_.largest = std::max(-low, high);
  narrow_ = low >= -128 && high <= 127;
  // int32 stands for integers of any kind, as a list's are: then the smallest type that holds them counts.
  const auto within = [&](double least, double most) { return least <= low && high <= most; };
  factors_.weights = given_.weight.dtype != DType::int32 ? given_.weight.dtype
                     : narrow_                           ? DType::int8
                     : within(0, 255)                    ? DType::uint8
                     : within(-32768, 32767)             ? DType::int16
                     : within(0, 65535)                  ? DType::uint16
                                                         : DType::int32;
}

const PackedWeights& Weights::packed(Operand operand, size_t width, Form form) const {
  size_t log2 = 0;
  while ((size_t{1} << log2) < width) ++log2;
  const bool second = form == Form::doubled || form == Form::imaginary;
  std::atomic<const PackedWeights*>& slot = packed_[static_cast<size_t>(operand) + (second ? operand_count : 0)][log2];
  if (const PackedWeights* ready = slot.load(std::memory_order_acquire)) return *ready;
  const std::lock_guard<std::mutex> lock(packing_);
  if (!slot.load(std::memory_order_relaxed))
    slot.store(pack(given_, operand, width, form).release(), std::memory_order_release);
  return *slot.load(std::memory_order_relaxed);
}

}  // namespace conv1x1
