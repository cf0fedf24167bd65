#include "prepared.h"

#include <array>
#include <cstring>

#include "selection.h"

namespace conv1x1 {

namespace {

// Never destroyed: see cpu.cpp.
auto& slots = *new std::array<std::shared_ptr<const Prepared>, 256>;

[[gnu::noinline]] std::shared_ptr<const Prepared> made(const Asked& asked, const ptrdiff_t* key, size_t length) {
  const Settings& s = asked.settings;
  const Geometry& g = asked.geometry;
  auto prepared = std::make_shared<Prepared>();
  prepared->key.assign(key, key + length);
  Problem& problem = prepared->problem;
  problem = make_problem(asked.arithmetic, asked.x, asked.y, asked.residual, g.axis, s.keep_axis, g.steps,
                         asked.weights.groups, s.out_channels, asked.form, asked.weights.has_bias());
  problem.quantized = s.factors.quantized;
  problem.narrow_weights = asked.weights.narrow();
  prepared->plan = make_plan(problem, machine(), asked.threads);
  return prepared;
}

}  // namespace

std::shared_ptr<const Prepared> prepare(const Asked& asked) {
  const Settings& s = asked.settings;
  const Weights& weights = asked.weights;
  const Geometry& g = asked.geometry;
  const Array &x = asked.x, &y = asked.y, *residual = asked.residual;
  ptrdiff_t key[8 + 5 * max_rank];
  size_t n = 0;
  const auto add = [&](size_t value) { key[n++] = static_cast<ptrdiff_t>(value); };
  const auto type_of = [](const Array& a) { return static_cast<size_t>(a.dtype) * 4 + a.swapped * 2 + a.is_complex; };
  add(type_of(x) | type_of(y) << 8 | (residual ? type_of(*residual) + 1 : 0) << 16 |
      static_cast<size_t>(asked.arithmetic) << 24 | static_cast<size_t>(s.keep_axis) << 32 |
      static_cast<size_t>(weights.narrow()) << 33 | static_cast<size_t>(s.factors.quantized) << 34 |
      static_cast<size_t>(weights.has_bias()) << 35 | static_cast<size_t>(asked.form) << 36);
  add(static_cast<size_t>(x.rank) << 32 | static_cast<size_t>(g.axis));
  add(weights.groups);
  add(s.out_channels);
  add(static_cast<size_t>(asked.threads));
  const auto add_all = [&](const ptrdiff_t* values, int count) {
    for (int i = 0; i < count; ++i) key[n++] = values[i];
  };
  add_all(x.shape, x.rank);
  for (int i = 0; i < x.rank; ++i) add(static_cast<size_t>(x.strides[i]) * g.steps[i]);
  add_all(y.strides, y.rank);
  if (s.stride_count >= 0 || s.strides[0] != 1) add_all(y.shape, y.rank);
  if (residual) add_all(residual->strides, residual->rank);

  size_t hash = 0;
  for (size_t i = 0; i < n; ++i) hash = (hash ^ static_cast<size_t>(key[i])) * 0x9e3779b97f4a7c15u;
  std::shared_ptr<const Prepared>& slot = slots[hash >> 56];
  if (!slot || slot->key.size() != n || std::memcmp(slot->key.data(), key, n * sizeof(ptrdiff_t)) != 0)
    slot = made(asked, key, n);
  return slot;
}

void forget_plans() {
  for (auto& slot : slots) slot.reset();
}

}  // namespace conv1x1
