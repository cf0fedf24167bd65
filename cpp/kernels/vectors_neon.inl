// Vectors of AArch64, for multiply.inl and few_filters.inl: all but the multiplication. There are no masked loads and
// stores: parts of vectors go one number at a time.
#pragma once

#include <arm_neon.h>

#include "anywhere.inl"

namespace conv1x1 {
namespace {

template <class Vector, class T>
struct Lanes {
  using Scalar = T;
  using Reg = Vector;
  static constexpr size_t width = 16 / sizeof(T);
  static constexpr int registers = 32;
  static constexpr bool all_lanes = false;
  struct Mask {
    size_t on;             // lanes, at least one
    size_t number[width];  // that goes into each: those that are off repeat the last that is on
  };
  static Mask mask(size_t n) {
    Mask m{n, {}};
#pragma GCC unroll 4
    for (size_t i = 0; i < width; ++i) m.number[i] = i < n ? i : n - 1;
    return m;
  }
  static Reg zero() { return Reg{}; }
  static Reg broadcast(const char* p) { return at<T>(p)->value - Reg{}; }  // − 0 keeps −0
  static Reg load(const char* p) {
    Reg r;
    __builtin_memcpy(&r, p, sizeof(r));
    return r;
  }
  static Reg load(const char* p, const Mask& m) {
    Reg r{};
#pragma GCC unroll 4
    for (size_t i = 0; i < width; ++i) r[i] = at<T>(p)[m.number[i]].value;
    return r;
  }
  static void store(char* p, Reg r) { __builtin_memcpy(p, &r, sizeof(r)); }
  static void store(char* p, Reg r, const Mask& m) {
#pragma GCC unroll 4
    for (size_t i = 0; i < width; ++i)
      if (i < m.on) at<T>(p)[i].value = r[i];
  }
  static Reg max(Reg lo, Reg r) { return lo > r ? lo : r; }
  static Reg min(Reg hi, Reg r) { return hi < r ? hi : r; }
};

using FloatLanes = Lanes<float32x4_t, float>;

// Sums of products of integers, of which the first is the same in every lane: its bits.
struct S32x4 : Lanes<int32x4_t, int32_t> {
  using Float = float32x4_t;
  static int32x2_t first(Reg r) { return vcreate_s32(static_cast<uint32_t>(vgetq_lane_s32(r, 0))); }
  static Reg add(Reg a, Reg b) { return vaddq_s32(a, b); }
  static Float floats(const char* p) { return FloatLanes::load(p); }
  static Float float_broadcast(const char* p) { return FloatLanes::broadcast(p); }
  static Reg scaled(Reg r, Float scale) { return vreinterpretq_s32_f32(vmulq_f32(vcvtq_f32_s32(r), scale)); }
  static Reg quantized(Reg scaled, Float lo, Float hi, Reg zero_point) {
    const Float inside = FloatLanes::min(hi, FloatLanes::max(lo, vreinterpretq_f32_s32(scaled)));
    return vaddq_s32(vcvtnq_s32_f32(inside), zero_point);
  }
  static int32_t bytes(Reg r) {
    const int16x4_t halves = vmovn_s32(r);
    return vget_lane_s32(vreinterpret_s32_s8(vmovn_s16(vcombine_s16(halves, halves))), 0);
  }
  static void store_bytes(char* p, Reg r) { at<int32_t>(p)->value = bytes(r); }
  static void store_bytes(char* p, Reg r, const Mask& m) {
#pragma GCC unroll 4
    for (size_t i = 0; i < width; ++i)
      if (i < m.on) p[i] = static_cast<char>(r[i]);
  }
};

}  // namespace
}  // namespace conv1x1
