#include "every_step.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/activate.inl"
#include "made_of_bytes.h"
#include "run/pool.h"
#include "system/cpu.h"

namespace conv1x1 {
namespace {

enum class Step : unsigned char { softmax, layer_norm, arg_max, pool };

// What becomes of each pixel, one number at a time, in the order that kernels keep to.
template <class T>
struct Written {
  const std::vector<T>&weight, &bias;  // none: empty
  double eps;
  bool fused;

  T multiply_add(T a, T b, T c) const { return fused ? std::fma(a, b, c) : a * b + c; }

  static T joined(T (&sums)[partials]) {
    for (size_t half = partials / 2; half > 0; half /= 2)
      for (size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
    return sums[0];
  }

  void softmax(std::vector<T>& channels) const {
    T most = -std::numeric_limits<T>::infinity(), sums[partials] = {};
    for (const T x : channels) most = std::isnan(x) || x > most ? x : most;
    for (size_t c = 0; c < channels.size(); ++c) {
      const T off = channels[c] - most;
      const auto e = exponential(off < -Real<T>::exp_end ? -Real<T>::exp_end : off, T(-0.0), Real<T>::lift);
      sums[c % partials] += channels[c] = (1 + e.fraction) * e.power * Real<T>::lowered;
    }
    const T sum = joined(sums);
    for (T& y : channels) y /= sum;
  }

  void layer_norm(std::vector<T>& channels) const {
    T sums[partials] = {}, squares[partials] = {};
    const T count = static_cast<T>(channels.size());
    for (size_t c = 0; c < channels.size(); ++c) sums[c % partials] += channels[c];
    const T mean = joined(sums) / count;
    for (size_t c = 0; c < channels.size(); ++c) {
      channels[c] -= mean;
      squares[c % partials] = multiply_add(channels[c], channels[c], squares[c % partials]);
    }
    const T scale = 1 / std::sqrt(joined(squares) / count + static_cast<T>(eps));
    for (size_t c = 0; c < channels.size(); ++c) {
      T& y = channels[c] *= scale;
      if (!weight.empty() && !bias.empty())
        y = multiply_add(y, weight[c], bias[c]);
      else if (!weight.empty())
        y *= weight[c];
      else if (!bias.empty())
        y += bias[c];
    }
  }

  static size_t arg_max(const std::vector<T>& channels) {
    size_t found = 0;
    for (size_t c = 1; c < channels.size() && !std::isnan(channels[found]); ++c)
      if (std::isnan(channels[c]) || channels[c] > channels[found]) found = c;
    return found;
  }

  // Of one channel. The tree joins neighbours, again and again.
  static T pooled(const std::vector<T>& pixels, PoolKind kind) {
    std::vector<T> blocks;
    const auto join = [&](T a, T b) { return kind != PoolKind::max ? a + b : std::isnan(a) || a > b ? a : b; };
    for (size_t p = 0; p < pixels.size(); ++p) {
      if (p % pool_block == 0) blocks.push_back(kind == PoolKind::max ? -std::numeric_limits<T>::infinity() : 0);
      blocks.back() = join(blocks.back(), pixels[p]);
    }
    while (blocks.size() > 1) {
      std::vector<T> next;
      for (size_t i = 0; i < blocks.size(); i += 2)
        next.push_back(i + 1 < blocks.size() ? join(blocks[i], blocks[i + 1]) : blocks[i]);
      blocks = next;
    }
    return kind == PoolKind::mean ? blocks[0] / static_cast<T>(pixels.size()) : blocks[0] + 0;
  }
};

std::vector<const KernelTable*> all_tables() {
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

// (pixels, channels), or the other way round, of which the last few of each row may be left out.
struct Matrix {
  Matrix(Bytes& bytes, DType dtype, size_t rows, size_t length, size_t gap)
      : placed(bytes, dtype, {static_cast<ptrdiff_t>(rows), static_cast<ptrdiff_t>(length + gap)},
               Placed::Lies::contiguous) {}
  Placed placed;
};

template <class T>
void check_step(Bytes& bytes, const uint8_t* data, size_t count) {
  const DType dtype = sizeof(T) == 4 ? DType::float32 : DType::float64;
  const size_t type = static_cast<size_t>(dtype);
  const Step step = static_cast<Step>(bytes.below(4));
  const size_t channels = 1 + bytes.below(bytes.one_in(4) ? 200 : 40);
  const size_t pixels = 1 + bytes.below(step == Step::pool && bytes.one_in(2) ? 1000 : 40);
  const bool along_channels = bytes.one_in(2), in_place = bytes.one_in(3);
  const size_t gap = bytes.one_in(4) ? bytes.below(8) : 0;
  const PoolKind kind = static_cast<PoolKind>(bytes.below(3));
  const size_t rows = along_channels ? pixels : channels, length = along_channels ? channels : pixels;
  Numbers numbers(bytes);
  const auto some = [&](bool there) {
    std::vector<T> all(there ? channels : 0);
    for (T& one : all) one = static_cast<T>(numbers.next(dtype));
    return all;
  };
  const std::vector<T> weight = some(bytes.one_in(2)), bias = some(bytes.one_in(2));
  const double eps = bytes.one_in(2) ? 1e-5 : 0.25;

  Matrix x(bytes, dtype, rows, length, gap), y(bytes, dtype, rows, length, gap);
  x.placed.fill([&] { return numbers.next(dtype); });
  const std::vector<char> before = x.placed.image();
  const Index none = {0, 0};
  const auto place = [&](size_t p, size_t c) {
    return Index{static_cast<ptrdiff_t>(along_channels ? p : c), static_cast<ptrdiff_t>(along_channels ? c : p)};
  };
  const auto at = [&](size_t p, size_t c) { return static_cast<T>(x.placed.get(place(p, c), before)); };
  const ptrdiff_t size = sizeof(T), row = static_cast<ptrdiff_t>(length + gap) * size;

  for (const KernelTable* table : all_tables()) {
    const auto fail = [&](const char* what, double found, double wanted) {
      std::fprintf(stderr, "%s: step %d, isa %s (fused %d), float%d, %zu pixels of %zu channels, along %s, gap %zu; ",
                   what, static_cast<int>(step), isa_name(table->isa), table->fused, static_cast<int>(sizeof(T)) * 8,
                   pixels, channels, along_channels ? "channels" : "pixels", gap);
      std::fprintf(stderr, "%.17g where %.17g is right\nbytes:", found, wanted);
      for (size_t i = 0; i < count; ++i) std::fprintf(stderr, " %02x", data[i]);
      std::fprintf(stderr, "\n");
      std::abort();
    };
    const auto compare = [&](T found, T wanted) {
      const bool same = (std::isnan(found) && std::isnan(wanted)) || std::memcmp(&found, &wanted, sizeof(T)) == 0;
      if (!same) fail("a wrong number", static_cast<double>(found), static_cast<double>(wanted));
    };
    const Written<T> written{weight, bias, eps, table->fused};
    std::memcpy(x.placed.array().data, before.data(), before.size());
    y.placed.forget();
    const std::vector<char> blank = y.placed.image();
    const bool here = in_place && step != Step::arg_max && step != Step::pool;
    Placed& result = here ? x.placed : y.placed;
    OverChannels a{};
    a.x = x.placed.array().data;
    a.x_pixel = along_channels ? row : size;
    a.x_channel = along_channels ? size : row;
    a.y = here ? x.placed.array().data : y.placed.array().data;
    a.y_pixel = a.x_pixel;
    a.y_channel = a.x_channel;
    a.pixels = pixels;
    a.channels = channels;
    a.weight = weight.empty() ? nullptr : reinterpret_cast<const char*>(weight.data());
    a.bias = bias.empty() ? nullptr : reinterpret_cast<const char*>(bias.data());
    a.eps = eps;
    if (step == Step::pool) {
      std::vector<char> memory(PoolSums::bytes(dtype, channels, pixels));
      PoolSums sums(*table, dtype, kind, channels, memory.data());
      for (size_t p = 0; p < pixels;) {  // in parts of any size
        const size_t part = std::min(pixels - p, 1 + bytes.below(90));
        sums.add(a.x + static_cast<ptrdiff_t>(p) * a.x_pixel, a.x_pixel, a.x_channel, part);
        p += part;
      }
      const T* total = reinterpret_cast<const T*>(sums.total());
      for (size_t c = 0; c < channels; ++c) {
        std::vector<T> of_channel;
        for (size_t p = 0; p < pixels; ++p) of_channel.push_back(at(p, c));
        compare(total[c], Written<T>::pooled(of_channel, kind));
      }
      continue;
    }
    std::vector<int32_t> index(pixels + 1, -1);
    if (step == Step::arg_max) a.y = reinterpret_cast<char*>(index.data());
    (step == Step::softmax ? table->softmax : step == Step::layer_norm ? table->layer_norm : table->arg_max)[type](a);
    for (size_t p = 0; p < pixels; ++p) {
      std::vector<T> of_pixel;
      for (size_t c = 0; c < channels; ++c) of_pixel.push_back(at(p, c));
      if (step == Step::arg_max) {
        compare(static_cast<T>(index[p]), static_cast<T>(Written<T>::arg_max(of_pixel)));
        continue;
      }
      step == Step::softmax ? written.softmax(of_pixel) : written.layer_norm(of_pixel);
      for (size_t c = 0; c < channels; ++c) compare(static_cast<T>(result.get(place(p, c))), of_pixel[c]);
    }
    if (step == Step::arg_max && index[pixels] != -1) fail("a number too many", index[pixels], -1);
    // Between the rows, and in what is only read, all is as it was.
    const std::vector<char>& wanted = here ? before : blank;
    for (size_t r = 0; r < rows; ++r) {
      for (size_t i = length; i < length + gap; ++i) {
        const Index between = {static_cast<ptrdiff_t>(r), static_cast<ptrdiff_t>(i)};
        const T one = static_cast<T>(result.get(between)), other = static_cast<T>(result.get(between, wanted));
        if (std::memcmp(&one, &other, sizeof(T)) != 0 && !std::isnan(one)) fail("written between rows", one, other);
      }
    }
    if (!here && x.placed.image() != before) fail("what is read was written to", 0, 0);
  }
}

}  // namespace

void check_every_step(const uint8_t* data, size_t count) {
  Bytes bytes(data, count);
  bytes.one_in(2) ? check_step<float>(bytes, data, count) : check_step<double>(bytes, data, count);
}

}  // namespace conv1x1
