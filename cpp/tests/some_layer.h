// What the tests of random convolutions share: layers made of bytes, every table of kernels, and how results are
// compared.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "call/result.h"
#include "kernels/kernel.h"
#include "made_of_bytes.h"
#include "run/epilogue.h"
#include "weights/weights.h"

namespace conv1x1 {

const char* name(DType);

// Weights, biases or scales, as a layer has them.
class Numerals {
 public:
  Numerals(Bytes& bytes, DType dtype, size_t count)
      : array_(bytes, dtype, {static_cast<ptrdiff_t>(count)}, Placed::Lies::contiguous) {}
  template <class Number>
  void fill(Number number) {
    array_.fill(number);
    array_.seal();
    array_.for_each([&](const Index& index) { values.push_back(array_.get(index)); });
  }
  Given given() const { return {array_.array().data, array_.dtype()}; }

  std::vector<double> values;  // none until it is filled

 private:
  Placed array_;
};

// Any activation there is, or none; and what comes after the sums of a quantised layer whose results are of that type:
// bounds within those of the type, less the zero point.
Epilogue some_activation(Bytes&);
Epilogue some_quantization(Bytes&, DType result);

// What the types of a call depend on besides its arrays, as the module sees it.
Factors factors_of(const Weights&, const Epilogue&);

// Of every instruction set that this machine can run; the portable kernels with one rounding and with two.
std::vector<const KernelTable*> every_table();

[[noreturn]] void print_and_abort(const uint8_t* bytes, size_t count);

// Calls fail(what) unless y's memory is as wanted, but for the bits of NaN.
template <class Fail>
void compare(Placed& y, const std::vector<char>& wanted, Fail fail) {
  if (y.is(wanted)) return;
  // Take over what was wanted where both are NaN, and look again.
  y.for_each([&](const Index& index) {
    const double one = y.get(index), other = y.get(index, wanted);
    if (!(one != one && other != other) && std::memcmp(&one, &other, sizeof(one)) != 0) {
      std::fprintf(stderr, "%.17g where %.17g is right\n", one, other);
      fail("a wrong number");
    }
    y.restore(index, wanted);
  });
  if (!y.is(wanted)) fail("a byte written between the elements");
}

}  // namespace conv1x1
