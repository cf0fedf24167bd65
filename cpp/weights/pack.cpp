#include "weights/pack.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <new>

#include "call/order.h"
#include "call/round.h"
#include "call/types.h"
#include "system/fp_environment.h"

namespace conv1x1 {

namespace {

size_t product(size_t a, size_t b) {
  if (b && a > std::numeric_limits<size_t>::max() / b) throw std::bad_alloc();
  return a * b;
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

std::unique_ptr<PackedWeights> pack(const GivenLayer& given, Operand operand, size_t width, Form form) {
  const DefaultArithmetic arithmetic_mode;
  auto packed = std::make_unique<PackedWeights>();
  packed->operand = operand;
  packed->width = width;
  packed->groups = given.groups;
  packed->in_channels = form == Form::imaginary ? 0 : product(given.in_channels, form == Form::pairs ? 2 : 1);
  packed->out_channels = product(given.out_channels, given.weight.is_complex ? 2 : 1);
  const Traits& of = traits(operand);
  const size_t size = size_of(of.sums);
  const size_t filters = product(given.groups, round_up(packed->out_channels, width));
  packed->panels = allocate(product(product(filters, ceil_div(packed->in_channels, of.together)), size));
  if (form == Form::imaginary ? given.bias.is_complex : given.bias.data != nullptr)
    packed->bias = allocate(product(filters, size));
  if (form == Form::plain && given.bias.is_complex) packed->other = allocate(product(filters, size));
  if (of.sums == DType::int32) {
    if (size_of(of.pixel) == 1) packed->other = allocate(product(filters, size));
    if (given.scale.data) packed->scale = allocate(product(filters, size));
    pack_integers(*packed, given.weight, given.bias, given.scale);
    return packed;
  }
  if (plain_rows(packed->in_channels, packed->out_channels)) {
    packed->row_bytes = static_cast<ptrdiff_t>(round_up(packed->in_channels, partials) * size);
    packed->rows = allocate(product(given.groups * packed->out_channels, static_cast<size_t>(packed->row_bytes)));
  }
  if (given.center.data) {
    constexpr size_t long_enough = 1024;
    if (given.groups == 1)
      packed->center_repeats = std::max(long_enough / std::max<size_t>(given.in_channels, 1), size_t{1});
    packed->center = allocate(product(product(given.groups * packed->center_repeats, given.in_channels), size));
  }
  of.sums == DType::float64 ? pack_floats<double>(*packed, form, given.weight, given.bias)
                            : pack_floats<float>(*packed, form, given.weight, given.bias);
  of.sums == DType::float64 ? pack_center<double>(*packed, given.center) : pack_center<float>(*packed, given.center);
  return packed;
}

}  // namespace conv1x1
