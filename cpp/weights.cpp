#include "weights.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

#include "fp_environment.h"
#include "plan.h"
#include "problem.h"

namespace conv1x1 {

void FreeAligned::operator()(char* p) const noexcept { std::free(p); }

Buffer allocate(size_t bytes) {
  if (bytes > std::numeric_limits<size_t>::max() / 2) throw std::bad_alloc();
  void* p = nullptr;
  if (posix_memalign(&p, 64, bytes ? bytes : 1) != 0) throw std::bad_alloc();
  return Buffer(static_cast<char*>(p));
}

namespace {

size_t round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

size_t product(size_t a, size_t b) {
  if (b && a > std::numeric_limits<size_t>::max() / b) throw std::bad_alloc();
  return a * b;
}

// Wherever it lies: an array may be of floats and begin at an odd address.
template <class T>
double number_at(const char* numbers, size_t index) {
  T value;
  std::memcpy(&value, numbers + index * sizeof(T), sizeof(T));
  return static_cast<double>(value);
}

double number(Given from, size_t index) {
  switch (from.dtype) {
    case DType::float32: return number_at<float>(from.data, index);
    case DType::int8: return number_at<signed char>(from.data, index);
    case DType::uint8: return number_at<unsigned char>(from.data, index);
    case DType::int16: return number_at<int16_t>(from.data, index);
    case DType::uint16: return number_at<uint16_t>(from.data, index);
    case DType::int32: return number_at<int32_t>(from.data, index);
    default: return number_at<double>(from.data, index);
  }
}

// Fills panels of T, `depth` channels side by side; zeros where there is no such filter or channel.
template <class T>
void pack_panels(const PackedWeights& to, Given weight) {
  const size_t k_pad = round_up(to.out_channels, to.width), depth = channels_together(to.operand);
  T* panels = reinterpret_cast<T*>(to.panels.get());
  for (size_t g = 0; g < to.groups; ++g) {
    for (size_t k0 = 0; k0 < k_pad; k0 += to.width) {
      for (size_t c0 = 0; c0 < to.in_channels; c0 += depth) {
        for (size_t k = k0; k < k0 + to.width; ++k) {
          for (size_t c = c0; c < c0 + depth; ++c) {
            const bool there = k < to.out_channels && c < to.in_channels;
            const size_t from = (g * to.out_channels + k) * to.in_channels + c;
            *panels++ = there ? static_cast<T>(number(weight, from)) : T{0};
          }
        }
      }
    }
  }
}

// Fills one number for each filter, of(filter), and 0 past the last.
template <class T, class Of>
void pack_filters(const PackedWeights& to, const Buffer& buffer, Of of) {
  if (!buffer) return;
  T* numbers = reinterpret_cast<T*>(buffer.get());
  for (size_t g = 0; g < to.groups; ++g) {
    for (size_t k = 0; k < round_up(to.out_channels, to.width); ++k)
      *numbers++ = k < to.out_channels ? of(g * to.out_channels + k) : T{0};
  }
}

template <class T>
void pack_floats(const PackedWeights& to, Given weight, Given bias) {
  pack_panels<T>(to, weight);
  pack_filters<T>(to, to.bias, [&](size_t k) { return static_cast<T>(number(bias, k)); });
  char* row = to.rows.get();
  for (size_t k = 0; row && k < to.groups * to.out_channels; ++k, row += to.row_bytes) {
    for (size_t c = 0; c < to.in_channels; ++c)
      reinterpret_cast<T*>(row)[c] = static_cast<T>(number(weight, k * to.in_channels + c));
  }
}

void pack_integers(const PackedWeights& to, Given weight, Given bias, Given scale) {
  to.operand == Operand::int16_pairs ? pack_panels<int16_t>(to, weight) : pack_panels<int8_t>(to, weight);
  const auto biased = [&](size_t k, int64_t added) {
    const int64_t sum = (bias.data ? static_cast<int64_t>(number(bias, k)) : 0) + added;
    return static_cast<int32_t>(static_cast<uint32_t>(sum));
  };
  pack_filters<int32_t>(to, to.bias, [&](size_t k) { return biased(k, 0); });
  pack_filters<int32_t>(to, to.raised, [&](size_t k) {
    int64_t sum = 0;
    for (size_t c = 0; c < to.in_channels; ++c) sum += static_cast<int64_t>(number(weight, k * to.in_channels + c));
    return biased(k, to.operand == Operand::int8_quads ? -128 * sum : 128 * sum);
  });
  pack_filters<float>(to, to.scale, [&](size_t k) { return static_cast<float>(number(scale, k)); });
}

}  // namespace

ptrdiff_t PackedWeights::panel_bytes() const {
  const size_t depth = channels_together(operand), steps = (in_channels + depth - 1) / depth;
  return static_cast<ptrdiff_t>(steps * width * size_of(sums_of(operand)));
}

const char* PackedWeights::panel(size_t group, size_t filter) const {
  const size_t panels_per_group = (out_channels + width - 1) / width;
  const size_t index = group * panels_per_group + filter / width;
  return panels.get() + static_cast<ptrdiff_t>(index) * panel_bytes() + filter % width * size_of(sums_of(operand));
}

const char* PackedWeights::row(size_t group, size_t filter) const {
  return rows.get() + static_cast<ptrdiff_t>(group * out_channels + filter) * row_bytes;
}

const char* PackedWeights::of_filter(const Buffer& numbers, size_t group, size_t filter) const {
  const size_t index = group * round_up(out_channels, width) + filter;
  return numbers ? numbers.get() + index * size_of(sums_of(operand)) : nullptr;
}

const char* PackedWeights::bias_at(size_t group, size_t filter, bool of_raised) const {
  return of_filter(of_raised ? raised : bias, group, filter);
}

const char* PackedWeights::scale_at(size_t group, size_t filter) const { return of_filter(scale, group, filter); }

Weights::Weights(Given weight, Given bias, Given scale, size_t groups_, size_t out_channels_, size_t in_channels_)
    : groups(groups_),
      out_channels(out_channels_),
      in_channels(in_channels_),
      weight_(weight),
      bias_(bias),
      scale_(scale) {
  factors_.in_channels = in_channels;
  factors_.quantized = scale.data != nullptr;
  factors_.integers = is_integer(weight.dtype) && (!bias.data || is_integer(bias.dtype));
  if (factors_.integers) look_at_integers();
}

Weights::~Weights() {
  for (auto& of_operand : packed_)
    for (auto& packed : of_operand) delete packed.load();
}

void Weights::look_at_integers() {
  double low = 0, high = 0;
  for (size_t i = 0; i < groups * out_channels * in_channels; ++i) {
    low = std::min(low, number(weight_, i));
    high = std::max(high, number(weight_, i));
  }
  for (size_t k = 0; bias_.data && k < groups * out_channels; ++k)
    factors_.largest_bias = std::max(factors_.largest_bias, std::abs(number(bias_, k)));
  factors_.largest = std::max(-low, high);
  narrow_ = low >= -128 && high <= 127;
  // int32 stands for integers of any kind, as a list's are: then the smallest type that holds them counts.
  const auto within = [&](double least, double most) { return least <= low && high <= most; };
  factors_.weights = weight_.dtype != DType::int32 ? weight_.dtype
                     : narrow_                     ? DType::int8
                     : within(0, 255)              ? DType::uint8
                     : within(-32768, 32767)       ? DType::int16
                     : within(0, 65535)            ? DType::uint16
                                                   : DType::int32;
}

const PackedWeights& Weights::packed(Operand operand, size_t width) const {
  size_t log2 = 0;
  while ((size_t{1} << log2) < width) ++log2;
  std::atomic<const PackedWeights*>& slot = packed_[static_cast<size_t>(operand)][log2];
  if (const PackedWeights* ready = slot.load(std::memory_order_acquire)) return *ready;
  const std::lock_guard<std::mutex> lock(packing_);
  if (!slot.load(std::memory_order_relaxed)) slot.store(pack(operand, width).release(), std::memory_order_release);
  return *slot.load(std::memory_order_relaxed);
}

std::unique_ptr<PackedWeights> Weights::pack(Operand operand, size_t width) const {
  const DefaultArithmetic arithmetic_mode;
  auto packed = std::make_unique<PackedWeights>();
  packed->operand = operand;
  packed->width = width;
  packed->groups = groups;
  packed->in_channels = in_channels;
  packed->out_channels = out_channels;
  const size_t size = size_of(sums_of(operand)), depth = channels_together(operand);
  const size_t filters = product(groups, round_up(out_channels, width));
  packed->panels = allocate(product(product(filters, round_up(in_channels, depth) / depth), size));
  if (bias_.data) packed->bias = allocate(product(filters, size));
  if (depth > 1) {
    if (is_quads(operand)) packed->raised = allocate(product(filters, size));
    if (scale_.data) packed->scale = allocate(product(filters, size));
    pack_integers(*packed, weight_, bias_, scale_);
    return packed;
  }
  if (plain_rows(in_channels, out_channels)) {
    packed->row_bytes = static_cast<ptrdiff_t>(round_up(in_channels, partials) * size);
    packed->rows = allocate(product(groups * out_channels, static_cast<size_t>(packed->row_bytes)));
  }
  operand == Operand::float64 ? pack_floats<double>(*packed, weight_, bias_)
                              : pack_floats<float>(*packed, weight_, bias_);
  return packed;
}

}  // namespace conv1x1
