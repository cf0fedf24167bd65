#include "introspection.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <iterator>
#include <vector>

#include "arrays.h"
#include "call/types.h"
#include "gil.h"
#include "prepared.h"
#include "selection.h"
#include "system/cpu.h"
#include "system/nervous.h"
#include "system/thread_pool.h"
#include "weights/weights.h"

namespace conv1x1 {

namespace {

// The blocks that set the number of threads and have not ended, in the order in which they began; the GIL guards them.
struct ThreadsBlock {
  long id;
  int before;  // the number to go back to
};

std::vector<ThreadsBlock>& threads_blocks = *new std::vector<ThreadsBlock>;  // never destroyed: see cpu.cpp

// The fastest of some tries of about a millisecond each: the work of one, over its time.
template <class Try>
double fastest(double work, Try once) {
  double best = 0;
  for (int i = 0; i < 12; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const volatile double done = once();
    static_cast<void>(done);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, work / seconds.count());
  }
  return best;
}

}  // namespace

long begin_threads(int n) {
  static long id = 0;
  threads_blocks.push_back({++id, get_num_threads()});
  set_num_threads(n);
  return id;
}

void end_threads(long id) {
  const auto block = std::find_if(threads_blocks.begin(), threads_blocks.end(),
                                  [id](const ThreadsBlock& other) { return other.id == id; });
  if (block == threads_blocks.end()) return;
  if (block + 1 == threads_blocks.end())
    set_num_threads(block->before);
  else
    (block + 1)->before = block->before;
  threads_blocks.erase(block);
}

py::dict plan_of(const Plan& plan, DType arithmetic, ElementType result) {
  py::dict d;
  d["kernel"] = kernel_name(plan, arithmetic);
  d["isa"] = isa_name(plan.table->isa);
  d["arithmetic"] = type_name(arithmetic);
  d["dtype"] = type_name(result);
  d["orientation"] = orientation_name(plan);
  d["order"] = order_name(plan.order);
  d["rows"] = static_cast<int>(plan.family->max_rows[plan.vectors - 1]);
  d["lanes"] = plan.vectors * plan.family->width;
  d["tile_pixels"] = plan.tile_pixels;
  d["tiles"] = plan.tiles;
  d["chunk_filters"] = plan.chunk_filters;
  d["channel_block"] = plan.channel_block;
  d["stages_x"] = plan.stage_x;
  d["scratches_y"] = plan.scratch_y;
  d["scratch_bytes"] = plan.scratch_bytes;
  return d;
}

py::list list_kernels() {
  py::list list;
  for (size_t i = 0; i < isa_count; ++i) {
    const Isa isa = static_cast<Isa>(i);
    const KernelTable* table = kernels(isa, cpu());
    if (!table) continue;
    const auto add = [&](const std::string& name, const char* method, DType dtype, Order order, size_t rows,
                         size_t lanes) {
      py::dict d;
      d["name"] = name;
      d["isa"] = isa_name(isa);
      d["method"] = method;
      d["dtype"] = type_name(dtype);
      d["order"] = order_name(order);
      d["rows"] = rows;
      d["lanes"] = lanes;
      d["supported"] = cpu().supports[i];
      list.append(d);
    };
    for (size_t f = 0; f < table->family_count; ++f) {
      const MultiplyFamily& family = table->families[f];
      if (isa_of(family, isa) != isa) continue;
      for (size_t v = 1; v <= family.max_vectors; ++v)
        add(kernel_name(family, isa, v), "multiply", traits(family.operand).sums, Order::chain, family.max_rows[v - 1],
            v * family.width);
    }
    if (base_of(isa) != isa) continue;
    for (DType dtype : {DType::float32, DType::float64})
      for (const char* method : special_methods)
        add(kernel_name(method, dtype, isa), method, dtype,
            std::strcmp(method, "few_channels") == 0 ? Order::chain : Order::lanes, 1, 4);
  }
  return list;
}

namespace {

// A kernel of that name, in the tables of these instruction sets; false where there is none.
bool find_kernel(const std::string& name, std::optional<Isa> wanted, Selection& found) {
  for (size_t i = 0; i < isa_count; ++i) {
    const KernelTable* table = cpu().supports[i] ? kernels(static_cast<Isa>(i), cpu()) : nullptr;
    if (!table || (wanted && table->isa != *wanted)) continue;
    found.isa = table->isa;
    for (size_t f = 0; f < table->family_count; ++f)
      for (size_t v = 1; v <= table->families[f].max_vectors; ++v)
        if (name == kernel_name(table->families[f], table->isa, v)) {
          found.only.family = &table->families[f];
          found.only.vectors = v;
          return true;
        }
    for (size_t m = 0; m < std::size(special_methods); ++m)
      for (DType dtype : {DType::float32, DType::float64})
        if (name == kernel_name(special_methods[m], dtype, table->isa)) {
          found.only.method = static_cast<Method>(m + 1);
          found.only.method_sums = dtype;
          return true;
        }
  }
  return false;
}

}  // namespace

void restrict_to(const std::optional<std::string>& isa, const std::optional<std::string>& kernel,
                 const std::optional<std::string>& orientation, std::optional<bool> stages_x,
                 std::optional<bool> scratches_y, std::optional<size_t> tile_pixels,
                 std::optional<size_t> chunk_filters) {
  Selection wanted{isa ? isa_from_name(*isa, cpu()) : default_isa(), {}};
  if (orientation) {
    for (Orientation o : {Orientation::pixels_as_rows, Orientation::pixels_as_lanes})
      if (*orientation == orientation_name(o)) wanted.only.orientation = o;
    if (!wanted.only.orientation)
      throw py::value_error("no orientation '" + *orientation + "'; valid: pixels_as_rows, pixels_as_lanes");
  }
  if (kernel && !find_kernel(*kernel, isa ? std::optional<Isa>(wanted.isa) : std::nullopt, wanted))
    throw py::value_error("no kernel '" + *kernel + "' that this CPU can run; see _conv1x1.kernels()");
  wanted.only.stage_x = stages_x;
  wanted.only.scratch_y = scratches_y;
  wanted.only.tile_pixels = tile_pixels.value_or(0);
  wanted.only.chunk_filters = chunk_filters.value_or(0);
  selection() = wanted;
  restrict_plans(wanted.isa != default_isa() || wanted.only.restricts());
}

py::dict config() {
  py::dict d;
  py::list built, supported;
  for (size_t i = 0; i < isa_count; ++i) {
    if (kernels(static_cast<Isa>(i), cpu())) built.append(isa_name(static_cast<Isa>(i)));
    if (cpu().supports[i]) supported.append(isa_name(static_cast<Isa>(i)));
  }
  d["compiler"] = CONV1X1_COMPILER;
  d["cpu"] = cpu().name;
  d["isas_built"] = built;
  d["isas_supported"] = supported;
  d["isa"] = isa_name(selection().isa);
  d["fused"] = machine().table->fused;
  d["threads"] = get_num_threads();
  d["nervous"] = nervous;
  d["tunes"] = tunes();
  d["tried"] = all_trials();
  return d;
}

double peak_gflops(const std::string& dtype) {
  const KernelTable& table = *machine().table;
  if (dtype != "float32" && dtype != "float64" && dtype != "int8")
    throw py::value_error("expected 'float32', 'float64' or 'int8', got '" + dtype + "'");
  const DType sums = dtype == "int8" ? DType::int32 : dtype == "float64" ? DType::float64 : DType::float32;
  size_t type = 0;
  for (size_t i = 0; i < operand_count; ++i)
    if (operand_traits[i].sums == sums && table.multiply_adds[i]) type = i;
  const size_t rounds = 100000;
  const WithoutGil without_gil;
  return fastest(1e-9 * static_cast<double>(rounds * table.multiply_adds_flop[type]),
                 [&] { return table.multiply_adds[type](rounds); });
}

double read_gbs(size_t bytes) {
  bytes = std::max<size_t>(bytes / 1024, 1) * 1024;
  const KernelTable& table = *machine().table;
  const Buffer buffer = allocate(bytes);
  std::memset(buffer.get(), 0, bytes);
  const size_t times = std::max<size_t>((size_t{32} << 20) / bytes, 1);
  const WithoutGil without_gil;
  return fastest(1e-9 * static_cast<double>(bytes * times), [&] {
    double sum = 0;
    for (size_t i = 0; i < times; ++i) sum += table.read_through(buffer.get(), bytes);
    return sum;
  });
}

}  // namespace conv1x1
