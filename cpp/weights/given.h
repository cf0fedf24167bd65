// A layer's numbers as given, of any type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/kernel.h"

namespace conv1x1 {

// A layer's numbers as given: contiguous and borrowed.
struct Given {
  const char* data = nullptr;
  DType dtype = DType::float32;
  bool is_complex = false;  // two numbers of this type each
};

// Of one layer, all contiguous: weight (groups * out_channels, in_channels), bias and scale (groups * out_channels),
// centre (groups * in_channels); each but the weight may be missing. Channels and filters are those of one group.
struct GivenLayer {
  Given weight, bias, scale, center;
  size_t groups = 1, out_channels = 0, in_channels = 0;
};

// Wherever it lies: an array may be of floats and begin at an odd address.
template <class T>
T number_at(const char* numbers, size_t index) {
  T value;
  std::memcpy(&value, numbers + index * sizeof(T), sizeof(T));
  return value;
}

template <class T = double>
T number(Given from, size_t index) {
  switch (from.dtype) {
    case DType::float32: return static_cast<T>(number_at<float>(from.data, index));
    case DType::boolean: return static_cast<T>(number_at<unsigned char>(from.data, index) != 0);
    case DType::int8: return static_cast<T>(number_at<signed char>(from.data, index));
    case DType::uint8: return static_cast<T>(number_at<unsigned char>(from.data, index));
    case DType::int16: return static_cast<T>(number_at<int16_t>(from.data, index));
    case DType::uint16: return static_cast<T>(number_at<uint16_t>(from.data, index));
    case DType::int32: return static_cast<T>(number_at<int32_t>(from.data, index));
    case DType::int64: return static_cast<T>(number_at<int64_t>(from.data, index));
    case DType::uint64: return static_cast<T>(number_at<uint64_t>(from.data, index));
    case DType::float64: return static_cast<T>(number_at<double>(from.data, index));
    default: return 0;  // Weights::reads refuses it
  }
}

}  // namespace conv1x1
