#include "selection.h"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <type_traits>

#include "call/types.h"

namespace conv1x1 {

Isa default_isa() {
  try {
    static const Isa isa = best_isa(cpu(), std::getenv("CONV1X1_MAX_ISA"));
    return isa;
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(std::string("CONV1X1_MAX_ISA: ") + error.what());
  }
}

Selection& selection() {
  static_assert(std::is_trivially_destructible_v<Selection>);
  static Selection current{default_isa(), {}};
  return current;
}

bool tunes() {
  static const bool on = [] {
    const char* text = std::getenv("CONV1X1_TUNE");
    const std::string value = text ? text : "on";
    if (value != "on" && value != "off")
      throw std::invalid_argument("CONV1X1_TUNE is '" + value + "', expected 'on' or 'off'");
    return value == "on";
  }();
  return on;
}

Machine machine() { return {kernels(selection().isa, cpu()), selection().only, cpu().costs}; }

Isa isa_of(const MultiplyFamily& family, Isa isa) {
  const KernelTable& base = *kernels(base_of(isa), cpu());
  const auto same = [&](const MultiplyFamily& other) { return other.fn == family.fn; };
  return std::any_of(base.families, base.families + base.family_count, same) ? base.isa : isa;
}

std::string kernel_name(const MultiplyFamily& family, Isa isa, size_t vectors) {
  return std::string(isa_name(isa_of(family, isa))) + "_" + traits(family.operand).name + "_" +
         std::to_string(family.max_rows[vectors - 1]) + "x" + std::to_string(vectors * family.width) +
         (family.turned ? "_lanes" : "");
}

std::string kernel_name(const char* special_method, DType arithmetic, Isa isa) {
  return std::string(isa_name(base_of(isa))) + (arithmetic == DType::float64 ? "_f64_" : "_f32_") + special_method;
}

std::string kernel_name(const Plan& plan, DType arithmetic) {
  if (plan.method == Method::multiply) return kernel_name(*plan.family, plan.table->isa, plan.vectors);
  return kernel_name(special_methods[static_cast<size_t>(plan.method) - 1], arithmetic, plan.table->isa);
}

const char* order_name(Order order) { return order == Order::chain ? "chain" : "lanes"; }

const char* orientation_name(Orientation o) {
  return o == Orientation::pixels_as_rows ? "pixels_as_rows" : "pixels_as_lanes";
}

const char* orientation_name(const Plan& plan) {
  return plan.method == Method::few_filters    ? "few_filters"
         : plan.method == Method::few_channels ? "few_channels"
                                               : orientation_name(plan.orientation);
}

}  // namespace conv1x1
