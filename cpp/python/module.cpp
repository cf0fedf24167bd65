// The module: what Python finds in `_conv1x1`. This folder is the only one that knows pybind11 and NumPy.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "arrays.h"
#include "chain.h"
#include "functions.h"
#include "introspection.h"
#include "layer.h"
#include "prepared.h"
#include "selection.h"
#include "steps.h"
#include "system/limits.h"
#include "system/thread_pool.h"

namespace conv1x1 {

PYBIND11_MODULE(_conv1x1, m) {
  m.doc() = "The compiled core of conv1x1.";
  py::object type = py::reinterpret_steal<py::object>(PyType_FromSpec(&layer_type));
  py::object chain = py::reinterpret_steal<py::object>(PyType_FromSpec(&chain_type));
  if (!type || !chain || PyModule_AddFunctions(m.ptr(), functions) != 0) throw py::error_already_set();
  m.attr("Layer") = type;
  m.attr("Chain") = chain;
  layer_class = type.release().ptr();
  m.def("document_call", document_call, py::arg("type"), py::arg("arguments"), py::arg("summary"));
  m.def("kernels", list_kernels);
  m.def("restrict", restrict_to, py::arg("isa") = py::none(), py::arg("kernel") = py::none(),
        py::arg("orientation") = py::none(), py::arg("stages_x") = py::none(), py::arg("scratches_y") = py::none(),
        py::arg("tile_pixels") = py::none(), py::arg("chunk_filters") = py::none());
  m.def("forget_plans", forget_plans);
  m.def("config", config);
  m.def(
      "know_bfloat16",
      [](int number) {
        if (std::find(bfloat16_numbers.begin(), bfloat16_numbers.end(), number) == bfloat16_numbers.end())
          bfloat16_numbers.push_back(number);
      },
      py::arg("type_number"));
  m.def("over_channels", over_channels);
  m.def("begin_pool", begin_pool);
  m.def("add_to_pool", add_to_pool);
  m.def("end_pool", end_pool);
  m.def("peak_gflops", peak_gflops, py::arg("dtype"));
  m.def("read_gbs", read_gbs, py::arg("bytes"));
  m.def("get_num_threads", get_num_threads);
  m.def("set_num_threads", set_num_threads, py::arg("n"));
  m.def("begin_threads", begin_threads, py::arg("n"));
  m.def("end_threads", end_threads, py::arg("block"));
  m.def("cgroup_cpus", cgroup_cpus, py::arg("root"));
  try {
    selection();
    tunes();
    get_num_threads();
  } catch (const std::invalid_argument& error) {  // an environment variable, which need not be text
    throw py::import_error(py::reinterpret_steal<py::str>(
        PyUnicode_DecodeUTF8(error.what(), static_cast<Py_ssize_t>(std::strlen(error.what())), "backslashreplace")));
  }
  make_pool();
}

}  // namespace conv1x1
