#include "weights.h"

#include <cstdlib>
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

double number(const char* data, DType dtype, size_t index) {
  if (dtype == DType::float32) return reinterpret_cast<const float*>(data)[index];
  return reinterpret_cast<const double*>(data)[index];
}

template <class T>
void pack_into(PackedWeights& to, const char* weight, DType dtype, const char* bias, DType bias_dtype) {
  const size_t k_pad = round_up(to.out_channels, to.width);
  T* panels = reinterpret_cast<T*>(to.panels.get());
  T* rows = reinterpret_cast<T*>(to.rows.get());
  T* biases = reinterpret_cast<T*>(to.bias.get());
  for (size_t g = 0; g < to.groups; ++g) {
    for (size_t k0 = 0; k0 < k_pad; k0 += to.width) {
      for (size_t c = 0; c < to.in_channels; ++c) {
        for (size_t k = k0; k < k0 + to.width; ++k) {
          const size_t from = (g * to.out_channels + k) * to.in_channels + c;
          *panels++ = k < to.out_channels ? static_cast<T>(number(weight, dtype, from)) : T{0};
        }
      }
    }
    for (size_t k = 0; biases && k < k_pad; ++k)
      *biases++ = k < to.out_channels ? static_cast<T>(number(bias, bias_dtype, g * to.out_channels + k)) : T{0};
    for (size_t k = 0; rows && k < to.out_channels; ++k) {
      for (size_t c = 0; c < to.in_channels; ++c)
        rows[c] = static_cast<T>(number(weight, dtype, (g * to.out_channels + k) * to.in_channels + c));
      rows += to.row_bytes / static_cast<ptrdiff_t>(sizeof(T));
    }
  }
}

}  // namespace

ptrdiff_t PackedWeights::panel_bytes() const { return static_cast<ptrdiff_t>(in_channels * width * size_of(dtype)); }

const char* PackedWeights::panel(size_t group, size_t filter) const {
  const size_t panels_per_group = (out_channels + width - 1) / width;
  const size_t index = group * panels_per_group + filter / width;
  return panels.get() + static_cast<ptrdiff_t>(index) * panel_bytes() + filter % width * size_of(dtype);
}

const char* PackedWeights::row(size_t group, size_t filter) const {
  return rows.get() + static_cast<ptrdiff_t>(group * out_channels + filter) * row_bytes;
}

const char* PackedWeights::bias_at(size_t group, size_t filter) const {
  return bias ? bias.get() + (group * round_up(out_channels, width) + filter) * size_of(dtype) : nullptr;
}

Weights::Weights(const char* weight, DType dtype, const char* bias, DType bias_dtype, size_t groups_,
                 size_t out_channels_, size_t in_channels_)
    : groups(groups_),
      out_channels(out_channels_),
      in_channels(in_channels_),
      dtype_(dtype),
      bias_dtype_(bias_dtype),
      weight_(weight),
      bias_(bias) {}

Weights::~Weights() {
  for (auto& of_type : packed_)
    for (auto& packed : of_type) delete packed.load();
}

const PackedWeights& Weights::packed(DType arithmetic, size_t width) const {
  size_t log2 = 0;
  while ((size_t{1} << log2) < width) ++log2;
  std::atomic<const PackedWeights*>& slot = packed_[static_cast<size_t>(arithmetic)][log2];
  if (const PackedWeights* ready = slot.load(std::memory_order_acquire)) return *ready;
  const std::lock_guard<std::mutex> lock(packing_);
  if (!slot.load(std::memory_order_relaxed)) slot.store(pack(arithmetic, width).release(), std::memory_order_release);
  return *slot.load(std::memory_order_relaxed);
}

std::unique_ptr<PackedWeights> Weights::pack(DType arithmetic, size_t width) const {
  const DefaultArithmetic arithmetic_mode;
  auto packed = std::make_unique<PackedWeights>();
  packed->dtype = arithmetic;
  packed->width = width;
  packed->groups = groups;
  packed->in_channels = in_channels;
  packed->out_channels = out_channels;
  const size_t size = size_of(arithmetic);
  const size_t filters = product(groups, round_up(out_channels, width));
  packed->panels = allocate(product(product(filters, in_channels), size));
  if (bias_) packed->bias = allocate(product(filters, size));
  if (plain_rows(in_channels, out_channels)) {
    packed->row_bytes = static_cast<ptrdiff_t>(round_up(in_channels, partials) * size);
    packed->rows = allocate(product(groups * out_channels, static_cast<size_t>(packed->row_bytes)));
  }
  const auto fill = arithmetic == DType::float64 ? pack_into<double> : pack_into<float>;
  fill(*packed, weight_, dtype_, bias_, bias_dtype_);
  return packed;
}

}  // namespace conv1x1
