#include "prepared.h"

#include <time.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "selection.h"
#include "system/fp_environment.h"
#include "system/nervous.h"

namespace conv1x1 {

namespace {

// Of a call's forecast: below, what the better plan saves is less than the looks at the clock and the packing cost.
constexpr double microseconds_worth_tuning = nervous ? 0 : 4;

// Plans that take turns: the cost model's best six hold the fastest of all in nine cases of ten (cpp/README.md).
constexpr size_t most_tried = 6;

using Slots = std::array<std::shared_ptr<Prepared>, 256>;

// Of calls as users make them, and of calls while tests or measurements restrict the plans, which leave the former as
// they are. Never destroyed: see cpu.cpp.
Slots &usual = *new Slots, &restricted = *new Slots;
Slots* slots = &usual;

void clear(Slots& all) {
  for (auto& slot : all) slot.reset();
}

[[gnu::noinline]] std::shared_ptr<Prepared> made(const Asked& asked, const Key& key) {
  const Settings& s = asked.settings;
  const Geometry& g = asked.geometry;
  auto prepared = std::make_shared<Prepared>();
  prepared->key.assign(key.numbers, key.numbers + key.length);
  Problem problem = make_problem(asked.arithmetic, asked.x, asked.y, asked.residual, g.axis, s.keep_axis, g.steps,
                                 asked.weights.groups, s.out_channels, asked.form, asked.weights.has_bias());
  problem.quantized = s.factors.quantized;
  problem.narrow_weights = asked.weights.narrow();
  problem.centered = s.factors.centered;
  prepared->threads = asked.threads;
  prepared->program = make_program(problem, machine(), asked.threads);
  prepared->tunes =
      tunes() && !selection().only.restricts() && prepared->program.microseconds >= microseconds_worth_tuning;
  return prepared;
}

int64_t nanoseconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return int64_t{now.tv_sec} * 1000000000 + now.tv_nsec;
}

}  // namespace

void Turn::take_turn() {
  if (!prepared_.called) {
    prepared_.called = true;
    return;
  }
  std::unique_ptr<Tried>& tried = prepared_.tried;
  if (!tried) {
    const Problem& problem = prepared_.problem();
    std::vector<Program> programs;
    for (const Plan& plan : plans_to_try(problem, machine(), prepared_.threads, most_tried))
      programs.push_back(make_program(problem, plan));
    const size_t count = programs.size();
    tried.reset(new Tried{std::move(programs), Trials(count)});
  }
  candidate_ = tried->trials.next();
  timed_ = !tried->trials.settled();
  program_ = &tried->programs[candidate_];
}

bool Turn::run_timed(const Data& data, const Layer& layer, bool (*stop)(void*), void* stop_context) {
  // What one thread takes does not count the time that the system gives to others.
  const clockid_t clock = prepared_.program.threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
  const int64_t start = nanoseconds(clock);
  const bool done = convolve(*program_, data, &layer, stop, stop_context);
  if (done) nanoseconds_ = std::max<int64_t>(nanoseconds(clock) - start, 0);
  return done;
}

void Turn::report() {
  const DefaultArithmetic arithmetic_mode;
  prepared_.tried->trials.took(candidate_, static_cast<double>(nanoseconds_) / 1e3);
}

std::shared_ptr<Prepared>& slot_of(const Key& key, bool& there) {
  static unsigned calls = 0;
  if (nervous && ++calls % 3 == 0) {  // made anew, and not kept
    static auto& unkept = *new std::shared_ptr<Prepared>;
    there = false;
    return unkept;
  }
  std::shared_ptr<Prepared>& slot = (*slots)[key.hash >> 56];
  there = slot && slot->key.size() == key.length &&
          std::memcmp(slot->key.data(), key.numbers, key.length * sizeof(ptrdiff_t)) == 0;
  return slot;
}

std::shared_ptr<Prepared> prepare(const Asked& asked) {
  const Settings& s = asked.settings;
  const Weights& weights = asked.weights;
  const Geometry& g = asked.geometry;
  const Array &x = asked.x, &y = asked.y, *residual = asked.residual;
  Key key;
  key.add(type_of(x) | type_of(y) << 8 | (residual ? type_of(*residual) + 1 : 0) << 16 |
          static_cast<size_t>(asked.arithmetic) << 24 | static_cast<size_t>(s.keep_axis) << 32 |
          static_cast<size_t>(weights.narrow()) << 33 | static_cast<size_t>(s.factors.quantized) << 34 |
          static_cast<size_t>(weights.has_bias()) << 35 | static_cast<size_t>(asked.form) << 36 |
          static_cast<size_t>(s.factors.centered) << 38);
  key.add(static_cast<size_t>(x.rank) << 32 | static_cast<size_t>(g.axis));
  key.add(weights.groups);
  key.add(s.out_channels);
  key.add(static_cast<size_t>(asked.threads));
  key.add(x.shape, x.rank);
  key.add_steps(x, g);
  key.add(y.strides, y.rank);
  if (s.stride_count >= 0 || s.strides[0] != 1) key.add(y.shape, y.rank);
  if (residual) key.add(residual->strides, residual->rank);
  bool there = false;
  std::shared_ptr<Prepared>& slot = slot_of(key, there);
  if (!there) slot = made(asked, key);
  return slot;
}

void restrict_plans(bool restricts) {
  clear(restricted);
  slots = restricts ? &restricted : &usual;
}

void forget_plans() {
  clear(usual);
  clear(restricted);
}

py::tuple trials_of(const Prepared& prepared) {
  py::list list;
  if (prepared.tried && prepared.tried->programs.size() > 1)
    for (size_t i = 0; i < prepared.tried->programs.size(); ++i) {
      const Plan& plan = prepared.tried->programs[i].steps.front().plan;
      const Trials& trials = prepared.tried->trials;
      py::dict d;
      d["kernel"] = kernel_name(plan, prepared.problem().arithmetic);
      d["orientation"] = orientation_name(plan);
      d["stages_x"] = plan.stage_x;
      d["scratches_y"] = plan.scratch_y;
      d["threads"] = plan.threads;
      d["calls"] = trials.times(i);
      d["microseconds"] = trials.times(i) ? py::object(py::float_(trials.shortest(i))) : py::none();
      d["chosen"] = trials.settled() && trials.next() == i;
      list.append(d);
    }
  return py::tuple(list);
}

py::list all_trials() {
  py::list list;
  for (const auto& slot : *slots) {
    if (!slot) continue;
    const py::tuple trials = trials_of(*slot);
    if (trials.empty()) continue;
    const Problem& p = slot->problem();
    py::dict d;
    d["pixels"] = p.pixels * p.halves;
    d["in_channels"] = p.in_channels * p.groups;
    d["out_channels"] = p.out_channels * p.groups;
    d["arithmetic"] = type_name(p.arithmetic);
    d["trials"] = trials;
    list.append(d);
  }
  return list;
}

}  // namespace conv1x1
