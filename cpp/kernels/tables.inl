// The entries of a KernelTable that are made of templates alone, the same for every instruction set.
#pragma once

#include "activate.inl"
#include "convert.inl"
#include "few_channels.inl"
#include "few_filters.inl"
#include "measure.inl"
#include "move.inl"
#include "multiply.inl"
#include "steps.inl"

namespace conv1x1 {
namespace {

constexpr size_t index(DType type) { return static_cast<size_t>(type); }
constexpr size_t index(Operand operand) { return static_cast<size_t>(operand); }

template <class S, class D>
constexpr void offer(KernelTable& t, DType from, DType to) {
  t.convert[index(from)][index(to)] = convert<S, D>;
}

// Between sums of type T and the type of an array.
template <class T>
constexpr void offer_floats(KernelTable& t, DType sums) {
  offer<Half, T>(t, DType::float16, sums), offer<T, Half>(t, sums, DType::float16);
  offer<BFloat, T>(t, DType::bfloat16, sums), offer<T, BFloat>(t, sums, DType::bfloat16);
  offer<uint8_t, T>(t, DType::uint8, sums), offer<T, uint8_t>(t, sums, DType::uint8);
  offer<int8_t, T>(t, DType::int8, sums), offer<T, int8_t>(t, sums, DType::int8);
  offer<uint16_t, T>(t, DType::uint16, sums), offer<T, uint16_t>(t, sums, DType::uint16);
  offer<int16_t, T>(t, DType::int16, sums), offer<T, int16_t>(t, sums, DType::int16);
  offer<int32_t, T>(t, DType::int32, sums), offer<T, int32_t>(t, sums, DType::int32);
  offer<int64_t, T>(t, DType::int64, sums), offer<T, int64_t>(t, sums, DType::int64);
  offer<Boolean, T>(t, DType::boolean, sums);
  offer<uint32_t, T>(t, DType::uint32, sums), offer<uint64_t, T>(t, DType::uint64, sums);
}

template <class T>
constexpr void offer_rows(KernelTable& t, size_t log2) {
  t.split[0][log2] = split<T, 2>, t.split[1][log2] = split<T, 3>, t.split[2][log2] = split<T, 4>;
  t.join[0][log2] = join<T, 2>, t.join[1][log2] = join<T, 3>, t.join[2][log2] = join<T, 4>;
}

// Moves and conversions.
constexpr void offer_moves(KernelTable& t) {
  t.move[0] = move<uint8_t>, t.move[1] = move<uint16_t>, t.move[2] = move<uint32_t>, t.move[3] = move<uint64_t>;
  offer_rows<uint8_t>(t, 0), offer_rows<uint16_t>(t, 1), offer_rows<uint32_t>(t, 2), offer_rows<uint64_t>(t, 3);
  offer<float, double>(t, DType::float32, DType::float64), offer<double, float>(t, DType::float64, DType::float32);
  offer_floats<float>(t, DType::float32), offer_floats<double>(t, DType::float64);
  offer<int32_t, uint8_t>(t, DType::int32, DType::uint8), offer<int32_t, int8_t>(t, DType::int32, DType::int8);
  offer<int32_t, uint16_t>(t, DType::int32, DType::uint16), offer<int32_t, int16_t>(t, DType::int32, DType::int16);
  offer<int32_t, int64_t>(t, DType::int32, DType::int64);
  offer<uint8_t, int16_t>(t, DType::uint8, DType::int16), offer<int8_t, int16_t>(t, DType::int8, DType::int16);
  offer<Boolean, int16_t>(t, DType::boolean, DType::int16), offer<Boolean, uint8_t>(t, DType::boolean, DType::uint8);
  t.convert[index(DType::int64)][index(DType::float32)] = narrow_to_floats<int64_t>;
  t.convert[index(DType::uint64)][index(DType::float32)] = narrow_to_floats<uint64_t>;
  t.raise_int8 = raise_int8;
  t.largest[index(DType::int64)] = largest<int64_t>, t.largest[index(DType::uint64)] = largest<uint64_t>;
  t.largest[index(DType::uint32)] = largest<uint32_t>;
  t.largest[index(DType::float64)] = largest<double>;
  t.add[0] = add<float>, t.add[1] = add<double>;
  t.pool[0] = pool<float>, t.pool[1] = pool<double>;
  t.center[index(DType::float32)][0] = center<float, float>,
  t.center[index(DType::float64)][1] = center<double, double>;
  t.center[index(DType::uint8)][0] = center<uint8_t, float>, t.center[index(DType::int8)][0] = center<int8_t, float>;
  t.center[index(DType::uint16)][0] = center<uint16_t, float>,
  t.center[index(DType::int16)][0] = center<int16_t, float>;
}

// The steps of chains, for sums of a vector type's numbers.
template <class V>
constexpr void offer_steps(KernelTable& t, DType sums) {
  t.softmax[index(sums)] = softmax<V>;
  t.layer_norm[index(sums)] = layer_norm<V>;
  t.arg_max[index(sums)] = arg_max<V>;
}

// The kernels of float sums, with vector types F and D.
template <class F, class D, bool Fused>
constexpr void offer_vectors(KernelTable& t) {
  t.fused = Fused;
  t.activate[0] = activate_bytes<float>, t.activate[1] = activate_bytes<double>;
  t.few_filters[0] = few_filters<F>, t.few_filters[1] = few_filters<D>;
  t.few_filters_lanes[0] = few_filters_lanes<F>, t.few_filters_lanes[1] = few_filters_lanes<D>;
  t.few_channels[0] = few_channels<float, Fused>, t.few_channels[1] = few_channels<double, Fused>;
  t.multiply_adds[0] = multiply_adds<F>, t.multiply_adds[1] = multiply_adds<D>;
  t.multiply_adds_flop[0] = multiply_adds_flop<F>, t.multiply_adds_flop[1] = multiply_adds_flop<D>;
  t.read_through = read_through<F>;
}

}  // namespace
}  // namespace conv1x1
