#include "weights/weights.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>

#include "call/order.h"
#include "call/problem.h"
#include "call/round.h"
#include "system/fp_environment.h"

namespace conv1x1 {

namespace {

size_t product(size_t a, size_t b) {
  if (b && a > std::numeric_limits<size_t>::max() / b) throw std::bad_alloc();
  return a * b;
}

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

// No nearer to 0 than the integer is.
double bound_of(Given from, size_t index) {
  if (from.dtype == DType::uint64) return bound(number_at<uint64_t>(from.data, index));
  if (from.dtype != DType::int64) return number(from, index);
  const int64_t value = number_at<int64_t>(from.data, index);
  return value < 0 ? -bound(0 - static_cast<uint64_t>(value)) : bound(static_cast<uint64_t>(value));
}

// Calls fn with what gives weight c of filter k in that form, both counted as the kernels do.
template <class T, class Fn>
void with_weights(Given weight, Form form, size_t channels, Fn fn) {
  if (form == Form::pairs)  // rows of re, −im and of im, re: (a + bi)(c + di) = (ac − bd) + (ad + bc)i
    fn([=](size_t k, size_t c) {
      const T part = number<T>(weight, k / 2 * channels + c / 2 * 2 + (k % 2 ^ c % 2));
      return k % 2 == 0 && c % 2 == 1 ? -part : part;
    });
  else if (form == Form::doubled)
    fn([=](size_t k, size_t c) { return number<T>(weight, (k / 2 * channels + c) * 2 + k % 2); });
  else
    fn([=](size_t k, size_t c) { return number<T>(weight, k * channels + c); });
}

// Bias of filter k, counted as the kernels do. A real one adds nothing to imaginary parts, not even to a zero's sign.
template <class T>
T bias_of(Given bias, Form form, size_t k) {
  if (form == Form::imaginary) return number<T>(bias, 2 * k + 1);
  if (form == Form::plain) return number<T>(bias, bias.is_complex ? 2 * k : k);
  return bias.is_complex ? number<T>(bias, k) : k % 2 == 0 ? number<T>(bias, k / 2) : -T{0};
}

// Fills panels of T, `depth` channels side by side; zeros where there is no such filter or channel.
template <class T, class Of>
void pack_panels(const PackedWeights& to, Of weight) {
  const size_t k_pad = round_up(to.out_channels, to.width), depth = traits(to.operand).together;
  T* panels = reinterpret_cast<T*>(to.panels.get());
  for (size_t g = 0; g < to.groups; ++g) {
    for (size_t k0 = 0; k0 < k_pad; k0 += to.width) {
      for (size_t c0 = 0; c0 < to.in_channels; c0 += depth) {
        for (size_t k = k0; k < k0 + to.width; ++k) {
          for (size_t c = c0; c < c0 + depth; ++c) {
            const bool there = k < to.out_channels && c < to.in_channels;
            *panels++ = there ? static_cast<T>(weight(g * to.out_channels + k, c)) : T{0};
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
void pack_floats(const PackedWeights& to, Form form, Given weight, Given bias) {
  with_weights<T>(weight, form, to.in_channels, [&](auto weight_at) {
    pack_panels<T>(to, weight_at);
    char* row = to.rows.get();
    for (size_t k = 0; row && k < to.groups * to.out_channels; ++k, row += to.row_bytes) {
      for (size_t c = 0; c < to.in_channels; ++c) reinterpret_cast<T*>(row)[c] = weight_at(k, c);
    }
  });
  pack_filters<T>(to, to.bias, [&](size_t k) { return bias_of<T>(bias, form, k); });
  pack_filters<T>(to, to.other, [&](size_t k) { return bias_of<T>(bias, Form::imaginary, k); });
}

template <class T>
void pack_center(const PackedWeights& to, Given center) {
  T* numbers = reinterpret_cast<T*>(to.center.get());
  const size_t channels = to.groups * to.in_channels;
  for (size_t c = 0; numbers && c < to.center_repeats * channels; ++c) numbers[c] = number<T>(center, c % channels);
}

void pack_integers(const PackedWeights& to, Given weight, Given bias, Given scale) {
  with_weights<double>(weight, Form::plain, to.in_channels, [&](auto weight_at) {
    traits(to.operand).weight == DType::int16 ? pack_panels<int16_t>(to, weight_at)
                                              : pack_panels<int8_t>(to, weight_at);
  });
  const auto biased = [&](size_t k, int64_t added) {
    const int64_t sum = (bias.data ? static_cast<int64_t>(number(bias, k)) : 0) + added;
    return static_cast<int32_t>(static_cast<uint32_t>(sum));
  };
  pack_filters<int32_t>(to, to.bias, [&](size_t k) { return biased(k, 0); });
  pack_filters<int32_t>(to, to.other, [&](size_t k) {
    int64_t sum = 0;
    for (size_t c = 0; c < to.in_channels; ++c) sum += static_cast<int64_t>(number(weight, k * to.in_channels + c));
    return biased(k, traits(to.operand).pixel == DType::uint8 ? -128 * sum : 128 * sum);
  });
  pack_filters<float>(to, to.scale, [&](size_t k) { return static_cast<float>(number(scale, k)); });
}

}  // namespace

ptrdiff_t PackedWeights::panel_bytes() const {
  const Traits& of = traits(operand);
  return static_cast<ptrdiff_t>(ceil_div(in_channels, of.together) * width * size_of(of.sums));
}

const char* PackedWeights::panel(size_t group, size_t filter) const {
  const size_t panels_per_group = ceil_div(out_channels, width);
  const size_t index = group * panels_per_group + filter / width;
  return panels.get() + static_cast<ptrdiff_t>(index) * panel_bytes() + filter % width * size_of(traits(operand).sums);
}

const char* PackedWeights::row(size_t group, size_t filter) const {
  return rows.get() + static_cast<ptrdiff_t>(group * out_channels + filter) * row_bytes;
}

const char* PackedWeights::of_filter(const Buffer& numbers, size_t group, size_t filter) const {
  const size_t index = group * round_up(out_channels, width) + filter;
  return numbers ? numbers.get() + index * size_of(traits(operand).sums) : nullptr;
}

const char* PackedWeights::bias_at(size_t group, size_t filter, bool other_one) const {
  return of_filter(other_one ? other : bias, group, filter);
}

const char* PackedWeights::scale_at(size_t group, size_t filter) const { return of_filter(scale, group, filter); }

const char* PackedWeights::center_at(size_t group, size_t channel) const {
  return center ? center.get() + (group * in_channels + channel) * size_of(traits(operand).sums) : nullptr;
}

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
    : groups(groups_),
      out_channels(out_channels_),
      in_channels(in_channels_),
      weight_(weight),
      bias_(bias),
      scale_(scale),
      center_(center) {
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
    low = std::min(low, bound_of(weight_, i));
    high = std::max(high, bound_of(weight_, i));
  }
  for (size_t k = 0; bias_.data && k < groups * out_channels; ++k)
    factors_.largest_bias = std::max(factors_.largest_bias, std::abs(bound_of(bias_, k)));
  for (size_t c = 0; center_.data && c < groups * in_channels; ++c)
    factors_.largest_center = std::max(factors_.largest_center, std::abs(bound_of(center_, c)));
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

const PackedWeights& Weights::packed(Operand operand, size_t width, Form form) const {
  size_t log2 = 0;
  while ((size_t{1} << log2) < width) ++log2;
  const bool second = form == Form::doubled || form == Form::imaginary;
  std::atomic<const PackedWeights*>& slot = packed_[static_cast<size_t>(operand) + (second ? operand_count : 0)][log2];
  if (const PackedWeights* ready = slot.load(std::memory_order_acquire)) return *ready;
  const std::lock_guard<std::mutex> lock(packing_);
  if (!slot.load(std::memory_order_relaxed))
    slot.store(pack(operand, width, form).release(), std::memory_order_release);
  return *slot.load(std::memory_order_relaxed);
}

std::unique_ptr<PackedWeights> Weights::pack(Operand operand, size_t width, Form form) const {
  const DefaultArithmetic arithmetic_mode;
  auto packed = std::make_unique<PackedWeights>();
  packed->operand = operand;
  packed->width = width;
  packed->groups = groups;
  packed->in_channels = form == Form::imaginary ? 0 : product(in_channels, form == Form::pairs ? 2 : 1);
  packed->out_channels = product(out_channels, weight_.is_complex ? 2 : 1);
  const Traits& of = traits(operand);
  const size_t size = size_of(of.sums);
  const size_t filters = product(groups, round_up(packed->out_channels, width));
  packed->panels = allocate(product(product(filters, ceil_div(packed->in_channels, of.together)), size));
  if (form == Form::imaginary ? bias_.is_complex : bias_.data != nullptr)
    packed->bias = allocate(product(filters, size));
  if (form == Form::plain && bias_.is_complex) packed->other = allocate(product(filters, size));
  if (of.sums == DType::int32) {
    if (size_of(of.pixel) == 1) packed->other = allocate(product(filters, size));
    if (scale_.data) packed->scale = allocate(product(filters, size));
    pack_integers(*packed, weight_, bias_, scale_);
    return packed;
  }
  if (plain_rows(packed->in_channels, packed->out_channels)) {
    packed->row_bytes = static_cast<ptrdiff_t>(round_up(packed->in_channels, partials) * size);
    packed->rows = allocate(product(groups * packed->out_channels, static_cast<size_t>(packed->row_bytes)));
  }
  if (center_.data) {
    constexpr size_t long_enough = 1024;
    if (groups == 1) packed->center_repeats = std::max(long_enough / std::max<size_t>(in_channels, 1), size_t{1});
    packed->center = allocate(product(product(groups * packed->center_repeats, in_channels), size));
  }
  of.sums == DType::float64 ? pack_floats<double>(*packed, form, weight_, bias_)
                            : pack_floats<float>(*packed, form, weight_, bias_);
  of.sums == DType::float64 ? pack_center<double>(*packed, center_) : pack_center<float>(*packed, center_);
  return packed;
}

}  // namespace conv1x1
