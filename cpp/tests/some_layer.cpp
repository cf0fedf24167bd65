#include "some_layer.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "system/cpu.h"

namespace conv1x1 {

const char* name(DType dtype) {
  constexpr const char* names[dtype_count] = {"float32", "float64", "int32",   "float16", "bfloat16", "uint8", "int8",
                                              "uint16",  "int16",   "boolean", "int64",   "uint32",   "uint64"};
  return names[static_cast<size_t>(dtype)];
}

Epilogue some_activation(Bytes& bytes) {
  constexpr Activation activations[] = {Activation::clamp,       Activation::leaky_relu, Activation::hardswish,
                                        Activation::hardsigmoid, Activation::sigmoid,    Activation::silu,
                                        Activation::tanh,        Activation::gelu};
  constexpr double infinity = std::numeric_limits<double>::infinity();
  constexpr double lows[] = {0, -1, -0.5, -infinity}, highs[] = {6, 2.5, 1000, infinity}, slopes[] = {0.125, -2};
  Epilogue e{bytes.one_in(2) ? Activation::none : bytes.one_of(activations), 0, 0, 0};
  if (e.activation == Activation::clamp) {
    e.a = bytes.one_of(lows);
    e.b = bytes.one_of(highs);
  } else if (e.activation == Activation::leaky_relu) {
    e.a = bytes.one_of(slopes);
  }
  return e;
}

Epilogue some_quantization(Bytes& bytes, DType result) {
  const double low = result == DType::int8 ? -128 : 0;
  constexpr double widths[] = {0, 20.25, 127.5, 255};
  Epilogue e{Activation::none, 0, 0, static_cast<int>(low) + static_cast<int>(bytes.below(256))};
  e.a = low - e.zero_point + (bytes.one_in(4) ? bytes.one_of(widths) : 0);
  e.b = std::min(e.a + widths[bytes.one_in(4) ? bytes.below(4) : 3], low + 255 - e.zero_point);
  return e;
}

Factors factors_of(const Weights& weights, const Epilogue& e) {
  const auto whole = [](double v) { return std::isinf(v) || v == std::floor(v); };
  const bool none = e.activation == Activation::none, clamp = e.activation == Activation::clamp;
  Factors factors = weights.factors();
  factors.keeps_integers = none || clamp;
  factors.clamps_beyond_int32 = clamp && (e.a > 2147483647 || e.b < -2147483648);
  factors.clamps_to_integers = none || (clamp && whole(e.a) && whole(e.b) && e.a <= 2147483647 && e.b >= -2147483648);
  return factors;
}

std::vector<const KernelTable*> every_table() {
  std::vector<const KernelTable*> tables;
  for (bool fused : {false, true}) {
    Cpu cpu;
    cpu.fma = fused;
    tables.push_back(kernels(Isa::portable, cpu));
  }
  for (size_t i = 1; i < isa_count; ++i)
    if (cpu().supports[i]) tables.push_back(kernels(static_cast<Isa>(i), cpu()));
  return tables;
}

void print_and_abort(const uint8_t* bytes, size_t count) {
  std::fprintf(stderr, "bytes:");
  for (size_t i = 0; i < count; ++i) std::fprintf(stderr, " %02x", bytes[i]);
  std::fprintf(stderr, "\n");
  std::abort();
}

}  // namespace conv1x1
