#include "plan/plan.h"

#include <algorithm>

#include "call/order.h"
#include "call/types.h"
#include "plan/candidates.h"
#include "plan/tiles.h"
#include "system/fp_environment.h"

namespace conv1x1 {

namespace {

// Whether the kernel can add the residual: it lies as the results do.
bool fuses_residual(const Plan& plan, const Problem& p) {
  const ptrdiff_t size = static_cast<ptrdiff_t>(size_of(p.arithmetic));
  const bool contiguous = plan.orientation == Orientation::pixels_as_rows
                              ? p.residual.channel == size
                              : !p.target.empty() && p.target.back().residual == size;
  return plan.method == Method::multiply && p.adds_residual && p.residual.dtype == p.arithmetic &&
         !p.residual.swapped && !p.residual.pair && !(p.pairs_filters && p.real_residual) && contiguous &&
         !plan.scratch_y;
}

// Calls of their own, so that none of their arithmetic comes before or after the modes are set.
[[gnu::noinline]] Candidate choose(const Problem& p, const Machine& machine) {
  if (p.pixels > 0 && p.out_channels > 0) return choose_candidate(p, machine);
  Candidate nothing;
  nothing.family = any_family(p, *machine.table);
  return nothing;
}

[[gnu::noinline]] Plan complete(const Problem& p, const Machine& machine, int max_threads, const Candidate& candidate) {
  Plan plan;
  static_cast<Candidate&>(plan) = candidate;
  plan.table = machine.table;
  plan.order = p.arithmetic == DType::int32 ? Order::chain : summation_order(p.in_channels, p.out_channels);
  if (p.pixels == 0 || p.out_channels == 0) {  // nothing to do; and sizes below are then of what is in memory
    plan.tiles = plan.chunks = 0;
    return plan;
  }
  choose_tiles(plan, p, machine, max_threads);
  plan.fuse_residual = fuses_residual(plan, p);
  choose_pitches(plan, p, machine.costs);
  return plan;
}

}  // namespace

Plan make_plan(const Problem& p, const Machine& machine, int max_threads) {
  const DefaultArithmetic arithmetic_mode;
  return complete(p, machine, max_threads, choose(p, machine));
}

Plan make_plan(const Problem& p, const Machine& machine, int max_threads, const Candidate& candidate) {
  const DefaultArithmetic arithmetic_mode;
  return complete(p, machine, max_threads, candidate);
}

std::vector<Plan> plans_to_try(const Problem& p, const Machine& machine, int max_threads, size_t most) {
  const DefaultArithmetic arithmetic_mode;
  std::vector<Plan> plans = {complete(p, machine, max_threads, choose(p, machine))};
  if (plans[0].tiles == 0 || machine.only.restricts()) return plans;
  const Plan own = plans[0];
  const double worth = machine.costs.worth_threads;
  const auto with_threads = [&](int threads) {
    Machine eager = machine;
    eager.costs.worth_threads = 0;
    plans.push_back(complete(p, eager, threads, own));
  };
  const int fewer = own.threads / 2, more = std::min(2 * own.threads, max_threads);
  if (fewer > 0 && own.microseconds < 4 * worth * own.threads) with_threads(fewer);
  if (more > own.threads && own.microseconds > worth / 3 * more) with_threads(more);
  for (const Candidate& candidate : rivals(p, machine, own))
    if (plans.size() < most) plans.push_back(complete(p, machine, max_threads, candidate));
  return plans;
}

}  // namespace conv1x1
